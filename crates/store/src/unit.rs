//! The unit of work: a transaction, who acts in it, and when.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex};

use chrono::{DateTime, Utc};
use entity::user;
use sea_orm::{
    ColumnTrait, ConnectionTrait, DatabaseExecutor, DatabaseTransaction, DbErr, QueryFilter, QueryResult, QueryTrait,
    Statement, TransactionTrait,
};
use tokio::sync::OwnedMutexGuard;

use crate::actor::Actor;
use crate::authority::Operation as Asked;
use crate::context::Context;
use crate::database::{Dialect, fault};
use crate::error::{Error, Result, Subject};
use crate::notice::Notice;
use crate::operation::{Answer, Moment, Operation, Plan, contested};
use crate::scope;

/// How often an operation whose plan did nothing, for no reason that could be found, is tried again.
const TRIES_WITHOUT_REASON: u32 = 16;

pub(crate) mod sealed {
    pub trait Sealed {}
    impl Sealed for super::Acting {}
    impl Sealed for super::Unit {}
}

/// Something to read from: a [`crate::Store`], an [`Acting`] or a [`Unit`], which sees its own changes.
pub trait Source: sealed::Sealed + Send + Sync {
    #[doc(hidden)]
    fn executor(&self) -> DatabaseExecutor<'_>;

    #[doc(hidden)]
    fn context(&self) -> &Context;

    /// Runs one statement that reads.
    #[doc(hidden)]
    fn rows(
        &self,
        during: &'static str,
        statement: Statement,
    ) -> impl Future<Output = Result<Vec<QueryResult>>> + Send {
        async move {
            let rows = self.executor().query_all_raw(statement).await;
            rows.map_err(|error| self.failed(&error, during))
        }
    }

    /// Translates an error of a read, and remembers it where it spoils a transaction.
    #[doc(hidden)]
    fn failed(&self, error: &DbErr, during: &'static str) -> Error {
        fault::read(self.context().dialect(), error, during, false)
    }
}

/// Something to write through: an [`Acting`], for single operations, or a [`Unit`].
pub trait Sink: Source {
    #[doc(hidden)]
    fn actor(&self) -> &Actor;

    #[doc(hidden)]
    fn perform<O: Operation>(&self, operation: O) -> impl Future<Output = Result<O::Output>> + Send;
}

/// A store and an actor. Each operation is a unit of work of its own: on PostgreSQL most are one statement, which commits by
/// itself. What fails for a passing reason is tried again as [`crate::RetryPolicy`] says.
#[derive(Clone, Debug)]
pub struct Acting {
    context: Context,
    actor: Actor,
}

impl Acting {
    pub(crate) fn new(context: Context, actor: Actor) -> Self {
        Self { context, actor }
    }

    /// Opens a unit of work by the same actor.
    pub(crate) async fn begin(&self) -> Result<Unit> {
        OpenUnit::begin(&self.context, &self.actor).await.map(Unit::new)
    }

    /// Tries once.
    pub(crate) async fn attempt<O: Operation>(&self, operation: &O) -> Result<Attempt<O::Output>> {
        let dialect = self.context.dialect();
        let moment = Moment {
            now: self.context.now(),
            actor: &self.actor,
            dialect,
            ids: self.context.ids(),
        };
        // SQLite's time is read once the right to write is there.
        if dialect == Dialect::Sqlite {
            return self.attempt_in_unit(operation).await;
        }
        let plan = operation.plan(&moment);
        if let Some(error) = plan.refused_already() {
            return Ok(Attempt::Refused(error.clone()));
        }
        if !plan.following().is_empty() {
            return self.attempt_in_unit(operation).await;
        }
        let failed = |error: DbErr, changes| contested::<O>(fault::read(dialect, &error, O::NAME, changes));
        match plan.run(dialect, self.context.db()).await {
            Ok(Some(row)) => O::Output::read(&row)
                .map(Attempt::Done)
                .map_err(|error| failed(error, false)),
            Ok(None) => plan
                .explain(dialect, &self.executor())
                .await
                .map(Attempt::from_refusal)
                .map_err(|error| failed(error, false)),
            Err(error) => {
                let error = failed(error, true);
                Err(missing_actor(&self.context, &self.executor(), &self.actor, error).await)
            }
        }
    }

    async fn attempt_in_unit<O: Operation>(&self, operation: &O) -> Result<Attempt<O::Output>> {
        let unit = OpenUnit::begin(&self.context, &self.actor).await?;
        let attempt = unit.attempt(operation).await;
        match &attempt {
            Ok(Attempt::Done(_)) => unit.commit().await?,
            _ => unit.roll_back().await,
        }
        attempt
    }

    /// Tries until it is done, refused or hopeless.
    async fn persist<O: Operation>(&self, operation: O) -> Result<O::Output> {
        let mut retries = self.context.retries();
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
        DatabaseExecutor::Connection(self.context.db())
    }

