//! The audit writer: batches, refusals, a full queue, the end, and a reply that never came.

use std::collections::HashSet;
use std::time::Duration;

use conferencing_store::audit::writer::MAX_BATCH;
use conferencing_store::clock::{Clock, Ids, RandomIds, SystemClock};
use conferencing_store::entity::{AuditAction, AuditLogId, RoomId, UserId};
use conferencing_store::{
    Actor, AuditEntry, AuditFilter, AuditWriter, Error, Invalid, MediaKind, Observation, Order, Rule, Store, Subject,
    WriterSettings, WriterStats,
};
use futures_util::future::join_all;
use futures_util::{FutureExt, TryStreamExt};
use sea_orm::{ConnectionTrait, TransactionTrait};
use uuid::Uuid;

use crate::harness::{Backend, TestDb};
use crate::wire::Wire;

crate::cases![
    a_batched_event_is_as_an_appended_one,
    events_from_many_tasks_are_there_once,
    one_bad_event_does_not_spoil_its_batch,
    what_the_database_itself_refuses_does_not_spoil_its_batch,
    what_is_not_an_events_fault_is_waited_out,
    a_full_queue_says_so_and_loses_nothing,
    @Postgres waiting_events_share_statements,
    closing_drains_and_takes_nothing_more,
    a_writer_that_is_dropped_writes_what_it_took,
    what_a_runtime_takes_with_it_is_told,
    @Postgres a_lost_reply_writes_no_event_twice,
    @Postgres a_lost_connection_loses_nothing,
    details_have_a_size,
    settings_have_limits,
    its_numbers_go_to_the_metrics_facade,
];

fn closed(producer: usize) -> Observation {
    Observation::ProducerClosed {
        producer_id: format!("producer-{producer}"),
    }
}

fn writer(store: &Store) -> AuditWriter {
    store.audit_writer(WriterSettings::default()).unwrap()
}

async fn all(store: &Store, actions: &[AuditAction]) -> Vec<AuditEntry> {
    let filter = AuditFilter::of_actions(actions);
    let stream = store.audit().stream(filter, Order::OldestFirst, None).unwrap();
    stream.try_collect().await.unwrap()
}

/// The numbers of the producers that were closed.
async fn producers(store: &Store) -> Vec<usize> {
    let number = |entry: AuditEntry| match entry.event {
        conferencing_store::AuditEvent::Observation(Observation::ProducerClosed { producer_id }) => {
            producer_id.trim_start_matches("producer-").parse::<usize>().unwrap()
        }
        other => panic!("{other:?}"),
    };
    let events = all(store, &[AuditAction::ProducerClosed]).await;
    let mut numbers: Vec<_> = events.into_iter().map(number).collect();
    numbers.sort_unstable();
    numbers
}

/// Keeps every append waiting until it is dropped.
enum Held {
    Postgres(sea_orm::DatabaseTransaction),
    Sqlite(conferencing_store::Unit),
}

async fn hold(db: &TestDb) -> Held {
    match db.backend {
        Backend::Postgres => {
            let transaction = db.raw().await.db.begin().await.unwrap();
            transaction
                .execute_unprepared("LOCK TABLE audit_logs IN SHARE MODE")
                .await
                .unwrap();
            Held::Postgres(transaction)
        }
        Backend::Sqlite => Held::Sqlite(db.store.begin(&Actor::system("test")).await.unwrap()),
    }
}

impl Held {
    async fn release(self) {
        match self {
            Self::Postgres(transaction) => transaction.rollback().await.unwrap(),
            Self::Sqlite(unit) => unit.roll_back().await.unwrap(),
        }
    }
}

