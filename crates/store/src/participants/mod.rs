//! `participants()`: who is in which room, and who was.

mod moderation;

use entity::{ParticipantRole, RoomId, RoomStatus, UserId, room, room_participant, user};
use sea_orm::sea_query::{Expr, ExprTrait};
use sea_orm::{
    ColumnTrait, DatabaseExecutor, DbErr, FromQueryResult, JoinType, QueryFilter, QueryResult, QuerySelect,
    RelationTrait,
};

use crate::authority::{Operation as Asked, Standing, may};
use crate::backend::participants as sql;
use crate::backend::plan::Plan;
use crate::backend::rooms::end_if_empty;
use crate::error::{Conflict, Error, Rejected, Result, Subject};
use crate::input;
use crate::operation::{Moment, Operation};
use crate::page::{Page, PageRequest};
use crate::rooms;
use crate::scope;
use crate::unit::{Sink, Source};
use crate::users;

pub use moderation::Ban;

/// The repository of `room_participants`. Stays are never deleted.
#[derive(Debug)]
pub struct Participants<'a, S> {
    source: &'a S,
}

/// What becomes of a meeting when the last one is out: a setting of the store. What puts people out (leave, kick, ban) then is
/// two statements in one transaction on PostgreSQL instead of one that commits by itself. Deactivating or erasing a user puts
/// them out without ending a room that this leaves empty.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenEmpty {
    /// It stays LIVE until somebody ends it: a lost connection does not end a meeting of one.
    #[default]
    KeepOpen,
    /// It ends, with ROOM_ENDED.
    EndRoom,
}

impl WhenEmpty {
    fn plan(self, at: &Moment<'_>, room: RoomId) -> Option<Plan> {
        (self == Self::EndRoom).then(|| end_if_empty(at, room))
    }
}

/// A stay, and whose it is.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct ParticipantWithUser {
    /// The stay.
    pub participant: room_participant::Model,
    /// Who it is.
    pub user: Person,
}

/// As much of a user as other people see.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Person {
    /// The user's id.
    pub id: UserId,
    /// The name to sign in with.
    pub username: String,
    /// The name to show.
    pub display_name: String,
}

impl FromQueryResult for ParticipantWithUser {
    fn from_query_result(row: &QueryResult, prefix: &str) -> Result<Self, DbErr> {
        let participant = room_participant::Model::from_query_result(row, prefix)?;
        let user = Person::from_row(participant.user_id, row)?;
        Ok(Self { participant, user })
    }
}

impl Person {
    pub(crate) const USERNAME: &str = "person_username";
    pub(crate) const DISPLAY_NAME: &str = "person_display_name";

    /// From a row that has its columns under the names above.
    pub(crate) fn from_row(id: UserId, row: &QueryResult) -> Result<Self, DbErr> {
        Ok(Self {
            id,
            username: row.try_get_by(Self::USERNAME)?,
            display_name: row.try_get_by(Self::DISPLAY_NAME)?,
        })
    }
}

impl<'a, S: Source> Participants<'a, S> {
    pub(crate) fn new(source: &'a S) -> Self {
        Self { source }
    }

    /// Who is present in a room, with their users, by (joined_at, id). One statement, however many. Served by
    /// `ix_room_participants_present`.
    ///
    /// # Errors
    /// None beyond the database's own; a room that does not exist has nobody in it.
    pub async fn list_present(&self, room: RoomId, page: &PageRequest) -> Result<Page<ParticipantWithUser>> {
        let present = room_participant::Column::LeftAt.is_null();
        self.list(room, page, Some(present), "participants.list_present").await
    }

    /// All stays in a room, past and present, with their users, by (joined_at, id). One statement, however many.
    ///
    /// # Errors
    /// None beyond the database's own; a room that does not exist had nobody in it.
    pub async fn list_stays(&self, room: RoomId, page: &PageRequest) -> Result<Page<ParticipantWithUser>> {
        self.list(room, page, None, "participants.list_stays").await
    }

