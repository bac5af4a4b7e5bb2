//! What a room is: its settings, its owner, whether it is called off or deleted.

use chrono::{DateTime, Utc};
use entity::{RoomId, RoomStatus, UserId, room};
use sea_orm::{ColumnTrait, DatabaseExecutor, DbErr, FromQueryResult, QueryFilter, QueryResult};

use super::{MAX_CAPACITY, Rooms, why_not_allowed};
use crate::authority::{Operation as Asked, Standing, may};
use crate::backend::plan::Plan;
use crate::backend::room_settings as sql;
use crate::error::{Error, Invalid, Rejected, Result, Rule, Subject};
use crate::input;
use crate::operation::{Moment, Operation};
use crate::scope::{self, Deleted};
use crate::unit::Sink;
use crate::users;

/// What to change of a room; what is none stays. Limits are those of [`super::NewRoom`].
#[derive(Clone, Debug, Default)]
pub struct RoomChanges<'a> {
    /// A new title.
    pub title: Option<&'a str>,
    /// A new description, or none any more.
    pub description: Option<Option<&'a str>>,
    /// New planned times, or none any more. Only before the meeting begins.
    pub schedule: Option<Option<Schedule>>,
    /// New number of seats, not below who is present.
    pub max_participants: Option<i32>,
    /// Listed for everybody.
    pub is_public: Option<bool>,
    /// May be recorded. A recording that runs goes on.
    pub is_recordable: Option<bool>,
    /// Only for people who signed in.
    pub require_auth: Option<bool>,
}

/// Planned times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// Planned begin.
    pub start: DateTime<Utc>,
    /// Planned end, after the begin.
    pub end: Option<DateTime<Utc>>,
}

/// Changes that kept the rules.
pub(crate) struct CheckedChanges {
    pub(crate) title: Option<String>,
    pub(crate) description: Option<Option<String>>,
    #[expect(clippy::type_complexity, reason = "start and end, if they are to change")]
    pub(crate) schedule: Option<(Option<DateTime<Utc>>, Option<DateTime<Utc>>)>,
    pub(crate) max_participants: Option<i32>,
    pub(crate) is_public: Option<bool>,
    pub(crate) is_recordable: Option<bool>,
    pub(crate) require_auth: Option<bool>,
}

impl TryFrom<RoomChanges<'_>> for CheckedChanges {
    type Error = Error;

    fn try_from(changes: RoomChanges<'_>) -> Result<Self> {
        let title = changes
            .title
            .map(|title| input::line("title", title, 255))
            .transpose()?;
        let description = changes
            .description
            .map(|text| input::optional_text("description", text, 10_000))
            .transpose()?;
        let schedule = changes
            .schedule
            .map(|times| input::schedule(times.map(|times| times.start), times.and_then(|times| times.end)))
            .transpose()?;
        let max_participants = changes
            .max_participants
            .map(|seats| input::number("max_participants", seats, 1, MAX_CAPACITY))
            .transpose()?;
        let checked = Self {
            title,
            description,
            schedule,
            max_participants,
            is_public: changes.is_public,
            is_recordable: changes.is_recordable,
            require_auth: changes.require_auth,
        };
        if checked.fields().is_empty() {
            let (field, rule) = ("changes", Rule::NotEmpty);
            return Err(Invalid { field, rule }.into());
        }
        Ok(checked)
    }
}

impl CheckedChanges {
    /// The names of what changes, for the trail.
    pub(crate) fn fields(&self) -> Vec<String> {
        [
            ("title", self.title.is_some()),
            ("description", self.description.is_some()),
            ("schedule", self.schedule.is_some()),
            ("max_participants", self.max_participants.is_some()),
            ("is_public", self.is_public.is_some()),
            ("is_recordable", self.is_recordable.is_some()),
            ("require_auth", self.require_auth.is_some()),
        ]
        .into_iter()
        .filter(|(_, changes)| *changes)
        .map(|(name, _)| name.to_owned())
        .collect()
    }
}

