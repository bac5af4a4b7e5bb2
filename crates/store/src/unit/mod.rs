//! How operations and reads reach the database: each by itself, in a unit of work, or with others that wait for the same room.

mod group;
mod sql;
mod transaction;

use std::future::Future;
use std::time::Instant;

use chrono::{DateTime, Utc};
use entity::user;
use sea_orm::{ColumnTrait, ConnectionTrait, DbErr, QueryFilter, QueryResult, QueryTrait, Statement};

use crate::actor::Actor;
use crate::authority::Operation as Asked;
use crate::context::Context;
use crate::database::{Dialect, Executor, fault};
use crate::error::{Error, Result, Subject};
use crate::faults::{Point, PointKind};
use crate::notice::Notice;
use crate::operation::{Answer, Grouped, Moment, Operation, Plan, contested, is_contested};
use crate::scope;
use crate::telemetry;

pub(crate) use reach::Reach;
#[cfg(feature = "testing")]
pub(crate) use sql::OWN_SQL;
pub use sql::Sql;
pub(crate) use transaction::OpenUnit;
pub use transaction::Unit;

/// How often an operation whose plan did nothing, for no reason that could be found, is tried again.
const TRIES_WITHOUT_REASON: u32 = 16;

pub(crate) mod reach {
    use super::*;

    /// How a [`Source`] is reached. In a module of the crate's own, so that nobody else sends statements past [`Sql`].
    pub trait Reach: Send + Sync {
        fn executor(&self) -> Executor<'_>;

        fn context(&self) -> &Context;

        /// Runs one statement that reads.
        fn rows(
            &self,
            during: &'static str,
            statement: Statement,
        ) -> impl Future<Output = Result<Vec<QueryResult>>> + Send {
            telemetry::observe(during, async move {
                let (begun, context) = (Instant::now(), self.context());
                let point = Point::new(during, PointKind::Read);
                let asking = self.ask(statement);
                let rows = context
                    .faults()
                    .around(context.dialect(), point, asking, |_| true)
                    .await;
                context.sent(during, begun);
                rows.map_err(|error| self.failed(&error, during))
            })
        }

        /// Sends the statement of [`Reach::rows`] to who answers it.
        fn ask(&self, statement: Statement) -> impl Future<Output = Result<Vec<QueryResult>, DbErr>> + Send {
            async move { self.executor().query_all_raw(statement).await }
        }

        /// Translates an error of a read, and remembers it where it spoils a transaction.
        fn failed(&self, error: &DbErr, during: &'static str) -> Error {
            fault::read(self.context().dialect(), error, during, false)
        }
    }
}

/// Something to read from: a [`crate::Store`], an [`Acting`], a [`Unit`], which sees its own changes, or a [`crate::ReplicaReads`].
///
/// How it sends its statements is nobody else's business; a service's own go through [`Sql`].
///
/// ```compile_fail,E0599
/// fn past(store: &conferencing_store::Store) {
///     store.executor();
/// }
/// ```
pub trait Source: reach::Reach {}

impl<T: reach::Reach> Source for T {}

/// Something to write through: an [`Acting`], for single operations, or a [`Unit`].
pub trait Sink: Source {
    #[doc(hidden)]
    fn actor(&self) -> &Actor;

    #[doc(hidden)]
    fn perform<O: Operation>(&self, operation: O) -> impl Future<Output = Result<O::Output>> + Send;

    /// As [`Sink::perform`]; where it stands alone, together with others that wait for the same room, see [`group`].
    #[doc(hidden)]
    fn perform_grouped<O: Grouped>(&self, operation: O) -> impl Future<Output = Result<O::Output>> + Send {
        self.perform(operation)
    }
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
        let attempt = self.attempt_untold(operation).await;
        if let Ok(Attempt::Done(_)) = attempt {
            self.context.tell_committed();
        }
        attempt
    }

    async fn attempt_untold<O: Operation>(&self, operation: &O) -> Result<Attempt<O::Output>> {
        let dialect = self.context.dialect();
        if self.context.changes_in_units() {
            return self.attempt_in_unit(operation).await;
        }
        let (faults, point) = (self.context.faults(), Point::new(O::NAME, PointKind::Change));
        let moment = moment(&self.context, self.context.now(), &self.actor);
        if let Some(usual) = operation.usual(&moment) {
            usual.plan.tell(&self.actor);
            let begun = Instant::now();
            let running = usual.plan.run(dialect, self.context.connections());
            let done = faults.around(dialect, point, running, Option::is_some).await;
            self.context.sent(O::NAME, begun);
            match done {
                Ok(Some(_)) => return Ok(Attempt::Done(usual.answer)),
                Ok(None) => {}
                Err(error) => match fault::read(dialect, &error, O::NAME, true) {
                    error if is_contested::<O>(&error) => {}
                    error => return Err(missing_actor(&self.context, &self.executor(), &self.actor, error).await),
                },
            }
        }
        let plan = operation.plan(&moment);
        if let Some(error) = plan.refused_already() {
            return Ok(Attempt::Refused(error.clone()));
        }
        if !plan.following().is_empty() {
            return self.attempt_in_unit(operation).await;
        }
        plan.tell(&self.actor);
        let failed = |error: DbErr, changes| contested::<O>(fault::read(dialect, &error, O::NAME, changes));
        let begun = Instant::now();
        let running = plan.run(dialect, self.context.connections());
        let done = faults.around(dialect, point, running, Option::is_some).await;
        self.context.sent(O::NAME, begun);
        match done {
            Ok(Some(row)) => O::Output::read(&row)
                .map(Attempt::Done)
                .map_err(|error| failed(error, false)),
            Ok(None) => plan
                .explain(dialect, self.context.connections())
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
        let unit = OpenUnit::begin_for(O::NAME, &self.context, &self.actor).await?;
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
                    telemetry::tried_again(O::NAME, "contested", tries);
                }
                Err(error @ Error::Transient { .. }) => {
                    let made = retries.made();
                    if !retries.another().await {
                        return Err(error);
                    }
                    telemetry::tried_again(O::NAME, "transient", made);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// As [`Sink::perform`], for those who tell of it themselves.
    async fn do_it<O: Operation>(&self, operation: O) -> Result<O::Output> {
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

impl Reach for Acting {
    fn executor(&self) -> Executor<'_> {
        self.context.connections().into()
    }

    fn context(&self) -> &Context {
        &self.context
    }
}

impl Sink for Acting {
    fn actor(&self) -> &Actor {
        &self.actor
    }

    fn perform<O: Operation>(&self, operation: O) -> impl Future<Output = Result<O::Output>> + Send {
        telemetry::observe(O::NAME, self.do_it(operation))
    }

    fn perform_grouped<O: Grouped>(&self, operation: O) -> impl Future<Output = Result<O::Output>> + Send {
        telemetry::observe(O::NAME, group::perform(self, operation))
    }
}

/// What a plan is made from.
pub(crate) fn moment<'a>(context: &'a Context, now: DateTime<Utc>, actor: &'a Actor) -> Moment<'a> {
    Moment {
        now,
        actor,
        dialect: context.dialect(),
        ids: context.ids(),
    }
}

/// An event's actor is not looked for before it is appended: what checks its references says whether there is such a user.
async fn missing_actor(context: &Context, db: &Executor<'_>, actor: &Actor, error: Error) -> Error {
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
