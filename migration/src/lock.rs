//! One schema change at a time, however many processes try. On PostgreSQL the lock is an advisory one of the very transaction that makes
//! the change: lock and change cannot come apart, they end with the connection if the process dies, one connection is enough, and a
//! pooler in transaction mode does not matter. It is polled, never waited for, because a waiting statement would hold up a
//! CREATE INDEX CONCURRENTLY. On SQLite it is the file's own lock, of one IMMEDIATE transaction.

use std::time::Duration;

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::{
    ConnectionTrait, DatabaseConnection, DatabaseExecutor, DatabaseTransaction, DbBackend, RuntimeErr,
    SqliteTransactionMode, SqlxError, Statement, TransactionOptions, TransactionTrait,
};

use crate::error::LockHolder;

/// Key of the advisory lock, so that it cannot be mistaken for another application's: "conferen" in ASCII.
const LOCK_KEY: i64 = 0x636f_6e66_6572_656e;
/// What stands for a lock that another process has.
const LOCKED: &str = "another process is migrating this database";

/// How long each step of a migration outside of a transaction waits for the lock of a table, where it does not say otherwise.
pub(crate) const STEP_TIMEOUT: Duration = Duration::from_secs(2);

/// For a migration that runs whole or not at all, on both backends.
pub(crate) fn in_transaction() -> Option<bool> {
    Some(true)
}

/// Another process has the lock: see [`is_locked`].
pub(crate) fn locked() -> DbErr {
    DbErr::Query(RuntimeErr::Internal(LOCKED.to_owned()))
}

/// The lock was not to be had, on either backend. Nothing was done.
pub(crate) fn is_locked(error: &DbErr) -> bool {
    match error {
        DbErr::Query(RuntimeErr::Internal(what)) => what == LOCKED,
        // SQLITE_BUSY, whatever it says beyond that.
        _ => sqlite_code(error).is_some_and(|code| code & 0xff == 5),
    }
}

/// A lock on a table that was not to be had in time, or a deadlock. What was to be done was not.
pub(crate) fn is_busy(error: &DbErr) -> bool {
    matches!(code(error).as_deref(), Some("55P03" | "40P01"))
}

/// SQLSTATE of what PostgreSQL refused, or SQLite's number.
pub(crate) fn code(error: &DbErr) -> Option<String> {
    let (DbErr::Exec(RuntimeErr::SqlxError(error))
    | DbErr::Query(RuntimeErr::SqlxError(error))
    | DbErr::Conn(RuntimeErr::SqlxError(error))) = error
    else {
        return None;
    };
    let SqlxError::Database(refusal) = &**error else {
        return None;
    };
    refusal.code().map(|code| code.into_owned())
}

fn sqlite_code(error: &DbErr) -> Option<u32> {
    // SQLSTATEs have five characters, SQLite's numbers at most four.
    code(error).filter(|code| code.len() < 5)?.parse().ok()
}

/// Begins a transaction that has the lock and no limit but this one on each wait for a table's lock. On PostgreSQL.
///
/// # Errors
/// [`locked`] when another process has it.
pub(crate) async fn begin(pool: &DatabaseConnection, lock_timeout: Duration) -> Result<DatabaseTransaction, DbErr> {
    let transaction = pool.begin().await?;
    let sql = "SELECT set_config(name, CASE name WHEN 'lock_timeout' THEN $1 ELSE '0' END, true) FROM pg_settings
        WHERE name IN ('lock_timeout', 'statement_timeout', 'idle_in_transaction_session_timeout', 'transaction_timeout')";
    // Zero would be no limit at all.
    let limit = Ord::max(lock_timeout.as_millis(), 1).to_string();
    let limits = Statement::from_sql_and_values(DbBackend::Postgres, sql, [limit.into()]);
    transaction.query_all_raw(limits).await?;
    if try_lock(&transaction).await? {
        return Ok(transaction);
    }
    transaction.rollback().await?;
    Err(locked())
}

async fn try_lock(transaction: &DatabaseTransaction) -> Result<bool, DbErr> {
    let sql = "SELECT pg_try_advisory_xact_lock($1)";
    transaction
        .query_one_raw(Statement::from_sql_and_values(
            DbBackend::Postgres,
            sql,
            [LOCK_KEY.into()],
        ))
        .await?
        .ok_or_else(|| DbErr::Migration("pg_try_advisory_xact_lock answered nothing".to_owned()))?
        .try_get_by_index(0)
}

/// Runs SQL in a transaction that has the lock, on PostgreSQL.
pub(crate) async fn execute(pool: &DatabaseConnection, lock_timeout: Duration, sql: &str) -> Result<(), DbErr> {
    let transaction = begin(pool, lock_timeout).await?;
    transaction.execute_unprepared(sql).await?;
    transaction.commit().await
}

/// Runs SQL of a migration whose `use_transaction` says `Some(false)`: as [`execute`] on PostgreSQL; plainly in a caller's transaction, as
/// SQLite's always is.
pub(crate) async fn step(db: &DatabaseExecutor<'_>, sql: &str) -> Result<(), DbErr> {
    match db {
        DatabaseExecutor::Connection(pool) if pool.get_database_backend() != DbBackend::Sqlite => {
            execute(pool, STEP_TIMEOUT, sql).await
        }
        _ => db.execute_unprepared(sql).await.map(drop),
    }
}

/// The one transaction of a change of SQLite's schema.
pub(crate) async fn begin_immediate(pool: &DatabaseConnection) -> Result<DatabaseTransaction, DbErr> {
    let immediate = TransactionOptions {
        sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
        ..Default::default()
    };
    pool.begin_with_options(immediate).await
}

/// Who holds locks on tables of this PostgreSQL database, the oldest transaction first. No statement is asked for: it may have values in it.
pub(crate) async fn holders(pool: &DatabaseConnection) -> Result<Vec<LockHolder>, DbErr> {
    let sql = "SELECT locks.pid, coalesce(nullif(min(application_name), ''), 'no name'),
            CAST(CAST(relation AS regclass) AS text), (array_agg(mode ORDER BY array_position(ARRAY['AccessShareLock', 'RowShareLock',
                'RowExclusiveLock', 'ShareUpdateExclusiveLock', 'ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock',
                'AccessExclusiveLock'], mode) DESC))[1],
            CAST(extract(epoch FROM clock_timestamp() - min(xact_start)) AS bigint)
        FROM pg_locks AS locks JOIN pg_class ON pg_class.oid = relation LEFT JOIN pg_stat_activity AS activity ON activity.pid = locks.pid
        WHERE locktype = 'relation' AND granted AND locks.pid <> pg_backend_pid() AND relkind IN ('r', 'p') AND NOT relispartition
            AND locks.database = (SELECT oid FROM pg_database WHERE datname = current_database())
            AND relnamespace NOT IN ('pg_catalog'::regnamespace, 'information_schema'::regnamespace, 'pg_toast'::regnamespace)
        GROUP BY locks.pid, relation ORDER BY min(xact_start) NULLS LAST, locks.pid, 3 LIMIT 5";
    let rows = pool
        .query_all_raw(Statement::from_string(DbBackend::Postgres, sql))
        .await?;
    rows.iter()
        .map(|row| {
            let seconds: Option<i64> = row.try_get_by_index(4)?;
            Ok(LockHolder {
                process: row.try_get_by_index(0)?,
                application: row.try_get_by_index(1)?,
                table: row.try_get_by_index(2)?,
                mode: row.try_get_by_index(3)?,
                open_for: seconds.map(|seconds| Duration::from_secs(seconds.unsigned_abs())),
            })
        })
        .collect()
}
