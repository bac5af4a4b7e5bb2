//! The store: a pool of connections, a clock and a source of ids.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use sea_orm::sea_query::{Alias, Expr, ExprTrait, Query};
use sea_orm::{ConnectionTrait, DatabaseConnection, TransactionTrait};
use tokio::sync::Mutex;

use crate::actor::Actor;
use crate::backend::{Dialect, durability, fault};
use crate::clock::{self, Clock, Ids, RandomIds, SystemClock};
use crate::connect::{self, ConnectSettings};
use crate::error::{Error, Result};
use crate::participants::WhenEmpty;
use crate::tokens::KeyRing;
use crate::unit::{Acting, OpenUnit};

/// The newest migration that this build needs. A test holds it equal to the newest one there is.
pub const REQUIRED_MIGRATION: &str = "m20261122_000005_audit_partitions";

/// How often, and how fast, what failed for a passing reason is tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Tries in all; 1 means never again.
    pub attempts: u32,
    /// The longest first pause. Each further one may be twice as long; the actual pause is random between 0 and that.
    pub first_pause: Duration,
    /// No pause is longer.
    pub longest_pause: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            attempts: 8,
            first_pause: Duration::from_millis(5),
            longest_pause: Duration::from_millis(250),
        }
    }
}

/// Whether a commit that was reported must survive a crash of the server or the machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// It must: a database that is set to forget is refused when the store is made.
    #[default]
    Required,
    /// As the database is set: the last moments before a crash may be lost, audit rows included.
    AsConfigured,
}

/// What [`Store::health_check`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Health {
    /// Which database it is.
    pub database: &'static str,
    /// The newest migration that this build needs, and that is there.
    pub migration: &'static str,
    /// How long the answer took, the wait for a connection included.
    pub round_trip: Duration,
}

/// What a [`Store`] is made with besides its database.
#[derive(Clone)]
pub struct StoreSettings {
    /// The connections.
    pub connect: ConnectSettings,
    /// Whether commits must last.
    pub durability: Durability,
    /// The retries.
    pub retry: RetryPolicy,
    /// What becomes of a meeting that everybody has left.
    pub when_empty: WhenEmpty,
    /// How often a failed recording may be processed again.
    pub max_recording_retries: u16,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Keys and room codes.
    pub ids: Arc<dyn Ids>,
    /// What providers' tokens are encrypted with. None: they are not stored.
    pub token_keys: Option<KeyRing>,
}

impl Default for StoreSettings {
    fn default() -> Self {
        Self {
            connect: ConnectSettings::default(),
            durability: Durability::default(),
            retry: RetryPolicy::default(),
            when_empty: WhenEmpty::default(),
            max_recording_retries: 3,
            clock: Arc::new(SystemClock),
            ids: Arc::new(RandomIds::default()),
            token_keys: None,
        }
    }
}

/// The data layer. Cheap to clone; all clones share one pool.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    db: DatabaseConnection,
    dialect: Dialect,
    settings: StoreSettings,
    /// SQLite has one writer at a time. Within the process they queue here, in order, instead of polling for the file's lock.
    turn: Arc<Mutex<()>>,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store")
            .field("dialect", &self.inner.dialect)
            .finish_non_exhaustive()
    }
}

impl Store {
    /// Opens the database at `url` with the default settings; see [`connect::open`] for what an address looks like.
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
    pub async fn connect_with(url: &str, settings: StoreSettings) -> Result<Self> {
        let db = connect::open(url, &settings.connect).await?;
        Self::from_connection(db, settings).await
    }

    /// A store over a pool that [`connect::open`] made.
    ///
    /// # Errors
    /// [`Error::Unmigrated`] when the schema is not there; [`Error::NotDurable`] when the database may forget commits.
    pub async fn from_connection(db: DatabaseConnection, settings: StoreSettings) -> Result<Self> {
        let dialect = Dialect::of(&db);
        let store = Self {
            inner: Arc::new(Inner {
                db,
                dialect,
                settings,
                turn: Arc::default(),
            }),
        };
        store.require_schema().await?;
        store.require_durability().await?;
        Ok(store)
    }

    async fn require_schema(&self) -> Result<()> {
        let applied = Query::select()
            .column(Alias::new("version"))
            .from(Alias::new("seaql_migrations"))
            .and_where(Expr::col(Alias::new("version")).eq(REQUIRED_MIGRATION))
            .take();
        let found = self
            .inner
            .db
            .query_one(&applied)
            .await
            .map_err(|error| fault::read(self.inner.dialect, &error, "connect", false))?;
        match found {
            Some(_) => Ok(()),
            None => Err(Error::Unmigrated {
                missing: REQUIRED_MIGRATION,
            }),
        }
    }

