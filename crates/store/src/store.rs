//! The store: what a service holds. Opening it, reading through it, units of work.

use std::future::Future;
use std::sync::Arc;
use std::time::Instant;

use chrono::{DateTime, Utc};
use sea_orm::sea_query::{Alias, Expr, ExprTrait, Query, SelectStatement};
use sea_orm::{ConnectionTrait, DatabaseConnection};

use crate::actor::Actor;
use crate::audit::writer::{AuditWriter, WriterSettings};
use crate::clock::{Clock, Ids};
use crate::context::Context;
use crate::database::{Dialect, Executor, ReplicaStatus, Replicas, connect, durability, fault};
use crate::error::{Error, REQUIRED_MIGRATION, Result};
use crate::replica_reads::{CommitToken, ReplicaReads};
use crate::settings::{Durability, StoreSettings};
use crate::telemetry::{self, PoolUsage};
use crate::unit::{Acting, OpenUnit, Reach, Sql, Unit};

/// The data layer. Cheap to clone; all clones share one pool.
#[derive(Clone, Debug)]
pub struct Store {
    context: Context,
}

impl Reach for Store {
    fn executor(&self) -> Executor<'_> {
        self.context.connections().into()
    }

    fn context(&self) -> &Context {
        &self.context
    }
}

impl Store {
    /// Opens the database at `url` with the default settings; see [`connect::open`] for what an address looks like. Where it names several
    /// hosts, the store finds the one that takes writes, and finds it again after a failover (docs/OPERATIONS.md).
    ///
    /// # Errors
    /// As of [`connect::open`] and [`Store::from_connection`].
    pub async fn connect(url: &str) -> Result<Self> {
        Self::connect_with(url, StoreSettings::default()).await
    }

    /// Opens the database at `url`.
    ///
    /// # Errors
    /// As of [`Store::connect`].
    pub async fn connect_with(url: &str, mut settings: StoreSettings) -> Result<Self> {
        settings.connect = settings.connect.with_address(url)?;
        let (db, failover) = connect::open_supervised(url, &settings.connect).await?;
        Self::over(Context::new(db, failover, settings)?).await
    }

    /// A store over a pool that [`connect::open`] made. On PostgreSQL it asks the session for its limits on locks and statements. Where one
    /// that the settings want is not there, as behind a pooler, each change is a transaction that sets both for itself: two round
    /// trips more, and a warning; see docs/CONFIGURATION.md for how to spare them.
    ///
    /// # Errors
    /// [`Error::Unmigrated`] when the schema is not there; [`Error::NotDurable`] when the database may forget commits.
    pub async fn from_connection(db: DatabaseConnection, settings: StoreSettings) -> Result<Self> {
        Self::over(Context::new(db, None, settings)?).await
    }

    async fn over(context: Context) -> Result<Self> {
        let store = Self { context };
        store.require_schema().await?;
        store.require_durability().await?;
        store.look_for_limits().await?;
        Ok(store)
    }

    async fn require_schema(&self) -> Result<()> {
        let applied = applied_migration();
        let found = self
            .context
            .db()
            .query_one(&applied)
            .await
            .map_err(|error| fault::read(self.context.dialect(), &error, "connect", false))?;
        match found {
            Some(_) => Ok(()),
            None => Err(Error::Unmigrated {
                missing: REQUIRED_MIGRATION,
            }),
        }
    }

    async fn require_durability(&self) -> Result<()> {
        if self.context.settings().durability == Durability::AsConfigured {
            return Ok(());
        }
        let forgets = durability::setting_that_forgets(self.context.dialect(), self.context.db())
            .await
            .map_err(|error| fault::read(self.context.dialect(), &error, "connect", false))?;
        match forgets {
            Some(setting) => Err(Error::NotDurable { setting }),
            None => Ok(()),
        }
    }

    async fn look_for_limits(&self) -> Result<()> {
        let (dialect, connect) = (self.context.dialect(), &self.context.settings().connect);
        if dialect == Dialect::Sqlite {
            return Ok(());
        }
        let (locks, statements) = durability::limits(dialect, self.context.db())
            .await
            .map_err(|error| fault::read(dialect, &error, "connect", false))?;
        let is_missing =
            (!locks && !connect.lock_timeout.is_zero()) || (!statements && !connect.statement_timeout.is_zero());
        if is_missing {
            tracing::warn!(
                "the sessions have no lock_timeout or statement_timeout: each change is a transaction that sets them"
            );
            self.context.set_limits_itself();
        }
        Ok(())
    }

    /// The pool's connections now; sets the gauges of docs/TELEMETRY.md too, which are otherwise as old as the last connection that was
    /// waited for. For whoever hands the metrics out.
    pub fn pool_usage(&self) -> PoolUsage {
        let usage = self.context.connections().usage();
        telemetry::pool(usage);
        usage
    }

    /// Reads that tolerate lag, from the replicas of [`crate::ReplicaSettings`]; all else reads from the primary.
    pub fn replica_reads(&self) -> ReplicaReads {
        ReplicaReads::new(self.context.clone())
    }

    /// A token behind everything that is committed now: for reads in this or another process, see [`ReplicaReads::after`]. Take it when the
    /// call that changed something has returned; one round trip.
    ///
    /// # Errors
    /// [`Error::Transient`] when the database does not answer.
    pub async fn commit_token(&self) -> Result<CommitToken> {
        CommitToken::take(self).await
    }

    /// The replicas as they were when they were last looked at; asks nobody.
    pub fn replica_status(&self) -> Vec<ReplicaStatus> {
        self.context.replicas().map(Replicas::status).unwrap_or_default()
    }

