//! What every operation runs in: the pool, the settings, the clock, the source of ids.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use sea_orm::{DatabaseConnection, DbErr};
use tokio::sync::{Mutex, Notify};

use crate::clock::{self, Ids};
use crate::database::connect::Background;
use crate::database::lease::Connections;
use crate::database::{Dialect, Replicas, Transaction};
use crate::error::{Error, Result};
use crate::faults::Hook;
use crate::settings::{EmptyRoomPolicy, ModerationReasons, RetryPolicy, StoreSettings};
use crate::telemetry;
use crate::tokens::KeyRing;

/// A pool and its settings. Cheap to clone; all clones share one pool.
#[derive(Clone)]
pub struct Context {
    inner: Arc<Inner>,
    /// Passed by all that is sent.
    faults: Hook,
}

struct Inner {
    connections: Connections,
    replicas: Option<Arc<Replicas>>,
    /// What runs for as long as there is a clone.
    background: Vec<Background>,
    dialect: Dialect,
    settings: StoreSettings,
    /// What modules keep for all clones, by its type.
    shared: std::sync::Mutex<HashMap<TypeId, Arc<dyn Any + Send + Sync>>>,
    /// SQLite has one writer at a time. Within the process they queue here, in order, instead of polling for the file's lock.
    turn: Arc<Mutex<()>>,
    /// Told of each change that this process has committed.
    committed: Notify,
    closed: AtomicBool,
    /// The sessions have no limits of their own, so each transaction sets them.
    sets_limits: AtomicBool,
    /// How a transaction begins on PostgreSQL that sets them.
    opening: String,
}

impl Inner {
    fn of(db: DatabaseConnection, dialect: Dialect, settings: StoreSettings) -> Self {
        Self {
            connections: Connections::of(db, settings.connect.patience()),
            replicas: None,
            background: Vec::new(),
            dialect,
            opening: opening(&settings),
            settings,
            shared: std::sync::Mutex::default(),
            turn: Arc::default(),
            committed: Notify::new(),
            closed: AtomicBool::new(false),
            sets_limits: AtomicBool::new(false),
        }
    }
}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context")
            .field("dialect", &self.inner.dialect)
            .finish_non_exhaustive()
    }
}

impl Context {
    /// With the replicas that the settings name, which are looked at from now on, and the task that follows failovers of `db`.
    pub(crate) fn new(db: DatabaseConnection, failover: Option<Background>, settings: StoreSettings) -> Result<Self> {
        let dialect = Dialect::of(&db);
        let replicas = Replicas::open(&settings.replicas, &settings.connect)?.map(Arc::new);
        if dialect == Dialect::Sqlite && replicas.is_some() {
            return Err(Error::Address {
                reason: "a replica is of PostgreSQL, and the database is not".to_owned(),
            });
        }
        let mut inner = Inner::of(db, dialect, settings);
        inner.background.extend(failover);
        if let Some(replicas) = &replicas {
            let watch = Arc::clone(replicas).watch(inner.connections.clone());
            inner.background.push(Background::run(watch));
        }
        inner.replicas = replicas;
        Ok(Self::over(inner))
    }

    /// Alone, without replicas and failover.
    pub(crate) fn of(db: DatabaseConnection, dialect: Dialect, settings: StoreSettings) -> Self {
        Self::over(Inner::of(db, dialect, settings))
    }

    fn over(inner: Inner) -> Self {
        Self {
            inner: Arc::new(inner),
            faults: Hook::default(),
        }
    }

    /// The same, of which an injector is told.
    #[cfg(feature = "testing")]
    pub(crate) fn with_faults(&self, injector: Arc<dyn crate::faults::FaultInjector>) -> Self {
        Self {
            inner: Arc::clone(&self.inner),
            faults: Hook::told_to(injector),
        }
    }

    pub(crate) fn faults(&self) -> &Hook {
        &self.faults
    }

    pub(crate) fn settings(&self) -> &StoreSettings {
        &self.inner.settings
    }