    async fn require_durability(&self) -> Result<()> {
        if self.inner.settings.durability == Durability::AsConfigured {
            return Ok(());
        }
        let forgets = durability::setting_that_forgets(self.inner.dialect, &self.inner.db)
            .await
            .map_err(|error| fault::read(self.inner.dialect, &error, "connect", false))?;
        match forgets {
            Some(setting) => Err(Error::NotDurable { setting }),
            None => Ok(()),
        }
    }

    /// Asks the database whether it is there and has the schema; one round trip. For a service's readiness probe.
    ///
    /// # Errors
    /// [`Error::Transient`] or [`Error::Unreachable`] when it does not answer, [`Error::Unmigrated`] when the schema is not there.
    pub async fn health_check(&self) -> Result<Health> {
        let asked = std::time::Instant::now();
        self.require_schema().await?;
        Ok(Health {
            database: match self.inner.dialect {
                Dialect::Postgres => "PostgreSQL",
                Dialect::Sqlite => "SQLite",
            },
            migration: REQUIRED_MIGRATION,
            round_trip: asked.elapsed(),
        })
    }

    /// Writes in the name of `actor`, each operation a unit of work of its own.
    pub fn acting(&self, actor: &Actor) -> Acting {
        Acting::new(self.clone(), actor.clone())
    }

    /// Closes the pool once the calls under way have ended. Later calls on any clone fail as transient.
    ///
    /// # Errors
    /// [`Error::Backend`] if the driver fails to.
    pub async fn close(&self) -> Result<()> {
        self.inner
            .db
            .close_by_ref()
            .await
            .map_err(|error| fault::read(self.inner.dialect, &error, "close", false))
    }

    /// Begins a transaction in the name of `actor`.
    pub(crate) async fn open_unit(&self, actor: &Actor) -> Result<OpenUnit> {
        let patience = self.inner.settings.connect.acquire_timeout;
        let turn = match self.inner.dialect {
            Dialect::Postgres => None,
            Dialect::Sqlite => {
                let turn = tokio::time::timeout(patience, Arc::clone(&self.inner.turn).lock_owned());
                Some(turn.await.map_err(|_| Error::busy("the right to write", patience))?)
            }
        };
        let (db, options) = (self.inner.db.clone(), self.inner.dialect.begin_options());
        // In a task of its own: a BEGIN that is cut off by the caller's timeout would leave a pooled connection in doubt.
        let begun = tokio::spawn(async move { db.begin_with_options(options).await }).await;
        let transaction = begun
            .map_err(|_| Error::Aborted {
                reason: "the runtime is shutting down",
            })?
            .map_err(|error| fault::read(self.inner.dialect, &error, "begin", false))?;
        Ok(OpenUnit::new(
            self.clone(),
            actor.clone(),
            self.now(),
            transaction,
            turn,
        ))
    }

    pub(crate) fn db(&self) -> &DatabaseConnection {
        &self.inner.db
    }

    pub(crate) fn dialect(&self) -> Dialect {
        self.inner.dialect
    }

    /// How many statements that append may run at once: on SQLite one.
    pub(crate) fn lanes(&self, wanted: u8) -> u8 {
        match self.inner.dialect {
            Dialect::Postgres => wanted,
            Dialect::Sqlite => 1,
        }
    }

    pub(crate) fn when_empty(&self) -> WhenEmpty {
        self.inner.settings.when_empty
    }

    pub(crate) fn max_recording_retries(&self) -> i32 {
        self.inner.settings.max_recording_retries.into()
    }

    pub(crate) fn ids(&self) -> &dyn Ids {
        &*self.inner.settings.ids
    }

    pub(crate) fn token_keys(&self) -> Option<&KeyRing> {
        self.inner.settings.token_keys.as_ref()
    }

    pub(crate) fn now(&self) -> DateTime<Utc> {
        clock::to_microseconds(self.inner.settings.clock.now())
    }

    pub(crate) fn retries(&self) -> Retries {
        Retries {
            policy: self.inner.settings.retry,
            made: 1,
        }
    }
}

/// Counts tries and pauses between them.
pub(crate) struct Retries {
    policy: RetryPolicy,
    made: u32,
}

impl Retries {
    /// Pauses and says true, or says false when all tries are used up.
    pub(crate) async fn another(&mut self) -> bool {
        if self.made >= self.policy.attempts {
            return false;
        }
        let doubled = self.policy.first_pause * 2_u32.saturating_pow(Ord::min(self.made - 1, 16));
        let longest = Ord::min(doubled, self.policy.longest_pause);
        self.made += 1;
        let micros = u64::try_from(longest.as_micros()).unwrap_or(u64::MAX);
        tokio::time::sleep(Duration::from_micros(clock::jitter(micros))).await;
        true
    }
}
