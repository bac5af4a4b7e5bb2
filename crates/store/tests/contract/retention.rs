//! The audit log's months: those ahead are made, those whose time is over go into files. On SQLite there are none.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use chrono::{DateTime, Utc};
use conferencing_store::entity::AuditAction;
use conferencing_store::{
    Acting, Actor, ArchivedPartition, AuditEvent, AuditFilter, AuditPartition, Change, Error, ExportedEvent, Invalid,
    Observation, Order, PartitionState, Rejected, Rule, Store, Subject,
};
use futures_util::TryStreamExt;
use sea_orm::{ConnectionTrait, TransactionTrait};

use crate::accounts_support::until_blocked;
use crate::harness::{Raw, TestDb, race};

crate::cases![
    @Postgres months_ahead_are_made_once,
    @Postgres many_processes_make_each_month_once,
    @Postgres a_month_that_is_missing_is_reported_and_appended_to,
    @Postgres a_month_goes_into_a_file,
    @Postgres what_is_to_be_kept_is_refused,
    @Postgres a_dry_run_changes_nothing,
    @Postgres a_retirement_that_broke_off_goes_on,
    @Postgres one_of_many_retires_a_month,
    @Postgres appends_go_on_while_a_month_is_retired,
    @Postgres a_month_in_use_is_waited_for,
    only_the_system_may,
    numbers_have_limits,
    @Sqlite there_are_no_months,
];

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

/// Acts at a time, which is years after the migration, so that all months are this case's own.
async fn acting_at(db: &TestDb, now: &str) -> (Store, Acting) {
    let (store, _) = db.with_clock_at(at(now)).await;
    let acting = store.acting(&Actor::system("upkeep"));
    (store, acting)
}

fn names(partitions: &[AuditPartition]) -> Vec<&str> {
    partitions.iter().map(|one| one.name.as_str()).collect()
}

/// Months of the first half of 2040, with some events in each, and the time in the middle of June.
async fn half_a_year(db: &TestDb) -> (Store, Acting) {
    let (_, acting) = acting_at(db, "2040-01-01T00:00:00Z").await;
    assert_eq!(
        acting.audit_partitions().ensure_partitions(5).await.unwrap().made.len(),
        6
    );
    for month in 1..=6 {
        let (store, _) = acting_at(db, &format!("2040-{month:02}-15T12:00:00.000007Z")).await;
        for number in 0..month {
            let actor = Actor::anonymous().from_address("2001:db8::1".parse().unwrap());
            let limit = Observation::RateLimitExceeded {
                limit: format!("{number} of ü\n"),
            };
            store.acting(&actor).audit().append(None, limit).await.unwrap();
        }
    }
    acting_at(db, "2040-06-15T13:00:00Z").await
}

async fn events(store: &Store, since: &str, until: &str) -> Vec<conferencing_store::AuditEntry> {
    let filter = AuditFilter {
        since: Some(at(since)),
        until: Some(at(until)),
        ..AuditFilter::default()
    };
    let stream = store.audit().stream(filter, Order::OldestFirst, None).unwrap();
    stream.try_collect().await.unwrap()
}

async fn exported(store: &Store, since: &str, until: &str) -> Vec<ExportedEvent> {
    let filter = AuditFilter {
        since: Some(at(since)),
        until: Some(at(until)),
        ..AuditFilter::default()
    };
    let acting = store.acting(&Actor::system("test"));
    let audit = acting.audit();
    let export = audit.export(filter, None).await.unwrap();
    export.events.try_collect().await.unwrap()
}

