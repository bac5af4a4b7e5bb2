//! What somebody is to a room: a seat, a ban, a role.

use entity::{ParticipantId, RoomId, UserId, room_participant};
use sea_orm::{ColumnTrait, QueryFilter};

use super::Participants;
use super::join::BANNED_NOW;
use crate::authority::ActorRole;
use crate::database::statement::Query;
use crate::error::{Error, Result, Subject};
use crate::read::{ByHand, Fetch, FetchEntity};
use crate::rules::{ACTOR_ROLE, seat_key};
use crate::scope;
use crate::unit::{Sink, Source};

/// What a user has in a room, of [`Participants::standing`].
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[cfg_attr(feature = "schemars", derive(schemars::JsonSchema))]
pub enum SeatOrBan {
    /// They are present, by this participation.
    Seat(room_participant::Model),
    /// They are banned, and the ban is in force; it stands on this participation.
    Ban(room_participant::Model),
    /// Neither: they may have been here, or their ban has run out.
    Neither,
}

impl<S: Source> Participants<'_, S> {
    /// The participation with this id, present or past.
    ///
    /// # Errors
    /// None beyond the database's own.
    pub async fn find(&self, id: ParticipantId) -> Result<Option<room_participant::Model>> {
        scope::find_undeletable::<room_participant::Entity>()
            .filter(room_participant::Column::Id.eq(id))
            .fetch_one(self.source, "participants.find")
            .await
    }

    /// The participation with this id, present or past.
    ///
    /// # Errors
    /// [`Error::NotFound`] when there is none.
    pub async fn get(&self, id: ParticipantId) -> Result<room_participant::Model> {
        self.find(id).await?.ok_or(Error::NotFound(Subject::Participant(id)))
    }

    /// The seat that `user` has in the room, or the ban that keeps them out of it. One statement, served by
    /// `uq_room_participants_current`, which lets nobody have both.
    ///
    /// # Errors
    /// None beyond the database's own; a room or user that does not exist has neither.
    pub async fn standing(&self, room: RoomId, user: UserId) -> Result<SeatOrBan> {
        let context = self.source.context();
        let dialect = context.dialect();
        let query = Query::new(format!(
            "SELECT {columns} FROM room_participants WHERE room_id = :room AND user_id = :user
                AND (left_at IS NULL OR is_banned){among_current} AND (left_at IS NULL OR {BANNED_NOW})",
            columns = dialect.columns_of::<room_participant::Entity>(),
            among_current = dialect.among_current(),
        ));
        let query = query.bind("room", room).bind("user", user).bind("now", context.now());
        let found: Vec<room_participant::Model> = ByHand(query.statement(dialect))
            .fetch_all_as(self.source, "participants.standing")
            .await?;
        Ok(match found.into_iter().next() {
            None => SeatOrBan::Neither,
            Some(seat) if seat.left_at.is_none() => SeatOrBan::Seat(seat),
            Some(ban) => SeatOrBan::Ban(ban),
        })
    }
}

impl<S: Sink> Participants<'_, S> {
    /// What the actor is to the room, for [`crate::authority::may`]: the system, its owner, their role if they are present, or an outsider, which
    /// whoever is banned is too. One statement.
    ///
    /// It is what they are now. An operation asks again, under its locks.
    ///
    /// # Errors
    /// [`Error::NotFound`] when there is no such room, or it is deleted.
    pub async fn actor_role(&self, room: RoomId) -> Result<ActorRole> {
        let dialect = self.source.context().dialect();
        let seat = seat_key(dialect, ":room", ":actor");
        let query = Query::new(format!(
            "WITH own_seat AS (SELECT CAST(role AS text) AS role FROM room_participants WHERE {seat})
            SELECT {ACTOR_ROLE} AS actor_role FROM rooms WHERE id = :room AND deleted_at IS NULL"
        ));
        let actor = self.source.actor();
        let query = query
            .bind("room", room)
            .bind("actor", actor.user_id())
            .bind("is_system", actor.is_system());
        let read = ByHand(query.statement(dialect)).fetch_with(self.source, "participants.actor_role", |cells| {
            cells.next::<String>("actor_role")
        });
        let codes = read.await?;
        let code = codes.first().ok_or(Error::NotFound(Subject::Room(room)))?;
        Ok(ActorRole::of_code(code))
    }
}
