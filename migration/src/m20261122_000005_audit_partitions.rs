//! The audit log in partitions, one for each month: PostgreSQL only. The table that is there becomes the first of them while it is
//! written and read; none of its rows is read or copied under a lock that holds others up.

use std::time::Duration;

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::{ConnectionTrait, DatabaseConnection, DatabaseExecutor, DbBackend, Statement};

use crate::lock;

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

/// How long a lock is waited for, before whoever runs the migrations tries again. Everybody else queues behind it; and it is less than `deadlock_timeout`, so that
/// it is always this which gives way and never the statement of somebody else.
const LOCK_TIMEOUT: Duration = Duration::from_millis(200);
/// For a lock that neither readers nor writers of rows queue behind.
const HARMLESS_LOCK_TIMEOUT: Duration = Duration::from_secs(10);

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
                step(pool, LOCK_TIMEOUT, FENCE).await?;
                step(pool, HARMLESS_LOCK_TIMEOUT, VALIDATE).await?;
                step(pool, LOCK_TIMEOUT, &locked(SWAP)).await
            }
            // A caller's transaction.
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
            (DatabaseExecutor::Connection(pool), true) => lock::execute(pool, LOCK_TIMEOUT, &locked(DOWN)).await,
            (_, true) => db.execute_unprepared(&locked(DOWN)).await.map(drop),
        }
    }
}

async fn is_partitioned(db: &impl ConnectionTrait) -> Result<bool, DbErr> {
    let sql = "SELECT 1 FROM pg_class WHERE oid = to_regclass('audit_logs') AND relkind = 'p'";
    let statement = Statement::from_string(DbBackend::Postgres, sql);
    Ok(db.query_one_raw(statement).await?.is_some())
}

fn locked(statements: &[&str]) -> String {
    format!("{LOCK};\n{}", statements.concat())
}

/// Runs statements in a transaction of their own, unless another process has come to the end of this migration meanwhile.
async fn step(pool: &DatabaseConnection, lock_timeout: Duration, sql: &str) -> Result<(), DbErr> {
    let transaction = lock::begin(pool, lock_timeout).await?;
    if !is_partitioned(&transaction).await? {
        transaction.execute_unprepared(sql).await?;
    }
    transaction.commit().await
}