impl<S: Sink> Rooms<'_, S> {
    /// Changes settings. Appends ROOM_UPDATED with the names of what changed. By the owner or the platform. Takes the room's lock.
    ///
    /// # Errors
    /// [`Error::Invalid`], also when nothing is to change; [`Error::NotFound`]; [`Rejected::RoomStatus`] when the meeting is
    /// over or called off, or for the schedule when it has begun; [`Rejected::CapacityInUse`]; [`Rejected::NotAllowed`].
    pub async fn update(&self, id: RoomId, changes: RoomChanges<'_>) -> Result<room::Model> {
        let changes = CheckedChanges::try_from(changes)?;
        self.source.perform(Update { id, changes }).await
    }

    /// Calls a meeting off before it began: CREATED to CANCELLED, for good. Appends ROOM_CANCELLED. By the owner or the platform.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Rejected::RoomStatus`] when it is not CREATED; [`Rejected::NotAllowed`].
    pub async fn cancel(&self, id: RoomId) -> Result<room::Model> {
        self.source.perform(Cancel(id)).await
    }

    /// Gives the room to another live, active user. Roles of who is present stay as they are. Appends
    /// ROOM_OWNERSHIP_TRANSFERRED. By the owner or the platform. Takes the new owner's lock (shared), then the room's.
    ///
    /// # Errors
    /// [`Error::NotFound`] for room or user; [`Rejected::UserInactive`]; [`Rejected::AlreadyOwner`]; [`Rejected::NotAllowed`].
    pub async fn transfer(&self, id: RoomId, to: UserId) -> Result<room::Model> {
        self.source.perform(Transfer { id, to }).await
    }

    /// Deletes a room that is not running; [`Rooms::deleted`] still sees it, and its code is never used again. Appends
    /// ROOM_DELETED. By the owner or the platform.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Rejected::RoomStatus`] while it is LIVE; [`Rejected::NotAllowed`].
    pub async fn delete(&self, id: RoomId) -> Result<room::Model> {
        self.source.perform(Delete(id)).await
    }
}

impl<S: Sink> Rooms<'_, S, Deleted> {
    /// Takes a deletion back. Appends ROOM_RESTORED. By the owner or the platform.
    ///
    /// # Errors
    /// [`Error::NotFound`] when there is no such deleted room; [`Rejected::NotAllowed`].
    pub async fn restore(&self, id: RoomId) -> Result<room::Model> {
        self.source.perform(Restore(id)).await
    }
}

struct Update {
    id: RoomId,
    changes: CheckedChanges,
}

impl Operation for Update {
    const NAME: &'static str = "rooms.update";
    type Output = room::Model;

    fn plan(&self, at: &Moment<'_>) -> Plan {
        sql::update(at, self.id, &self.changes)
    }

    fn read(&self, row: &QueryResult) -> Result<room::Model, DbErr> {
        room::Model::from_query_result(row, "")
    }

    async fn refusal(&self, db: &DatabaseExecutor<'_>, at: &Moment<'_>) -> Result<Option<Error>, DbErr> {
        let room = match why_not_allowed(db, at, Asked::ManageRoom, self.id).await? {
            Ok(room) => room,
            Err(error) => return Ok(Some(error)),
        };
        let open = match room.status {
            RoomStatus::Created => true,
            RoomStatus::Live => self.changes.schedule.is_none(),
            RoomStatus::Ended | RoomStatus::Cancelled => false,
        };
        if !open {
            return Ok(Some(room_status(&room)));
        }
        let too_few = self
            .changes
            .max_participants
            .filter(|seats| *seats < room.active_participants);
        Ok(too_few.map(|_| {
            Rejected::CapacityInUse {
                room: room.id,
                present: room.active_participants,
            }
            .into()
        }))
    }
}

struct Cancel(RoomId);

impl Operation for Cancel {
    const NAME: &'static str = "rooms.cancel";
    type Output = room::Model;

