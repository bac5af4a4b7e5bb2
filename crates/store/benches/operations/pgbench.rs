//! An operation as pgbench does it: the very statements that the store sent, with values that are new each time.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use sea_orm::{ConnectionTrait, DatabaseConnection};
use serde_json::Value as Json;
use uuid::Uuid;

use crate::capture::Sent;
use crate::operation::{CreateRoom, Operation};
use crate::protocol::{Done, percentile};

/// The transaction's begin in microseconds, in 16 digits: what new ids grow by, as UUIDv7 do.
const MICROS: &str = "lpad(to_hex(CAST(extract(epoch FROM now()) * 1000000 AS bigint)), 16, '0')";

/// Which of the clients it is, in 4 digits.
const CLIENT: &str = "lpad(to_hex(CAST(:client_id AS integer)), 4, '0')";

/// Transactions of each client that are not counted: a connection plans a statement anew some times before it keeps the plan.
const WARM_UP: usize = 20;

/// Longer values do not fit a command line.
const LONGEST: usize = 60_000;

pub struct Script {
    path: String,
    /// Constants by the names of their variables.
    constants: Vec<String>,
    /// What one transaction counts as.
    pub size: u64,
}

/// While a script is written.
struct Writing<'a> {
    operation: Operation,
    n: u64,
    constants: Vec<String>,
    /// New ids, numbered as they come.
    ids: BTreeMap<Uuid, usize>,
    /// Lists of events, which a client fetches once.
    lists: Vec<String>,
    size: u64,
    db: &'a DatabaseConnection,
}

impl Script {
    /// Of what was sent by operation number `n`; or why pgbench cannot send it.
    pub async fn write(
        operation: Operation,
        n: u64,
        sent: &[Sent],
        folder: &Path,
        db: &DatabaseConnection,
    ) -> Result<Self, String> {
        let mut writing = Writing {
            operation,
            n,
            constants: Vec::new(),
            ids: BTreeMap::new(),
            lists: Vec::new(),
            size: 1,
            db,
        };
        let mut body = String::new();
        for statement in sent {
            let _ = writeln!(body, "{};", writing.statement(statement)?);
        }
        let mut text = String::from("\\set n :start + :i * :clients + :client_id\n\\set i :i + 1\n");
        for input in operation.inputs() {
            let _ = writeln!(text, "{}", input.pgbench_set());
        }
        writing.store_lists(&mut text).await;
        text.push_str(&body);
        let path = folder.join(format!("{}.sql", operation.name()));
        std::fs::write(&path, text).map_err(|error| error.to_string())?;
        Ok(Self {
            path: path.to_str().unwrap().to_owned(),
            constants: writing.constants,
            size: writing.size,
        })
    }

    /// Runs so many transactions from number `from` on, divided among the clients.
    pub fn run(&self, url: &str, clients: usize, from: u64, transactions: u64, folder: &Path) -> Result<Done, String> {
        let each = transactions / clients as u64;
        let log = folder.join("transactions");
        let program = std::env::var("PGBENCH").unwrap_or_else(|_| "pgbench".to_owned());
        let mut command = Command::new(program);
        command.args(["-n", "-M", "prepared", "-l", "-f", &self.path]);
        command.arg(format!("--log-prefix={}", log.display()));
        command.args(["-t", &each.to_string(), "-c", &clients.to_string()]);
        command.args(["-j", &clients.min(2).to_string()]);
        command.args(["-D", "i=0", "-D", "fetched=0"]);
        command.args(["-D", &format!("start={from}"), "-D", &format!("clients={clients}")]);
        for (place, value) in self.constants.iter().enumerate() {
            command.args(["-D", &format!("c{place}={value}")]);
        }
        let output = command.arg(url).output().map_err(|error| error.to_string())?;
        let done = logged(folder);
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned());
        }
        Ok(steady(done, self.size))
    }
}

/// One line of pgbench's log.
struct Transaction {
    client: usize,
    number: u64,
    /// Both in microseconds.
    ended: u64,
    took: u32,
}

impl Transaction {
    fn read(line: &str) -> Option<Self> {
        let words: Vec<_> = line.split(' ').collect();
        let [client, number, took, _, seconds, micros, ..] = words.as_slice() else {
            return None;
        };
        Some(Self {
            client: client.parse().ok()?,
            number: number.parse().ok()?,
            ended: seconds.parse::<u64>().ok()? * 1_000_000 + micros.parse::<u64>().ok()?,
            took: took.parse().ok()?,
        })
    }

    fn begun(&self) -> u64 {
        self.ended.saturating_sub(u64::from(self.took))
    }
}

/// All that the logs have, which are removed.
fn logged(folder: &Path) -> Vec<Transaction> {
    let mut all = Vec::new();
    for file in std::fs::read_dir(folder).unwrap().flatten() {
        if file.file_name().to_string_lossy().starts_with("transactions") {
            let text = std::fs::read_to_string(file.path()).unwrap();
            all.extend(text.lines().filter_map(Transaction::read));
            std::fs::remove_file(file.path()).unwrap();
        }
    }
    all
}

/// What was done from when every client has its statements planned, as the store's connections have long since, until the first
/// client has ended. A transaction counts as `size` operations.
fn steady(mut transactions: Vec<Transaction>, size: u64) -> Done {
    transactions.sort_unstable_by_key(|one| (one.client, one.number));
    let (mut from, mut until) = (0, u64::MAX);
    for of_client in transactions.chunk_by(|one, next| one.client == next.client) {
        let warm = WARM_UP.min(of_client.len() / 4);
        from = from.max(of_client[warm].begun());
        until = until.min(of_client[of_client.len() - 1].ended);
    }
    let inside = transactions.iter().filter(|one| (from..=until).contains(&one.ended));
    let mut times: Vec<u32> = inside.map(|one| one.took).collect();
    times.sort_unstable();
    #[expect(clippy::cast_precision_loss, reason = "for show")]
    let seconds = until.saturating_sub(from).max(1) as f64 / 1e6;
    Done {
        operations: times.len() as u64 * size,
        seconds,
        p50: percentile(&times, 0.50),
        p99: percentile(&times, 0.99),
    }
}

