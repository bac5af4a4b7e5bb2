//! How single statements get their connection: one that has just been used is kept at hand for the next.
//!
//! The driver's pool asks a connection for a sign of life whenever it is given back, a round trip that costs a short statement half
//! as much again. So a connection on which a statement came to its end is not given back at once: whoever needs one next gets it,
//! and only what nobody needs for [`IDLE`], or what was used for [`LEASE`] in all, goes back to the pool, where others may wait for
//! it: units of work, and whoever else has the pool. A statement that failed or was cut off gives its connection back at once, as
//! ever.

use std::time::{Duration, Instant};

use sea_orm::{
    ConnAcquireErr, ConnectionTrait, DatabaseConnection, DbBackend, DbErr, ExecResult, QueryResult, Statement,
    TransactionTrait,
};

use super::{Dialect, Transaction};
use crate::telemetry::PoolUsage;

/// A pool, as single statements use it.
#[derive(Clone, Debug)]
pub(crate) struct Connections {
    db: DatabaseConnection,
    #[cfg(feature = "postgres")]
    leases: Option<postgres::Leases>,
}

impl Connections {
    /// `patience` is how long the answer to a statement is waited for on PostgreSQL.
    #[cfg_attr(
        not(feature = "postgres"),
        expect(unused_variables, reason = "SQLite is always near")
    )]
    pub(crate) fn of(db: DatabaseConnection, patience: Option<Duration>) -> Self {
        Self {
            #[cfg(feature = "postgres")]
            leases: match &db.inner {
                sea_orm::DatabaseConnectionType::SqlxPostgresPoolConnection(_) => {
                    let pool = db.get_postgres_connection_pool().clone();
                    Some(postgres::Leases::of(pool, patience))
                }
                _ => None,
            },
            db,
        }
    }

    /// Begins a transaction; `opening` is how on PostgreSQL.
    #[cfg_attr(not(feature = "postgres"), expect(unused_variables, reason = "for PostgreSQL"))]
    pub(crate) async fn begin(&self, dialect: Dialect, opening: &str) -> Result<Transaction, DbErr> {
        #[cfg(feature = "postgres")]
        if let Some(leases) = &self.leases {
            // Boxed, as all else that is sent is: the futures of services are no deeper for it.
            return Box::pin(leases.begin(opening)).await.map(Transaction::Postgres);
        }
        let begun = self.db.begin_with_options(dialect.begin_options()).await;
        begun.map(Transaction::Driver)
    }

    /// The pool's connections now. One that is kept at hand is idle.
    pub(crate) fn usage(&self) -> PoolUsage {
        #[cfg(feature = "postgres")]
        if let Some(leases) = &self.leases {
            return leases.usage();
        }
        #[cfg(feature = "sqlite")]
        if let sea_orm::DatabaseConnectionType::SqlxSqlitePoolConnection(_) = &self.db.inner {
            let pool = self.db.get_sqlite_connection_pool();
            return usage(pool.size(), pool.num_idle(), pool.options().get_max_connections());
        }
        usage(0, 0, 0)
    }

    /// The first row, or an error when `limit` is over: [`ConnAcquireErr::Timeout`] if no connection was there by then. On PostgreSQL a
    /// connection that did not answer is closed.
    pub(crate) async fn query_one_within(
        &self,
        limit: Duration,
        statement: Statement,
    ) -> Result<Option<QueryResult>, DbErr> {
        #[cfg(feature = "postgres")]
        if let Some(leases) = &self.leases {
            return leases.query_one_within(limit, statement).await;
        }
        let answer = tokio::time::timeout(limit, self.db.query_one_raw(statement)).await;
        answer.unwrap_or(Err(DbErr::ConnectionAcquire(ConnAcquireErr::Timeout)))
    }

    pub(crate) fn db(&self) -> &DatabaseConnection {
        &self.db
    }

    /// Reads from a replica of PostgreSQL once it has replayed `after`. None if it has not by `until`.
    #[cfg_attr(
        not(feature = "postgres"),
        expect(unused_variables, clippy::unused_async, reason = "SQLite has no replicas")
    )]
    pub(crate) async fn query_all_after(
        &self,
        statement: Statement,
        after: u64,
        until: Instant,
    ) -> Result<Option<Vec<QueryResult>>, DbErr> {
        #[cfg(feature = "postgres")]
        if let Some(leases) = &self.leases {
            return leases.query_all_after(statement, after, until).await;
        }
        Ok(None)
    }

    /// Gives back what is kept at hand, and keeps nothing from now on.
    pub(crate) fn give_back(&self) {
        #[cfg(feature = "postgres")]
        if let Some(leases) = &self.leases {
            leases.close();
        }
    }
}

