//! A unit of work: a transaction, who acts in it, and when.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use chrono::{DateTime, Utc};
use sea_orm::DbErr;
use tokio::sync::OwnedMutexGuard;

use super::{Acting, Attempt, Reach, Sink, Sql, TRIES_WITHOUT_REASON, missing_actor, moment};
use crate::actor::Actor;
use crate::context::Context;
use crate::database::{Dialect, Executor, Transaction, fault};
use crate::error::{Error, Result};
use crate::faults::{self, Point, PointKind};
use crate::notice::Notice;
use crate::operation::{Answer, Operation, contested};
use crate::telemetry;

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
    context: Context,
    actor: Actor,
    now: DateTime<Utc>,
    /// The one operation that it is for, where no caller has opened it.
    only: Option<&'static str>,
    health: AtomicU8,
    transaction: Transaction,
    /// After the transaction, so that it is given back when that is gone.
    turn: Option<OwnedMutexGuard<()>>,
    /// After the turn, which it may need.
    noted: Noted,
}

/// Refusals for want of authority, which are recorded in the audit log whatever becomes of the unit: in its transaction when it
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

    fn put_back(&self, taken: Vec<Notice>) {
        if let Ok(mut attempts) = self.attempts.lock() {
            attempts.splice(..0, taken);
        }
    }

    /// By themselves, since their unit is undone.
    async fn append_all(&self) {
        if let Err(error) = Self::append(self.acting.clone(), self.take()).await {
            // The refusal itself has been answered; that it could not be written down is for the operators.
            tracing::error!(%error, "a refused attempt could not be appended to the audit log");
        }
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
    /// Begins a transaction in the name of `actor`, for a caller.
    pub(crate) async fn begin(context: &Context, actor: &Actor) -> Result<Self> {
        Self::begin_only(None, context, actor).await
    }

    /// Begins one for a single operation.
    pub(super) async fn begin_for(operation: &'static str, context: &Context, actor: &Actor) -> Result<Self> {
        Self::begin_only(Some(operation), context, actor).await
    }

    async fn begin_only(only: Option<&'static str>, context: &Context, actor: &Actor) -> Result<Self> {
        let patience = context.settings().connect.acquire_timeout;
        let turn = match context.dialect() {
            Dialect::Postgres => None,
            Dialect::Sqlite => {
                let begun = Instant::now();
                let turn = tokio::time::timeout(patience, context.turn().lock_owned()).await;
                telemetry::acquired(begun);
                Some(turn.map_err(|_| Error::busy("the right to write", patience))?)
            }
        };
        let point = Point::new(only.unwrap_or(faults::BEGIN), PointKind::Begin);
        if let Some(error) = context.faults().before(context.dialect(), point).await {
            return Err(fault::read(context.dialect(), &error, "begin", false));
        }
        let begun = match context.dialect() {
            Dialect::Postgres => context.begin().await,
            // In a task of its own: a BEGIN that is cut off by the caller's timeout would leave a pooled connection in doubt.
            Dialect::Sqlite => {
                let beginning = context.clone();
                let begun = tokio::spawn(async move { beginning.begin().await }).await;
                begun.map_err(|_| Error::Aborted {
                    reason: "the runtime is shutting down",
                })?
            }
        };
        let transaction = begun.map_err(|error| fault::read(context.dialect(), &error, "begin", false))?;
        Ok(Self::new(context.clone(), actor.clone(), only, transaction, turn))
    }

    fn new(
        context: Context,
        actor: Actor,
        only: Option<&'static str>,
        transaction: Transaction,
        turn: Option<OwnedMutexGuard<()>>,
    ) -> Self {
        let now = context.now();
        let noted = Noted {
            acting: Acting::new(context.clone(), actor.clone()),
            attempts: Mutex::default(),
        };
        Self {
            context,
            actor,
            now,
            only,
            health: AtomicU8::new(SOUND),
            transaction,
            turn,
            noted,
        }
    }

    pub(super) fn executor(&self) -> Executor<'_> {
        (&self.transaction).into()
    }

    /// An error of the database: the transaction can no longer be committed.
    fn spoiled_by(&self, error: &DbErr, during: &'static str) -> Error {
        self.spoiled(fault::read(self.context.dialect(), error, during, false))
    }

    pub(super) fn spoiled(&self, error: Error) -> Error {
        let health = match error {
            Error::Transient { .. } => TRANSIENT_FAILURE,
            _ => FAILURE,
        };
        self.health.fetch_max(health, Ordering::SeqCst);
        error
    }

    pub(super) async fn attempt<O: Operation>(&self, operation: &O) -> Result<Attempt<O::Output>> {
        self.attempt_by(&self.actor, operation).await
    }

    /// Tries an operation of another actor than the unit's own.
    pub(super) async fn attempt_by<O: Operation>(&self, actor: &Actor, operation: &O) -> Result<Attempt<O::Output>> {
        if let Some(error) = self.unsound() {
            return Err(error);
        }
        let tried = self.try_it(actor, operation).await;
        let error = match tried {
            Ok(attempt) => return Ok(attempt),
            Err(error) => contested::<O>(fault::read(self.context.dialect(), &error, O::NAME, false)),
        };
        let error = missing_actor(&self.context, &self.executor(), actor, error).await;
        Err(self.spoiled(error))
    }

    async fn try_it<O: Operation>(&self, actor: &Actor, operation: &O) -> Result<Attempt<O::Output>, DbErr> {
        let dialect = self.context.dialect();
        let mut first = operation.plan(&moment(&self.context, self.now, actor));
        if let Some(error) = first.refused_already() {
            return Ok(Attempt::Refused(error.clone()));
        }
        first.tell(actor);
        let alone = self.only.is_some();
        let (faults, point) = (self.context.faults(), Point::new(O::NAME, PointKind::Step { alone }));
        if let Some(error) = faults.before(dialect, point).await {
            return Err(error);
        }
        let begun = Instant::now();
        let row = first.run(dialect, &self.transaction).await;
        self.context.sent(O::NAME, begun);
        let Some(mut row) = row? else {
            let refusal = first.explain(dialect, &self.executor()).await?;
            return Ok(Attempt::from_refusal(refusal));
        };
        let mut without_answer = None;
        for mut plan in first.take_following() {
            plan.take_given(without_answer.as_ref().unwrap_or(&row))?;
            let begun = Instant::now();
            let next = plan.run(dialect, &self.transaction).await;
            self.context.sent(O::NAME, begun);
            let next = next?.ok_or(DbErr::RecordNotUpdated)?;
            if plan.has_answer() {
                (row, without_answer) = (next, None);
            } else {
                without_answer = Some(next);
            }
        }
        if let Some(error) = faults.after(dialect, point).await {
            return Err(error);
        }
        O::Output::read(&row).map(Attempt::Done)
    }

    /// Why nothing more can come of it. PostgreSQL itself refuses what follows a failure; on SQLite the transaction goes on, or is over already,
    /// and what follows would stand alone.
    pub(super) fn unsound(&self) -> Option<Error> {
        match self.health.load(Ordering::SeqCst) {
            SOUND => None,
            TRANSIENT_FAILURE => Some(Error::Transient {
                reason: "one of the unit's statements failed for a passing reason".to_owned(),
            }),
            _ => Some(Error::Aborted {
                reason: "the database had refused one of its statements",
            }),
        }
    }

    pub(super) async fn commit(self) -> Result<()> {
        if let Some(error) = self.unsound() {
            self.roll_back().await;
            return Err(error);
        }
        let attempts = self.noted.take();
        for attempt in &attempts {
            if let Err(error) = self.attempt(attempt).await {
                self.noted.put_back(attempts);
                self.roll_back().await;
                return Err(error);
            }
        }
        let dialect = self.context.dialect();
        let name = self.only.unwrap_or(faults::COMMIT);
        let (transaction, turn, context, noted) = (self.transaction, self.turn, self.context, self.noted);
        // In a task of its own, so that a caller who gives up waiting does not leave a COMMIT half sent.
        let committed = tokio::spawn(async move {
            let (faults, point) = (context.faults(), Point::new(name, PointKind::Commit));
            let committed = match faults.before(dialect, point).await {
                Some(error) => transaction.roll_back().await.and(Err(error)),
                None => match transaction.commit().await {
                    Ok(()) => faults.after(dialect, point).await.map_or(Ok(()), Err),
                    failed => failed,
                },
            };
            drop(turn);
            context.tell_committed();
            committed
        });
        let committed = committed
            .await
            .map_err(|_| Error::Indeterminate { during: "commit" })?
            .map_err(|error| fault::read(dialect, &error, "commit", true));
        // Where nobody knows, they are with what nobody knows of.
        if !matches!(committed, Ok(()) | Err(Error::Indeterminate { .. })) {
            noted.put_back(attempts);
            noted.append_all().await;
        }
        committed
    }

    /// What cannot be rolled back is a lost connection, which the server rolls back by itself.
    pub(super) async fn roll_back(self) {
        let _ = self.transaction.roll_back().await;
        drop(self.turn);
        self.noted.append_all().await;
    }
}

