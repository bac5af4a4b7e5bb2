//! What an operation sends: its statements and their values, as the server's log tells, and the texts that the connection has
//! prepared.

use std::collections::BTreeMap;

use crate::protocol::{BEGINS, ENDS, Prepared, Statement};

/// One statement that was sent.
#[derive(Clone, Debug)]
pub enum Sent {
    /// As text, such as BEGIN.
    Simple(String),
    /// Prepared, with its values; none is NULL.
    Prepared(Statement, Vec<Option<String>>),
}

/// Where the server of `scripts/bench` writes its log.
fn log() -> String {
    let path = std::env::var("BENCH_SERVER_LOG").expect("scripts/bench sets BENCH_SERVER_LOG");
    String::from_utf8_lossy(&std::fs::read(path).unwrap()).into_owned()
}

/// The log's end, for [`sent_since`].
pub fn log_length() -> usize {
    log().len()
}

/// What was sent between the two statements that mark an operation, of the log from `start` on.
pub fn sent_since(start: usize, prepared: &Prepared) -> Vec<Sent> {
    let text = log();
    let messages = messages(text.get(start..).unwrap_or_default());
    let mut sent = Vec::new();
    let mut inside = false;
    for (level, message) in messages {
        if message.ends_with(BEGINS) {
            inside = true;
        } else if message.ends_with(ENDS) {
            return sent;
        } else if inside && level == "LOG" {
            if let Some(text) = message.strip_prefix("statement: ") {
                sent.push(Sent::Simple(text.to_owned()));
            } else if let Some((name, _)) = message.strip_prefix("execute ").and_then(|rest| rest.split_once(':')) {
                let statement = prepared.get(name).unwrap_or_else(|| panic!("{name} is not prepared"));
                sent.push(Sent::Prepared(statement.clone(), Vec::new()));
            }
        } else if inside
            && level == "DETAIL"
            && let Some(Sent::Prepared(_, values)) = sent.last_mut()
        {
            *values = values_of(&message);
        }
    }
    panic!("the server's log does not tell what was sent");
}

/// Messages with their level. A line that begins with a tab goes on with the one before.
fn messages(text: &str) -> Vec<(String, String)> {
    let mut messages: Vec<(String, String)> = Vec::new();
    for line in text.lines() {
        if let Some(more) = line.strip_prefix('\t') {
            if let Some((_, message)) = messages.last_mut() {
                message.push('\n');
                message.push_str(more);
            }
            continue;
        }
        let level = ["LOG", "DETAIL"]
            .into_iter()
            .find_map(|level| Some((level, line.split_once(&format!("] {level}:  "))?.1)));
        match level {
            Some((level, message)) => messages.push((level.to_owned(), message.to_owned())),
            None => messages.push((String::new(), line.to_owned())),
        }
    }
    messages
}

/// Of `parameters: $1 = 'a', $2 = NULL`.
fn values_of(detail: &str) -> Vec<Option<String>> {
    let mut values = BTreeMap::new();
    let mut rest = detail;
    while let Some((_, after)) = rest.split_once('$') {
        let Some((place, after)) = after.split_once(" = ") else {
            break;
        };
        let Ok(place) = place.parse::<usize>() else { break };
        let (value, after) = match after.strip_prefix('\'') {
            None => (None, after),
            Some(quoted) => {
                let (value, after) = unquoted(quoted);
                (Some(value), after)
            }
        };
        values.insert(place, value);
        rest = after;
    }
    values.into_values().collect()
}

/// The text up to the quote that ends it, and what follows.
fn unquoted(text: &str) -> (String, &str) {
    let (mut value, mut rest) = (String::new(), text);
    while let Some((before, after)) = rest.split_once('\'') {
        value.push_str(before);
        match after.strip_prefix('\'') {
            Some(more) => {
                value.push('\'');
                rest = more;
            }
            None => return (value, after),
        }
    }
    (value, "")
}

/// Statements that the sequence has, and how often it commits.
pub fn counts(sent: &[Sent]) -> (usize, usize) {
    let mut open = false;
    let mut commits = 0;
    for statement in sent {
        match statement {
            Sent::Simple(text) if text.starts_with("BEGIN") => open = true,
            Sent::Simple(text) if text.starts_with("COMMIT") => {
                open = false;
                commits += 1;
            }
            _ if !open => commits += 1,
            _ => {}
        }
    }
    (sent.len(), commits)
}