async fn a_batched_event_is_as_an_appended_one(db: TestDb) {
    let (ada, ben) = (db.user("ada").await, db.user("ben").await);
    let room = db.room(&ada, 5).await;
    // A whole second, a millisecond and a microsecond: SQLite's text of each is another.
    for start in [
        "2026-04-01T00:00:00Z",
        "2026-04-01T00:00:01.5Z",
        "2026-04-01T00:00:02.000001Z",
    ] {
        let (store, _) = db.with_clock_at(start.parse().unwrap()).await;
        let writer = writer(&store);
        let actors = [
            Actor::user(ada.id)
                .from_address("203.0.113.7".parse().unwrap())
                .with_user_agent("Agent \"1\""),
            Actor::user(ada.id).from_address("2001:db8::1".parse().unwrap()),
            Actor::system("media"),
            Actor::anonymous(),
        ];
        let observations = [
            closed(1),
            Observation::UserMuted {
                target: ben.id,
                kind: MediaKind::Audio,
            },
            Observation::SuspiciousActivity {
                description: "a NUL \0, a quote ', ünïcode and \\u0000".to_owned(),
            },
            Observation::UserLogout {},
        ];
        for (actor, observation) in actors.iter().zip(&observations) {
            for room in [Some(room.id), None] {
                let batched = writer.append(actor, room, observation.clone()).await.unwrap();
                let appended = store
                    .acting(actor)
                    .audit()
                    .append(room, observation.clone())
                    .await
                    .unwrap();
                let both: Vec<_> = all(&store, &[])
                    .await
                    .into_iter()
                    .filter(|entry| [batched, appended].contains(&entry.id))
                    .collect();
                let [mut one, other] = <[AuditEntry; 2]>::try_from(both).unwrap();
                one.id = other.id;
                assert_eq!(one, other);
            }
        }
        writer.close().await;
    }
    // Also in the very form in which they are stored.
    let raw = db.raw().await;
    let forms = "SELECT count(DISTINCT CAST(timestamp AS text)) FROM audit_logs WHERE action = 'USER_MUTED'";
    assert_eq!(raw.number(forms).await, 3);
}

async fn events_from_many_tasks_are_there_once(db: TestDb) {
    let ada = db.user("ada").await;
    let writer = writer(&db.store);
    let tasks: Vec<_> = (0..64)
        .map(|task| {
            let (writer, actor) = (writer.clone(), Actor::user(ada.id));
            tokio::spawn(async move {
                let mut ids = Vec::new();
                for number in 0..40 {
                    ids.push(writer.append(&actor, None, closed(task * 40 + number)).await.unwrap());
                }
                ids
            })
        })
        .collect();
    let mut acknowledged = HashSet::new();
    for task in tasks {
        acknowledged.extend(task.await.unwrap());
    }
    assert_eq!(acknowledged.len(), 64 * 40);
    assert_eq!(producers(&db.store).await, (0..64 * 40).collect::<Vec<_>>());
    let there: HashSet<AuditLogId> = all(&db.store, &[AuditAction::ProducerClosed])
        .await
        .iter()
        .map(|entry| entry.id)
        .collect();
    assert_eq!(there, acknowledged);
    let stats = writer.close().await;
    assert_eq!((stats.accepted, stats.written), (64 * 40, 64 * 40));
    assert!(stats.batches < 64 * 40 / 4, "{stats:?}");
}

fn nobody() -> UserId {
    UserId::from_uuid(Uuid::from_u128(7))
}

async fn one_bad_event_does_not_spoil_its_batch(db: TestDb) {
    let ada = db.user("ada").await;
    let nowhere = RoomId::from_uuid(Uuid::from_u128(8));
    let held = hold(&db).await;
    let writer = writer(&db.store);
    let good = Actor::user(ada.id);
    let muted = Observation::UserMuted {
        target: nobody(),
        kind: MediaKind::Video,
    };
    let mut waiting = Vec::new();
    for number in 0..30 {
        waiting.push(match number {
            7 => writer.try_append(&Actor::user(nobody()), None, &closed(number)),
            13 => writer.try_append(&good, Some(nowhere), &closed(number)),
            19 => writer.try_append(&good, None, &muted),
            _ => writer.try_append(&good, None, &closed(number)),
        });
    }
    held.release().await;
    let outcomes = join_all(waiting.into_iter().map(Result::unwrap)).await;
    for (number, outcome) in outcomes.iter().enumerate() {
        match (number, outcome) {
            (7 | 19, Err(Error::NotFound(Subject::User(id)))) => assert_eq!(*id, nobody()),
            (13, Err(Error::NotFound(Subject::Room(id)))) => assert_eq!(*id, nowhere),
            (7 | 13 | 19, other) => panic!("{number}: {other:?}"),
            (_, outcome) => assert!(outcome.is_ok(), "{number}: {outcome:?}"),
        }
    }
    let stats = writer.close().await;
    assert_eq!(
        (stats.accepted, stats.written, stats.refused, stats.retries),
        (30, 27, 3, 0)
    );
    assert_eq!(producers(&db.store).await.len(), 27);
}