    /// The one value of a type that all clones share, made when it is first asked for.
    pub(crate) fn shared<T: Default + Send + Sync + 'static>(&self) -> Arc<T> {
        let mut all = self.inner.shared.lock().unwrap_or_else(PoisonError::into_inner);
        let one = all.entry(TypeId::of::<T>()).or_insert_with(|| Arc::<T>::default());
        // Its key is its type.
        Arc::clone(one).downcast().unwrap_or_default()
    }

    /// Says that something was committed: whoever follows the audit log looks at once.
    pub(crate) fn tell_committed(&self) {
        self.inner.committed.notify_one();
    }

    /// The pool is closed: whoever works in the background ends.
    pub(crate) fn tell_closed(&self) {
        self.inner.closed.store(true, Ordering::SeqCst);
        self.tell_committed();
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.inner.closed.load(Ordering::SeqCst)
    }

    /// Ends when something was committed since it was last asked.
    pub(crate) async fn committed(&self) {
        self.inner.committed.notified().await;
    }

    /// From now on each transaction begins with the limits on locks and statements.
    pub(crate) fn set_limits_itself(&self) {
        self.inner.sets_limits.store(true, Ordering::Relaxed);
    }

    /// Whether a change must be a transaction: on SQLite, whose time is read once the right to write is there, and where the sessions of
    /// PostgreSQL have no limits of their own.
    pub(crate) fn changes_in_units(&self) -> bool {
        self.inner.dialect == Dialect::Sqlite || self.inner.sets_limits.load(Ordering::Relaxed)
    }

    /// Begins a transaction.
    pub(crate) async fn begin(&self) -> Result<Transaction, DbErr> {
        let opening = if self.changes_in_units() {
            self.inner.opening.as_str()
        } else {
            "BEGIN"
        };
        self.inner.connections.begin(self.inner.dialect, opening).await
    }

    /// A statement of `operation` has come to its end.
    pub(crate) fn sent(&self, operation: &'static str, begun: Instant) {
        telemetry::sent(operation, begun, self.inner.settings.connect.slow_statement);
    }

    pub(crate) fn turn(&self) -> Arc<Mutex<()>> {
        Arc::clone(&self.inner.turn)
    }

    pub(crate) fn db(&self) -> &DatabaseConnection {
        self.inner.connections.db()
    }

    pub(crate) fn replicas(&self) -> Option<&Replicas> {
        self.inner.replicas.as_deref()
    }

    /// The pool for statements that stand alone.
    pub(crate) fn connections(&self) -> &Connections {
        &self.inner.connections
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

    pub(crate) fn empty_rooms(&self) -> EmptyRoomPolicy {
        self.inner.settings.empty_rooms
    }

    pub(crate) fn empty_room_timeout(&self) -> Duration {
        self.inner.settings.empty_room_timeout
    }

    pub(crate) fn max_recording_retries(&self) -> i32 {
        self.inner.settings.max_recording_retries.into()
    }

    pub(crate) fn purge_grace(&self) -> Duration {
        self.inner.settings.purge_grace
    }

    pub(crate) fn moderation_reasons(&self) -> ModerationReasons {
        self.inner.settings.moderation_reasons
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

/// BEGIN with the limits that are wanted, which end with the transaction. One round trip.
fn opening(settings: &StoreSettings) -> String {
    let connect = &settings.connect;
    let mut sql = "BEGIN; SET LOCAL client_min_messages = 'error'".to_owned();
    for (name, limit) in [
        ("lock_timeout", connect.lock_timeout),
        ("statement_timeout", connect.statement_timeout),
    ] {
        if !limit.is_zero() {
            let _ = write!(sql, "; SET LOCAL {name} = {}", limit.as_millis());
        }
    }
    sql
}

/// Counts tries and pauses between them.
pub(crate) struct Retries {
    policy: RetryPolicy,
    made: u32,
}

impl Retries {
    /// How many tries were made.
    pub(crate) fn made(&self) -> u32 {
        self.made
    }

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