    fn plan(&self, at: &Moment<'_>) -> Plan {
        sql::cancel(at, self.0)
    }

    fn read(&self, row: &QueryResult) -> Result<room::Model, DbErr> {
        room::Model::from_query_result(row, "")
    }

    async fn refusal(&self, db: &DatabaseExecutor<'_>, at: &Moment<'_>) -> Result<Option<Error>, DbErr> {
        refused_by_status(db, at, self.0, |status| status == RoomStatus::Created).await
    }
}

struct Delete(RoomId);

impl Operation for Delete {
    const NAME: &'static str = "rooms.delete";
    type Output = room::Model;

    fn plan(&self, at: &Moment<'_>) -> Plan {
        sql::delete(at, self.0)
    }

    fn read(&self, row: &QueryResult) -> Result<room::Model, DbErr> {
        room::Model::from_query_result(row, "")
    }

    async fn refusal(&self, db: &DatabaseExecutor<'_>, at: &Moment<'_>) -> Result<Option<Error>, DbErr> {
        refused_by_status(db, at, self.0, |status| status != RoomStatus::Live).await
    }
}

async fn refused_by_status(
    db: &DatabaseExecutor<'_>,
    at: &Moment<'_>,
    id: RoomId,
    fits: fn(RoomStatus) -> bool,
) -> Result<Option<Error>, DbErr> {
    Ok(match why_not_allowed(db, at, Asked::ManageRoom, id).await? {
        Err(error) => Some(error),
        Ok(room) => (!fits(room.status)).then(|| room_status(&room)),
    })
}

fn room_status(room: &room::Model) -> Error {
    let (room, status) = (room.id, room.status);
    Rejected::RoomStatus { room, status }.into()
}

struct Transfer {
    id: RoomId,
    to: UserId,
}

impl Operation for Transfer {
    const NAME: &'static str = "rooms.transfer";
    type Output = room::Model;

    fn plan(&self, at: &Moment<'_>) -> Plan {
        sql::transfer(at, self.id, self.to)
    }

    fn read(&self, row: &QueryResult) -> Result<room::Model, DbErr> {
        room::Model::from_query_result(row, "")
    }

    async fn refusal(&self, db: &DatabaseExecutor<'_>, at: &Moment<'_>) -> Result<Option<Error>, DbErr> {
        let room = match why_not_allowed(db, at, Asked::TransferRoom, self.id).await? {
            Ok(room) => room,
            Err(error) => return Ok(Some(error)),
        };
        if let Some(error) = users::why_not_active(db, self.to).await? {
            return Ok(Some(error));
        }
        let (room, user, same) = (room.id, self.to, room.owner_id == self.to);
        Ok(same.then(|| Rejected::AlreadyOwner { user, room }.into()))
    }
}

struct Restore(RoomId);

impl Operation for Restore {
    const NAME: &'static str = "rooms.restore";
    type Output = room::Model;

    fn plan(&self, at: &Moment<'_>) -> Plan {
        sql::restore(at, self.0)
    }

    fn read(&self, row: &QueryResult) -> Result<room::Model, DbErr> {
        room::Model::from_query_result(row, "")
    }

    async fn refusal(&self, db: &DatabaseExecutor<'_>, at: &Moment<'_>) -> Result<Option<Error>, DbErr> {
        let deleted = scope::find::<room::Entity, Deleted>().filter(room::Column::Id.eq(self.0));
        let Some(room) = deleted.one(db).await? else {
            return Ok(Some(Error::NotFound(Subject::Room(self.0))));
        };
        let operation = Asked::ManageRoom;
        let standing = match at.actor.standing_towards(room.owner_id) {
            Standing::Themself => Standing::Owner,
            other => other,
        };
        let refusal = Rejected::NotAllowed {
            operation,
            standing,
            room: Some(self.0),
            user: None,
        };
        Ok((!may(operation, standing, None)).then(|| refusal.into()))
    }
}