async fn what_the_database_itself_refuses_does_not_spoil_its_batch(db: TestDb) {
    let raw = db.raw().await;
    let sql = match db.backend {
        Backend::Postgres => {
            "ALTER TABLE audit_logs ADD CONSTRAINT ck_no_thirteen CHECK (metadata->>'producer_id' <> 'producer-13')"
        }
        Backend::Sqlite => {
            "CREATE TRIGGER no_thirteen BEFORE INSERT ON audit_logs WHEN NEW.metadata->>'producer_id' = 'producer-13'
            BEGIN SELECT RAISE(ABORT, 'no_thirteen'); END"
        }
    };
    raw.run(sql).await;
    let held = hold(&db).await;
    let writer = writer(&db.store);
    let waiting: Vec<_> = (0..30)
        .map(|number| writer.try_append(&Actor::anonymous(), None, &closed(number)).unwrap())
        .collect();
    held.release().await;
    for (number, outcome) in join_all(waiting).await.into_iter().enumerate() {
        match outcome {
            Ok(_) => assert_ne!(number, 13),
            Err(error) => assert!(
                matches!(error, Error::Backend { .. }) && number == 13,
                "{number}: {error:?}"
            ),
        }
    }
    assert_eq!(producers(&db.store).await.len(), 29);
    let stats = writer.close().await;
    assert_eq!((stats.written, stats.refused), (29, 1));
}

async fn what_is_not_an_events_fault_is_waited_out(db: TestDb) {
    let raw = db.raw().await;
    let writer = writer(&db.store);
    // As in a botched deployment.
    raw.run("ALTER TABLE audit_logs RENAME TO away").await;
    let waiting: Vec<_> = (0..20)
        .map(|number| writer.try_append(&Actor::anonymous(), None, &closed(number)).unwrap())
        .collect();
    while writer.stats().retries < 2 {
        tokio::task::yield_now().await;
    }
    raw.run("ALTER TABLE away RENAME TO audit_logs").await;
    for outcome in join_all(waiting).await {
        outcome.unwrap();
    }
    assert_eq!(producers(&db.store).await, (0..20).collect::<Vec<_>>());
    assert_eq!(writer.close().await.refused, 0);
}

async fn a_full_queue_says_so_and_loses_nothing(db: TestDb) {
    let held = hold(&db).await;
    let settings = WriterSettings {
        queue: 4,
        batch: 1,
        lanes: 1,
        ..WriterSettings::default()
    };
    let writer = db.store.audit_writer(settings).unwrap();
    let mut taken = Vec::new();
    // At most one is with the lane and four are in the queue.
    let error = loop {
        match writer.try_append(&Actor::anonymous(), None, &closed(taken.len())) {
            Ok(appending) => taken.push(appending),
            Err(error) => break error,
        }
        assert!(taken.len() <= 5);
        tokio::task::yield_now().await;
    };
    assert!(matches!(error, Error::QueueFull { capacity: 4 }), "{error:?}");
    assert!(error.is_retryable());
    assert!(writer.stats().rejected >= 1);
    // Who can wait waits for room.
    let patient = {
        let (writer, number) = (writer.clone(), taken.len());
        tokio::spawn(async move { writer.append(&Actor::anonymous(), None, closed(number)).await })
    };
    held.release().await;
    let count = taken.len() + 1;
    for outcome in join_all(taken).await {
        outcome.unwrap();
    }
    patient.await.unwrap().unwrap();
    assert_eq!(producers(&db.store).await, (0..count).collect::<Vec<_>>());
    let stats = writer.close().await;
    assert_eq!((stats.accepted, stats.written), (count as u64, count as u64));
    assert_eq!(stats.on_their_way(), 0);
}

async fn waiting_events_share_statements(db: TestDb) {
    let wire = Wire::before(&db.url).await;
    let store = Store::connect(&wire.url).await.unwrap();
    let settings = WriterSettings {
        batch: 100,
        lanes: 1,
        ..WriterSettings::default()
    };
    let writer = store.audit_writer(settings).unwrap();
    let held = hold(&db).await;
    let waiting: Vec<_> = (0..1_000)
        .map(|number| writer.try_append(&Actor::anonymous(), None, &closed(number)).unwrap())
        .collect();
    wire.executions();
    held.release().await;
    for outcome in join_all(waiting).await {
        outcome.unwrap();
    }
    // The first may have gone off with less than a hundred.
    let executions = wire.executions().len();
    assert!((9..=11).contains(&executions), "{executions}");
    let stats = writer.close().await;
    assert_eq!(stats.largest_batch, 100);
    assert!((10..=11).contains(&stats.batches), "{stats:?}");
}

