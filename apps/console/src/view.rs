//! What pages have in common: the frame, tables, times, names. Everything that comes from the database is escaped by `maud`.

use std::fmt::Display;

use axum::response::Html;
use chrono::{DateTime, TimeDelta, Utc};
use conferencing_store::entity::{RoomId, RoomStatus, UserId};
use conferencing_store::{Cursor, Severity};
use maud::{DOCTYPE, Markup, html};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use crate::sessions::Operator;

/// Where a page is in the menu.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Overview,
    Rooms,
    People,
    Audit,
    Doctor,
}

const MENU: [(Place, &str, &str); 5] = [
    (Place::Overview, "/", "Overview"),
    (Place::Rooms, "/rooms", "Rooms"),
    (Place::People, "/people", "People"),
    (Place::Audit, "/audit", "Audit log"),
    (Place::Doctor, "/doctor", "Doctor"),
];

fn head(title: &str) -> Markup {
    html! {
        head {
            meta charset="utf-8";
            meta name="viewport" content="width=device-width, initial-scale=1";
            title { (title) " · Console" }
            link rel="stylesheet" href="/style.css";
        }
    }
}

/// A page for somebody who is signed in.
pub(crate) fn page(
    operator: &Operator,
    place: Place,
    title: &str,
    now: DateTime<Utc>,
    content: &Markup,
) -> Html<String> {
    let markup = html! {
        (DOCTYPE)
        html lang="en" {
            (head(title))
            body {
                header {
                    nav aria-label="Pages" {
                        span.brand { "Console" }
                        @for (one, address, name) in MENU {
                            a href=(address) aria-current=[(one == place).then_some("page")] { (name) }
                        }
                    }
                    form.who method="post" action="/sign-out" {
                        span { (operator.username) }
                        (token(operator))
                        button type="submit" { "Sign out" }
                    }
                }
                main {
                    (content)
                }
                footer { "As of " (time(now)) ". All times are UTC. What you look at is recorded in the audit log." }
            }
        }
    };
    Html(markup.into_string())
}

/// The form that lets people in.
pub(crate) fn sign_in(wrong: Option<&str>) -> Html<String> {
    let markup = html! {
        (DOCTYPE)
        html lang="en" {
            (head("Sign in"))
            body.outside {
                main.narrow {
                    h1 { "Console" }
                    @if let Some(text) = wrong { p.wrong role="alert" { (text) } }
                    form.stacked method="post" action="/sign-in" {
                        label for="username" { "Username" }
                        input #username name="username" autocomplete="username" required autofocus;
                        label for="password" { "Password" }
                        input #password name="password" type="password" autocomplete="current-password" required;
                        button type="submit" { "Sign in" }
                    }
                    p.note { "For operators. Who signs in, who fails to, and what is looked at is recorded in the audit log." }
                }
            }
        }
    };
    Html(markup.into_string())
}

/// A page that only says something.
pub(crate) fn message(title: &str, text: &str) -> Html<String> {
    let markup = html! {
        (DOCTYPE)
        html lang="en" {
            (head(title))
            body.outside {
                main.narrow {
                    h1 { (title) }
                    p { (text) }
                    p { a href="/" { "Overview" } }
                }
            }
        }
    };
    Html(markup.into_string())
}

/// What each form of a session carries.
pub(crate) fn token(operator: &Operator) -> Markup {
    html! { input type="hidden" name="token" value=(operator.form_token); }
}

/// A time to the second, for people and for machines.
pub(crate) fn time(at: DateTime<Utc>) -> Markup {
    html! { time datetime=(at.to_rfc3339()) { (at.format("%Y-%m-%d %H:%M:%S")) } }
}

pub(crate) fn maybe_time(at: Option<DateTime<Utc>>) -> Markup {
    at.map_or_else(nothing, time)
}

/// Stands where there is nothing.
pub(crate) fn nothing() -> Markup {
    html! { span.none { "–" } }
}

pub(crate) fn maybe(text: Option<impl Display>) -> Markup {
    match text {
        Some(text) => html! { (text.to_string()) },
        None => nothing(),
    }
}

/// Such as `1 h 05 min` or `42 s`.
pub(crate) fn length(length: TimeDelta) -> String {
    let seconds = length.num_seconds().max(0);
    match (seconds / 3_600, seconds / 60 % 60, seconds % 60) {
        (0, 0, seconds) => format!("{seconds} s"),
        (0, minutes, seconds) => format!("{minutes} min {seconds:02} s"),
        (hours, minutes, _) => format!("{} h {minutes:02} min", number(hours)),
    }
}

