//! Indexes that a migration makes while their table is written. PostgreSQL only.

use std::time::Duration;

use conferencing_migration::{MigrateError, MigrateSettings, MigratorTrait, apply, create_index_concurrently};
use conferencing_store::connect::{self, ConnectSettings};
use sea_orm::{ConnectionTrait, TransactionTrait};
use sea_orm_migration::prelude::{DbErr, MigrationName, MigrationTrait, SchemaManager};

use crate::harness::{Raw, TestDb, race};
use crate::metering::one_connection;
use crate::migrations_at_once::narrow;
use crate::migrations_online::{PATIENCE, applying, waits};
use crate::{catalog, migrator};

crate::cases![
    @Postgres a_big_table_is_written_while_its_index_is_made,
    @Postgres what_a_failed_build_has_left_is_cleared_away,
    @Postgres an_index_is_made_once_by_many,
    @Postgres who_is_about_to_build_an_index_is_waited_for,
    @Postgres a_partitioned_table_gets_its_index_partition_by_partition,
];

/// A migration that makes an index, of what table and by what name.
struct Index(&'static str, &'static str);

impl MigrationName for Index {
    fn name(&self) -> &str {
        self.1
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Index {
    fn use_transaction(&self) -> Option<bool> {
        Some(false)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        create_index_concurrently(manager, self.0, self.1, "(user_agent) WHERE user_agent IS NOT NULL").await
    }
}

migrator!(BigIndex: Index("big", "ix_big_agent"));
migrator!(AuditIndex: Index("audit_logs", "ix_audit_logs_agent"));

/// A table of some 15 MiB, without its index.
async fn big(db: &TestDb) -> Raw {
    let raw = db.raw().await;
    fill(&raw).await;
    raw
}

async fn fill(raw: &Raw) {
    raw.run("CREATE TABLE big (id integer, user_agent text)").await;
    raw.run("INSERT INTO big SELECT n, repeat('x', 120) || n FROM generate_series(1, 90000) AS n")
        .await;
    assert!(raw.number("SELECT pg_relation_size('big')").await > 8 << 20);
}

const VALID: &str = "SELECT count(*) FROM pg_index WHERE indexrelid = to_regclass('ix_big_agent') AND indisvalid";
const WORD: &str = "SELECT count(obj_description('conferencing_migrations'::regclass, 'pg_class'))";

async fn a_big_table_is_written_while_its_index_is_made(db: TestDb) {
    let raw = big(&db).await;
    // CONCURRENTLY waits for everybody who has written the table before.
    let other = one_connection(&db.url).await;
    let holder = other.db.begin().await.unwrap();
    holder
        .execute_unprepared("INSERT INTO big VALUES (0, 'before')")
        .await
        .unwrap();
    // The session's limit is shorter than any wait, and nothing is tried twice.
    let settings = ConnectSettings {
        max_connections: Some(1),
        acquire_timeout: PATIENCE,
        lock_timeout: Duration::from_millis(1),
        ..ConnectSettings::default()
    };
    let pool = Raw {
        db: connect::open(&db.url, &settings).await.unwrap(),
    };
    let once = MigrateSettings {
        retry_for: Duration::ZERO,
        ..MigrateSettings::default()
    };
    let building = applying::<BigIndex>(pool, once);
    waits(&raw, "CREATE INDEX CONCURRENTLY", 1).await;
    for _ in 0..20 {
        raw.run("INSERT INTO big VALUES (1, 'meanwhile')").await;
    }
    assert!(!building.is_finished());
    holder.commit().await.unwrap();
    tokio::time::timeout(PATIENCE, building)
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    assert_eq!(raw.number(VALID).await, 1);
    assert_eq!(raw.number(WORD).await, 0);
    assert_eq!(
        raw.number("SELECT count(*) FROM big WHERE user_agent = 'meanwhile'")
            .await,
        20
    );
}

async fn what_a_failed_build_has_left_is_cleared_away(db: TestDb) {
    let raw = big(&db).await;
    raw.execute("CREATE UNIQUE INDEX CONCURRENTLY ix_big_agent ON big ((id % 2))")
        .await
        .unwrap_err();
    assert_eq!(raw.number("SELECT count(to_regclass('ix_big_agent'))").await, 1);
    assert_eq!(raw.number(VALID).await, 0);
    apply::<BigIndex>(&narrow(&db.url).await.db, &MigrateSettings::default())
        .await
        .unwrap();
    assert_eq!(raw.number(VALID).await, 1);
}

async fn an_index_is_made_once_by_many(db: TestDb) {
    let raw = big(&db).await;
    let mut pools = Vec::new();
    for _ in 0..8 {
        pools.push(narrow(&db.url).await);
    }
    let made = race(pools.into_iter().map(|pool| async move {
        apply::<BigIndex>(&pool.db, &MigrateSettings::default())
            .await
            .unwrap()
            .applied
            .len()
    }))
    .await;
    assert_eq!(made.iter().sum::<usize>(), 1);
    assert_eq!(raw.number(VALID).await, 1);
    assert_eq!(raw.number(WORD).await, 0);
    let deadlocks = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()";
    assert_eq!(raw.number(deadlocks).await, 0);
}

async fn who_is_about_to_build_an_index_is_waited_for(db: TestDb) {
    let raw = big(&db).await;
    let claim = |seconds: &str| {
        format!(
            "DO $$ BEGIN EXECUTE format('COMMENT ON TABLE conferencing_migrations IS %L',
                'building ix_big_agent since ' || extract(epoch FROM clock_timestamp()) - {seconds}); END $$"
        )
    };
    let impatient = MigrateSettings {
        lock_timeout: Duration::from_millis(50),
        retry_for: Duration::ZERO,
        wait_for_others: Duration::ZERO,
    };
    raw.run(&claim("0")).await;
    let refused = apply::<BigIndex>(&raw.db, &impatient).await.unwrap_err();
    assert!(matches!(refused, MigrateError::Locked { .. }), "{refused:?}");
    // It has begun, and takes its time.
    raw.run(&claim("3600")).await;
    let other = one_connection(&db.url).await;
    let builder = other.db.begin().await.unwrap();
    builder
        .execute_unprepared("LOCK TABLE big IN SHARE UPDATE EXCLUSIVE MODE")
        .await
        .unwrap();
    let refused = apply::<BigIndex>(&raw.db, &impatient).await.unwrap_err();
    assert!(matches!(refused, MigrateError::Locked { .. }), "{refused:?}");
    builder.rollback().await.unwrap();
    // It has died.
    apply::<BigIndex>(&raw.db, &impatient).await.unwrap();
    assert_eq!(raw.number(VALID).await, 1);
    assert_eq!(raw.number(WORD).await, 0);
}

async fn a_partitioned_table_gets_its_index_partition_by_partition(db: TestDb) {
    let raw = db.raw().await;
    apply::<AuditIndex>(&narrow(&db.url).await.db, &MigrateSettings::default())
        .await
        .unwrap();
    let invalid = "SELECT count(*) FROM pg_index WHERE indexrelid = 'ix_audit_logs_agent'::regclass AND NOT indisvalid";
    assert_eq!(raw.number(invalid).await, 0);
    // A later partition has it too, and all partitions are alike.
    raw.run("SELECT attach_audit_partition('audit_logs_2040_02', '2040-02-01 00:00+00', '2040-03-01 00:00+00')")
        .await;
    let mut family = catalog::partitions(&raw).await;
    let whole = family.remove("audit_logs").unwrap();
    assert_eq!(family.len(), 6);
    for (name, facts) in family {
        assert_eq!(facts, whole, "{name}");
    }
    assert_eq!(
        raw.number("SELECT count(*) FROM pg_class WHERE relname LIKE 'ix_audit_logs%_agent'")
            .await,
        7
    );
}

/// Makes a big table, and its index through `pool`.
pub async fn build_through(raw: &Raw, pool: &Raw) {
    fill(raw).await;
    apply::<BigIndex>(&pool.db, &MigrateSettings::default()).await.unwrap();
    assert_eq!(raw.number(VALID).await, 1);
}