async fn closing_drains_and_takes_nothing_more(db: TestDb) {
    let writer = writer(&db.store);
    let held = hold(&db).await;
    let waiting: Vec<_> = (0..50)
        .map(|number| writer.try_append(&Actor::anonymous(), None, &closed(number)).unwrap())
        .collect();
    let mut closing = Box::pin(writer.close());
    // It waits: nothing can be written yet.
    assert!(closing.as_mut().now_or_never().is_none());
    for outcome in [
        writer.append(&Actor::anonymous(), None, closed(50)).await.err(),
        writer.try_append(&Actor::anonymous(), None, &closed(51)).err(),
    ] {
        assert!(matches!(outcome, Some(Error::Aborted { .. })), "{outcome:?}");
    }
    held.release().await;
    let stats = closing.await;
    assert_eq!((stats.accepted, stats.written, stats.on_their_way()), (50, 50, 0));
    for outcome in join_all(waiting).await {
        outcome.unwrap();
    }
    assert_eq!(producers(&db.store).await, (0..50).collect::<Vec<_>>());
    // Again is fine.
    assert_eq!(writer.clone().close().await, stats);
}

async fn a_writer_that_is_dropped_writes_what_it_took(db: TestDb) {
    let held = hold(&db).await;
    let writer = writer(&db.store);
    let waiting: Vec<_> = (0..50)
        .map(|number| writer.try_append(&Actor::anonymous(), None, &closed(number)).unwrap())
        .collect();
    drop(writer);
    held.release().await;
    for outcome in join_all(waiting).await {
        outcome.unwrap();
    }
    assert_eq!(producers(&db.store).await, (0..50).collect::<Vec<_>>());
}

async fn what_a_runtime_takes_with_it_is_told(db: TestDb) {
    let held = hold(&db).await;
    let url = db.service_url();
    let (writer, waiting) = tokio::task::spawn_blocking(move || {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let made = runtime.block_on(async {
            let store = Store::connect_with(&url, crate::harness::settings()).await.unwrap();
            let settings = WriterSettings {
                batch: 10,
                lanes: 1,
                ..WriterSettings::default()
            };
            let writer = store.audit_writer(settings).unwrap();
            let waiting: Vec<_> = (0..50)
                .map(|number| writer.try_append(&Actor::anonymous(), None, &closed(number)).unwrap())
                .collect();
            (writer, waiting)
        });
        runtime.shutdown_timeout(Duration::from_secs(30));
        made
    })
    .await
    .unwrap();
    let outcomes = join_all(waiting).await;
    let stats = writer.stats();
    assert_eq!(stats.accepted, 50);
    assert_eq!((stats.written, stats.abandoned, stats.on_their_way()), (0, 50, 0));
    // Those in the batch that was under way may have been written, the others not.
    let in_doubt = outcomes
        .iter()
        .filter(|outcome| matches!(outcome, Err(Error::Indeterminate { .. })))
        .count();
    let lost = outcomes
        .iter()
        .filter(|outcome| matches!(outcome, Err(Error::Aborted { .. })))
        .count();
    assert_eq!((in_doubt + lost, in_doubt <= 10), (50, true), "{outcomes:?}");
    // Closing does not wait for ever.
    assert_eq!(writer.close().await, stats);
    held.release().await;
    assert!(producers(&db.store).await.len() <= in_doubt);
}

async fn a_lost_reply_writes_no_event_twice(db: TestDb) {
    let wire = Wire::before(&db.url).await;
    let mut settings = crate::harness::settings();
    settings.connect.max_connections = Some(1);
    let store = Store::connect_with(&wire.url, settings).await.unwrap();
    let writer = writer(&store);
    // So that the statement is known to the server, and its next reply is that of its execution.
    writer.append(&Actor::anonymous(), None, closed(0)).await.unwrap();
    for round in 1..=5 {
        wire.lose_next_reply();
        writer.append(&Actor::anonymous(), None, closed(round)).await.unwrap();
        // Again, so that it is known on the new connection.
        writer
            .append(&Actor::anonymous(), None, closed(100 + round))
            .await
            .unwrap();
    }
    let stats = writer.close().await;
    assert_eq!((stats.accepted, stats.written, stats.retries), (11, 11, 5), "{stats:?}");
    assert_eq!(producers(&db.store).await, [0, 1, 2, 3, 4, 5, 101, 102, 103, 104, 105]);
}