async fn months_ahead_are_made_once(db: TestDb) {
    let (_, acting) = acting_at(&db, "2040-11-30T23:59:59.999999Z").await;
    let partitions = acting.audit_partitions();
    let upkeep = partitions.ensure_partitions(2).await.unwrap();
    assert_eq!(
        upkeep.made,
        ["audit_logs_2040_11", "audit_logs_2040_12", "audit_logs_2041_01"]
    );
    assert_eq!(upkeep.in_default, [""; 0]);
    assert_eq!(
        partitions.ensure_partitions(2).await.unwrap(),
        conferencing_store::EnsuredPartitions::default()
    );
    let (_, later) = acting_at(&db, "2040-12-01T00:00:00Z").await;
    assert_eq!(
        later.audit_partitions().ensure_partitions(2).await.unwrap().made,
        ["audit_logs_2041_02"]
    );
    let all = partitions.list().await.unwrap();
    let december = all.iter().find(|one| one.name == "audit_logs_2040_12").unwrap();
    assert_eq!(december.state, PartitionState::Attached);
    assert_eq!(december.since, Some(at("2040-12-01T00:00:00Z")));
    assert_eq!(december.until, Some(at("2041-01-01T00:00:00Z")));
    assert!(december.bytes > 0);
    let (first, last) = (&all[0], &all[all.len() - 1]);
    assert_eq!((first.name.as_str(), first.since), ("audit_logs_before", None));
    assert_eq!(
        (last.name.as_str(), last.state),
        ("audit_logs_default", PartitionState::Default)
    );
    assert_eq!((last.since, last.until), (None, None));
}

async fn many_processes_make_each_month_once(db: TestDb) {
    let mut tasks = Vec::new();
    for _ in 0..16 {
        // Each with a pool of its own.
        let (_, acting) = acting_at(&db, "2040-01-01T00:00:00Z").await;
        tasks.push(async move { acting.audit_partitions().ensure_partitions(11).await });
    }
    let writer = {
        let (store, _) = acting_at(&db, "2040-03-01T00:00:00Z").await;
        tokio::spawn(async move {
            for _ in 0..100 {
                let acting = store.acting(&Actor::anonymous());
                acting.audit().append(None, Observation::UserLogout {}).await.unwrap();
            }
        })
    };
    let mut made = Vec::new();
    for upkeep in race(tasks).await {
        let upkeep = upkeep.unwrap();
        made.extend(upkeep.made.clone());
        // March may have events in the default one by the time that it is its turn.
        assert!(
            upkeep.in_default.iter().all(|name| name == "audit_logs_2040_03"),
            "{upkeep:?}"
        );
    }
    writer.await.unwrap();
    let distinct: BTreeSet<_> = made.iter().collect();
    assert_eq!(distinct.len(), made.len(), "{made:?}");
    assert!((11..=12).contains(&made.len()), "{made:?}");
    let recorded = AuditFilter::of_actions([AuditAction::UserLogout]);
    assert_eq!(db.store.audit().count(&recorded).await.unwrap(), 100);
}

async fn a_month_that_is_missing_is_reported_and_appended_to(db: TestDb) {
    let (store, acting) = acting_at(&db, "2040-02-10T00:00:00Z").await;
    let anonymous = store.acting(&Actor::anonymous());
    anonymous
        .audit()
        .append(None, Observation::UserLogout {})
        .await
        .unwrap();
    let upkeep = acting.audit_partitions().ensure_partitions(1).await.unwrap();
    assert_eq!(upkeep.in_default, ["audit_logs_2040_02"]);
    assert_eq!(upkeep.made, ["audit_logs_2040_03"]);
    anonymous
        .audit()
        .append(None, Observation::UserLogout {})
        .await
        .unwrap();
    assert_eq!(
        events(&store, "2040-02-01T00:00:00Z", "2040-03-01T00:00:00Z")
            .await
            .len(),
        2
    );
    // It says so each time, until somebody looks.
    let again = acting.audit_partitions().ensure_partitions(1).await.unwrap();
    assert_eq!((again.made.len(), again.in_default.len()), (0, 1));
}

