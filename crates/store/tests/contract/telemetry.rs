//! What is told of the store's work: spans and metrics, by the names of docs/TELEMETRY.md.

use std::collections::BTreeSet;

use conferencing_store::connect::ConnectSettings;
use conferencing_store::entity::ParticipantRole::{Host, Participant};
use conferencing_store::telemetry::METRICS;
use conferencing_store::{Actor, Error, StoreSettings};

use crate::collector::{Looking, emitted};
use crate::harness::{TestDb, settings};

crate::cases![
    the_document_is_the_table,
    what_is_emitted_is_in_the_table,
    an_operation_has_a_span_with_its_ids_and_outcome,
    a_slow_statement_is_told_of_by_its_operation,
    a_try_that_fails_is_counted,
    the_pool_is_counted,
];

async fn the_document_is_the_table(_: TestDb) {
    let document = include_str!("../../../../docs/TELEMETRY.md");
    let (_, after) = document.split_once("## Metrics").unwrap();
    let rows: Vec<&str> = after.lines().filter(|line| line.starts_with("| `")).collect();
    let table = METRICS.iter().map(|one| {
        let labels: Vec<String> = one.labels.iter().map(|label| format!("`{label}`")).collect();
        let labels = if labels.is_empty() {
            "–".to_owned()
        } else {
            labels.join(", ")
        };
        format!(
            "| `{}` | {} | {} | {labels} | {} |",
            one.name, one.kind, one.unit, one.what
        )
    });
    assert_eq!(rows, table.collect::<Vec<_>>());
}

/// Whatever any case has emitted by now, and what this one does.
async fn what_is_emitted_is_in_the_table(db: TestDb) {
    let owner = db.user("owner").await;
    let room = db.room(&owner, 1).await;
    db.seat(&room, &owner).await;
    let full = db
        .system()
        .participants()
        .join(room.id, db.user("guest").await.id, Participant)
        .await;
    assert!(matches!(full, Err(Error::Rejected(_))), "{full:?}");
    db.store.rooms().get(room.id).await.unwrap();
    db.store
        .transact(
            &Actor::system("test"),
            |unit| async move { unit.rooms().end(room.id).await },
        )
        .await
        .unwrap();
    let emitted = emitted();
    for (name, labels) in &emitted {
        let metric = METRICS.iter().find(|one| one.name == name);
        let metric = metric.unwrap_or_else(|| panic!("{name} is not in the table"));
        let labels: BTreeSet<&str> = labels.iter().map(|(label, _)| label.as_str()).collect();
        assert_eq!(labels, metric.labels.iter().copied().collect(), "{name}");
    }
    for (operation, outcome) in [
        ("participants.join", "done"),
        ("participants.join", "refused"),
        ("rooms.find", "done"),
        ("rooms.end", "done"),
        ("unit", "done"),
    ] {
        let labels = [("operation", operation), ("outcome", outcome)];
        let labels = labels
            .map(|(label, value)| (label.to_owned(), value.to_owned()))
            .to_vec();
        let wanted = ("store_operation_seconds".to_owned(), labels);
        assert!(emitted.contains(&wanted), "{wanted:?}");
    }
    assert!(emitted.iter().any(|(name, _)| name == "store_acquire_seconds"));
}

/// What was said of a span: when it was made and later.
fn of_span<'a>(records: &'a [String], mark: &str) -> Vec<&'a str> {
    let one = records
        .iter()
        .find(|record| record.contains(mark) && record.contains("span="));
    let one = one.unwrap_or_else(|| panic!("no span has {mark}"));
    let (_, id) = one.split_once("span=").unwrap();
    let id = id.split(' ').next().unwrap();
    let is_of = |record: &&String| record.split(' ').any(|word| word.strip_prefix("span=") == Some(id));
    records.iter().filter(is_of).map(String::as_str).collect()
}

async fn an_operation_has_a_span_with_its_ids_and_outcome(db: TestDb) {
    let owner = db.user("owner").await;
    let room = db.room(&owner, 5).await;
    let looking = Looking::begin();
    let acting = db.acting(&owner);
    acting.participants().join(room.id, owner.id, Host).await.unwrap();
    let told = of_span(&looking.records(), &format!("room={}", room.id)).join("\n");
    for part in [
        "conferencing_store INFO",
        "operation=\"participants.join\"",
        &format!("user={}", owner.id),
        &format!("actor={}", owner.id),
        "outcome=\"done\"",
    ] {
        assert!(told.contains(part), "{part} is not in\n{told}");
    }
}

async fn a_slow_statement_is_told_of_by_its_operation(db: TestDb) {
    let swift = StoreSettings {
        connect: ConnectSettings {
            slow_statement: std::time::Duration::from_nanos(1),
            ..settings().connect
        },
        ..settings()
    };
    let owner = db.user("owner").await;
    let store = db.store_with(swift).await;
    let looking = Looking::begin();
    store.users().get(owner.id).await.unwrap();
    let records = looking.records();
    let told = records.iter().find(|record| record.contains("a statement was slow"));
    assert!(
        told.is_some_and(|record| record.contains("operation=\"users.find\"")),
        "{told:?}"
    );
    let labels = vec![("operation".to_owned(), "users.find".to_owned())];
    assert!(emitted().contains(&("store_slow_statements_total".to_owned(), labels)));
}

async fn a_try_that_fails_is_counted(db: TestDb) {
    let impatient = StoreSettings {
        connect: ConnectSettings {
            max_connections: Some(1),
            acquire_timeout: std::time::Duration::from_secs(1),
            ..settings().connect
        },
        retry: conferencing_store::RetryPolicy {
            attempts: 2,
            ..Default::default()
        },
        ..settings()
    };
    let store = db.store_with(impatient).await;
    let system = Actor::system("test");
    let unit = store.begin(&system).await.unwrap();
    let room = conferencing_store::entity::RoomId::from_uuid(uuid::Uuid::now_v7());
    let ended = store.acting(&system).rooms().cancel(room).await;
    assert!(matches!(ended, Err(Error::Transient { .. })), "{ended:?}");
    unit.roll_back().await.unwrap();
    let labels = [("cause", "transient"), ("operation", "rooms.cancel")];
    let labels = labels
        .map(|(label, value)| (label.to_owned(), value.to_owned()))
        .to_vec();
    assert!(emitted().contains(&("store_retries_total".to_owned(), labels)));
}

async fn the_pool_is_counted(db: TestDb) {
    let narrow = StoreSettings {
        connect: ConnectSettings {
            max_connections: Some(1),
            ..settings().connect
        },
        ..settings()
    };
    let store = db.store_with(narrow).await;
    let unit = store.begin(&Actor::system("test")).await.unwrap();
    let usage = store.pool_usage();
    assert_eq!((usage.in_use, usage.idle, usage.most), (1, 0, 1));
    unit.roll_back().await.unwrap();
}
