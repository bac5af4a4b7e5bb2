//! An open transaction. On SQLite it is SeaORM's. On PostgreSQL it is this module's own, because SeaORM's can neither begin with limits of
//! its own in the same round trip nor let go of a connection that does not answer.

use std::pin::Pin;

use sea_orm::{ConnectionTrait, DatabaseTransaction, DbBackend, DbErr, ExecResult, QueryResult, Statement};

use super::lease::Connections;

/// A transaction that is rolled back, a little later, if it is dropped.
#[derive(Debug)]
pub(crate) enum Transaction {
    /// SeaORM's own.
    Driver(DatabaseTransaction),
    #[cfg(feature = "postgres")]
    Postgres(postgres::Open),
}

/// What single statements or those of a transaction go through.
#[derive(Debug)]
pub enum Executor<'a> {
    #[doc(hidden)]
    Alone(Alone<'a>),
    #[doc(hidden)]
    Within(Within<'a>),
}

/// Hides the type from who uses the crate.
#[derive(Debug)]
pub struct Alone<'a>(&'a Connections);

/// Hides the type from who uses the crate.
#[derive(Debug)]
pub struct Within<'a>(&'a Transaction);

impl<'a> From<&'a Connections> for Executor<'a> {
    fn from(connections: &'a Connections) -> Self {
        Self::Alone(Alone(connections))
    }
}

impl<'a> From<&'a Transaction> for Executor<'a> {
    fn from(transaction: &'a Transaction) -> Self {
        Self::Within(Within(transaction))
    }
}

impl Transaction {
    pub(crate) async fn commit(self) -> Result<(), DbErr> {
        match self {
            Self::Driver(transaction) => transaction.commit().await,
            #[cfg(feature = "postgres")]
            Self::Postgres(open) => Box::pin(open.end("COMMIT")).await,
        }
    }

    pub(crate) async fn roll_back(self) -> Result<(), DbErr> {
        match self {
            Self::Driver(transaction) => transaction.rollback().await,
            #[cfg(feature = "postgres")]
            Self::Postgres(open) => Box::pin(open.end("ROLLBACK")).await,
        }
    }

    /// Takes the limits off: for maintenance, which takes as long as it takes.
    pub(crate) async fn without_limits(&self) -> Result<(), DbErr> {
        match self {
            Self::Driver(_) => Ok(()),
            #[cfg(feature = "postgres")]
            Self::Postgres(open) => Box::pin(open.without_limits()).await,
        }
    }
}

/// What a method of [`ConnectionTrait`] returns.
type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, DbErr>> + Send + 'a>>;