async fn a_month_goes_into_a_file(db: TestDb) {
    let (store, acting) = half_a_year(&db).await;
    let folder = tempfile::tempdir().unwrap();
    let (february, march) = ("2040-02-01T00:00:00Z", "2040-03-01T00:00:00Z");
    let before = exported(&store, february, march).await;
    let others = events(&store, march, "2040-06-15T12:30:00Z").await;
    let archived = acting
        .audit_partitions()
        .archive("audit_logs_2040_02", 3, folder.path())
        .await
        .unwrap();
    let file = folder.path().join("audit_logs_2040_02.jsonl");
    let text = std::fs::read_to_string(&file).unwrap();
    let lines: Vec<_> = before.iter().map(|event| event.to_json_line() + "\n").collect();
    assert_eq!(text, lines.concat());
    assert_eq!(lines.len(), 2);
    let expected = ArchivedPartition {
        partition: "audit_logs_2040_02".to_owned(),
        since: Some(at(february)),
        until: at(march),
        events: 2,
        file: file.clone(),
        sha256: archived.sha256.clone(),
    };
    assert_eq!(archived, expected);
    let sum = std::fs::read_to_string(file.with_extension("jsonl.sha256")).unwrap();
    assert_eq!(sum, format!("{}  audit_logs_2040_02.jsonl\n", archived.sha256));
    // Nothing unfinished is left beside them.
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
    assert_eq!(events(&store, february, march).await, []);
    assert_eq!(events(&store, march, "2040-06-15T12:30:00Z").await, others);
    assert!(!names(&acting.audit_partitions().list().await.unwrap()).contains(&"audit_logs_2040_02"));
    let raw = db.raw().await;
    let left = "SELECT count(*) FROM pg_class WHERE relname LIKE '%2040_02%'";
    assert_eq!(raw.number(left).await, 0);
    let recorded = events(&store, "2040-06-15T13:00:00Z", "2040-07-01T00:00:00Z").await;
    let archiving = recorded.iter().find_map(|entry| match &entry.event {
        AuditEvent::Change(change @ Change::AuditArchived { .. }) => Some(change.clone()),
        _ => None,
    });
    let expected = Change::AuditArchived {
        partition: archived.partition,
        since: archived.since,
        until: archived.until,
        events: 2,
        sha256: archived.sha256,
    };
    assert_eq!(archiving, Some(expected));
    // A late event of that month has its place still.
    let (late, _) = acting_at(&db, "2040-02-15T00:00:00Z").await;
    late.acting(&Actor::anonymous())
        .audit()
        .append(None, Observation::UserLogout {})
        .await
        .unwrap();
    assert_eq!(events(&store, february, march).await.len(), 1);
}

