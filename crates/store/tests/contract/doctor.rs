//! The doctor: each finding provoked on a real database, its remedy tried where it is a statement, and nothing found where all is well.

use std::time::Duration;

use chrono::TimeDelta;
use conferencing_migration::{Migrator, MigratorTrait};
use conferencing_store::clock::{Clock, SystemClock};
use conferencing_store::doctor::MIGRATIONS;
use conferencing_store::{
    Actor, Check, DoctorSettings, Durability, Finding, Observation, Report, Severity, Store, StoreSettings,
};
use sea_orm::{ConnectionTrait, TransactionTrait};

use crate::grants::Roles;
use crate::harness::{Backend, Raw, TestDb, settings};
use crate::limits::soon;
use crate::pooler::Pooler;

crate::cases![
    a_healthy_database_has_no_finding_above_a_note,
    it_knows_the_migrations_that_there_are,
    migrations_that_are_missing_or_unknown_are_found,
    an_index_that_is_missing_is_found,
    a_trigger_that_is_missing_is_found,
    counters_that_are_wrong_are_found,
    @Postgres a_column_of_another_type_is_found,
    @Postgres an_index_that_is_not_valid_is_found,
    @Postgres an_index_that_nobody_uses_is_noted_in_time,
    @Postgres a_trigger_that_is_off_is_found,
    @Postgres events_in_the_default_partition_are_found,
    @Postgres months_that_run_out_are_found,
    @Postgres a_clock_that_is_wrong_is_found,
    @Postgres settings_that_lose_data_are_found,
    @Postgres a_pooler_is_found,
    @Postgres what_takes_too_long_is_given_up,
];

/// What was found by a check.
pub fn of(report: &Report, check: Check) -> Vec<Finding> {
    report
        .findings
        .iter()
        .filter(|finding| finding.check == check)
        .cloned()
        .collect()
}

/// The one finding of a check, which says so.
pub fn the(report: &Report, check: Check, what: &str) -> Finding {
    let found = of(report, check);
    assert_eq!(found.len(), 1, "{report:#?}");
    assert!(found[0].what.contains(what), "{found:#?}");
    assert_eq!(found[0].severity, check.severity());
    assert!(!found[0].remedy.is_empty());
    found[0].clone()
}

/// What is above a note, but for what a server that is thrown away and its superuser are told of themselves.
pub fn grave(report: &Report) -> Vec<String> {
    let told = [Check::Superuser, Check::LosesData];
    let grave = report
        .findings
        .iter()
        .filter(|finding| finding.severity > Severity::Note);
    let grave = grave.filter(|finding| !told.contains(&finding.check));
    grave
        .map(|finding| format!("{}: {}", finding.check, finding.what))
        .collect()
}

pub async fn examine(store: &Store) -> Report {
    soon(store.doctor()).await.unwrap()
}

/// Somebody is there, somebody was, one was put out.
async fn a_meeting(db: &TestDb) {
    let people = db.users("guest", 3).await;
    let room = db.room(&people[0], 5).await;
    for user in &people {
        db.seat(&room, user).await;
    }
    let host = db.acting(&people[0]);
    host.participants().kick(room.id, people[1].id, None).await.unwrap();
    db.acting(&people[2])
        .participants()
        .leave(room.id, people[2].id)
        .await
        .unwrap();
    db.seat(&room, &people[2]).await;
    host.audit()
        .append(Some(room.id), Observation::ScreenShareStarted {})
        .await
        .unwrap();
}