    fn context(&self) -> &Context {
        &self.context
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

/// An event's actor is not looked for before it is appended: its foreign key says whether there is such a user.
async fn missing_actor(context: &Context, db: &DatabaseExecutor<'_>, actor: &Actor, error: Error) -> Error {
    let Some(user) = actor.user_id() else {
        return error;
    };
    let missing = Error::NotFound(Subject::User(user));
    match (&error, context.dialect()) {
        (
            Error::Backend {
                constraint: Some(name), ..
            },
            Dialect::Postgres,
        ) if name == "fk_audit_logs_user" => missing,
        // SQLite does not say which key it was.
        (Error::Backend { code: Some(code), .. }, Dialect::Sqlite) if code == "787" => {
            let found = scope::find::<user::Entity, scope::Any>().filter(user::Column::Id.eq(user));
            match db.query_one_raw(found.build(context.dialect().backend())).await {
                Ok(None) => missing,
                _ => error,
            }
        }
        _ => error,
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
    context: Context,
    actor: Actor,
    now: DateTime<Utc>,
    health: AtomicU8,
    transaction: DatabaseTransaction,
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
    /// Begins a transaction in the name of `actor`.
    pub(crate) async fn begin(context: &Context, actor: &Actor) -> Result<Self> {
        let patience = context.settings().connect.acquire_timeout;
        let turn = match context.dialect() {
            Dialect::Postgres => None,
            Dialect::Sqlite => {
                let turn = tokio::time::timeout(patience, context.turn().lock_owned());
                Some(turn.await.map_err(|_| Error::busy("the right to write", patience))?)
            }
        };
        let (db, options) = (context.db().clone(), context.dialect().begin_options());
        // In a task of its own: a BEGIN that is cut off by the caller's timeout would leave a pooled connection in doubt.
        let begun = tokio::spawn(async move { db.begin_with_options(options).await }).await;
        let transaction = begun
            .map_err(|_| Error::Aborted {
                reason: "the runtime is shutting down",
            })?
            .map_err(|error| fault::read(context.dialect(), &error, "begin", false))?;
        Ok(Self::new(
            context.clone(),
            actor.clone(),
            context.now(),
            transaction,
            turn,
        ))
    }

    fn new(
        context: Context,
        actor: Actor,
        now: DateTime<Utc>,
        transaction: DatabaseTransaction,
        turn: Option<OwnedMutexGuard<()>>,
    ) -> Self {
        let noted = Noted {
            acting: Acting::new(context.clone(), actor.clone()),
            attempts: Mutex::default(),
        };
        Self {
            context,
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
        self.spoiled(fault::read(self.context.dialect(), error, during, false))
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
        let tried = self.try_it(operation).await;
        let error = match tried {
            Ok(attempt) => return Ok(attempt),
            Err(error) => contested::<O>(fault::read(self.context.dialect(), &error, O::NAME, false)),
        };
        let error = missing_actor(&self.context, &self.executor(), &self.actor, error).await;
        Err(self.spoiled(error))
    }

    async fn try_it<O: Operation>(&self, operation: &O) -> Result<Attempt<O::Output>, DbErr> {
        let dialect = self.context.dialect();
        let moment = Moment {
            now: self.now,
            actor: &self.actor,
            dialect,
            ids: self.context.ids(),
        };
        let first = operation.plan(&moment);
        if let Some(error) = first.refused_already() {
            return Ok(Attempt::Refused(error.clone()));
        }
        let Some(mut row) = first.run(dialect, &self.transaction).await? else {
            let refusal = first.explain(dialect, &self.executor()).await?;
            return Ok(Attempt::from_refusal(refusal));
        };
        for plan in first.following() {
            let next = plan.run(dialect, &self.transaction).await?;
            let next = next.ok_or(DbErr::RecordNotUpdated)?;
            if plan.has_answer() {
                row = next;
            }
        }
        O::Output::read(&row).map(Attempt::Done)
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
        let dialect = self.context.dialect();
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
            tracing::error!(%error, "a refused attempt could not be appended to the audit audit_log");
        }
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

    /// The time of everything done through it.
    pub fn now(&self) -> DateTime<Utc> {
        self.open.now
    }
}

impl Source for Unit {
    fn executor(&self) -> DatabaseExecutor<'_> {
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

/// Refuses what is the system's alone and concerns no one user, and notes the attempt.
pub(crate) async fn only_the_system<S: Sink>(source: &S, operation: Asked) -> Result<()> {
    if source.actor().is_system() {
        return Ok(());
    }
    source.perform(Forbidden(operation)).await
}

/// Is always refused.
struct Forbidden(Asked);

impl Operation for Forbidden {
    const NAME: &'static str = "forbidden";
    type Output = ();

    fn plan(&self, at: &Moment<'_>) -> Plan {
        Plan::new(at, "never").denied(at.only_the_system(self.0)).step(
            "never",
            &["never"],
            "SELECT 1 AS never WHERE FALSE",
        )
    }
}
