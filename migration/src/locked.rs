//! One schema change at a time, however many processes try.

use std::time::Duration;

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::{
    ConnAcquireErr, ConnectionTrait, DatabaseConnection, DatabaseExecutor, DatabaseTransaction, DbBackend,
    SqliteTransactionMode, Statement, TransactionOptions, TransactionTrait,
};
use tokio::time::Instant;

/// Key of the advisory lock, so that it cannot be mistaken for another application's: "conferen" in ASCII.
const LOCK_KEY: i64 = 0x636f_6e66_6572_656e;
/// How long to wait for whoever is migrating now before giving up.
const LOCK_PATIENCE: Duration = Duration::from_secs(120);
/// What the command line shows unless told otherwise.
const LOG_TARGET: &str = "sea_orm_migration";
const LOCK_POLL: Duration = Duration::from_millis(50);

/// For a migration that runs whole or not at all, on both backends.
pub(crate) fn in_transaction() -> Option<bool> {
    Some(true)
}

/// Applies and reverts the migrations of this crate.
///
/// On PostgreSQL, `up`, `down`, `fresh`, `refresh` and `reset` hold an advisory lock on a connection of their own, in a
/// transaction, so that it goes however they end. The pool that they are given needs room for two, or nothing is changed and the
/// error is [`DbErr::Migration`]. The lock is polled, never waited for, because a waiting statement
/// would hold up a `CREATE INDEX CONCURRENTLY` of the process that has it. On SQLite each of them is one IMMEDIATE
/// transaction, so a failure leaves nothing behind.
///
/// A caller that passes a transaction instead of a connection is taken to have locked already.
pub struct Migrator;

struct Migrations;

#[async_trait::async_trait]
impl MigratorTrait for Migrations {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![
            Box::new(crate::m20261101_000001_base_schema::Migration),
            Box::new(crate::m20261122_000002_audit_actions::Migration),
            Box::new(crate::m20261122_000003_audit_custody_actions::Migration),
            Box::new(crate::m20261122_000004_audit_indexes::Migration),
            Box::new(crate::m20261122_000005_audit_partitions::Migration),
        ]
    }
}

#[async_trait::async_trait]
impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        Migrations::migrations()
    }

    async fn up<'c, C>(db: C, steps: Option<u32>) -> Result<(), DbErr>
    where
        C: IntoSchemaManagerConnection<'c>,
    {
        Change::Up(steps).run_alone(db.into_database_executor()).await
    }

    async fn down<'c, C>(db: C, steps: Option<u32>) -> Result<(), DbErr>
    where
        C: IntoSchemaManagerConnection<'c>,
    {
        Change::Down(steps).run_alone(db.into_database_executor()).await
    }

    /// As SeaORM's, but only looks: it makes no table, so it needs no lock and no right to make one.
    async fn status<C>(db: &C) -> Result<(), DbErr>
    where
        C: ConnectionTrait,
    {
        tracing::info!(target: LOG_TARGET, "Checking migration status");
        for migration in Migrations::get_migration_with_status_read_only(db).await? {
            tracing::info!(target: LOG_TARGET, "Migration '{}'... {}", migration.name(), migration.status());
        }
        Ok(())
    }

    async fn fresh<'c, C>(db: C) -> Result<(), DbErr>
    where
        C: IntoSchemaManagerConnection<'c>,
    {
        Change::Fresh.run_alone(db.into_database_executor()).await
    }

    async fn refresh<'c, C>(db: C) -> Result<(), DbErr>
    where
        C: IntoSchemaManagerConnection<'c>,
    {
        Change::Refresh.run_alone(db.into_database_executor()).await
    }

    async fn reset<'c, C>(db: C) -> Result<(), DbErr>
    where
        C: IntoSchemaManagerConnection<'c>,
    {
        Change::Reset.run_alone(db.into_database_executor()).await
    }
}

#[derive(Clone, Copy)]
enum Change {
    Up(Option<u32>),
    Down(Option<u32>),
    Fresh,
    Refresh,
    Reset,
}

impl Change {
    /// Runs under the lock that the backend needs.
    async fn run_alone(self, db: DatabaseExecutor<'_>) -> Result<(), DbErr> {
        let DatabaseExecutor::Connection(pool) = db else {
            return self.run(db).await;
        };
        if pool.get_database_backend() == DbBackend::Sqlite {
            let immediate = TransactionOptions {
                sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
                ..Default::default()
            };
            let transaction = pool.begin_with_options(immediate).await?;
            self.run(DatabaseExecutor::Transaction(&transaction)).await?;
            return transaction.commit().await;
        }
        has_room_for_two(pool)?;
        let guard = lock(pool).await?;
        let done = self.run(db).await;
        guard.rollback().await.and(done)
    }

