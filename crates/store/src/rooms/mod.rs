//! `rooms()`: meetings and their lives.

mod lists;
mod settings;

use chrono::{DateTime, Utc};
use entity::{RoomId, RoomStatus, UserId, room};
use sea_orm::{ColumnTrait, DatabaseExecutor, DbErr, FromQueryResult, QueryFilter, QueryResult};

use crate::authority::{Operation as Asked, may};
use crate::backend::plan::Plan;
use crate::backend::rooms as sql;
use crate::error::{Conflict, Error, Rejected, Result, Subject};
use crate::input;
use crate::operation::{Moment, Operation};
use crate::participants;
use crate::scope::{self, Any, Deleted, Live, Visibility};
use crate::unit::{Sink, Source};
use crate::users;

pub use lists::{RoomFilter, RoomOverview};
pub(crate) use settings::CheckedChanges;
pub use settings::{RoomChanges, Schedule};

/// The most seats that a room can have.
pub const MAX_CAPACITY: i32 = 10_000;

/// The repository of `rooms`: live ones unless [`Rooms::deleted`] or [`Rooms::any`] was asked for.
#[derive(Debug)]
pub struct Rooms<'a, S, V = Live> {
    source: &'a S,
    visibility: V,
}

/// What a room is made of. [`NewRoom::titled`] fills in the usual.
#[derive(Clone, Debug)]
pub struct NewRoom<'a> {
    /// Who will own it: a live, active user.
    pub owner: UserId,
    /// 1 to 255 characters.
    pub title: &'a str,
    /// What it is about, at most 10,000 characters; line breaks are fine.
    pub description: Option<&'a str>,
    /// Planned begin.
    pub scheduled_start: Option<DateTime<Utc>>,
    /// Planned end, after the begin.
    pub scheduled_end: Option<DateTime<Utc>>,
    /// Seats, 1 to [`MAX_CAPACITY`].
    pub max_participants: i32,
    /// Listed for everybody.
    pub is_public: bool,
    /// May be recorded.
    pub is_recordable: bool,
    /// Only for people who signed in. The store keeps the wish; the signaling service acts on it.
    pub require_auth: bool,
}

impl<'a> NewRoom<'a> {
    /// A room to start at once: 100 seats, not listed, recordable, for people who signed in.
    pub fn titled(owner: UserId, title: &'a str) -> Self {
        Self {
            owner,
            title,
            description: None,
            scheduled_start: None,
            scheduled_end: None,
            max_participants: 100,
            is_public: false,
            is_recordable: true,
            require_auth: true,
        }
    }
}

/// A room's facts that kept the rules.
pub(crate) struct CheckedRoom {
    pub(crate) owner: UserId,
    pub(crate) title: String,
    pub(crate) description: Option<String>,
    pub(crate) scheduled_start: Option<DateTime<Utc>>,
    pub(crate) scheduled_end: Option<DateTime<Utc>>,
    pub(crate) max_participants: i32,
    pub(crate) is_public: bool,
    pub(crate) is_recordable: bool,
    pub(crate) require_auth: bool,
}

impl TryFrom<NewRoom<'_>> for CheckedRoom {
    type Error = Error;

    fn try_from(new: NewRoom<'_>) -> Result<Self> {
        let (scheduled_start, scheduled_end) = input::schedule(new.scheduled_start, new.scheduled_end)?;
        Ok(Self {
            owner: new.owner,
            title: input::line("title", new.title, 255)?,
            description: input::optional_text("description", new.description, 10_000)?,
            scheduled_start,
            scheduled_end,
            max_participants: input::number("max_participants", new.max_participants, 1, MAX_CAPACITY)?,
            is_public: new.is_public,
            is_recordable: new.is_recordable,
            require_auth: new.require_auth,
        })
    }
}

impl<'a, S: Source> Rooms<'a, S> {
    pub(crate) fn new(source: &'a S) -> Self {
        Self {
            source,
            visibility: Live,
        }
    }

    /// Deleted rooms instead.
    pub fn deleted(self) -> Rooms<'a, S, Deleted> {
        Rooms {
            source: self.source,
            visibility: Deleted,
        }
    }

    /// Rooms, deleted or not.
    pub fn any(self) -> Rooms<'a, S, Any> {
        Rooms {
            source: self.source,
            visibility: Any,
        }
    }
}

impl<S: Source, V: Visibility> Rooms<'_, S, V> {
    /// The room with this id.
    ///
    /// # Errors
    /// None beyond the database's own.
    pub async fn get(&self, id: RoomId) -> Result<Option<room::Model>> {
        let _ = &self.visibility;
        scope::find::<room::Entity, V>()
            .filter(room::Column::Id.eq(id))
            .one(&self.source.executor())
            .await
            .map_err(|error| self.source.failed(&error, "rooms.get"))
    }

    /// The room with this id.
    ///
    /// # Errors
    /// [`Error::NotFound`] when there is none.
    pub async fn require(&self, id: RoomId) -> Result<room::Model> {
        self.get(id).await?.ok_or(Error::NotFound(Subject::Room(id)))
    }
}

/// None for what cannot be a code.
fn typed_code(typed: &str) -> Option<String> {
    let written = typed.chars().filter(|c| !c.is_whitespace() && *c != '-');
    let code: String = written.flat_map(char::to_uppercase).collect();
    let possible = !code.is_empty() && code.chars().count() <= 20 && !code.chars().any(char::is_control);
    possible.then_some(code)
}