impl Unit {
    pub(crate) fn new(open: OpenUnit) -> Self {
        Self { open: Arc::new(open) }
    }

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

    /// Lets its statements take as long as they take: for maintenance.
    pub(crate) async fn without_limits(&self) -> Result<()> {
        let done = self.open.transaction.without_limits().await;
        done.map_err(|error| self.open.spoiled_by(&error, "begin"))
    }

    /// Another handle of the same unit.
    pub(crate) fn share(&self) -> Self {
        let open = Arc::clone(&self.open);
        Self { open }
    }

    /// True when the database failed for a passing reason: then the whole is done again, refusals included.
    pub(crate) fn forget_if_transient(&self) -> bool {
        let transient = self.open.health.load(Ordering::SeqCst) == TRANSIENT_FAILURE;
        if transient {
            drop(self.open.noted.take());
        }
        transient
    }

    /// A connection in its transaction for the service's own tables, so that what is written there happens together with the unit or not
    /// at all: a webhook that is acted on once, an outbox, a session. See [`Sql`] for what a failure does.
    ///
    /// ```
    /// # use conferencing_store::{Actor, Error, Store};
    /// # use conferencing_store::entity::RoomId;
    /// use conferencing_store::sea_orm::ConnectionTrait;
    ///
    /// # async fn example(store: Store, room: RoomId) -> Result<(), Error> {
    /// store
    ///     .transact(&Actor::system("billing"), |unit| async move {
    ///         let ended = unit.rooms().end(room).await?;
    ///         let sql = unit.sql();
    ///         sql.execute_unprepared("INSERT INTO invoices_due (made) VALUES (CURRENT_TIMESTAMP)")
    ///             .await
    ///             .map_err(|error| sql.error(&error))?;
    ///         Ok::<_, Error>(ended)
    ///     })
    ///     .await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn sql(&self) -> Sql<'_> {
        Sql::within(&self.open, &self.open.context)
    }

    /// The time of everything done through it.
    pub fn now(&self) -> DateTime<Utc> {
        self.open.now
    }
}

impl Reach for Unit {
    fn executor(&self) -> Executor<'_> {
        self.open.executor()
    }

    fn context(&self) -> &Context {
        &self.open.context
    }

    fn failed(&self, error: &DbErr, during: &'static str) -> Error {
        self.open.spoiled_by(error, during)
    }
}

impl Sink for Unit {
    fn actor(&self) -> &Actor {
        &self.open.actor
    }

    fn perform<O: Operation>(&self, operation: O) -> impl Future<Output = Result<O::Output>> + Send {
        telemetry::observe(O::NAME, self.do_it(operation))
    }
}

impl Unit {
    /// As [`Sink::perform`], for those who tell of it themselves.
    async fn do_it<O: Operation>(&self, operation: O) -> Result<O::Output> {
        for made in 0..TRIES_WITHOUT_REASON {
            match self.open.attempt(&operation).await? {
                Attempt::Done(output) => return Ok(output),
                Attempt::Refused(error) => {
                    self.open.noted.note(&error);
                    return Err(error);
                }
                Attempt::NoReason => telemetry::tried_again(O::NAME, "contested", made + 1),
            }
        }
        Err(operation.given_up(TRIES_WITHOUT_REASON))
    }
}
