//! A connection to PostgreSQL, and statements on it, each of which is waited for only so long.

use std::time::{Duration, Instant};

use sea_orm::sqlx::pool::PoolConnection;
use sea_orm::sqlx::postgres::PgRow;
use sea_orm::sqlx::{self, AssertSqlSafe, PgPool, Postgres};
use sea_orm::{ConnAcquireErr, DbErr, RuntimeErr, SqlxError, Statement, Values};
use sea_query_sqlx::SqlxValues;

use super::fault;
use crate::telemetry;

/// A connection that the pool gave.
#[derive(Debug)]
pub(super) struct Session {
    connection: PoolConnection<Postgres>,
    /// How long an answer is waited for. None: as long as it takes.
    patience: Option<Duration>,
    /// An answer did not come. Whatever the connection is at, nobody waits for it: it is closed, not given back.
    is_given_up: bool,
}

impl Session {
    pub(super) async fn acquire(pool: &PgPool, patience: Option<Duration>) -> Result<Self, DbErr> {
        let begun = Instant::now();
        let connection = pool.acquire().await;
        telemetry::acquired(begun);
        let connection = connection.map_err(|error| match error {
            SqlxError::PoolTimedOut => DbErr::ConnectionAcquire(ConnAcquireErr::Timeout),
            SqlxError::PoolClosed => DbErr::ConnectionAcquire(ConnAcquireErr::ConnectionClosed),
            error => DbErr::Conn(RuntimeErr::SqlxError(error.into())),
        })?;
        Ok(Self {
            connection,
            patience,
            is_given_up: false,
        })
    }

    pub(super) fn is_given_up(&self) -> bool {
        self.is_given_up
    }

    pub(super) fn wait_for_ever(&mut self) {
        self.patience = None;
    }

    pub(super) async fn one(&mut self, statement: &Statement) -> Result<Option<PgRow>, DbErr> {
        self.one_within(self.patience, statement).await
    }

    pub(super) async fn one_within(
        &mut self,
        patience: Option<Duration>,
        statement: &Statement,
    ) -> Result<Option<PgRow>, DbErr> {
        let answer = query(statement).fetch_optional(&mut *self.connection);
        let answer = within(patience, answer).await;
        self.settle(answer)
    }

    pub(super) async fn all(&mut self, statement: &Statement) -> Result<Vec<PgRow>, DbErr> {
        let answer = query(statement).fetch_all(&mut *self.connection);
        let answer = within(self.patience, answer).await;
        self.settle(answer)
    }

    pub(super) async fn execute(&mut self, statement: &Statement) -> Result<sqlx::postgres::PgQueryResult, DbErr> {
        let answer = query(statement).execute(&mut *self.connection);
        let answer = within(self.patience, answer).await;
        self.settle(answer)
    }

    /// Runs statements without values, of any kind.
    pub(super) async fn run(&mut self, sql: &str) -> Result<sqlx::postgres::PgQueryResult, DbErr> {
        self.run_within(self.patience, sql).await
    }

    pub(super) async fn run_within(
        &mut self,
        patience: Option<Duration>,
        sql: &str,
    ) -> Result<sqlx::postgres::PgQueryResult, DbErr> {
        tracing::trace!(target: "conferencing_store::sql", command = sql);
        let answer = sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut *self.connection);
        let answer = within(patience, answer).await;
        self.settle(answer)
    }

    fn settle<T>(&mut self, answer: Option<Result<T, SqlxError>>) -> Result<T, DbErr> {
        match answer {
            Some(answer) => answer.map_err(|error| {
                if fault::is_read_only(&error) {
                    // It leads to a server that was the primary: the next one may lead to what is it now.
                    self.close();
                }
                DbErr::Query(RuntimeErr::SqlxError(error.into()))
            }),
            None => {
                self.is_given_up = true;
                self.close();
                Err(fault::no_answer())
            }
        }
    }

    /// Has it closed instead of given back.
    pub(super) fn close(&mut self) {
        self.connection.close_on_drop();
    }

    /// Lets go of it where no task can be started to give it back.
    pub(super) fn abandon(self) {
        drop(self.connection.detach());
    }
}

/// None if it took longer.
async fn within<T>(patience: Option<Duration>, answer: impl Future<Output = T>) -> Option<T> {
    match patience {
        Some(patience) => tokio::time::timeout(patience, answer).await.ok(),
        None => Some(answer.await),
    }
}

fn query(statement: &Statement) -> sqlx::query::Query<'_, Postgres, SqlxValues> {
    // For who wants to see every statement. Its text is this crate's; values are never in it.
    tracing::trace!(target: "conferencing_store::sql", statement = statement.sql.as_str());
    let values = statement.values.clone().unwrap_or(Values(Vec::new()));
    sqlx::query_with(AssertSqlSafe(statement.sql.as_str()), SqlxValues(values))
}