    /// Everybody present, for a room that is shown as a whole.
    pub(crate) async fn all_present(&self, room: RoomId) -> Result<Vec<ParticipantWithUser>> {
        use sea_orm::QueryOrder;
        with_users(room)
            .filter(room_participant::Column::LeftAt.is_null())
            .order_by_asc(room_participant::Column::JoinedAt)
            .order_by_asc(room_participant::Column::Id)
            .into_model::<ParticipantWithUser>()
            .all(&self.source.executor())
            .await
            .map_err(|error| self.source.failed(&error, "participants.all_present"))
    }

    async fn list(
        &self,
        room: RoomId,
        page: &PageRequest,
        filter: Option<Expr>,
        during: &'static str,
    ) -> Result<Page<ParticipantWithUser>> {
        let mut rows = with_users(room);
        if let Some(filter) = filter {
            rows = rows.filter(filter);
        }
        let rows = page
            .apply(rows, room_participant::Column::JoinedAt, room_participant::Column::Id)
            .into_model::<ParticipantWithUser>()
            .all(&self.source.executor())
            .await
            .map_err(|error| self.source.failed(&error, during))?;
        Ok(page.page(rows, |row| (row.participant.joined_at, row.participant.id.as_uuid())))
    }
}

/// Stays in a room with their users, those of deleted users left out.
fn with_users(room: RoomId) -> sea_orm::Select<room_participant::Entity> {
    scope::find_undeletable::<room_participant::Entity>()
        .filter(room_participant::Column::RoomId.eq(room))
        .join(JoinType::InnerJoin, room_participant::Relation::User.def())
        .filter(user::Column::DeletedAt.is_null())
        .column_as(user::Column::Username, Person::USERNAME)
        .column_as(user::Column::DisplayName, Person::DISPLAY_NAME)
}

impl<S: Sink> Participants<'_, S> {
    /// Takes a seat for `user`. The first to come starts the meeting. Appends USER_JOINED, and ROOM_STARTED before it if the
    /// meeting began. Takes the room's lock; one statement on PostgreSQL.
    ///
    /// The owner gets the HOST seat whatever `role` says, or a CO_HOST one while somebody else is HOST. Nobody else can come
    /// in as HOST. Coming back after leaving or a kick is a new stay. For oneself, or by the platform for anybody.
    ///
    /// # Errors
    /// [`Error::NotFound`] for room or user; [`Rejected::RoomStatus`] when the meeting is over or called off;
    /// [`Rejected::RoomFull`]; [`Rejected::AlreadyPresent`] with the seat they have; [`Rejected::Banned`];
    /// [`Rejected::UserInactive`]; [`Rejected::HostSeat`]; [`Rejected::NotAllowed`]; [`Conflict::SameInstant`].
    pub async fn join(&self, room: RoomId, user: UserId, role: ParticipantRole) -> Result<room_participant::Model> {
        self.source.perform(Join { room, user, role }).await
    }

    /// Ends the stay of `user`, with its duration; the last one out may end the meeting, see [`WhenEmpty`]. Appends USER_LEFT. Takes the room's lock; one statement on PostgreSQL.
    /// For oneself, or by the platform for anybody (a connection that was lost).
    ///
    /// # Errors
    /// [`Error::NotFound`] for the room; [`Rejected::NotPresent`]; [`Rejected::NotAllowed`].
    pub async fn leave(&self, room: RoomId, user: UserId) -> Result<room_participant::Model> {
        let when_empty = self.source.store().when_empty();
        self.source.perform(Leave { room, user, when_empty }).await
    }

    /// Ends the stay of `user` against their will; they may come back. `reason` has at most 500 characters. Appends
    /// USER_KICKED. Takes the room's lock; one statement on PostgreSQL. By the owner, the host or the platform; by a co-host
    /// if `user` is a participant. Nobody kicks the host, the owner, or themself.
    ///
    /// # Errors
    /// [`Error::Invalid`] for the reason; [`Error::NotFound`] for the room; [`Rejected::NotPresent`];
    /// [`Rejected::Protected`]; [`Rejected::NotAllowed`].
    pub async fn kick(&self, room: RoomId, user: UserId, reason: Option<&str>) -> Result<room_participant::Model> {
        let reason = input::optional_line("kick_reason", reason, 500)?;
        if self.source.actor().user_id() == Some(user) {
            let operation = Asked::Kick;
            return Err(Rejected::Protected { operation, user }.into());
        }
        let kick = Kick {
            room,
            user,
            reason,
            when_empty: self.source.store().when_empty(),
        };
        self.source.perform(kick).await
    }
}

