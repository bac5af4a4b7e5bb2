//! The unit of work: a transaction, who acts in it, and when.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex};

use chrono::{DateTime, Utc};
use sea_orm::{DatabaseExecutor, DatabaseTransaction, DbErr};
use tokio::sync::OwnedMutexGuard;

use crate::actor::Actor;
use crate::audit::Notice;
use crate::backend::{Dialect, fault};
use crate::error::{Error, Result};
use crate::operation::{Moment, Operation, contested};
use crate::store::Store;

/// How often an operation whose plan did nothing, for no reason that could be found, is tried again.
const TRIES_WITHOUT_REASON: u32 = 16;

mod sealed {
    pub trait Sealed {}
    impl Sealed for super::Store {}
    impl Sealed for super::Acting {}
    impl Sealed for super::Unit {}
}

/// Something to read from: a [`Store`], an [`Acting`] or a [`Unit`], which sees its own changes.
pub trait Source: sealed::Sealed + Send + Sync {
    #[doc(hidden)]
    fn executor(&self) -> DatabaseExecutor<'_>;

    #[doc(hidden)]
    fn store(&self) -> &Store;

    /// Translates an error of a read, and remembers it where it spoils a transaction.
    #[doc(hidden)]
    fn failed(&self, error: &DbErr, during: &'static str) -> Error {
        fault::read(self.store().dialect(), error, during, false)
    }
}

/// Something to write through: an [`Acting`], for single operations, or a [`Unit`].
pub trait Sink: Source {
    #[doc(hidden)]
    fn actor(&self) -> &Actor;

    #[doc(hidden)]
    fn perform<O: Operation>(&self, operation: O) -> impl Future<Output = Result<O::Output>> + Send;
}

impl Source for Store {
    fn executor(&self) -> DatabaseExecutor<'_> {
        DatabaseExecutor::Connection(self.db())
    }

    fn store(&self) -> &Store {
        self
    }
}

/// A store and an actor. Each operation is a unit of work of its own: on PostgreSQL most are one statement, which commits by
/// itself. What fails for a passing reason is tried again as [`crate::RetryPolicy`] says.
#[derive(Clone, Debug)]
pub struct Acting {
    store: Store,
    actor: Actor,
}

impl Acting {
    pub(crate) fn new(store: Store, actor: Actor) -> Self {
        Self { store, actor }
    }

    /// Tries once.
    pub(crate) async fn attempt<O: Operation>(&self, operation: &O) -> Result<Attempt<O::Output>> {
        let dialect = self.store.dialect();
        let moment = Moment {
            now: self.store.now(),
            actor: &self.actor,
            dialect,
            ids: self.store.ids(),
        };
        if let Some(error) = operation.forbidden(&moment) {
            return Ok(Attempt::Refused(error));
        }
        if dialect == Dialect::Sqlite || operation.in_transaction() {
            let unit = self.store.open_unit(&self.actor).await?;
            let attempt = unit.attempt(operation).await;
            match &attempt {
                Ok(Attempt::Done(_)) => unit.commit().await?,
                _ => unit.roll_back().await,
            }
            return attempt;
        }
        let done = operation.plan(&moment).run(dialect, self.store.db()).await;
        let failed = |error: DbErr, changes| contested::<O>(fault::read(dialect, &error, O::NAME, changes));
        match done.map_err(|error| failed(error, true))? {
            Some(row) => operation
                .read(&row)
                .map(Attempt::Done)
                .map_err(|error| failed(error, false)),
            None => operation
                .refusal(&self.executor(), &moment)
                .await
                .map(Attempt::from_refusal)
                .map_err(|error| failed(error, false)),
        }
    }