async fn a_lost_connection_loses_nothing(db: TestDb) {
    let raw = db.raw().await;
    let writer = writer(&db.store_with(crate::harness::settings()).await);
    let writing = {
        let writer = writer.clone();
        tokio::spawn(async move {
            for number in 0..200 {
                writer.append(&Actor::anonymous(), None, closed(number)).await.unwrap();
            }
        })
    };
    let lanes = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
        WHERE datname = current_database() AND query LIKE 'WITH appended%'";
    let mut cut = 0;
    while cut < 20 && !writing.is_finished() {
        cut += raw.number(lanes).await;
    }
    writing.await.unwrap();
    assert!(cut > 0);
    let stats = writer.close().await;
    assert_eq!((stats.accepted, stats.written, stats.refused), (200, 200, 0));
    assert_eq!(producers(&db.store).await, (0..200).collect::<Vec<_>>());
}

async fn details_have_a_size(db: TestDb) {
    let writer = writer(&db.store);
    let observation = |length: usize| Observation::SuspiciousActivity {
        description: "x".repeat(length),
    };
    // {"description":"…"}
    let largest = conferencing_store::audit::MAX_DETAILS - 18;
    let system = db.system();
    system.audit().append(None, observation(largest)).await.unwrap();
    writer
        .append(&Actor::anonymous(), None, observation(largest))
        .await
        .unwrap();
    let actor = Actor::anonymous();
    for error in [
        system.audit().append(None, observation(largest + 1)).await.unwrap_err(),
        writer.append(&actor, None, observation(largest + 1)).await.unwrap_err(),
        writer.try_append(&actor, None, &observation(largest + 1)).unwrap_err(),
    ] {
        let expected = Invalid {
            field: "details",
            rule: Rule::MaxBytes {
                max: conferencing_store::audit::MAX_DETAILS,
                actual: conferencing_store::audit::MAX_DETAILS + 1,
            },
        };
        assert!(
            matches!(&error, Error::Invalid(invalid) if *invalid == expected),
            "{error:?}"
        );
    }
    assert_eq!(all(&db.store, &[AuditAction::SuspiciousActivity]).await.len(), 2);
    let stats = writer.close().await;
    assert_eq!(
        (stats.accepted, stats.written),
        (1, 1),
        "what is invalid was never taken"
    );
}

async fn settings_have_limits(db: TestDb) {
    let settings = WriterSettings::default();
    for (settings, field, rule) in [
        (WriterSettings { queue: 0, ..settings }, "queue", Rule::AtLeast(1)),
        (WriterSettings { batch: 0, ..settings }, "batch", Rule::AtLeast(1)),
        (
            WriterSettings {
                batch: MAX_BATCH + 1,
                ..settings
            },
            "batch",
            Rule::AtMost(MAX_BATCH.into()),
        ),
        (WriterSettings { lanes: 0, ..settings }, "lanes", Rule::AtLeast(1)),
    ] {
        let error = db.store.audit_writer(settings).unwrap_err();
        assert_eq!(error.to_string(), Error::Invalid(Invalid { field, rule }).to_string());
    }
    // The greatest batch there may be is written as one.
    let held = hold(&db).await;
    let settings = WriterSettings {
        batch: MAX_BATCH,
        lanes: 1,
        ..settings
    };
    let writer = db.store.audit_writer(settings).unwrap();
    let ids = RandomIds::default();
    let waiting: Vec<_> = (0..2 * usize::from(MAX_BATCH))
        .map(|number| {
            let observation = Observation::ConsumerCreated {
                consumer_id: ids.uuid(SystemClock.now()).to_string(),
                producer_id: number.to_string(),
            };
            writer.try_append(&Actor::anonymous(), None, &observation).unwrap()
        })
        .collect();
    held.release().await;
    for outcome in join_all(waiting).await {
        outcome.unwrap();
    }
    let WriterStats {
        written,
        batches,
        largest_batch,
        ..
    } = writer.close().await;
    assert_eq!(
        (written, largest_batch),
        (2 * u64::from(MAX_BATCH), u64::from(MAX_BATCH))
    );
    assert!(batches <= 3, "{batches}");
}

async fn its_numbers_go_to_the_metrics_facade(db: TestDb) {
    let writer = writer(&db.store);
    writer.append(&Actor::anonymous(), None, closed(1)).await.unwrap();
    let refused = writer.append(&Actor::user(nobody()), None, closed(1)).await;
    assert!(refused.is_err());
    writer.close().await;
    // The writers of other cases count as well.
    let recorded: HashSet<String> = crate::collector::emitted().into_iter().map(|(name, _)| name).collect();
    for name in [
        "audit_writer_accepted_total",
        "audit_writer_written_total",
        "audit_writer_refused_total",
        "audit_writer_queue_depth",
        "audit_writer_batch_events",
        "audit_writer_append_seconds",
    ] {
        assert!(recorded.contains(name), "{name}: {recorded:?}");
    }
}