/// With a thin gap between thousands.
pub(crate) fn number(number: impl TryInto<i64>) -> String {
    let digits = number.try_into().unwrap_or(0).to_string();
    let mut grouped = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) && !grouped.ends_with('-') {
            grouped.push('\u{202f}');
        }
        grouped.push(digit);
    }
    grouped
}

pub(crate) fn room_link(id: RoomId, name: &str) -> Markup {
    html! { a href={ "/rooms/" (id) } { (name) } }
}

pub(crate) fn user_link(id: UserId, name: &str) -> Markup {
    html! { a href={ "/people/" (id) } { (name) } }
}

/// Of somebody whose name is not known here.
pub(crate) fn id_link(id: UserId) -> Markup {
    user_link(id, short(&id.to_string()))
}

/// Enough of an id to tell it from others near it: its end, since the beginning is a time.
pub(crate) fn short(id: &str) -> &str {
    id.get(id.len().saturating_sub(12)..).unwrap_or(id)
}

pub(crate) fn status(status: RoomStatus) -> Markup {
    let (class, name) = match status {
        RoomStatus::Created => ("planned", "planned"),
        RoomStatus::Live => ("live", "live"),
        RoomStatus::Ended => ("over", "ended"),
        RoomStatus::Cancelled => ("over", "cancelled"),
    };
    tag(class, name)
}

pub(crate) fn tag(class: &str, name: &str) -> Markup {
    html! { span class={ "tag " (class) } { (name) } }
}

pub(crate) fn severity(severity: Severity) -> Markup {
    let class = match severity {
        Severity::Note => "note",
        Severity::Warning => "warning",
        Severity::Error => "error",
    };
    tag(class, &severity.to_string())
}

/// A name as an enum of the database has it, in small letters.
pub(crate) fn plain(name: &impl serde::Serialize) -> String {
    let name = serde_json::to_value(name).unwrap_or_default();
    name.as_str().unwrap_or_default().to_lowercase().replace('_', " ")
}

/// A table, or a line that says that there is nothing. A heading that begins with `#` stands over numbers.
pub(crate) fn table(heading: &[&str], empty: &str, rows: &[Markup]) -> Markup {
    html! {
        @if rows.is_empty() {
            p.empty { (empty) }
        } @else {
            div.wide {
                table {
                    thead { tr { @for name in heading {
                        @match name.strip_prefix('#') {
                            Some(name) => th.number scope="col" { (name) },
                            None => th scope="col" { (name) },
                        }
                    } } }
                    tbody { @for row in rows { tr { (row) } } }
                }
            }
        }
    }
}

/// The way to the next page, if there is one.
pub(crate) fn next(address: &str, parameters: &[(String, String)], next: Option<&Cursor>) -> Markup {
    let Some(cursor) = next else {
        return html! {};
    };
    let mut parameters: Vec<_> = parameters.iter().filter(|(name, _)| name != "after").cloned().collect();
    parameters.push(("after".to_owned(), cursor.to_string()));
    html! { p.next { a rel="next" href=(with_parameters(address, &parameters)) { "Next page" } } }
}

/// An address with what follows the question mark.
pub(crate) fn with_parameters(address: &str, parameters: &[(String, String)]) -> String {
    let encoded = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
    let pairs: Vec<String> = parameters
        .iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| format!("{}={}", encoded(name), encoded(value)))
        .collect();
    match pairs.is_empty() {
        true => address.to_owned(),
        false => format!("{address}?{}", pairs.join("&")),
    }
}

/// A fact beside its name.
pub(crate) fn facts(all: &[(&str, Markup)]) -> Markup {
    html! { dl.facts { @for (name, value) in all { div { dt { (name) } dd { (value) } } } } }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_lengths_read_naturally() {
        let numbers: Vec<String> = [0, 999, 1_000, 1_234_567, -1_000].map(number).into();
        assert_eq!(
            numbers,
            ["0", "999", "1\u{202f}000", "1\u{202f}234\u{202f}567", "-1\u{202f}000"]
        );
        let lengths: Vec<String> = [5, 65, 3_900].map(|seconds| length(TimeDelta::seconds(seconds))).into();
        assert_eq!(lengths, ["5 s", "1 min 05 s", "1 h 05 min"]);
    }

    #[test]
    fn what_follows_the_question_mark_is_encoded_and_what_is_empty_left_out() {
        let parameters = [("a".to_owned(), "x&b=1 ü".to_owned()), ("c".to_owned(), String::new())];
        assert_eq!(with_parameters("/audit", &parameters), "/audit?a=x%26b%3D1%20%C3%BC");
        assert_eq!(with_parameters("/audit", &[]), "/audit");
    }
}