async fn a_healthy_database_has_no_finding_above_a_note(db: TestDb) {
    let (db, roles) = match db.backend {
        Backend::Sqlite => (db, None),
        Backend::Postgres => {
            let roles = Roles::set(&db).await;
            (roles.app().await, Some(roles))
        }
    };
    assert_eq!(grave(&examine(&db.store).await), Vec::<String>::new());
    a_meeting(&db).await;
    let raw = match &roles {
        None => db.raw().await,
        Some(roles) => crate::harness::raw_of(&roles.url).await,
    };
    let before = raw.snapshot().await;
    let report = examine(&db.store).await;
    assert_eq!(raw.snapshot().await, before);
    let above = report
        .findings
        .iter()
        .filter(|finding| finding.severity > Severity::Note);
    let above: Vec<&str> = above.map(|finding| finding.what.as_str()).collect();
    // Of the server, which is thrown away, its own settings alone.
    let off = "SELECT concat(name, ' = off') FROM pg_settings
        WHERE name IN ('fsync', 'full_page_writes', 'synchronous_commit') AND setting = 'off' ORDER BY name";
    let expected = match roles {
        None => Vec::new(),
        Some(_) => raw.texts(off).await,
    };
    assert_eq!(above, expected);
    assert_eq!(of(&report, Check::Pooler), []);
    // As a service or a person gets it.
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(
        json["database"],
        if db.backend == Backend::Sqlite {
            "SQLite"
        } else {
            "PostgreSQL"
        }
    );
    assert!(
        json["findings"]
            .as_array()
            .unwrap()
            .iter()
            .all(|one| one["severity"] != "note" || one["check"].is_string())
    );
}

async fn it_knows_the_migrations_that_there_are(_: TestDb) {
    let files = Migrator::get_migration_files();
    let names: Vec<&str> = files.iter().map(|file| file.name()).collect();
    assert_eq!(names, MIGRATIONS);
}

async fn migrations_that_are_missing_or_unknown_are_found(db: TestDb) {
    let raw = db.raw().await;
    raw.run("DELETE FROM conferencing_migrations WHERE version LIKE '%audit_indexes'")
        .await;
    raw.run("INSERT INTO conferencing_migrations VALUES ('m20990101_000001_colours', 0)")
        .await;
    let report = examine(&db.store).await;
    the(&report, Check::MigrationPending, "m20261122_000004_audit_indexes");
    the(&report, Check::MigrationUnknown, "m20990101_000001_colours");
    assert_eq!(report.worst(), Some(Severity::Error));
    assert_eq!(grave(&report).len(), 1, "{report:#?}");
}

/// Does what a finding says, after which it is gone.
async fn remedied(db: &TestDb, raw: &Raw, finding: &Finding) {
    raw.run(&finding.remedy).await;
    assert_eq!(
        grave(&examine(&db.store).await),
        Vec::<String>::new(),
        "after {}",
        finding.remedy
    );
}

async fn an_index_that_is_missing_is_found(db: TestDb) {
    let raw = db.raw().await;
    for index in ["uq_rooms_room_code", "ix_rooms_live", "ix_audit_logs_room"] {
        raw.run(&format!("DROP INDEX {index}")).await;
        let report = examine(&db.store).await;
        remedied(&db, &raw, &the(&report, Check::IndexMissing, index)).await;
    }
}

async fn a_trigger_that_is_missing_is_found(db: TestDb) {
    let raw = db.raw().await;
    let drop = match db.backend {
        Backend::Postgres => "DROP TRIGGER tr_rooms_rules ON rooms",
        Backend::Sqlite => "DROP TRIGGER tr_rooms_status",
    };
    raw.run(drop).await;
    let report = examine(&db.store).await;
    remedied(&db, &raw, &the(&report, Check::TriggerMissing, "tr_rooms_")).await;
}

async fn counters_that_are_wrong_are_found(db: TestDb) {
    a_meeting(&db).await;
    let raw = db.raw().await;
    for (falsify, counter) in [
        (
            "active_participants = 0",
            "active_participants 0, and its rows add up to 2",
        ),
        ("total_joins = 9", "total_joins 9, and its rows add up to 4"),
    ] {
        raw.run(&format!("UPDATE rooms SET {falsify}")).await;
        let report = examine(&db.store).await;
        let finding = the(&report, Check::CountersWrong, counter);
        raw.run(&finding.remedy).await;
        assert_eq!(of(&examine(&db.store).await, Check::CountersWrong), []);
    }
    let ada = db.user("ada").await;
    for _ in 0..7 {
        db.room(&ada, 5).await;
    }
    raw.run("UPDATE rooms SET total_joins = total_joins + 1").await;
    let found = of(&examine(&db.store).await, Check::CountersWrong);
    assert_eq!(found.len(), 6, "{found:#?}");
    assert!(found[5].what.contains("8 rooms in all"), "{found:#?}");
}

