//! Indexes that are made while their table is written.

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::{
    ConnectionTrait, DatabaseConnection, DatabaseExecutor, DatabaseTransaction, DbBackend, QueryResult, Statement,
};

use crate::{MIGRATION_TABLE, lock};

/// A table up to so many bytes is locked for as long as its index takes: that is shorter than what CONCURRENTLY waits for.
const SMALL: i64 = 8 << 20;
/// How many seconds whoever is about to build an index may take to begin. From then on the table's lock tells.
const CLAIM: u8 = 10;

/// Makes an index; for a migration whose `use_transaction` says `Some(false)`. On PostgreSQL the table is written meanwhile: it is made
/// CONCURRENTLY, of a partitioned table for each partition. On a table of less than 8 MiB, on SQLite and in a transaction of the
/// caller's it is made plainly. `definition` is what stands behind the table's name: `(room_id) WHERE left_at IS NULL`.
///
/// It can be called again after whatever happened: an index that is there and valid is left as it is, one that a failed try
/// left is dropped. Any number of processes may call it at once. An index of a partition is called as that of the whole, with the partition's name for the table's.
///
/// # Errors
/// What the database says. A lock that is not to be had, or another process that builds an index, is one which [`crate::apply`] waits for
/// and tries again.
pub async fn create_index_concurrently(
    manager: &SchemaManager<'_>,
    table: &str,
    name: &str,
    definition: &str,
) -> Result<(), DbErr> {
    let db = manager.get_connection();
    let plain = format!("CREATE INDEX IF NOT EXISTS {name} ON {table} {definition}");
    let pool = match db {
        DatabaseExecutor::Connection(pool) if pool.get_database_backend() != DbBackend::Sqlite => *pool,
        _ => return db.execute_unprepared(&plain).await.map(drop),
    };
    let transaction = lock::begin(pool, lock::STEP_TIMEOUT).await?;
    let kind = state(&transaction, table, name).await?;
    if kind.is_valid {
        return done(transaction, name).await;
    }
    if !kind.is_partitioned {
        transaction.rollback().await?;
        return of_table(pool, table, name, definition).await;
    }
    let whole = format!("CREATE INDEX IF NOT EXISTS {name} ON ONLY {table} {definition}");
    transaction.execute_unprepared(&whole).await?;
    let partitions = partitions(&transaction, table).await?;
    transaction.commit().await?;
    for partition in partitions {
        let part = name.replacen(table, &partition, 1);
        of_table(pool, &partition, &part, definition).await?;
        // The last one makes the whole's index valid.
        let attach = format!("ALTER INDEX {name} ATTACH PARTITION {part}");
        lock::execute(pool, lock::STEP_TIMEOUT, &attach).await?;
    }
    Ok(())
}

/// What is there of an index.
struct State {
    is_there: bool,
    is_valid: bool,
    is_partitioned: bool,
    is_small: bool,
}

async fn state(transaction: &DatabaseTransaction, table: &str, name: &str) -> Result<State, DbErr> {
    let sql = "SELECT to_regclass($2) IS NOT NULL, coalesce((SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass($2)), false),
            relkind = 'p', pg_relation_size(oid) < $3
        FROM pg_class WHERE oid = CAST($1 AS regclass)";
    let values = [table.into(), name.into(), SMALL.into()];
    let row = one(
        transaction,
        Statement::from_sql_and_values(DbBackend::Postgres, sql, values),
    )
    .await?;
    Ok(State {
        is_there: row.try_get_by_index(0)?,
        is_valid: row.try_get_by_index(1)?,
        is_partitioned: row.try_get_by_index(2)?,
        is_small: row.try_get_by_index(3)?,
    })
}

async fn one(transaction: &DatabaseTransaction, statement: Statement) -> Result<QueryResult, DbErr> {
    let row = transaction.query_one_raw(statement).await?;
    row.ok_or_else(|| DbErr::Migration("the database answered nothing".to_owned()))
}

async fn partitions(transaction: &DatabaseTransaction, table: &str) -> Result<Vec<String>, DbErr> {
    let sql = "SELECT CAST(CAST(inhrelid AS regclass) AS text) FROM pg_inherits WHERE inhparent = CAST($1 AS regclass) ORDER BY 1";
    let statement = Statement::from_sql_and_values(DbBackend::Postgres, sql, [table.into()]);
    let rows = transaction.query_all_raw(statement).await?;
    rows.iter().map(|row| row.try_get_by_index(0)).collect()
}