    /// Tries until it is done, refused or hopeless.
    async fn persist<O: Operation>(&self, operation: O) -> Result<O::Output> {
        let mut retries = self.store.retries();
        let mut tries = 0;
        loop {
            match self.attempt(&operation).await {
                Ok(Attempt::Done(output)) => return Ok(output),
                Ok(Attempt::Refused(error)) => return Err(error),
                Ok(Attempt::NoReason) => {
                    tries += 1;
                    if tries >= TRIES_WITHOUT_REASON {
                        return Err(operation.given_up(tries));
                    }
                }
                Err(error @ Error::Transient { .. }) => {
                    if !retries.another().await {
                        return Err(error);
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }
}

impl Source for Acting {
    fn executor(&self) -> DatabaseExecutor<'_> {
        DatabaseExecutor::Connection(self.store.db())
    }

    fn store(&self) -> &Store {
        &self.store
    }
}

impl Sink for Acting {
    fn actor(&self) -> &Actor {
        &self.actor
    }

    async fn perform<O: Operation>(&self, operation: O) -> Result<O::Output> {
        let refusal = match self.persist(operation).await {
            Ok(output) => return Ok(output),
            Err(refusal) => refusal,
        };
        if let Some(note) = Notice::of_attempt(&refusal) {
            self.persist(note).await?;
        }
        Err(refusal)
    }
}

/// What became of one try.
pub(crate) enum Attempt<T> {
    Done(T),
    Refused(Error),
    /// The plan did nothing, for a reason that is not there any more.
    NoReason,
}

impl<T> Attempt<T> {
    fn from_refusal(refusal: Option<Error>) -> Self {
        refusal.map_or(Self::NoReason, Self::Refused)
    }
}

/// Several operations that happen together or not at all, in one transaction, by one actor, at one time.
///
/// Operations read and write through it; a refusal leaves it usable, and what was done before stays part of it. An error of
/// the database does not: such a unit is rolled back even if told to commit. Dropping it rolls it back.
///
/// While it is open it holds the locks of what it changed, on SQLite the only right to write: keep it short, and do not
/// write through the store from within it.
#[derive(Debug)]
pub struct Unit {
    open: Arc<OpenUnit>,
}

/// What a [`Unit`] is a handle of.
#[derive(Debug)]
pub(crate) struct OpenUnit {
    store: Store,
    actor: Actor,
    now: DateTime<Utc>,
    health: AtomicU8,
    transaction: DatabaseTransaction,
    /// After the transaction, so that it is given back when that is gone.
    turn: Option<OwnedMutexGuard<()>>,
    /// After the turn, which it may need.
    noted: Noted,
}

/// Refusals for want of authority, which the trail is told of whatever becomes of the unit: in its transaction when it
/// commits, and by themselves when it does not.
#[derive(Debug)]
struct Noted {
    acting: Acting,
    attempts: Mutex<Vec<Notice>>,
}

impl Noted {
    fn note(&self, refusal: &Error) {
        if let (Some(note), Ok(mut attempts)) = (Notice::of_attempt(refusal), self.attempts.lock()) {
            attempts.push(note);
        }
    }

    fn take(&self) -> Vec<Notice> {
        self.attempts
            .lock()
            .map(|mut attempts| std::mem::take(&mut *attempts))
            .unwrap_or_default()
    }

    /// Boxed, because what it awaits may end a unit of its own.
    fn append(acting: Acting, attempts: Vec<Notice>) -> Pin<Box<dyn Future<Output = Result<()>> + Send>> {
        Box::pin(async move {
            for attempt in attempts {
                acting.persist(attempt).await?;
            }
            Ok(())
        })
    }
}

impl Drop for Noted {
    /// The unit was dropped and not ended: nobody waits, so it is done in the background.
    fn drop(&mut self) {
        let attempts = self.take();
        if let (false, Ok(runtime)) = (attempts.is_empty(), tokio::runtime::Handle::try_current()) {
            runtime.spawn(Self::append(self.acting.clone(), attempts));
        }
    }
}

const SOUND: u8 = 0;
const TRANSIENT_FAILURE: u8 = 1;
const FAILURE: u8 = 2;

impl OpenUnit {
    pub(crate) fn new(
        store: Store,
        actor: Actor,
        now: DateTime<Utc>,
        transaction: DatabaseTransaction,
        turn: Option<OwnedMutexGuard<()>>,
    ) -> Self {
        let noted = Noted {
            acting: Acting::new(store.clone(), actor.clone()),
            attempts: Mutex::default(),
        };
        Self {
            store,
            actor,
            now,
            health: AtomicU8::new(SOUND),
            transaction,
            turn,
            noted,
        }
    }

    fn executor(&self) -> DatabaseExecutor<'_> {
        DatabaseExecutor::Transaction(&self.transaction)
    }

    /// An error of the database: the transaction can no longer be committed.
    fn spoiled_by(&self, error: &DbErr, during: &'static str) -> Error {
        self.spoiled(fault::read(self.store.dialect(), error, during, false))
    }

    fn spoiled(&self, error: Error) -> Error {
        let health = match error {
            Error::Transient { .. } => TRANSIENT_FAILURE,
            _ => FAILURE,
        };
        self.health.fetch_max(health, Ordering::SeqCst);
        error
    }

    async fn attempt<O: Operation>(&self, operation: &O) -> Result<Attempt<O::Output>> {
        self.try_it(operation).await.map_err(|error| {
            self.spoiled(contested::<O>(fault::read(
                self.store.dialect(),
                &error,
                O::NAME,
                false,
            )))
        })
    }

    async fn try_it<O: Operation>(&self, operation: &O) -> Result<Attempt<O::Output>, DbErr> {
        let dialect = self.store.dialect();
        let moment = Moment {
            now: self.now,
            actor: &self.actor,
            dialect,
            ids: self.store.ids(),
        };
        if let Some(error) = operation.forbidden(&moment) {
            return Ok(Attempt::Refused(error));
        }
        let Some(row) = operation.plan(&moment).run(dialect, &self.transaction).await? else {
            let refusal = operation.refusal(&self.executor(), &moment).await?;
            return Ok(Attempt::from_refusal(refusal));
        };
        let mut output = operation.read(&row)?;
        let mut done = 0;
        while let Some(plan) = operation.next(&output, done, &moment) {
            let Some(row) = plan.run(dialect, &self.transaction).await? else {
                return Err(DbErr::RecordNotUpdated);
            };
            output = operation.read_then(output, &row)?;
            done += 1;
        }
        Ok(Attempt::Done(output))
    }

    async fn commit(self) -> Result<()> {
        let spoiled = match self.health.load(Ordering::SeqCst) {
            SOUND => None,
            TRANSIENT_FAILURE => Some(Error::Transient {
                reason: "one of the unit's statements failed for a passing reason".to_owned(),
            }),
            _ => Some(Error::Aborted {
                reason: "the database had refused one of its statements",
            }),
        };
        if let Some(error) = spoiled {
            self.roll_back().await;
            return Err(error);
        }
        for attempt in self.noted.take() {
            self.attempt(&attempt).await?;
        }
        let dialect = self.store.dialect();
        let (transaction, turn) = (self.transaction, self.turn);
        // In a task of its own, so that a caller who gives up waiting does not leave a COMMIT half sent.
        let committed = tokio::spawn(async move {
            let committed = transaction.commit().await;
            drop(turn);
            committed
        });
        committed
            .await
            .map_err(|_| Error::Indeterminate { during: "commit" })?
            .map_err(|error| fault::read(dialect, &error, "commit", true))
    }

    /// What cannot be rolled back is a lost connection, which the server rolls back by itself.
    async fn roll_back(self) {
        let _ = self.transaction.rollback().await;
        drop(self.turn);
        let attempts = self.noted.take();
        if let Err(error) = Noted::append(self.noted.acting.clone(), attempts).await {
            // The refusal itself has been answered; that it could not be written down is for the operators.
            tracing::error!(%error, "a refused attempt could not be appended to the audit trail");
        }
    }
}

impl Unit {
    fn into_open(self) -> Result<OpenUnit> {
        Arc::try_unwrap(self.open).map_err(|_| Error::Aborted {
            reason: "it is still in use elsewhere",
        })
    }

    /// Makes everything done through it durable and visible, at once.
    ///
    /// # Errors
    /// [`Error::Aborted`] when the database had refused a statement; [`Error::Transient`] when it did not come to pass;
    /// [`Error::Indeterminate`] when the connection broke and nobody knows.
    pub async fn commit(self) -> Result<()> {
        self.into_open()?.commit().await
    }

    /// Undoes everything done through it, and waits until that is done. Dropping the unit does it too, a little later.
    ///
    /// # Errors
    /// [`Error::Aborted`] when the unit is still in use elsewhere; then it is rolled back when that use ends.
    pub async fn roll_back(self) -> Result<()> {
        self.into_open()?.roll_back().await;
        Ok(())
    }

    /// The time of everything done through it.
    pub fn now(&self) -> DateTime<Utc> {
        self.open.now
    }
}

impl Source for Unit {
    fn executor(&self) -> DatabaseExecutor<'_> {
        self.open.executor()
    }

    fn store(&self) -> &Store {
        &self.open.store
    }

    fn failed(&self, error: &DbErr, during: &'static str) -> Error {
        self.open.spoiled_by(error, during)
    }
}

impl Sink for Unit {
    fn actor(&self) -> &Actor {
        &self.open.actor
    }

