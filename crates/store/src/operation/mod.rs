//! The shape that every change has: [`Operation`], in one place what it requires, changes and records.

mod append;
mod assembly;
pub(crate) mod group;
pub(crate) mod guard;
pub(crate) mod plan;

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use entity::{
    AuditLogId, RoomId, UserId, auth_provider, feed_checkpoint, media_node, recording, room, room_participant, user,
};
use sea_orm::sea_query::ValueType;
use sea_orm::{ColumnTrait, ColumnType, DbErr, IdenStatic, Iterable, QueryResult};
use serde::de::DeserializeOwned;
use uuid::Uuid;

use crate::actor::Actor;
use crate::authority::{ActorRole, Operation as Asked, may};
use crate::clock::{Ids, to_microseconds};
use crate::database::Dialect;
use crate::error::{Error, Rejected};
use crate::row::Cells;

pub(crate) use append::{COLUMNS, Event, SYSTEM, stored_details};
pub(crate) use group::{AskedList, DONE, Grouped, Member};
pub(crate) use guard::Refusal;
pub(crate) use plan::{Columns, Lock, Plan};

/// A change: a plan that either does all of it and appends its event, or does nothing.
///
/// The plan decides, under locks and constraints. Its guards are asked again only when it yielded nothing, to tell the caller
/// why. When by then they all hold, because somebody left or the name became free, the plan is run again.
pub trait Operation: Send + Sync {
    /// For errors.
    const NAME: &'static str;

    /// Unique constraints that a guard asks about and that can still fire when somebody takes the same name at the same
    /// moment. Such a violation has changed nothing and is tried again; by then the guard sees what was taken. For changes that
    /// cannot say `ON CONFLICT DO NOTHING`.
    const CONTESTED: &'static [&'static str] = &[];

    /// What the caller gets.
    type Output: Answer;

    /// The statements. Called anew for each attempt, so that ids and the time are fresh.
    fn plan(&self, at: &Moment<'_>) -> Plan;

    /// A shorter plan for the usual case, tried first where the operation stands alone on PostgreSQL. It does all that
    /// [`Operation::plan`] would do, or nothing: then, and where it violates one of [`Operation::CONTESTED`], the plan decides.
    fn usual(&self, _at: &Moment<'_>) -> Option<Usual<Self::Output>> {
        None
    }

    /// What to say when the plan yielded nothing `tries` times although all guards held.
    fn given_up(&self, tries: u32) -> Error {
        Error::Transient {
            reason: format!("{} met other changes {tries} times in a row", Self::NAME),
        }
    }
}

/// See [`Operation::usual`].
pub struct Usual<T> {
    /// Yields a row when it did everything.
    pub(crate) plan: Plan,
    /// What the caller gets then; nothing of it has to be read.
    pub(crate) answer: T,
}

/// What an operation's row is read as.
pub trait Answer: Sized + Send {
    /// Reads the row of the plan's answer.
    fn read(row: &QueryResult) -> Result<Self, DbErr>;

    /// The columns that [`Answer::read`] reads; a test holds every statement to them.
    fn columns() -> Vec<(String, ColumnType)>;
}

impl Answer for () {
    fn read(_: &QueryResult) -> Result<Self, DbErr> {
        Ok(())
    }

    fn columns() -> Vec<(String, ColumnType)> {
        Vec::new()
    }
}

impl Answer for AuditLogId {
    fn read(row: &QueryResult) -> Result<Self, DbErr> {
        row.try_get_by("id")
    }

    fn columns() -> Vec<(String, ColumnType)> {
        vec![column::<Self>("id")]
    }
}

/// What a column has as JSON, written as text.
pub(crate) fn json<T: DeserializeOwned>(row: &QueryResult, column: &str) -> Result<T, DbErr> {
    let text: String = row.try_get_by(column)?;
    serde_json::from_str(&text).map_err(|error| DbErr::Json(error.to_string()))
}

/// A column that is read as a `T`.
pub(crate) fn column<T: ValueType>(name: &str) -> (String, ColumnType) {
    (name.to_owned(), T::column_type())
}

macro_rules! models {
    ($($module:ident),+) => {$(
        impl Answer for $module::Model {
            fn read(row: &QueryResult) -> Result<Self, DbErr> {
                Cells::of(row).read()
            }

            fn columns() -> Vec<(String, ColumnType)> {
                let columns = $module::Column::iter();
                let column = |column: $module::Column| {
                    let definition = column.def();
                    (column.as_str().to_owned(), definition.get_column_type().clone())
                };
                columns.map(column).collect()
            }
        }
    )+};
}

models!(
    user,
    auth_provider,
    room,
    room_participant,
    media_node,
    recording,
    feed_checkpoint
);

/// Whether the error is the violation of a constraint that [`Operation::CONTESTED`] names.
pub(crate) fn is_contested<O: Operation>(error: &Error) -> bool {
    matches!(error, Error::Backend { constraint: Some(name), .. } if O::CONTESTED.contains(&name.as_str()))
}

/// The error as it is to be treated: a contested one is a passing one.
pub(crate) fn contested<O: Operation>(error: Error) -> Error {
    if is_contested::<O>(&error) {
        return Error::Transient {
            reason: format!("{} met another change of the same kind", O::NAME),
        };
    }
    error
}

/// When, by whom and where an operation happens.
#[derive(Clone, Copy)]
pub struct Moment<'a> {
    pub(crate) now: DateTime<Utc>,
    pub(crate) actor: &'a Actor,
    pub(crate) dialect: Dialect,
    pub(crate) ids: &'a dyn Ids,
}

impl Moment<'_> {
    /// The time that lies so long back. Not before 1970: both databases compare such times, SQLite as text.
    pub(crate) fn back(&self, by: Duration) -> DateTime<Utc> {
        let by = TimeDelta::from_std(by).ok();
        let then = by.and_then(|by| self.now.checked_sub_signed(by));
        to_microseconds(then.map_or(DateTime::UNIX_EPOCH, |then| then.max(DateTime::UNIX_EPOCH)))
    }

    /// Refuses what only `user`, or the system, may do.
    pub(crate) fn only_oneself(&self, operation: Asked, room: Option<RoomId>, user: UserId) -> Option<Error> {
        let actor_role = self.actor.role_towards(user);
        let refusal = Rejected::NotAllowed {
            operation,
            actor_role,
            room,
            user: Some(user),
        };
        (!may(operation, actor_role, None)).then(|| refusal.into())
    }

    /// Refuses what only the system may do.
    pub(crate) fn only_the_system(&self, operation: Asked) -> Option<Error> {
        let refusal = Rejected::NotAllowed {
            operation,
            actor_role: ActorRole::Outsider,
            room: None,
            user: None,
        };
        (!self.actor.is_system()).then(|| refusal.into())
    }

    /// A key for a new row.
    pub(crate) fn id(&self) -> Uuid {
        self.ids.uuid(self.now)
    }
}
