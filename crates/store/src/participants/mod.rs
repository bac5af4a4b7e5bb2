//! `participants()`: who is in which room, and who was. One file an operation; what is read is here.

pub(crate) mod ban;
pub(crate) mod join;
pub(crate) mod kick;
pub(crate) mod leave;
pub(crate) mod role;

use entity::{RoomId, room_participant, user};
use sea_orm::sea_query::{Expr, ExprTrait};
use sea_orm::{ColumnTrait, DbErr, FromQueryResult, JoinType, QueryFilter, QueryResult, QuerySelect, RelationTrait};

use crate::error::Result;
use crate::page::{Page, PageRequest};
use crate::read::Fetch;
use crate::scope;
use crate::unit::Source;

pub use crate::person::Person;
pub use ban::Ban;

/// The repository of `room_participants`. Stays are never deleted.
#[derive(Debug)]
pub struct Participants<'a, S> {
    source: &'a S,
}

/// A participation, and whose it is.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct ParticipantWithUser {
    /// The participation.
    pub participant: room_participant::Model,
    /// Who it is.
    pub user: Person,
}

impl FromQueryResult for ParticipantWithUser {
    fn from_query_result(row: &QueryResult, prefix: &str) -> Result<Self, DbErr> {
        let participant = room_participant::Model::from_query_result(row, prefix)?;
        let user = Person::from_row(participant.user_id, row)?;
        Ok(Self { participant, user })
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

    /// All participations in a room, past and present, with their users, by (joined_at, id). One statement, however many.
    ///
    /// # Errors
    /// None beyond the database's own; a room that does not exist had nobody in it.
    pub async fn list_history(&self, room: RoomId, page: &PageRequest) -> Result<Page<ParticipantWithUser>> {
        self.list(room, page, None, "participants.list_history").await
    }

    /// The bans in force of a room, those that have run out left out, by (joined_at of the row, id).
    ///
    /// # Errors
    /// None beyond the database's own.
    pub async fn list_bans(&self, room: RoomId, page: &PageRequest) -> Result<Page<ParticipantWithUser>> {
        let now = self.source.context().now();
        let expires = room_participant::Column::BanExpiresAt;
        let actor_role = Expr::col(room_participant::Column::IsBanned.as_column_ref())
            .eq(true)
            .and(expires.is_null().or(expires.gt(now)));
        let rows = page
            .apply(
                with_users(room).filter(actor_role),
                room_participant::Column::JoinedAt,
                room_participant::Column::Id,
            )
            .fetch_all_as::<ParticipantWithUser, _>(self.source, "participants.list_bans")
            .await?;
        Ok(page.page(rows, |row| (row.participant.joined_at, row.participant.id.as_uuid())))
    }

    /// Everybody present, for a room that is shown as a whole.
    pub(crate) async fn all_present(&self, room: RoomId) -> Result<Vec<ParticipantWithUser>> {
        use sea_orm::QueryOrder;
        with_users(room)
            .filter(room_participant::Column::LeftAt.is_null())
            .order_by_asc(room_participant::Column::JoinedAt)
            .order_by_asc(room_participant::Column::Id)
            .fetch_all_as::<ParticipantWithUser, _>(self.source, "participants.all_present")
            .await
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
            .fetch_all_as::<ParticipantWithUser, _>(self.source, during)
            .await?;
        Ok(page.page(rows, |row| (row.participant.joined_at, row.participant.id.as_uuid())))
    }
}

/// Participations in a room with their users, those of deleted users left out.
fn with_users(room: RoomId) -> sea_orm::Select<room_participant::Entity> {
    scope::find_undeletable::<room_participant::Entity>()
        .filter(room_participant::Column::RoomId.eq(room))
        .join(JoinType::InnerJoin, room_participant::Relation::User.def())
        .filter(user::Column::DeletedAt.is_null())
        .column_as(user::Column::Username, Person::USERNAME)
        .column_as(user::Column::DisplayName, Person::DISPLAY_NAME)
}
