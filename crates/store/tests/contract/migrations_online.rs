//! Migrations while services work: behind long transactions, over big tables, through a pooler; ours and those of a service.

use std::time::Duration;

use conferencing_migration::{
    MIGRATION_TABLE, MigrateError, MigrateSettings, Migrated, Migrator, MigratorTrait, apply, migrate,
};
use sea_orm::{ConnectionTrait, TransactionTrait};
use sea_orm_migration::prelude::{DbErr, MigrationName, MigrationTrait, SchemaManager};
use tokio::task::JoinHandle;

use crate::catalog;
use crate::harness::{Raw, TestDb, race, raw_of};
use crate::metering::one_connection;
use crate::migrations::{all, applied, empty};
use crate::migrations_at_once::{finished, narrow, start};
use crate::pooler::Pooler;

crate::cases![
    a_services_own_migrations_stand_beside_ours,
    a_failed_migration_is_told_by_its_name,
    @Postgres the_limits_of_the_session_do_not_hold_for_migrations,
    @Postgres traffic_goes_on_while_a_migration_waits_for_a_lock,
    @Postgres what_is_in_the_way_is_told,
    @Postgres a_database_behind_a_pooler_is_migrated,
];

pub const PATIENCE: Duration = Duration::from_secs(60);

/// A migration in SQL.
struct Statements(&'static str, &'static str);