impl<S: Sink> Rooms<'_, S> {
    /// Makes a room with a code of its own. Appends ROOM_CREATED. For oneself, or by the platform for anybody.
    ///
    /// # Errors
    /// [`Error::Invalid`]; [`Error::NotFound`] and [`Rejected::UserInactive`] for the owner; [`Rejected::NotAllowed`] for
    /// somebody else's room; [`Conflict::RoomCodesExhausted`].
    pub async fn create(&self, new: NewRoom<'_>) -> Result<room::Model> {
        let new = CheckedRoom::try_from(new)?;
        self.source.perform(Create(new)).await
    }

    /// Lets a meeting begin: CREATED to LIVE. Appends ROOM_STARTED. The first join does this too. By the owner or the platform.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Rejected::RoomStatus`] when it is not CREATED; [`Rejected::NotAllowed`].
    pub async fn start(&self, id: RoomId) -> Result<room::Model> {
        self.source.perform(Start(id)).await
    }

    /// Ends a meeting for good: LIVE to ENDED, with its duration. Every stay that is still open ends with it, and every recording
    /// that is still running. Appends ROOM_ENDED, which says how many stays those were, after a RECORDING_STOPPED for each
    /// recording. By the owner, the host or the platform. Takes the room's lock; two
    /// statements in one transaction.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Rejected::RoomStatus`] when it is not LIVE; [`Rejected::NotAllowed`].
    pub async fn end(&self, id: RoomId) -> Result<room::Model> {
        self.source.perform(End(id)).await
    }
}

struct Create(CheckedRoom);

impl Operation for Create {
    const NAME: &'static str = "rooms.create";
    type Output = room::Model;

    fn forbidden(&self, at: &Moment<'_>) -> Option<Error> {
        at.only_oneself(Asked::CreateRoom, None, self.0.owner)
    }

    fn plan(&self, at: &Moment<'_>) -> Plan {
        sql::create(at, RoomId::from_uuid(at.id()), &at.ids.room_code(), &self.0)
    }

    fn read(&self, row: &QueryResult) -> Result<room::Model, DbErr> {
        room::Model::from_query_result(row, "")
    }

    /// None when the owner is fine: then it was the code, and another one is tried.
    async fn refusal(&self, db: &DatabaseExecutor<'_>, _: &Moment<'_>) -> Result<Option<Error>, DbErr> {
        users::why_not_active(db, self.0.owner).await
    }

    fn given_up(&self, tries: u32) -> Error {
        Conflict::RoomCodesExhausted { tries }.into()
    }
}

struct Start(RoomId);

impl Operation for Start {
    const NAME: &'static str = "rooms.start";
    type Output = room::Model;

    fn plan(&self, at: &Moment<'_>) -> Plan {
        sql::start(at, self.0)
    }

    fn read(&self, row: &QueryResult) -> Result<room::Model, DbErr> {
        room::Model::from_query_result(row, "")
    }

    async fn refusal(&self, db: &DatabaseExecutor<'_>, at: &Moment<'_>) -> Result<Option<Error>, DbErr> {
        why_not(db, at, Asked::StartRoom, self.0, RoomStatus::Created).await
    }
}

struct End(RoomId);

impl Operation for End {
    const NAME: &'static str = "rooms.end";
    type Output = room::Model;

    fn in_transaction(&self) -> bool {
        true
    }

    fn plan(&self, at: &Moment<'_>) -> Plan {
        sql::end(at, self.0)
    }

    fn read(&self, row: &QueryResult) -> Result<room::Model, DbErr> {
        room::Model::from_query_result(row, "")
    }

    fn then(&self, ended: &room::Model, at: &Moment<'_>) -> Option<Plan> {
        Some(sql::close_stays(at, ended))
    }

    async fn refusal(&self, db: &DatabaseExecutor<'_>, at: &Moment<'_>) -> Result<Option<Error>, DbErr> {
        why_not(db, at, Asked::EndRoom, self.0, RoomStatus::Live).await
    }
}

/// Why an operation on a room that needs `status` was refused.
async fn why_not(
    db: &DatabaseExecutor<'_>,
    at: &Moment<'_>,
    operation: Asked,
    id: RoomId,
    status: RoomStatus,
) -> Result<Option<Error>, DbErr> {
    Ok(match why_not_allowed(db, at, operation, id).await? {
        Err(error) => Some(error),
        Ok(room) => (room.status != status).then(|| {
            Rejected::RoomStatus {
                room: id,
                status: room.status,
            }
            .into()
        }),
    })
}

/// The live room, if the actor may do that to it, or why not.
pub(crate) async fn why_not_allowed(
    db: &DatabaseExecutor<'_>,
    at: &Moment<'_>,
    operation: Asked,
    id: RoomId,
) -> Result<Result<room::Model>, DbErr> {
    let Some(room) = find(db, id).await? else {
        return Ok(Err(Error::NotFound(Subject::Room(id))));
    };
    let standing = participants::standing_in(db, at, &room).await?;
    if may(operation, standing, None) {
        return Ok(Ok(room));
    }
    let refusal = Rejected::NotAllowed {
        operation,
        standing,
        room: Some(id),
        user: None,
    };
    Ok(Err(refusal.into()))
}

/// A live room, to explain a refusal by.
pub(crate) async fn find(db: &DatabaseExecutor<'_>, id: RoomId) -> Result<Option<room::Model>, DbErr> {
    scope::find::<room::Entity, Live>()
        .filter(room::Column::Id.eq(id))
        .one(db)
        .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_taken_as_people_type_them() {
        assert_eq!(typed_code(" kwx3-nrt7\n").as_deref(), Some("KWX3NRT7"));
        assert_eq!(typed_code("\u{0}"), None);
    }
}