fn usage(open: u32, idle: usize, most: u32) -> PoolUsage {
    let idle = u32::try_from(idle).map_or(0, |idle| idle.min(open));
    PoolUsage {
        in_use: open - idle,
        idle,
        most,
    }
}

#[async_trait::async_trait]
impl ConnectionTrait for Connections {
    fn get_database_backend(&self) -> DbBackend {
        self.db.get_database_backend()
    }

    async fn execute_raw(&self, statement: Statement) -> Result<ExecResult, DbErr> {
        self.db.execute_raw(statement).await
    }

    async fn execute_unprepared(&self, sql: &str) -> Result<ExecResult, DbErr> {
        self.db.execute_unprepared(sql).await
    }

    async fn query_one_raw(&self, statement: Statement) -> Result<Option<QueryResult>, DbErr> {
        #[cfg(feature = "postgres")]
        if let Some(leases) = &self.leases {
            return leases.query_one(statement).await;
        }
        self.db.query_one_raw(statement).await
    }

    async fn query_all_raw(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        #[cfg(feature = "postgres")]
        if let Some(leases) = &self.leases {
            return leases.query_all(statement).await;
        }
        self.db.query_all_raw(statement).await
    }
}

#[cfg(feature = "postgres")]
mod postgres {
    use std::collections::VecDeque;
    use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
    use std::time::{Duration, Instant};

    use sea_orm::sqlx::PgPool;
    use sea_orm::{ConnAcquireErr, DbBackend, DbErr, QueryResult, Statement};
    use tokio::sync::oneshot;

    use crate::database::replicas::{REPLICA_POSITION, position};
    use crate::database::session::Session;
    use crate::database::transaction::postgres::Open;
    use crate::telemetry::{self, PoolUsage};

    /// How long a connection is kept that nobody needs.
    const IDLE: Duration = Duration::from_millis(10);
    /// How long one is kept at all, from when the pool gave it: the longest that others wait for it in addition.
    const LEASE: Duration = Duration::from_millis(50);

    /// The pause between two looks whether a replica has caught up.
    const CATCH_UP_PAUSE: Duration = Duration::from_millis(2);

    #[derive(Clone, Debug)]
    pub(super) struct Leases {
        pool: PgPool,
        patience: Option<Duration>,
        at_hand: Arc<Mutex<AtHand>>,
    }

    #[derive(Debug, Default)]
    struct AtHand {
        idle: Vec<Leased>,
        /// Those who found none, and wait for the pool as well.
        waiting: VecDeque<oneshot::Sender<Leased>>,
        /// Somebody gives back what is idle.
        is_swept: bool,
        is_closed: bool,
    }

    #[derive(Debug)]
    struct Leased {
        session: Session,
        since: Instant,
        idle_since: Instant,
    }

    impl Leases {
        pub(super) fn of(pool: PgPool, patience: Option<Duration>) -> Self {
            let at_hand = Arc::default();
            Self {
                pool,
                patience,
                at_hand,
            }
        }

        pub(super) fn usage(&self) -> PoolUsage {
            // The driver counts down before it counts up, so that for a moment its number lies below zero.
            let idle = self.pool.num_idle().wrapping_add(self.lock().idle.len());
            super::usage(self.pool.size(), idle, self.pool.options().get_max_connections())
        }

        pub(super) async fn begin(&self, opening: &str) -> Result<Open, DbErr> {
            let open = Open::begin(&self.pool, self.patience, opening).await;
            telemetry::pool(self.usage());
            open
        }

        fn lock(&self) -> MutexGuard<'_, AtHand> {
            self.at_hand.lock().unwrap_or_else(PoisonError::into_inner)
        }