    /// Where the store reads the time: for a service's own rows, so that its tests own both.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.context.settings().clock
    }

    /// Where the store gets its keys and room codes: for a service's own rows, which then sort among the store's.
    pub fn ids(&self) -> &Arc<dyn Ids> {
        &self.context.settings().ids
    }

    /// The store's time, cut to microseconds, which is what both databases keep.
    pub fn now(&self) -> DateTime<Utc> {
        self.context.now()
    }

    /// A store that shares all with this one, but has `injector` told of what it sends, see [`crate::faults`].
    #[cfg(feature = "testing")]
    #[must_use]
    pub fn with_faults(&self, injector: Arc<dyn crate::faults::FaultInjector>) -> Self {
        Self {
            context: self.context.with_faults(injector),
        }
    }

    /// Writes in the name of `actor`, each operation a unit of work of its own.
    pub fn acting(&self, actor: &Actor) -> Acting {
        Acting::new(self.context.clone(), actor.clone())
    }

    /// A connection for the service's own tables, each statement by itself; what is to happen together goes through
    /// [`Unit::sql`](crate::Unit::sql). On SQLite, where writers take turns, changes belong into a unit: only there do they wait for theirs.
    pub fn sql(&self) -> Sql<'_> {
        Sql::alone(&self.context)
    }

    /// A writer of audit events in batches, with a queue of its own. Must be called within a Tokio runtime.
    ///
    /// # Errors
    /// [`Error::Invalid`] when a number of the settings is 0, or a batch greater than [`crate::audit::writer::MAX_BATCH`].
    pub fn audit_writer(&self, settings: WriterSettings) -> Result<AuditWriter> {
        AuditWriter::start(&self.context, settings)
    }

    /// Closes the pool once the calls under way have ended. Later calls on any clone fail as transient.
    ///
    /// # Errors
    /// [`Error::Backend`] if the driver fails to.
    pub async fn close(&self) -> Result<()> {
        self.context.tell_closed();
        self.context.connections().give_back();
        if let Some(replicas) = self.context.replicas() {
            replicas.close().await;
        }
        self.context
            .db()
            .close_by_ref()
            .await
            .map_err(|error| fault::read(self.context.dialect(), &error, "close", false))
    }
}

impl Store {
    /// Opens a unit of work, to be ended by [`Unit::commit`]. Nothing is retried; prefer [`Store::transact`].
    ///
    /// # Errors
    /// [`Error::Transient`] when no connection, or on SQLite the right to write, is free in time.
    pub async fn begin(&self, actor: &Actor) -> Result<Unit> {
        let open = OpenUnit::begin(&self.context, actor).await?;
        Ok(Unit::new(open))
    }

    /// Runs `work` in a unit of work and commits it, or rolls it back if `work` returns an error.
    ///
    /// When the database fails for a passing reason (a deadlock, a serialization failure, a busy file) the whole is done
    /// again, `work` included, so `work` must do nothing outside the unit that may not happen twice.
    ///
    /// ```
    /// # use conferencing_store::{Actor, Error, Store};
    /// # use conferencing_store::entity::{ParticipantRole, RoomId, UserId};
    /// # async fn example(store: Store, room: RoomId, ada: UserId, ben: UserId) -> Result<(), Error> {
    /// store
    ///     .transact(&Actor::system("import"), |unit| async move {
    ///         unit.participants().join(room, ada, ParticipantRole::Participant).await?;
    ///         unit.participants().join(room, ben, ParticipantRole::Participant).await
    ///     })
    ///     .await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// What `work` returned, or what kept the commit from happening.
    pub async fn transact<T, E, F, Fut>(&self, actor: &Actor, mut work: F) -> Result<T, E>
    where
        F: FnMut(Unit) -> Fut,
        Fut: Future<Output = Result<T, E>>,
        E: From<Error>,
    {
        let begun = Instant::now();
        let mut retries = self.context.retries();
        let result = loop {
            let failure = match self.begin(actor).await {
                Ok(unit) => match self.run_once(unit, &mut work).await {
                    Once::Done(result) => break result,
                    Once::Again(error) => error,
                },
                Err(error @ Error::Transient { .. }) => error.into(),
                Err(error) => break Err(error.into()),
            };
            let made = retries.made();
            if !retries.another().await {
                break Err(failure);
            }
            telemetry::tried_again("unit", "transient", made);
        };
        // The error is the caller's own type.
        let outcome = if result.is_ok() { "done" } else { "failed" };
        telemetry::ended("unit", outcome, begun.elapsed());
        result
    }

    async fn run_once<T, E, F, Fut>(&self, unit: Unit, work: &mut F) -> Once<T, E>
    where
        F: FnMut(Unit) -> Fut,
        Fut: Future<Output = Result<T, E>>,
        E: From<Error>,
    {
        let mine = unit.share();
        match work(unit).await {
            Ok(value) => match mine.commit().await {
                Ok(()) => Once::Done(Ok(value)),
                Err(error @ Error::Transient { .. }) => Once::Again(error.into()),
                Err(error) => Once::Done(Err(error.into())),
            },
            Err(error) => {
                let transient = mine.forget_if_transient();
                // A unit that is still in use elsewhere is rolled back when that use ends.
                let _ = mine.roll_back().await;
                if transient {
                    Once::Again(error)
                } else {
                    Once::Done(Err(error))
                }
            }
        }
    }
}

enum Once<T, E> {
    Done(Result<T, E>),
    Again(E),
}

/// The row that the newest migration of this build has left.
pub(crate) fn applied_migration() -> SelectStatement {
    Query::select()
        .column(Alias::new("version"))
        .from(Alias::new(entity::MIGRATION_TABLE))
        .and_where(Expr::col(Alias::new("version")).eq(REQUIRED_MIGRATION))
        .take()
}
