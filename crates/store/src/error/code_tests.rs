use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use entity::{ParticipantRole, RoomId, UserId};
use serde_json::json;
use uuid::Uuid;

use super::*;
use crate::error::{Conflict, Invalid, Rejected, Rule, Subject};

fn document() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/ERRORS.md")
}

/// The table of docs/ERRORS.md.
fn table() -> String {
    let row = |error: ErrorCode| {
        let kind = serde_json::to_value(error.kind).unwrap();
        let status = match error.kind {
            ErrorKind::Fault | ErrorKind::Unknown => "500".to_owned(),
            kind => kind.http_status().to_string(),
        };
        let meaning = error.meaning;
        assert!(!meaning.contains(['[', '|', '\n']), "{meaning}");
        format!(
            "| `{}` | {} | {status} | {meaning} |\n",
            error.code,
            kind.as_str().unwrap()
        )
    };
    let rows: String = codes().into_iter().map(row).collect();
    format!("| code | kind | HTTP | meaning |\n|---|---|---|---|\n{rows}")
}

/// `WRITE_ERRORS=1` writes the document's table anew.
#[test]
fn the_document_has_every_code() {
    let (path, table) = (document(), table());
    let text = std::fs::read_to_string(&path).unwrap();
    let begin = text.find("| code | kind |").unwrap();
    let (before, rest) = text.split_at(begin);
    let after = rest.find("\n\n").map_or("", |end| &rest[end + 1..]);
    let wanted = format!("{before}{table}{after}");
    if std::env::var_os("WRITE_ERRORS").is_some() {
        std::fs::write(&path, &wanted).unwrap();
    } else {
        assert!(
            text == wanted,
            "docs/ERRORS.md is not that of the code; WRITE_ERRORS=1 writes it"
        );
    }
}

#[test]
fn no_code_is_there_twice() {
    let all = codes();
    let different: BTreeSet<_> = all.iter().map(|error| error.code).collect();
    assert_eq!(different.len(), all.len());
    let strange = |error: &&ErrorCode| !error.code.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    assert_eq!(all.iter().find(strange), None);
    assert!(all.iter().all(|error| !error.meaning.is_empty()));
}

fn room() -> RoomId {
    RoomId::from_uuid(Uuid::from_u128(1))
}

fn user() -> UserId {
    UserId::from_uuid(Uuid::from_u128(2))
}

#[test]
fn an_error_is_json_with_the_values_of_its_reason() {
    let (room_text, user_text) = (room().to_string(), user().to_string());
    for (error, code, kind, details) in [
        (
            Error::from(Rejected::RoomFull {
                room: room(),
                capacity: 12,
            }),
            "room_full",
            "conflict",
            json!({"room": room_text, "capacity": 12}),
        ),
        (
            Rejected::AlreadyRole {
                user: user(),
                room: room(),
                role: ParticipantRole::CoHost,
            }
            .into(),
            "already_role",
            "conflict",
            json!({"room": room_text, "user": user_text, "role": "CO_HOST"}),
        ),
        (
            Error::NotFound(Subject::Room(room())),
            "room_not_found",
            "missing",
            json!({"room": room_text}),
        ),
        (Conflict::UsernameTaken.into(), "username_taken", "conflict", json!({})),
        (
            Invalid {
                field: "title",
                rule: Rule::MaxLength { max: 255, actual: 300 },
            }
            .into(),
            "invalid_max_length",
            "input",
            json!({"field": "title", "rule": "max_length", "expected": {"max": 255, "actual": 300}}),
        ),
        (
            Invalid {
                field: "username",
                rule: Rule::NotEmpty,
            }
            .into(),
            "invalid_not_empty",
            "input",
            json!({"field": "username", "rule": "not_empty"}),
        ),
        (
            Error::TimedOut {
                during: "rooms.end",
                limit: super::super::TimeLimit::Lock,
            },
            "timed_out",
            "retry",
            json!({"during": "rooms.end", "limit": "lock"}),
        ),
        (
            Error::Indeterminate { during: "commit" },
            "indeterminate",
            "unknown",
            json!({"during": "commit"}),
        ),
        (Error::NoTokenKey, "no_token_key", "fault", json!({})),
    ] {
        let message = error.to_string();
        let expected = json!({"code": code, "kind": kind, "message": message, "details": details});
        assert_eq!(serde_json::to_value(&error).unwrap(), expected);
    }
}

/// Both are made by machines, from the same names.
#[test]
fn a_refusal_alone_has_the_code_of_its_error() {
    let refusals = [
        Rejected::HostSeat { room: room() },
        Rejected::NotPresent {
            user: user(),
            room: room(),
        },
        Rejected::CapacityInUse {
            room: room(),
            present: 1,
        },
    ];
    for refusal in refusals {
        let json = serde_json::to_value(&refusal).unwrap();
        assert_eq!(json["code"], Error::from(refusal).code());
    }
}

#[test]
fn what_may_be_tried_again_is_of_the_kind_retry() {
    let retryable = Error::QueueFull { capacity: 1 };
    assert!(retryable.is_retryable() && retryable.http_status() == 503);
    let doubtful = Error::Indeterminate { during: "commit" };
    assert!(!doubtful.is_retryable() && !doubtful.kind().is_for_clients());
}