        async fn get(&self) -> Result<Leased, DbErr> {
            let handed = {
                let mut at_hand = self.lock();
                if let Some(leased) = at_hand.idle.pop() {
                    return Ok(leased);
                }
                if self.pool.num_idle() > 0 || self.pool.size() < self.pool.options().get_max_connections() {
                    None
                } else {
                    let (sender, receiver) = oneshot::channel();
                    at_hand.waiting.retain(|waiting| !waiting.is_closed());
                    at_hand.waiting.push_back(sender);
                    Some(receiver)
                }
            };
            let Some(handed) = handed else {
                return self.acquire().await;
            };
            tokio::select! {
                biased;
                Ok(leased) = handed => Ok(leased),
                leased = self.acquire() => leased,
            }
        }

        async fn acquire(&self) -> Result<Leased, DbErr> {
            let session = Session::acquire(&self.pool, self.patience).await?;
            telemetry::pool(self.usage());
            let now = Instant::now();
            Ok(Leased {
                session,
                since: now,
                idle_since: now,
            })
        }

        /// Takes back a connection on which a statement has come to its end.
        fn keep(&self, mut leased: Leased) {
            let mut at_hand = self.lock();
            if at_hand.is_closed || leased.since.elapsed() > LEASE {
                return;
            }
            while let Some(waiting) = at_hand.waiting.pop_front() {
                match waiting.send(leased) {
                    Ok(()) => return,
                    Err(back) => leased = back,
                }
            }
            leased.idle_since = Instant::now();
            at_hand.idle.push(leased);
            if !at_hand.is_swept {
                at_hand.is_swept = true;
                tokio::spawn(self.clone().sweep());
            }
        }

        /// Gives back what is idle, until nothing is kept.
        async fn sweep(self) {
            loop {
                tokio::time::sleep(IDLE).await;
                let mut at_hand = self.lock();
                at_hand
                    .idle
                    .retain(|leased| leased.idle_since.elapsed() < IDLE && leased.since.elapsed() <= LEASE);
                if at_hand.idle.is_empty() {
                    at_hand.is_swept = false;
                    return;
                }
            }
        }

        pub(super) fn close(&self) {
            let mut at_hand = self.lock();
            at_hand.is_closed = true;
            at_hand.idle.clear();
            at_hand.waiting.clear();
        }

        pub(super) async fn query_one(&self, statement: Statement) -> Result<Option<QueryResult>, DbErr> {
            let mut leased = self.get().await?;
            let row = leased.session.one(&statement).await?;
            self.keep(leased);
            Ok(row.map(Into::into))
        }

        /// The look and the read go over one connection, so that both are answered by the same run of the same server.
        pub(super) async fn query_all_after(
            &self,
            statement: Statement,
            after: u64,
            until: Instant,
        ) -> Result<Option<Vec<QueryResult>>, DbErr> {
            if after == 0 {
                return self.query_all(statement).await.map(Some);
            }
            let question = Statement::from_string(DbBackend::Postgres, REPLICA_POSITION);
            loop {
                let mut leased = self.get().await?;
                let row = leased.session.one(&question).await?.map(QueryResult::from);
                if row.is_some_and(|row| position(&row).is_ok_and(|position| position >= after)) {
                    let rows = leased.session.all(&statement).await?;
                    self.keep(leased);
                    return Ok(Some(rows.into_iter().map(Into::into).collect()));
                }
                self.keep(leased);
                if Instant::now() + CATCH_UP_PAUSE > until {
                    return Ok(None);
                }
                tokio::time::sleep(CATCH_UP_PAUSE).await;
            }
        }

        pub(super) async fn query_one_within(
            &self,
            limit: Duration,
            statement: Statement,
        ) -> Result<Option<QueryResult>, DbErr> {
            let begun = Instant::now();
            let leased = tokio::time::timeout(limit, self.get()).await;
            let mut leased = leased.unwrap_or(Err(DbErr::ConnectionAcquire(ConnAcquireErr::Timeout)))?;
            let left = limit.saturating_sub(begun.elapsed());
            let row = leased.session.one_within(Some(left), &statement).await?;
            self.keep(leased);
            Ok(row.map(Into::into))
        }

        pub(super) async fn query_all(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
            let mut leased = self.get().await?;
            let rows = leased.session.all(&statement).await?;
            self.keep(leased);
            Ok(rows.into_iter().map(Into::into).collect())
        }
    }
}
