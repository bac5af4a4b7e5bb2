//! The shape that every change has.

use std::future::Future;

use chrono::{DateTime, Utc};
use sea_orm::{DatabaseExecutor, DbErr, QueryResult};
use uuid::Uuid;

use crate::actor::Actor;
use crate::backend::Dialect;
use crate::backend::plan::Plan;
use crate::clock::Ids;
use crate::error::{Error, Result};

/// A change: a plan that either does all of it and tells the trail, or does nothing; and the reason when it does nothing.
///
/// The plan decides, under locks and constraints. [`Operation::refusal`] is asked only afterwards, to tell the caller why.
/// When by then there is no reason any more, because somebody left or the name became free, the plan is run again.
pub trait Operation: Send + Sync {
    /// For errors.
    const NAME: &'static str;

    /// True for an operation with a second plan, which then needs a transaction of its own even on PostgreSQL.
    const IN_TRANSACTION: bool = false;

    /// What the caller gets.
    type Output: Send;

    /// The statements. Called anew for each attempt, so that ids and the time are fresh.
    fn plan(&self, at: &Moment<'_>) -> Plan;

    /// Reads the plan's row.
    fn read(&self, row: &QueryResult) -> Result<Self::Output, DbErr>;

    /// More to do once the plan has taken its locks: it sees what others committed before that. It must yield a row.
    fn then(&self, _output: &Self::Output, _at: &Moment<'_>) -> Option<Plan> {
        None
    }

    /// Takes in the row of the second plan.
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

/// When, by whom and where an operation happens.
pub struct Moment<'a> {
    pub(crate) now: DateTime<Utc>,
    pub(crate) actor: &'a Actor,
    pub(crate) dialect: Dialect,
    pub(crate) ids: &'a dyn Ids,
}

impl Moment<'_> {
    /// A key for a new row.
    pub(crate) fn id(&self) -> Uuid {
        self.ids.uuid(self.now)
    }
}
