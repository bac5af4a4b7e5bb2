//! Reads that are given up after a time: what examines a database must not weigh on it.

#[cfg(feature = "sqlite")]
use std::sync::Arc;
use std::time::Duration;
#[cfg(feature = "sqlite")]
use std::time::Instant;

#[cfg(feature = "sqlite")]
use sea_orm::sqlx::{AssertSqlSafe, Sqlite, pool::PoolConnection};
use sea_orm::{ConnectionTrait, DbErr, QueryResult};

use super::lease::Connections;
use super::statement::Query;
use super::{Dialect, Transaction};

/// A connection on which nothing is changed and nothing runs for long. PostgreSQL: a READ ONLY transaction with limits of its own on
/// statements and locks, which hold behind a pooler too. SQLite: all of it together is interrupted when the time is over.
#[derive(Debug)]
pub(crate) enum Bounded {
    Transaction(Transaction),
    #[cfg(feature = "sqlite")]
    Connection(Interrupted),
}

/// How many steps of SQLite's machine lie between two looks at the time.
#[cfg(feature = "sqlite")]
const STEPS: i32 = 1_000;

#[cfg(feature = "sqlite")]
#[derive(Debug)]
pub(crate) struct Interrupted {
    connection: PoolConnection<Sqlite>,
    /// As long as it is there, the connection is interrupted. Whoever has the connection next is not.
    _examined: Arc<()>,
}

impl Bounded {
    pub(crate) async fn begin(connections: &Connections, dialect: Dialect, limit: Duration) -> Result<Self, DbErr> {
        #[cfg(feature = "sqlite")]
        if dialect == Dialect::Sqlite {
            return Interrupted::begin(connections, limit).await.map(Self::Connection);
        }
        // 0 would be no limit.
        let limit = limit.as_millis().max(1);
        let opening = format!(
            "BEGIN READ ONLY; SET LOCAL client_min_messages = 'error'; SET LOCAL statement_timeout = {limit}; \
             SET LOCAL lock_timeout = {limit}"
        );
        connections.begin(dialect, &opening).await.map(Self::Transaction)
    }

    /// Every row. SQLite is asked without values.
    pub(crate) async fn rows(&mut self, dialect: Dialect, query: &Query) -> Result<Vec<QueryResult>, DbErr> {
        let statement = query.statement(dialect);
        match self {
            Self::Transaction(transaction) => transaction.query_all_raw(statement).await,
            #[cfg(feature = "sqlite")]
            Self::Connection(interrupted) => interrupted.rows(&statement.sql).await,
        }
    }
}

#[cfg(feature = "sqlite")]
impl Interrupted {
    async fn begin(connections: &Connections, limit: Duration) -> Result<Self, DbErr> {
        let mut connection = connections
            .db()
            .get_sqlite_connection_pool()
            .acquire()
            .await
            .map_err(failed)?;
        let examined = Arc::new(());
        let (still, end) = (Arc::downgrade(&examined), Instant::now() + limit);
        {
            let mut handle = connection.lock_handle().await.map_err(failed)?;
            handle.set_progress_handler(STEPS, move || still.strong_count() == 0 || Instant::now() < end);
        }
        Ok(Self {
            connection,
            _examined: examined,
        })
    }

    async fn rows(&mut self, sql: &str) -> Result<Vec<QueryResult>, DbErr> {
        tracing::trace!(target: "conferencing_store::sql", examining = sql);
        let rows = sea_orm::sqlx::query(AssertSqlSafe(sql)).fetch_all(&mut *self.connection);
        Ok(rows.await.map_err(failed)?.into_iter().map(Into::into).collect())
    }
}

#[cfg(feature = "sqlite")]
fn failed(error: sea_orm::SqlxError) -> DbErr {
    use sea_orm::{ConnAcquireErr, RuntimeErr, SqlxError};
    match error {
        SqlxError::PoolTimedOut => DbErr::ConnectionAcquire(ConnAcquireErr::Timeout),
        SqlxError::PoolClosed => DbErr::ConnectionAcquire(ConnAcquireErr::ConnectionClosed),
        error => DbErr::Query(RuntimeErr::SqlxError(error.into())),
    }
}
