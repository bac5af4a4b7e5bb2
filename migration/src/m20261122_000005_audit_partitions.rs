//! The audit log in partitions, one for each month: PostgreSQL only. The table that is there becomes the first of them while it is
//! written and read; none of its rows is read or copied under a lock that holds others up.

use std::time::Duration;

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::{
    ConnectionTrait, DatabaseConnection, DatabaseExecutor, DbBackend, RuntimeErr, SqlxError, Statement,
    TransactionTrait,
};
use tokio::time::Instant;

#[derive(DeriveMigrationName)]
pub struct Migration;

const FENCE: &str = include_str!("audit_partitions/fence.sql");
const VALIDATE: &str = "ALTER TABLE audit_logs VALIDATE CONSTRAINT ck_audit_logs_before";
const SWAP: &[&str] = &[
    include_str!("audit_partitions/function.sql"),
    include_str!("audit_partitions/privileges.sql"),
    include_str!("audit_partitions/swap.sql"),
];
const DOWN: &[&str] = &[
    include_str!("audit_partitions/privileges.sql"),
    include_str!("audit_partitions/down.sql"),
];

/// What the swap locks.
const LOCK: &str = "LOCK TABLE audit_logs IN ACCESS EXCLUSIVE MODE";

/// How long a lock is waited for. Everybody else queues behind it; and it is less than `deadlock_timeout`, so that
/// it is always this which gives way and never the statement of somebody else.
const LOCK_TIMEOUT: &str = "200ms";
/// For a lock that neither readers nor writers of rows queue behind.
const HARMLESS_LOCK_TIMEOUT: &str = "10s";
/// How long to try in all, each step.
const PATIENCE: Duration = Duration::from_secs(120);
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_millis(250);

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    /// Three transactions, so that the rows are looked at while others write; each looks for what a failed try has done.
    fn use_transaction(&self) -> Option<bool> {
        Some(false)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let db = manager.get_connection();
        if db.get_database_backend() == DbBackend::Sqlite || is_partitioned(db).await? {
            return Ok(());
        }
        match db {
            DatabaseExecutor::Connection(pool) => {
                patiently(pool, LOCK_TIMEOUT, FENCE).await?;
                patiently(pool, HARMLESS_LOCK_TIMEOUT, VALIDATE).await?;
                patiently(pool, LOCK_TIMEOUT, &locked(SWAP)).await
            }
            // A caller's transaction, which has its own patience and cannot be tried again in part.
            _ => {
                db.execute_unprepared(FENCE).await?;
                db.execute_unprepared(VALIDATE).await?;
                db.execute_unprepared(&locked(SWAP)).await.map(drop)
            }
        }
    }

    /// Copies the rows of all partitions but the first into it, while nobody else gets at them.
    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let db = manager.get_connection();
        if db.get_database_backend() == DbBackend::Sqlite {
            return Ok(());
        }
        match (db, is_partitioned(db).await?) {
            // A failed try left its promise, or nothing.
            (_, false) => {
                let sql = "ALTER TABLE IF EXISTS audit_logs DROP CONSTRAINT IF EXISTS ck_audit_logs_before";
                db.execute_unprepared(sql).await.map(drop)
            }
            (DatabaseExecutor::Connection(pool), true) => patiently(pool, LOCK_TIMEOUT, &locked(DOWN)).await,
            (_, true) => db.execute_unprepared(&locked(DOWN)).await.map(drop),
        }
    }
}

async fn is_partitioned(db: &DatabaseExecutor<'_>) -> Result<bool, DbErr> {
    let sql = "SELECT 1 FROM pg_class WHERE oid = to_regclass('audit_logs') AND relkind = 'p'";
    let statement = Statement::from_string(DbBackend::Postgres, sql);
    Ok(db.query_one_raw(statement).await?.is_some())
}

fn locked(statements: &[&str]) -> String {
    format!("{LOCK};\n{}", statements.concat())
}

/// Runs statements in a transaction of their own, and again when a lock was not to be had in time.
async fn patiently(pool: &DatabaseConnection, lock_timeout: &str, sql: &str) -> Result<(), DbErr> {
    let deadline = Instant::now() + PATIENCE;
    let mut pause = FIRST_PAUSE;
    loop {
        let transaction = pool.begin().await?;
        let limits = format!("SET LOCAL lock_timeout = '{lock_timeout}'; SET LOCAL statement_timeout = 0");
        transaction.execute_unprepared(&limits).await?;
        match transaction.execute_unprepared(sql).await {
            Ok(_) => return transaction.commit().await,
            Err(error) => {
                let undone = transaction.rollback().await;
                if !is_busy(&error) {
                    return Err(error);
                }
                undone?;
            }
        }
        if Instant::now() >= deadline {
            break;
        }
        tokio::time::sleep(pause).await;
        pause = Ord::min(pause * 2, LONGEST_PAUSE);
    }
    Err(DbErr::Migration(format!(
        "audit_logs was not free for {LOCK_TIMEOUT} in {} s: end the transactions that hold them (pg_stat_activity \
         shows them by xact_start), then run the migration again, within a week, to go on where it stopped",
        PATIENCE.as_secs()
    )))
}

/// A lock that was not to be had in time, or a deadlock.
fn is_busy(error: &DbErr) -> bool {
    let (DbErr::Exec(RuntimeErr::SqlxError(error)) | DbErr::Query(RuntimeErr::SqlxError(error))) = error else {
        return false;
    };
    let SqlxError::Database(refusal) = &**error else {
        return false;
    };
    matches!(refusal.code().as_deref(), Some("55P03" | "40P01"))
}