    async fn perform<O: Operation>(&self, operation: O) -> Result<O::Output> {
        for _ in 0..TRIES_WITHOUT_REASON {
            match self.open.attempt(&operation).await? {
                Attempt::Done(output) => return Ok(output),
                Attempt::Refused(error) => {
                    self.open.noted.note(&error);
                    return Err(error);
                }
                Attempt::NoReason => {}
            }
        }
        Err(operation.given_up(TRIES_WITHOUT_REASON))
    }
}

impl Store {
    /// Opens a unit of work, to be ended by [`Unit::commit`]. Nothing is retried; prefer [`Store::transact`].
    ///
    /// # Errors
    /// [`Error::Transient`] when no connection, or on SQLite the right to write, is free in time.
    pub async fn begin(&self, actor: &Actor) -> Result<Unit> {
        let open = self.open_unit(actor).await?;
        Ok(Unit { open: Arc::new(open) })
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
        let mut retries = self.retries();
        loop {
            let failure = match self.begin(actor).await {
                Ok(unit) => match self.run_once(unit, &mut work).await {
                    Once::Done(result) => return result,
                    Once::Again(error) => error,
                },
                Err(error @ Error::Transient { .. }) => error.into(),
                Err(error) => return Err(error.into()),
            };
            if !retries.another().await {
                return Err(failure);
            }
        }
    }

    async fn run_once<T, E, F, Fut>(&self, unit: Unit, work: &mut F) -> Once<T, E>
    where
        F: FnMut(Unit) -> Fut,
        Fut: Future<Output = Result<T, E>>,
        E: From<Error>,
    {
        let mine = Unit {
            open: Arc::clone(&unit.open),
        };
        match work(unit).await {
            Ok(value) => match mine.commit().await {
                Ok(()) => Once::Done(Ok(value)),
                Err(error @ Error::Transient { .. }) => Once::Again(error.into()),
                Err(error) => Once::Done(Err(error.into())),
            },
            Err(error) => {
                let transient = mine.open.health.load(Ordering::SeqCst) == TRANSIENT_FAILURE;
                if transient {
                    // It is all done again, refusals included.
                    drop(mine.open.noted.take());
                }
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