struct Join {
    room: RoomId,
    user: UserId,
    role: ParticipantRole,
}

impl Operation for Join {
    const NAME: &'static str = "participants.join";
    type Output = room_participant::Model;

    fn forbidden(&self, at: &Moment<'_>) -> Option<Error> {
        at.only_oneself(Asked::Join, Some(self.room), self.user)
    }

    fn plan(&self, at: &Moment<'_>) -> Plan {
        sql::join(at, self.room, self.user, self.role)
    }

    fn read(&self, row: &QueryResult) -> Result<room_participant::Model, DbErr> {
        room_participant::Model::from_query_result(row, "")
    }

    async fn refusal(&self, db: &DatabaseExecutor<'_>, at: &Moment<'_>) -> Result<Option<Error>, DbErr> {
        let Self { room: id, user, role } = *self;
        let Some(room) = rooms::find(db, id).await? else {
            return Ok(Some(Error::NotFound(Subject::Room(id))));
        };
        if let Some(error) = users::why_not_active(db, user).await? {
            return Ok(Some(error));
        }
        if !matches!(room.status, RoomStatus::Created | RoomStatus::Live) {
            let status = room.status;
            return Ok(Some(Rejected::RoomStatus { room: id, status }.into()));
        }
        // A ban that has run out is no reason: the plan lifts it.
        let standing = standing_row(db, id, user).await?.filter(|row| !has_run_out(row, at));
        if let Some(row) = standing {
            return Ok(Some(already(&row)));
        }
        if role == ParticipantRole::Host && room.owner_id != user {
            return Ok(Some(Rejected::HostSeat { room: id }.into()));
        }
        if room.active_participants >= room.max_participants {
            let capacity = room.max_participants;
            return Ok(Some(Rejected::RoomFull { room: id, capacity }.into()));
        }
        let same_instant = stays(id, user).filter(room_participant::Column::JoinedAt.eq(at.now));
        Ok(same_instant
            .one(db)
            .await?
            .map(|_| Conflict::SameInstant { user, room: id }.into()))
    }
}

struct Leave {
    room: RoomId,
    user: UserId,
    when_empty: WhenEmpty,
}

impl Operation for Leave {
    const NAME: &'static str = "participants.leave";
    type Output = room_participant::Model;

    fn forbidden(&self, at: &Moment<'_>) -> Option<Error> {
        at.only_oneself(Asked::Leave, Some(self.room), self.user)
    }

    fn plan(&self, at: &Moment<'_>) -> Plan {
        sql::leave(at, self.room, self.user)
    }

    fn read(&self, row: &QueryResult) -> Result<room_participant::Model, DbErr> {
        room_participant::Model::from_query_result(row, "")
    }

    fn in_transaction(&self) -> bool {
        self.when_empty == WhenEmpty::EndRoom
    }

    fn then(&self, _: &room_participant::Model, at: &Moment<'_>) -> Option<Plan> {
        self.when_empty.plan(at, self.room)
    }

    async fn refusal(&self, db: &DatabaseExecutor<'_>, _: &Moment<'_>) -> Result<Option<Error>, DbErr> {
        let Self { room, user, .. } = *self;
        if rooms::find(db, room).await?.is_none() {
            return Ok(Some(Error::NotFound(Subject::Room(room))));
        }
        let seat = present_seat(db, room, user).await?;
        Ok(seat.is_none().then(|| Rejected::NotPresent { user, room }.into()))
    }
}

struct Kick {
    room: RoomId,
    user: UserId,
    reason: Option<String>,
    when_empty: WhenEmpty,
}

