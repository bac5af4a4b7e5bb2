//! The shape that every change has.

use std::future::Future;

use chrono::{DateTime, Utc};
use entity::{RoomId, UserId};
use sea_orm::{DatabaseExecutor, DbErr, QueryResult};
use uuid::Uuid;

use crate::actor::Actor;
use crate::authority::{Operation as Asked, Standing, may};
use crate::backend::Dialect;
use crate::backend::plan::{Plan, Step};
use crate::clock::Ids;
use crate::error::{Error, Rejected, Result};
use crate::unit::Sink;

/// A change: a plan that either does all of it and tells the trail, or does nothing; and the reason when it does nothing.
///
/// The plan decides, under locks and constraints. [`Operation::refusal`] is asked only afterwards, to tell the caller why.
/// When by then there is no reason any more, because somebody left or the name became free, the plan is run again.
pub trait Operation: Send + Sync {
    /// For errors.
    const NAME: &'static str;

    /// Unique constraints that a guard asks about and that can still fire when somebody takes the same name at the same
    /// moment. Such a violation has changed nothing and is tried again; by then the guard sees what was taken. For changes that
    /// cannot say `ON CONFLICT DO NOTHING`.
    const CONTESTED: &'static [&'static str] = &[];

    /// What the caller gets.
    type Output: Send;

    /// Refuses what the actor may never do, whatever the database holds.
    fn forbidden(&self, _at: &Moment<'_>) -> Option<Error> {
        None
    }

    /// True when there may be a second plan, which needs a transaction even where the first would commit by itself.
    fn in_transaction(&self) -> bool {
        false
    }

    /// The statements. Called anew for each attempt, so that ids and the time are fresh.
    fn plan(&self, at: &Moment<'_>) -> Plan;

    /// Reads the plan's row.
    fn read(&self, row: &QueryResult) -> Result<Self::Output, DbErr>;

    /// More to do once the plan has taken its locks: it sees what others committed before that. It must yield a row.
    fn then(&self, _output: &Self::Output, _at: &Moment<'_>) -> Option<Plan> {
        None
    }

    /// Still more to do, after `done` further plans: as [`Operation::then`], until there is none. For changes that must take locks
    /// of one kind before they can see which of the next kind they need.
    fn next(&self, output: &Self::Output, done: usize, at: &Moment<'_>) -> Option<Plan> {
        if done == 0 { self.then(output, at) } else { None }
    }

    /// Takes in the row of a further plan.
    fn read_then(&self, output: Self::Output, _row: &QueryResult) -> Result<Self::Output, DbErr> {
        Ok(output)
    }

    /// Why the plan yielded nothing, as far as can be seen now.
    fn refusal(
        &self,
        db: &DatabaseExecutor<'_>,
        at: &Moment<'_>,
    ) -> impl Future<Output = Result<Option<Error>, DbErr>> + Send;

    /// What to say when the plan yielded nothing `tries` times and no reason was found.
    fn given_up(&self, tries: u32) -> Error {
        Error::Transient {
            reason: format!("{} met other changes {tries} times in a row", Self::NAME),
        }
    }
}

/// The error as it is to be treated: one that [`Operation::CONTESTED`] names is a passing one.
pub(crate) fn contested<O: Operation>(error: Error) -> Error {
    match error {
        Error::Backend {
            constraint: Some(name), ..
        } if O::CONTESTED.contains(&name.as_str()) => Error::Transient {
            reason: format!("{} met another change of the same kind", O::NAME),
        },
        other => other,
    }
}

/// When, by whom and where an operation happens.
pub struct Moment<'a> {
    pub(crate) now: DateTime<Utc>,
    pub(crate) actor: &'a Actor,
    pub(crate) dialect: Dialect,
    pub(crate) ids: &'a dyn Ids,
}

impl Moment<'_> {
    /// Refuses what only `user`, or the platform, may do.
    pub(crate) fn only_oneself(&self, operation: Asked, room: Option<RoomId>, user: UserId) -> Option<Error> {
        let standing = self.actor.standing_towards(user);
        let refusal = Rejected::NotAllowed {
            operation,
            standing,
            room,
            user: Some(user),
        };
        (!may(operation, standing, None)).then(|| refusal.into())
    }

    /// A key for a new row.
    pub(crate) fn id(&self) -> Uuid {
        self.ids.uuid(self.now)
    }
}

/// Refuses what is the platform's alone and concerns no one user, and notes the attempt.
pub(crate) async fn only_the_platform<S: Sink>(source: &S, operation: Asked) -> Result<()> {
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

    fn forbidden(&self, _: &Moment<'_>) -> Option<Error> {
        let refusal = Rejected::NotAllowed {
            operation: self.0,
            standing: Standing::Outsider,
            room: None,
            user: None,
        };
        Some(refusal.into())
    }

    fn plan(&self, _: &Moment<'_>) -> Plan {
        Plan::yielding("nothing").step(Step::guard("nothing", &[], "SELECT 1 AS nothing WHERE FALSE"))
    }

    fn read(&self, _: &QueryResult) -> Result<(), DbErr> {
        Ok(())
    }

    async fn refusal(&self, _: &DatabaseExecutor<'_>, at: &Moment<'_>) -> Result<Option<Error>, DbErr> {
        Ok(self.forbidden(at))
    }
}