    async fn run(self, db: DatabaseExecutor<'_>) -> Result<(), DbErr> {
        match self {
            Self::Up(steps) => Migrations::up(db, steps).await,
            Self::Down(steps) => Migrations::down(db, steps).await,
            Self::Refresh => Migrations::refresh(db).await,
            Self::Reset => Migrations::reset(db).await,
            Self::Fresh if db.get_database_backend() == DbBackend::Sqlite => {
                drop_tables(&db).await?;
                Migrations::up(db, None).await
            }
            Self::Fresh => {
                drop_functions(&db).await?;
                Migrations::fresh(db).await
            }
        }
    }
}

/// Of a smaller pool the second connection would be waited for in vain.
fn has_room_for_two(pool: &DatabaseConnection) -> Result<(), DbErr> {
    #[cfg(feature = "postgres")]
    {
        let most = pool.get_postgres_connection_pool().options().get_max_connections();
        if most < 2 {
            return Err(no_second(&format!("the pool allows {most}")));
        }
    }
    #[cfg(not(feature = "postgres"))]
    let _ = pool;
    Ok(())
}

fn no_second(why: &str) -> DbErr {
    DbErr::Migration(format!(
        "migrating takes two connections at once, one for the lock and one for the work, and {why}; nothing was changed"
    ))
}

/// So that a second connection that is not to be had is told as such, and before anything is changed.
async fn has_second(pool: &DatabaseConnection) -> Result<(), DbErr> {
    match pool.execute_unprepared("SELECT 1").await {
        Err(DbErr::ConnectionAcquire(ConnAcquireErr::Timeout)) => Err(no_second(
            "the second was not to be had in time from the pool, the server or the role",
        )),
        done => done.map(drop),
    }
}

/// Waits for the advisory lock; it is held until the transaction ends, on the server too if this process dies.
async fn lock(pool: &DatabaseConnection) -> Result<DatabaseTransaction, DbErr> {
    let guard = pool.begin().await?;
    keep_idle(&guard).await?;
    has_second(pool).await?;
    let deadline = Instant::now() + LOCK_PATIENCE;
    while !try_lock(&guard).await? {
        if Instant::now() >= deadline {
            return Err(DbErr::Migration(format!(
                "another process has been migrating this database for {} s; gave up waiting",
                LOCK_PATIENCE.as_secs()
            )));
        }
        tokio::time::sleep(LOCK_POLL).await;
    }
    Ok(guard)
}

/// The lock's connection idles while the other works: a server that ends such transactions would let a second process in.
async fn keep_idle(guard: &DatabaseTransaction) -> Result<(), DbErr> {
    let sql = "SELECT set_config(name, '0', true) FROM pg_settings
        WHERE name IN ('idle_in_transaction_session_timeout', 'transaction_timeout')";
    guard
        .query_all_raw(Statement::from_string(DbBackend::Postgres, sql))
        .await
        .map(drop)
}

async fn try_lock(guard: &DatabaseTransaction) -> Result<bool, DbErr> {
    let sql = "SELECT pg_try_advisory_xact_lock($1)";
    guard
        .query_one_raw(Statement::from_sql_and_values(
            DbBackend::Postgres,
            sql,
            [LOCK_KEY.into()],
        ))
        .await?
        .ok_or_else(|| DbErr::Migration("pg_try_advisory_xact_lock answered nothing".to_owned()))?
        .try_get_by_index(0)
}

/// `fresh` drops tables and types but neither functions nor sequences, which the base schema would then find in its way.
async fn drop_functions(db: &DatabaseExecutor<'_>) -> Result<(), DbErr> {
    db.execute_unprepared("DROP SEQUENCE IF EXISTS audit_logs_sequence CASCADE")
        .await?;
    for function in [
        "refuse_audit_change()",
        "only_by_index(uuid)",
        "refuse_removal()",
        "check_audit_references()",
        "check_users()",
        "check_rooms()",
        "check_media_nodes()",
        "check_room_participants()",
        "check_recordings()",
        "attach_audit_partition(text, timestamptz, timestamptz)",
    ] {
        db.execute_unprepared(&format!("DROP FUNCTION IF EXISTS {function} CASCADE"))
            .await?;
    }
    Ok(())
}

/// SeaORM's `fresh` switches foreign keys off first, which SQLite ignores inside a transaction. Dropping the newest table
/// first needs no such thing, since a table refers to older ones only.
async fn drop_tables(db: &DatabaseExecutor<'_>) -> Result<(), DbErr> {
    let sql = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY rowid DESC";
    for row in db.query_all_raw(Statement::from_string(DbBackend::Sqlite, sql)).await? {
        let table: String = row.try_get_by_index(0)?;
        db.execute(Table::drop().table(Alias::new(table))).await?;
    }
    Ok(())
}