impl Operation for Kick {
    const NAME: &'static str = "participants.kick";
    type Output = room_participant::Model;

    fn plan(&self, at: &Moment<'_>) -> Plan {
        sql::kick(at, self.room, self.user, self.reason.as_deref())
    }

    fn read(&self, row: &QueryResult) -> Result<room_participant::Model, DbErr> {
        room_participant::Model::from_query_result(row, "")
    }

    fn in_transaction(&self) -> bool {
        self.when_empty == WhenEmpty::EndRoom
    }

    fn then(&self, _: &room_participant::Model, at: &Moment<'_>) -> Option<Plan> {
        self.when_empty.plan(at, self.room)
    }

    async fn refusal(&self, db: &DatabaseExecutor<'_>, at: &Moment<'_>) -> Result<Option<Error>, DbErr> {
        let Self { room: id, user, .. } = *self;
        let operation = Asked::Kick;
        let Some(room) = rooms::find(db, id).await? else {
            return Ok(Some(Error::NotFound(Subject::Room(id))));
        };
        let standing = standing_in(db, at, &room).await?;
        let not_allowed = Rejected::NotAllowed {
            operation,
            standing,
            room: Some(id),
            user: Some(user),
        };
        // Who may kick nobody learns nothing about who is there.
        if !may(operation, standing, Some(ParticipantRole::Participant)) {
            return Ok(Some(not_allowed.into()));
        }
        let Some(role) = present_seat(db, id, user).await?.map(|seat| seat.role) else {
            return Ok(Some(Rejected::NotPresent { user, room: id }.into()));
        };
        if role == ParticipantRole::Host || room.owner_id == user {
            return Ok(Some(Rejected::Protected { operation, user }.into()));
        }
        Ok((!may(operation, standing, Some(role))).then(|| not_allowed.into()))
    }
}

fn stays(room: RoomId, user: UserId) -> sea_orm::Select<room_participant::Entity> {
    scope::find_undeletable::<room_participant::Entity>()
        .filter(room_participant::Column::RoomId.eq(room))
        .filter(room_participant::Column::UserId.eq(user))
}

async fn present_seat(
    db: &DatabaseExecutor<'_>,
    room: RoomId,
    user: UserId,
) -> Result<Option<room_participant::Model>, DbErr> {
    stays(room, user)
        .filter(room_participant::Column::LeftAt.is_null())
        .one(db)
        .await
}

/// The one row that keeps another from being made: a present seat or a ban.
async fn standing_row(
    db: &DatabaseExecutor<'_>,
    room: RoomId,
    user: UserId,
) -> Result<Option<room_participant::Model>, DbErr> {
    let present = room_participant::Column::LeftAt.is_null();
    stays(room, user)
        .filter(present.or(room_participant::Column::IsBanned.eq(true)))
        .one(db)
        .await
}

fn has_run_out(row: &room_participant::Model, at: &Moment<'_>) -> bool {
    row.is_banned && row.ban_expires_at.is_some_and(|until| until <= at.now)
}

fn already(row: &room_participant::Model) -> Error {
    let (user, room) = (row.user_id, row.room_id);
    let rejected = if row.is_banned {
        Rejected::Banned {
            user,
            room,
            until: row.ban_expires_at,
        }
    } else {
        Rejected::AlreadyPresent {
            user,
            room,
            seat: row.id,
            role: row.role,
            since: row.joined_at,
        }
    };
    rejected.into()
}

/// What the actor is to a room now.
pub(crate) async fn standing_in(
    db: &DatabaseExecutor<'_>,
    at: &Moment<'_>,
    room: &room::Model,
) -> Result<Standing, DbErr> {
    if at.actor.is_system() {
        return Ok(Standing::System);
    }
    let Some(user) = at.actor.user_id() else {
        return Ok(Standing::Outsider);
    };
    if user == room.owner_id {
        return Ok(Standing::Owner);
    }
    let seat = present_seat(db, room.id, user).await?;
    Ok(seat.map_or(Standing::Outsider, |seat| seat.role.into()))
}