impl Writing<'_> {
    fn statement(&mut self, sent: &Sent) -> Result<String, String> {
        let (statement, values) = match sent {
            Sent::Simple(text) => return Ok(text.clone()),
            Sent::Prepared(statement, values) => (statement, values),
        };
        if takes_for_variable(&statement.text) {
            return Err("pgbench takes a colon in its text for a variable".to_owned());
        }
        let mut text = String::new();
        let mut rest = statement.text.as_str();
        while let Some((before, after)) = rest.split_once('$') {
            text.push_str(before);
            let end = after.find(|c: char| !c.is_ascii_digit()).unwrap_or(after.len());
            let (place, beyond) = after.split_at(end);
            match place.parse::<usize>() {
                Ok(place) => {
                    let (value, of_type) = (&values[place - 1], &statement.types[place - 1]);
                    let value = value
                        .as_deref()
                        .map_or("NULL".to_owned(), |value| self.value(value, of_type));
                    let _ = write!(text, "CAST({value} AS {of_type})");
                }
                Err(_) => text.push('$'),
            }
            rest = beyond;
        }
        text.push_str(rest);
        Ok(text)
    }

    /// SQL for a value that was sent: the same for another number, a new one, or the very same.
    fn value(&mut self, value: &str, of_type: &str) -> String {
        if let Some(input) = self
            .operation
            .inputs()
            .iter()
            .find(|input| input.value(self.n) == value)
        {
            return input.sql();
        }
        if let Ok(id) = Uuid::try_parse(value)
            && !value.starts_with("00000000-0000-7000-8")
        {
            let next = self.ids.len();
            let number = *self.ids.entry(id).or_insert(next);
            // The last digits stay free, where a statement numbers many events.
            let id = format!("CAST({MICROS} || {CLIENT} || '{number:04x}00000000' AS uuid)");
            return if of_type == "uuid" {
                id
            } else {
                format!("CAST({id} AS text)")
            };
        }
        if of_type.starts_with("timestamp") && is_new(value) {
            return "now()".to_owned();
        }
        if self.operation == CreateRoom && is_code(value) {
            return format!("substr(md5({MICROS} || CAST(:client_id AS text)), 1, 12)");
        }
        if let Ok(Json::Array(events)) = serde_json::from_str::<Json>(value)
            && events.first().is_some_and(|event| event.get("id").is_some())
        {
            return self.list(events);
        }
        self.constants.push(value.to_owned());
        format!(":c{}", self.constants.len() - 1)
    }

    /// Events whose ids get a new beginning with each transaction.
    fn list(&mut self, mut events: Vec<Json>) -> String {
        self.size = events.len() as u64;
        for (place, event) in events.iter_mut().enumerate() {
            event["id"] = Json::String(format!("@@@@@@@@-@@@@-@@@@-@@@@-{place:012x}"));
        }
        self.lists.push(Json::from(events).to_string());
        // The rest of the id, after the 16 digits of the time, is the client's number.
        format!(
            "replace(:list{}, '@@@@@@@@-@@@@-@@@@-@@@@', regexp_replace({MICROS} || {CLIENT}, \
             '^(.{{8}})(.{{4}})(.{{4}})', '\\1-\\2-\\3-'))",
            self.lists.len() - 1
        )
    }

    async fn store_lists(&self, text: &mut String) {
        if self.lists.is_empty() {
            return;
        }
        assert!(self.constants.iter().all(|constant| constant.len() < LONGEST));
        let table = "CREATE TABLE IF NOT EXISTS bench_lists (number int, list text); TRUNCATE bench_lists";
        self.db.execute_unprepared(table).await.unwrap();
        text.push_str("\\if :fetched = 0\n");
        for (number, list) in self.lists.iter().enumerate() {
            let quoted = list.replace('\'', "''");
            let insert = format!("INSERT INTO bench_lists VALUES ({number}, '{quoted}')");
            self.db.execute_unprepared(&insert).await.unwrap();
            let _ = writeln!(
                text,
                "SELECT list AS list{number} FROM bench_lists WHERE number = {number} \\gset"
            );
        }
        text.push_str("\\set fetched 1\n\\endif\n");
    }
}

/// A colon before a letter or digit, other than of a cast.
fn takes_for_variable(text: &str) -> bool {
    let bytes = text.as_bytes();
    (1..bytes.len()).any(|place| {
        let (before, here) = (bytes[place - 1], bytes[place]);
        before == b':' && (here.is_ascii_alphanumeric() || here == b'_') && (place < 2 || bytes[place - 2] != b':')
    })
}

/// Of this minute or the one before or after.
fn is_new(value: &str) -> bool {
    let text = value.replace(' ', "T");
    let text = if text.ends_with("+00") {
        format!("{text}:00")
    } else {
        text
    };
    #[expect(clippy::disallowed_methods, reason = "to tell the present from a constant")]
    let now = chrono::Utc::now();
    chrono::DateTime::parse_from_rfc3339(&text).is_ok_and(|at| (now - at.to_utc()).num_seconds().abs() < 120)
}

fn is_code(value: &str) -> bool {
    value.len() == 8
        && value
            .bytes()
            .all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit())
}