impl MigrationName for Statements {
    fn name(&self) -> &str {
        self.0
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Statements {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.get_connection().execute_unprepared(self.1).await.map(drop)
    }
}

/// A service's migrator, with SeaORM's own name for its table.
#[macro_export]
macro_rules! migrator {
    ($name:ident: $($migration:expr),+) => {
        pub struct $name;

        impl MigratorTrait for $name {
            fn migrations() -> Vec<Box<dyn MigrationTrait>> {
                vec![$(Box::new($migration)),+]
            }
        }
    };
}

migrator!(Notes: Statements("m20300101_000001_notes", "CREATE TABLE notes (id integer)"),
    Statements("m20300101_000002_more", "CREATE TABLE more_notes (id integer)"));
migrator!(Broken: Statements("m20300101_000001_notes", "CREATE TABLE notes (id integer)"),
    Statements("m20300101_000003_broken", "CREATE TABLE notes (id integer)"));
migrator!(Limits: Statements("m20300101_000001_limits", "CREATE TABLE limits AS SELECT name, setting FROM pg_settings
    WHERE name IN ('lock_timeout', 'statement_timeout', 'idle_in_transaction_session_timeout')"));
migrator!(Nickname: Statements("m20300101_000001_nickname", "ALTER TABLE users ADD COLUMN nickname text"));

async fn a_services_own_migrations_stand_beside_ours(db: TestDb) {
    let empty = empty(db.backend).await;
    let mut pools = Vec::new();
    for _ in 0..8 {
        pools.push(narrow(&empty.url).await);
    }
    let migrated = race(pools.into_iter().map(|pool| async move {
        let ours = migrate(&pool.db).await.unwrap();
        let theirs = apply::<Notes>(&pool.db, &MigrateSettings::default()).await.unwrap();
        (ours, theirs)
    }))
    .await;
    let names = |of: fn(&(Migrated, Migrated)) -> &Migrated| {
        let mut names: Vec<String> = migrated.iter().flat_map(|both| of(both).applied.clone()).collect();
        names.sort();
        names
    };
    assert!(
        migrated
            .iter()
            .all(|(ours, theirs)| ours.unknown.is_empty() && theirs.unknown.is_empty())
    );
    assert_eq!(names(|both| &both.0), all());
    assert_eq!(
        names(|both| &both.1),
        ["m20300101_000001_notes", "m20300101_000002_more"]
    );
    let raw = &empty.raw;
    assert_eq!(
        raw.texts("SELECT version FROM seaql_migrations ORDER BY 1").await,
        names(|both| &both.1)
    );
    assert_eq!(
        raw.texts(&format!("SELECT version FROM {MIGRATION_TABLE} ORDER BY 1"))
            .await,
        all()
    );
    // SeaORM's own way with them is not disturbed either.
    Notes::up(&raw.db, None).await.unwrap();
    Notes::status(&raw.db).await.unwrap();
    Migrator::status(&raw.db).await.unwrap();
}

async fn a_failed_migration_is_told_by_its_name(db: TestDb) {
    let raw = db.raw().await;
    let failed = apply::<Broken>(&raw.db, &MigrateSettings::default()).await.unwrap_err();
    let MigrateError::Failed { migration, reason } = &failed else {
        panic!("{failed:?}")
    };
    assert_eq!(migration, "m20300101_000003_broken");
    assert!(reason.contains("already exists"), "{reason}");
    assert_eq!(applied(&raw).await, all());
}

async fn the_limits_of_the_session_do_not_hold_for_migrations(db: TestDb) {
    let raw = raw_of(&db.url).await;
    let setting = "DO $$ BEGIN
        EXECUTE format('ALTER DATABASE %I SET idle_in_transaction_session_timeout = 600000', current_database());
        EXECUTE format('ALTER DATABASE %I SET statement_timeout = 600000', current_database());
    END $$";
    raw.run(setting).await;
    let pool = raw_of(&db.url).await;
    let settings = MigrateSettings {
        lock_timeout: Duration::from_millis(1234),
        ..MigrateSettings::default()
    };
    apply::<Limits>(&pool.db, &settings).await.unwrap();
    let limits = raw
        .texts("SELECT format('%s %s', name, setting) FROM limits ORDER BY 1")
        .await;
    assert_eq!(
        limits,
        [
            "idle_in_transaction_session_timeout 0",
            "lock_timeout 1234",
            "statement_timeout 0"
        ]
    );
    // And do again afterwards.
    assert_eq!(pool.texts("SHOW statement_timeout").await, ["10min"]);
}

/// Waits until a statement that begins so is seen waiting for a lock in so many transactions, one after the other.
pub async fn waits(raw: &Raw, beginning: &str, count: usize) {
    let sql = format!(
        "SELECT format('%s %s', pid, xact_start) FROM pg_stat_activity
            WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE '{beginning}%'"
    );
    let waiting = async {
        let mut seen = std::collections::BTreeSet::new();
        while seen.len() < count {
            seen.extend(raw.texts(&sql).await);
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.expect("it waits");
}

pub fn applying<M: MigratorTrait + 'static>(
    raw: Raw,
    settings: MigrateSettings,
) -> JoinHandle<Result<Migrated, MigrateError>> {
    tokio::spawn(async move { apply::<M>(&raw.db, &settings).await })
}

async fn traffic_goes_on_while_a_migration_waits_for_a_lock(db: TestDb) {
    let ada = db.user("ada").await;
    let (raw, other) = (db.raw().await, one_connection(&db.url).await);
    // A report, or a session that somebody has left open.
    let holder = other.db.begin().await.unwrap();
    let row = format!(
        "UPDATE users SET display_name = 'Ada' WHERE id = {}",
        other.id(ada.id.as_uuid())
    );
    holder.execute_unprepared(&row).await.unwrap();
    let settings = MigrateSettings {
        lock_timeout: Duration::from_millis(200),
        ..MigrateSettings::default()
    };
    let migrating = applying::<Nickname>(narrow(&db.url).await, settings);
    for number in 0..3 {
        waits(&raw, "ALTER TABLE users ADD COLUMN nickname", 2).await;
        // It takes the table's lock that whoever waits has asked for to be let go of.
        tokio::time::timeout(PATIENCE, db.user(&format!("ben{number}")))
            .await
            .unwrap();
    }
    assert!(!migrating.is_finished());
    holder.commit().await.unwrap();
    let migrated = tokio::time::timeout(PATIENCE, migrating)
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    assert_eq!(migrated.applied, ["m20300101_000001_nickname"]);
    assert_eq!(raw.number("SELECT count(nickname) FROM users").await, 0);
}

async fn what_is_in_the_way_is_told(db: TestDb) {
    let other = one_connection(&db.url).await;
    let holder = other.db.begin().await.unwrap();
    holder
        .execute_unprepared("LOCK TABLE users IN ROW SHARE MODE")
        .await
        .unwrap();
    let settings = MigrateSettings {
        lock_timeout: Duration::from_millis(50),
        retry_for: Duration::from_millis(200),
        ..MigrateSettings::default()
    };
    let pool = narrow(&db.url).await;
    let refused = apply::<Nickname>(&pool.db, &settings).await.unwrap_err();
    let MigrateError::Busy { migration, holders, .. } = &refused else {
        panic!("{refused:?}")
    };
    assert_eq!(migration, "m20300101_000001_nickname");
    let [holding] = &holders[..] else { panic!("{holders:?}") };
    assert_eq!(
        (holding.table.as_str(), holding.mode.as_str()),
        ("users", "RowShareLock")
    );
    assert!(holding.open_for.is_some());
    assert!(refused.to_string().contains("RowShareLock on users"), "{refused}");
    holder.rollback().await.unwrap();
    apply::<Nickname>(&pool.db, &settings).await.unwrap();
}

async fn a_database_behind_a_pooler_is_migrated(db: TestDb) {
    let schema = catalog::snapshot(&db.raw().await).await;
    for way in ["code", "program"] {
        let empty = empty(db.backend).await;
        let url = format!("{}&pgbouncer=true", Pooler::before(&empty.url).await.url);
        if way == "code" {
            let pool = narrow(&url).await;
            migrate(&pool.db).await.unwrap();
            crate::migrations_indexes::build_through(&empty.raw, &pool).await;
            empty.raw.run("DROP TABLE big; DROP TABLE seaql_migrations").await;
        } else {
            for command in ["status", "up", "status"] {
                let done = finished(start(&url, command));
                assert!(done.status.success(), "{done:?}");
            }
        }
        assert_eq!(catalog::snapshot(&empty.raw).await, schema, "{way}");
        assert_eq!(applied(&empty.raw).await, all());
    }
    // Without the flag it says what to do.
    let url = Pooler::before(&db.url).await.url;
    let refused = finished(start(&url, "up"));
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(said.contains("pgbouncer=true"), "{said}");
}