/// The index of a table that has no partitions.
async fn of_table(pool: &DatabaseConnection, table: &str, name: &str, definition: &str) -> Result<(), DbErr> {
    let transaction = lock::begin(pool, lock::STEP_TIMEOUT).await?;
    let found = state(&transaction, table, name).await?;
    if found.is_valid {
        return done(transaction, name).await;
    }
    own_build(&transaction, table).await?;
    if found.is_there {
        transaction.execute_unprepared(&format!("DROP INDEX {name}")).await?;
    }
    if found.is_small {
        let plain = format!("CREATE INDEX {name} ON {table} {definition}");
        transaction.execute_unprepared(&plain).await?;
        return transaction.commit().await;
    }
    claim(&transaction, name).await?;
    transaction.commit().await?;
    outside_transactions(
        pool,
        &format!("CREATE INDEX CONCURRENTLY {name} ON {table} {definition}"),
    )
    .await?;
    done(lock::begin(pool, lock::STEP_TIMEOUT).await?, name).await
}

/// Takes back the word of whoever has built the index, which may have been somebody who could not do so.
async fn done(transaction: DatabaseTransaction, name: &str) -> Result<(), DbErr> {
    let sql = format!(
        "DO $$ BEGIN
            IF obj_description(to_regclass('{MIGRATION_TABLE}'), 'pg_class') LIKE 'building {name} since %' THEN
                COMMENT ON TABLE {MIGRATION_TABLE} IS NULL;
            END IF;
        END $$"
    );
    transaction.execute_unprepared(&sql).await?;
    transaction.commit().await
}

/// Fails while another process builds an index of the table, or is about to. Whoever builds one has the table's lock for as long as it
/// takes; for the moment before, it has left word. Two builds at once would end each other as a deadlock.
async fn own_build(transaction: &DatabaseTransaction, table: &str) -> Result<(), DbErr> {
    let sql = format!(
        "SELECT coalesce(word LIKE 'building %', false),
            coalesce(CAST(substring(word FROM ' since ([0-9.]+)$') AS numeric) > extract(epoch FROM clock_timestamp()) - {CLAIM}, false)
        FROM obj_description(to_regclass('{MIGRATION_TABLE}'), 'pg_class') AS word"
    );
    let row = one(transaction, Statement::from_string(DbBackend::Postgres, sql)).await?;
    let (is_claimed, is_fresh): (bool, bool) = (row.try_get_by_index(0)?, row.try_get_by_index(1)?);
    if is_fresh {
        return Err(lock::locked());
    }
    // Whoever builds waits for the snapshots of others at the end, also for that of one who waits for its lock: so nobody waits here.
    let nowait = if is_claimed { " NOWAIT" } else { "" };
    let lock = format!("LOCK TABLE {table} IN SHARE UPDATE EXCLUSIVE MODE{nowait}");
    match transaction.execute_unprepared(&lock).await {
        Err(error) if is_claimed && lock::is_busy(&error) => Err(lock::locked()),
        done => done.map(drop),
    }
}

/// Leaves word of what this process is about to build, as the comment of the table of migrations.
async fn claim(transaction: &DatabaseTransaction, name: &str) -> Result<(), DbErr> {
    let sql = format!(
        "DO $$ BEGIN
            IF to_regclass('{MIGRATION_TABLE}') IS NOT NULL THEN
                EXECUTE format('COMMENT ON TABLE {MIGRATION_TABLE} IS %L',
                    'building {name} since ' || extract(epoch FROM clock_timestamp()));
            END IF;
        END $$"
    );
    transaction.execute_unprepared(&sql).await.map(drop)
}

/// Runs a statement that there may be no transaction around, without limits where the session is this process's own. Where it is not,
/// behind a pooler, those of the role hold.
#[cfg(feature = "postgres")]
async fn outside_transactions(pool: &DatabaseConnection, sql: &str) -> Result<(), DbErr> {
    use sea_orm_migration::sea_orm::{RuntimeErr, SqlxError, sqlx};

    let failed = |error: SqlxError| DbErr::Exec(RuntimeErr::SqlxError(error.into()));
    let pool = pool.get_postgres_connection_pool();
    // A pooler refuses start-up options.
    let is_direct = pool.connect_options().get_options().is_some();
    let mut connection = pool.acquire().await.map_err(failed)?;
    connection.close_on_drop();
    if is_direct {
        let limits = "SET statement_timeout = 0; SET lock_timeout = 0";
        sqlx::raw_sql(limits).execute(&mut *connection).await.map_err(failed)?;
    }
    let statement = sqlx::raw_sql(sqlx::AssertSqlSafe(sql));
    statement.execute(&mut *connection).await.map_err(failed)?;
    connection.close().await.map_err(failed)
}

#[cfg(not(feature = "postgres"))]
async fn outside_transactions(pool: &DatabaseConnection, sql: &str) -> Result<(), DbErr> {
    pool.execute_unprepared(sql).await.map(drop)
}