async fn a_column_of_another_type_is_found(db: TestDb) {
    let raw = db.raw().await;
    raw.run("ALTER TABLE recordings ALTER COLUMN codec TYPE varchar(51)")
        .await;
    raw.run("ALTER TYPE participant_role RENAME VALUE 'CO_HOST' TO 'COHOST'")
        .await;
    let found = of(&examine(&db.store).await, Check::SchemaDrift);
    assert_eq!(found.len(), 2, "{found:#?}");
    assert!(found[0].what.contains("recordings.codec"), "{found:#?}");
    assert!(found[1].what.contains("participant_role.CO_HOST"), "{found:#?}");
}

async fn an_index_that_is_not_valid_is_found(db: TestDb) {
    let raw = db.raw().await;
    raw.run("UPDATE pg_index SET indisvalid = FALSE WHERE indexrelid = 'ix_rooms_owner'::regclass")
        .await;
    let report = examine(&db.store).await;
    assert_eq!(of(&report, Check::IndexMissing), []);
    remedied(&db, &raw, &the(&report, Check::IndexInvalid, "ix_rooms_owner")).await;
}

async fn an_index_that_nobody_uses_is_noted_in_time(db: TestDb) {
    a_meeting(&db).await;
    assert_eq!(of(&examine(&db.store).await, Check::IndexUnused), []);
    let (store, _) = db.with_clock_at(SystemClock.now() + TimeDelta::days(31)).await;
    let report = examine(&store).await;
    let unused = of(&report, Check::IndexUnused);
    let names: Vec<&str> = unused.iter().filter_map(|one| one.what.split(' ').nth(1)).collect();
    assert!(names.contains(&"ix_recordings_purge"), "{unused:#?}");
    // One of each, however many partitions there are, and no unique one.
    assert_eq!(
        names.iter().filter(|name| **name == "ix_audit_logs_address").count(),
        1,
        "{unused:#?}"
    );
    assert!(
        !names
            .iter()
            .any(|name| name.starts_with("uq_") || name.contains("before")),
        "{unused:#?}"
    );
}

async fn a_trigger_that_is_off_is_found(db: TestDb) {
    let raw = db.raw().await;
    for off in ["DISABLE TRIGGER", "ENABLE TRIGGER", "ENABLE REPLICA TRIGGER"] {
        raw.run(&format!("ALTER TABLE rooms {off} tr_rooms_rules")).await;
        let report = examine(&db.store).await;
        remedied(&db, &raw, &the(&report, Check::TriggerOff, "rooms.tr_rooms_rules")).await;
    }
    raw.run("ALTER TABLE audit_logs_before DISABLE TRIGGER tr_audit_logs_immutable")
        .await;
    let report = examine(&db.store).await;
    the(&report, Check::TriggerOff, "audit_logs_before: fires DISABLED");
}

async fn events_in_the_default_partition_are_found(db: TestDb) {
    let (later, _) = db.with_clock_at("2040-02-03T04:05:06Z".parse().unwrap()).await;
    let acting = later.acting(&Actor::system("test"));
    acting.audit().append(None, Observation::UserLogout {}).await.unwrap();
    let report = examine(&db.store).await;
    the(&report, Check::DefaultPartition, "1 events from");
    assert_eq!(grave(&report).len(), 1, "{report:#?}");
    // The same of a month that is missing between others.
    let raw = db.raw().await;
    raw.run("SELECT attach_audit_partition('audit_logs_2040_03', '2040-03-01 00:00+00', '2040-04-01 00:00+00')")
        .await;
    let report = examine(&db.store).await;
    the(&report, Check::DefaultPartition, "up to 2040-03-01");
}