async fn what_is_to_be_kept_is_refused(db: TestDb) {
    let (_, acting) = half_a_year(&db).await;
    let folder = tempfile::tempdir().unwrap();
    let partitions = acting.audit_partitions();
    let kept_from = at("2040-04-01T00:00:00Z");
    for (name, until) in [
        ("audit_logs_2040_04", "2040-05-01T00:00:00Z"),
        ("audit_logs_2040_05", "2040-06-01T00:00:00Z"),
        ("audit_logs_2040_06", "2040-07-01T00:00:00Z"),
    ] {
        let refused = partitions.archive(name, 2, folder.path()).await.unwrap_err();
        let expected = Rejected::WithinRetention {
            until: at(until),
            kept_from,
        };
        assert!(
            matches!(&refused, Error::Rejected(rejected) if *rejected == expected),
            "{refused:?}"
        );
    }
    for name in [
        "audit_logs_default",
        "audit_logs_2039_12",
        "audit_logs",
        "users",
        "\"; DROP TABLE users; --",
    ] {
        let refused = partitions.archive(name, 2, folder.path()).await.unwrap_err();
        assert!(
            matches!(&refused, Error::NotFound(Subject::Partition(it)) if it == name),
            "{refused:?}"
        );
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    // The last that need not be kept.
    partitions
        .archive("audit_logs_2040_03", 2, folder.path())
        .await
        .unwrap();
}

async fn a_dry_run_changes_nothing(db: TestDb) {
    let (_, acting) = half_a_year(&db).await;
    let raw = db.raw().await;
    let before = (raw.snapshot().await, crate::catalog::snapshot(&raw).await);
    let partitions = acting.audit_partitions();
    for (keep, due) in [(1, 5), (2, 4), (5, 1), (6, 1)] {
        let due_now = partitions.due(keep).await.unwrap();
        // Those of the schema's own year are long over.
        let of_2040: Vec<_> = names(&due_now)
            .into_iter()
            .filter(|name| name.contains("2040"))
            .collect();
        assert_eq!(of_2040.len(), due - 1, "{keep}: {due_now:?}");
        assert_eq!(due_now[0].name, "audit_logs_before");
    }
    assert_eq!((raw.snapshot().await, crate::catalog::snapshot(&raw).await), before);
}

async fn a_retirement_that_broke_off_goes_on(db: TestDb) {
    let (store, acting) = half_a_year(&db).await;
    let folder = tempfile::tempdir().unwrap();
    let partitions = acting.audit_partitions();
    let nowhere = folder.path().join("missing");
    let broken = partitions.archive("audit_logs_2040_03", 1, &nowhere).await.unwrap_err();
    assert!(
        matches!(&broken, Error::File { path, .. } if path.starts_with(&nowhere)),
        "{broken:?}"
    );
    let all = partitions.list().await.unwrap();
    let left = all
        .iter()
        .find(|one| one.name == "audit_logs_detached_2040_03")
        .unwrap();
    assert_eq!(left.state, PartitionState::Detached);
    assert_eq!(
        (left.since, left.until),
        (Some(at("2040-03-01T00:00:00Z")), Some(at("2040-04-01T00:00:00Z")))
    );
    assert!(names(&partitions.due(1).await.unwrap()).contains(&"audit_logs_detached_2040_03"));
    // Out of the audit log, but no more to be changed than before.
    assert_eq!(events(&store, "2040-03-01T00:00:00Z", "2040-04-01T00:00:00Z").await, []);
    let raw = db.raw().await;
    for sql in [
        "UPDATE audit_logs_detached_2040_03 SET user_agent = 'x'",
        "DELETE FROM audit_logs_detached_2040_03",
        "TRUNCATE audit_logs_detached_2040_03",
        "SET session_replication_role = replica; DELETE FROM audit_logs_detached_2040_03",
    ] {
        let refused = format!("{:?}", raw.execute(sql).await);
        assert!(refused.contains("immutable"), "{sql}: {refused}");
    }
    // By either name.
    let archived = partitions
        .archive("audit_logs_2040_03", 1, folder.path())
        .await
        .unwrap();
    assert_eq!(
        (archived.partition.as_str(), archived.events),
        ("audit_logs_2040_03", 3)
    );
    let gone = partitions
        .archive("audit_logs_2040_03", 1, folder.path())
        .await
        .unwrap_err();
    assert!(matches!(gone, Error::NotFound(_)), "{gone:?}");
}

async fn one_of_many_retires_a_month(db: TestDb) {
    let (store, _) = half_a_year(&db).await;
    let folder = Arc::new(tempfile::tempdir().unwrap());
    let mut tasks = Vec::new();
    for _ in 0..6 {
        let (_, acting) = acting_at(&db, "2040-06-15T13:00:00Z").await;
        let folder = Arc::clone(&folder);
        tasks.push(async move {
            let partitions = acting.audit_partitions();
            partitions.archive("audit_logs_2040_03", 1, folder.path()).await
        });
    }
    let mut done = 0;
    for outcome in race(tasks).await {
        match outcome {
            Ok(archived) => {
                assert_eq!(archived.events, 3);
                done += 1;
            }
            Err(Error::NotFound(Subject::Partition(_)) | Error::Transient { .. }) => {}
            Err(error) => panic!("{error:?}"),
        }
    }
    assert_eq!(done, 1);
    let recorded = AuditFilter::of_actions([AuditAction::AuditArchived]);
    assert_eq!(store.audit().count(&recorded).await.unwrap(), 1);
    let text = std::fs::read_to_string(folder.path().join("audit_logs_2040_03.jsonl")).unwrap();
    assert_eq!(text.lines().count(), 3);
}

async fn appends_go_on_while_a_month_is_retired(db: TestDb) {
    let (_, acting) = half_a_year(&db).await;
    let raw = db.raw().await;
    // Enough that the export takes a while.
    raw.run(
        r#"INSERT INTO audit_logs (id, action, "timestamp")
        SELECT gen_random_uuid(), 'USER_LOGOUT', TIMESTAMPTZ '2040-02-02 00:00:00+00' FROM generate_series(1, 20000)"#,
    )
    .await;
    let ended = Arc::new(AtomicBool::new(false));
    let users = db.users("user", 4).await;
    let tasks: Vec<_> = users
        .into_iter()
        .map(|user| {
            let (system, ended) = (db.system(), Arc::clone(&ended));
            tokio::spawn(async move {
                let mut appended = 0;
                while !ended.load(Ordering::SeqCst) {
                    system.audit().append(None, Observation::UserLogout {}).await.unwrap();
                    // What locks users and rooms as well.
                    system
                        .rooms()
                        .create(conferencing_store::NewRoom::titled(user.id, "A room"))
                        .await
                        .unwrap();
                    appended += 1;
                }
                appended
            })
        })
        .collect();
    let folder = tempfile::tempdir().unwrap();
    let archived = acting
        .audit_partitions()
        .archive("audit_logs_2040_02", 1, folder.path())
        .await;
    ended.store(true, Ordering::SeqCst);
    let mut appended = 0;
    for task in tasks {
        appended += task.await.unwrap();
    }
    assert_eq!(archived.unwrap().events, 20_002);
    assert!(appended > 0);
}

async fn a_month_in_use_is_waited_for(db: TestDb) {
    let (_, acting) = half_a_year(&db).await;
    let raw: Raw = db.raw().await;
    let held = raw.db.begin().await.unwrap();
    held.execute_unprepared("SELECT count(*) FROM audit_logs")
        .await
        .unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_owned();
    let archiving =
        tokio::spawn(async move { acting.audit_partitions().archive("audit_logs_2040_01", 1, &path).await });
    until_blocked(&raw, 1).await;
    held.commit().await.unwrap();
    assert_eq!(archiving.await.unwrap().unwrap().events, 1);
}

async fn only_the_system_may(db: TestDb) {
    let ada = db.user("ada").await;
    let acting = db.acting(&ada);
    let partitions = acting.audit_partitions();
    let folder = tempfile::tempdir().unwrap();
    for error in [
        partitions.ensure_partitions(1).await.unwrap_err(),
        partitions
            .archive("audit_logs_before", 1, folder.path())
            .await
            .unwrap_err(),
    ] {
        assert!(
            matches!(error, Error::Rejected(Rejected::NotAllowed { .. })),
            "{error:?}"
        );
    }
    let attempts = AuditFilter::of_actions([AuditAction::UnauthorizedAccessAttempt]);
    assert_eq!(db.store.audit().count(&attempts).await.unwrap(), 2);
}

async fn numbers_have_limits(db: TestDb) {
    let system = db.system();
    let partitions = system.audit_partitions();
    let folder = tempfile::tempdir().unwrap();
    let invalid = |field, rule| Error::Invalid(Invalid { field, rule }).to_string();
    let ahead = partitions.ensure_partitions(121).await.unwrap_err();
    assert_eq!(ahead.to_string(), invalid("ahead", Rule::AtMost(120)));
    let keep = invalid("keep", Rule::AtLeast(1));
    assert_eq!(partitions.due(0).await.unwrap_err().to_string(), keep);
    let archived = partitions.archive("audit_logs_before", 0, folder.path()).await;
    assert_eq!(archived.unwrap_err().to_string(), keep);
}

async fn there_are_no_months(db: TestDb) {
    let system = db.system();
    let partitions = system.audit_partitions();
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(partitions.list().await.unwrap(), []);
    assert_eq!(
        partitions.ensure_partitions(3).await.unwrap(),
        conferencing_store::EnsuredPartitions::default()
    );
    assert_eq!(partitions.due(1).await.unwrap(), []);
    let missing = partitions.archive("audit_logs", 1, folder.path()).await.unwrap_err();
    assert!(matches!(missing, Error::NotFound(Subject::Partition(_))), "{missing:?}");
}