/// Written as the trait's own macro would have it, but for the box around the box that the target makes.
macro_rules! hand_on {
    ($type:ty, $this:ident, $($pattern:pat => $target:expr),+) => {
        impl ConnectionTrait for $type {
            fn get_database_backend(&self) -> DbBackend {
                let $this = self;
                match $this { $($pattern => $target.get_database_backend()),+ }
            }

            fn execute_raw<'this, 'a>(&'this self, statement: Statement) -> Answer<'a, ExecResult>
            where
                'this: 'a,
                Self: 'a,
            {
                let $this = self;
                match $this { $($pattern => $target.execute_raw(statement)),+ }
            }

            fn execute_unprepared<'this, 'sql, 'a>(&'this self, sql: &'sql str) -> Answer<'a, ExecResult>
            where
                'this: 'a,
                'sql: 'a,
                Self: 'a,
            {
                let $this = self;
                match $this { $($pattern => $target.execute_unprepared(sql)),+ }
            }

            fn query_one_raw<'this, 'a>(&'this self, statement: Statement) -> Answer<'a, Option<QueryResult>>
            where
                'this: 'a,
                Self: 'a,
            {
                let $this = self;
                match $this { $($pattern => $target.query_one_raw(statement)),+ }
            }

            fn query_all_raw<'this, 'a>(&'this self, statement: Statement) -> Answer<'a, Vec<QueryResult>>
            where
                'this: 'a,
                Self: 'a,
            {
                let $this = self;
                match $this { $($pattern => $target.query_all_raw(statement)),+ }
            }
        }
    };
}

hand_on!(Executor<'_>, this, Executor::Alone(one) => one.0, Executor::Within(one) => one.0);
#[cfg(feature = "postgres")]
hand_on!(Transaction, this, Self::Driver(one) => one, Self::Postgres(one) => one);
#[cfg(not(feature = "postgres"))]
hand_on!(Transaction, this, Self::Driver(one) => one);

#[cfg(feature = "postgres")]
pub(crate) mod postgres {
    use std::time::Duration;

    use sea_orm::sqlx::PgPool;
    use sea_orm::{ConnectionTrait, DbBackend, DbErr, ExecResult, QueryResult, Statement};
    use tokio::sync::Mutex;

    use crate::database::session::Session;

    /// An open transaction of PostgreSQL.
    #[derive(Debug)]
    pub(crate) struct Open {
        /// None once it is ended.
        session: Mutex<Option<Session>>,
    }

    impl Open {
        /// Begins. Whoever gives up waiting leaves a transaction that is rolled back as one that is dropped. The answer to BEGIN, which
        /// behind a pooler is a connection, is waited for as long as a connection is.
        pub(crate) async fn begin(pool: &PgPool, patience: Option<Duration>, opening: &str) -> Result<Self, DbErr> {
            let session = Session::acquire(pool, patience).await?;
            let mut open = Self {
                session: Mutex::new(Some(session)),
            };
            let wait = pool.options().get_acquire_timeout();
            if let Some(session) = open.session.get_mut() {
                session.run_within(Some(wait), opening).await?;
            }
            Ok(open)
        }

        pub(super) async fn end(mut self, how: &str) -> Result<(), DbErr> {
            let Some(mut session) = self.session.get_mut().take() else {
                return Err(ended());
            };
            if session.is_given_up() {
                // Its end is that of its connection.
                return Ok(());
            }
            let ended = session.run(how).await;
            if ended.is_err() {
                // Nobody knows what it is in.
                session.close();
            }
            ended.map(drop)
        }

        pub(super) async fn without_limits(&self) -> Result<(), DbErr> {
            let mut session = self.session.lock().await;
            let session = session.as_mut().ok_or_else(ended)?;
            session.wait_for_ever();
            session.run("SET LOCAL statement_timeout = 0").await.map(drop)
        }
    }

    fn ended() -> DbErr {
        DbErr::Custom("the transaction has ended".to_owned())
    }

    impl Drop for Open {
        fn drop(&mut self) {
            let Some(mut session) = self.session.get_mut().take() else {
                return;
            };
            let Ok(runtime) = tokio::runtime::Handle::try_current() else {
                return session.abandon();
            };
            if !session.is_given_up() {
                runtime.spawn(async move {
                    if session.run("ROLLBACK").await.is_err() {
                        session.close();
                    }
                });
            }
        }
    }

    #[async_trait::async_trait]
    impl ConnectionTrait for Open {
        fn get_database_backend(&self) -> DbBackend {
            DbBackend::Postgres
        }

        async fn execute_raw(&self, statement: Statement) -> Result<ExecResult, DbErr> {
            let mut session = self.session.lock().await;
            let done = session.as_mut().ok_or_else(ended)?.execute(&statement).await;
            done.map(Into::into)
        }

        async fn execute_unprepared(&self, sql: &str) -> Result<ExecResult, DbErr> {
            let mut session = self.session.lock().await;
            let done = session.as_mut().ok_or_else(ended)?.run(sql).await;
            done.map(Into::into)
        }

        async fn query_one_raw(&self, statement: Statement) -> Result<Option<QueryResult>, DbErr> {
            let mut session = self.session.lock().await;
            let row = session.as_mut().ok_or_else(ended)?.one(&statement).await?;
            Ok(row.map(Into::into))
        }

        async fn query_all_raw(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
            let mut session = self.session.lock().await;
            let rows = session.as_mut().ok_or_else(ended)?.all(&statement).await?;
            Ok(rows.into_iter().map(Into::into).collect())
        }
    }
}