async fn months_that_run_out_are_found(db: TestDb) {
    let acting = db.system();
    let ahead = acting.audit_partitions().list().await.unwrap();
    let last = ahead.iter().filter_map(|one| one.until).max().unwrap();
    for (days, months) in [(75, None), (45, Some("1 months ahead")), (15, Some("0 months ahead"))] {
        let (store, _) = db.with_clock_at(last - TimeDelta::days(days)).await;
        let report = examine(&store).await;
        match months {
            None => assert_eq!(of(&report, Check::MonthsAhead), []),
            Some(months) => drop(the(&report, Check::MonthsAhead, months)),
        }
    }
}

async fn a_clock_that_is_wrong_is_found(db: TestDb) {
    for (off, what) in [(-3600, "behind the server's"), (3600, "ahead of the server's")] {
        let (store, _) = db.with_clock_at(SystemClock.now() + TimeDelta::seconds(off)).await;
        the(&examine(&store).await, Check::ClockDifference, what);
    }
}

async fn settings_that_lose_data_are_found(db: TestDb) {
    let raw = db.raw().await;
    let name = &raw.texts("SELECT current_database()::text").await[0];
    raw.run(&format!("ALTER DATABASE {name} SET synchronous_commit = off"))
        .await;
    let forgetful = StoreSettings {
        durability: Durability::AsConfigured,
        ..settings()
    };
    let store = db.store_with(forgetful).await;
    let found = of(&examine(&store).await, Check::LosesData);
    let found: Vec<String> = found.into_iter().map(|one| one.what).collect();
    // The others are the server's own, and as they are.
    let off = "SELECT concat(name, ' = off') FROM pg_settings
        WHERE name IN ('fsync', 'full_page_writes') AND setting = 'off' ORDER BY name";
    let mut expected = raw.texts(off).await;
    expected.push("synchronous_commit = off".to_owned());
    assert_eq!(found, expected);
}

async fn a_pooler_is_found(db: TestDb) {
    let pooler = Pooler::before(&db.url).await;
    let mut told = settings();
    told.connect.pgbouncer = true;
    let store = db.store_at(&pooler.url, told).await;
    let report = examine(&store).await;
    the(
        &report,
        Check::Pooler,
        "in transaction mode stands between, as the store was told",
    );
    let limits = the(&report, Check::NoLimits, "lock_timeout");
    assert!(limits.remedy.contains("ALTER ROLE postgres SET"), "{limits:?}");
    let raw = db.raw().await;
    let name = &raw.texts("SELECT current_database()::text").await[0];
    for setting in ["lock_timeout = '5s'", "statement_timeout = '30s'"] {
        raw.run(&format!("ALTER DATABASE {name} SET {setting}")).await;
    }
    let mut told = settings();
    told.connect.pgbouncer = true;
    let report = examine(&db.store_at(&pooler.url, told).await).await;
    assert_eq!(grave(&report), Vec::<String>::new());
    assert_eq!(of(&examine(&db.store).await, Check::Pooler), []);
}

async fn what_takes_too_long_is_given_up(db: TestDb) {
    let raw = db.raw().await;
    let held = raw.db.begin().await.unwrap();
    held.execute_unprepared("LOCK TABLE rooms IN ACCESS EXCLUSIVE MODE")
        .await
        .unwrap();
    let hurried = DoctorSettings {
        limit: Duration::from_millis(200),
    };
    let report = soon(db.store.doctor_with(&hurried)).await.unwrap();
    // Of what else looks at this table the same may be said.
    let given_up = of(&report, Check::NotChecked);
    assert!(
        given_up.iter().any(|finding| finding.what.starts_with("counters: ")),
        "{report:#?}"
    );
    held.rollback().await.unwrap();
    assert_eq!(grave(&examine(&db.store).await), Vec::<String>::new());
}
