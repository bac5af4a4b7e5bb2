//! Finding rooms: by code with all that a lobby shows, and in lists.

use entity::{RoomStatus, UserId, room, room_participant, user};
use sea_orm::sea_query::{Expr, ExprTrait, Query};
use sea_orm::{ColumnTrait, FromQueryResult, JoinType, QueryFilter, QueryResult, QuerySelect, RelationTrait, Select};

use super::{Rooms, typed_code};
use crate::error::Result;
use crate::page::{Page, PageRequest};
use crate::participants::{ParticipantWithUser, Participants, Person};
use crate::read::{Fetch, FetchEntity};
use crate::scope::{self, Visibility};
use crate::unit::Source;

/// A room as its door shows it. The counts are in `room`: present, peak, joins.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct RoomOverview {
    /// The room.
    pub room: room::Model,
    /// Who owns it; none if that user is deleted.
    pub owner: Option<Person>,
    /// Who is present, by (joined_at, id).
    pub present: Vec<ParticipantWithUser>,
}

/// Which rooms a list or a count is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RoomFilter {
    /// A user's own, by (created_at, id). Served by `ix_rooms_owner`.
    OwnedBy(UserId),
    /// Those a user is present in, by (created_at, id). Served by `uq_room_participants_joined`.
    AttendedBy(UserId),
    /// Running and listed for everybody, by (started_at, id). Served by `ix_rooms_live_public`.
    LivePublic,
    /// Planned and not begun, of one owner or of all, by (scheduled_start, id). Served by `ix_rooms_upcoming`.
    Upcoming {
        /// Whose; none for everybody's.
        owner: Option<UserId>,
    },
}

impl RoomFilter {
    fn apply(self, rooms: Select<room::Entity>) -> Select<room::Entity> {
        match self {
            Self::OwnedBy(owner) => rooms.filter(room::Column::OwnerId.eq(owner)),
            Self::AttendedBy(user) => {
                let attended = Query::select()
                    .column(room_participant::Column::RoomId)
                    .from(room_participant::Entity)
                    .and_where(Expr::col(room_participant::Column::UserId).eq(user))
                    .and_where(Expr::col(room_participant::Column::LeftAt).is_null())
                    .take();
                rooms.filter(room::Column::Id.in_subquery(attended))
            }
            Self::LivePublic => rooms
                .filter(room::Column::Status.eq(RoomStatus::Live))
                .filter(room::Column::IsPublic.eq(true)),
            Self::Upcoming { owner } => {
                let planned = rooms
                    .filter(room::Column::Status.eq(RoomStatus::Created))
                    .filter(room::Column::ScheduledStart.is_not_null());
                match owner {
                    Some(owner) => planned.filter(room::Column::OwnerId.eq(owner)),
                    None => planned,
                }
            }
        }
    }

    fn time_column(self) -> room::Column {
        match self {
            Self::OwnedBy(_) | Self::AttendedBy(_) => room::Column::CreatedAt,
            Self::LivePublic => room::Column::StartedAt,
            Self::Upcoming { .. } => room::Column::ScheduledStart,
        }
    }

    fn time_of(self, room: &room::Model) -> chrono::DateTime<chrono::Utc> {
        let time = match self {
            Self::OwnedBy(_) | Self::AttendedBy(_) => None,
            Self::LivePublic => room.started_at,
            Self::Upcoming { .. } => room.scheduled_start,
        };
        time.unwrap_or(room.created_at)
    }
}

impl<S: Source, V: Visibility> Rooms<'_, S, V> {
    /// The room with this code, as people type it (white space, dashes and case do not matter), with its owner and who is
    /// present. Two statements, however many are present.
    ///
    /// # Errors
    /// None beyond the database's own; what could be no code at all is simply not found.
    pub async fn find_by_code(&self, code: &str) -> Result<Option<RoomOverview>> {
        let Some(code) = typed_code(code) else {
            return Ok(None);
        };
        let found = scope::find::<room::Entity, V>()
            .filter(room::Column::RoomCode.eq(code))
            .join(JoinType::LeftJoin, room::Relation::User.def())
            .expr_as(
                Expr::case(user::Column::DeletedAt.is_null(), user::Column::Username.into_expr()),
                Person::USERNAME,
            )
            .column_as(user::Column::DisplayName, Person::DISPLAY_NAME)
            .fetch_all_as::<RoomWithOwner, _>(self.source, "rooms.find_by_code")
            .await?
            .into_iter()
            .next();
        let Some(RoomWithOwner { room, owner }) = found else {
            return Ok(None);
        };
        let present = Participants::new(self.source).all_present(room.id).await?;
        Ok(Some(RoomOverview { room, owner, present }))
    }

    /// Rooms that the filter names, page by page.
    ///
    /// # Errors
    /// None beyond the database's own.
    pub async fn list(&self, filter: RoomFilter, page: &PageRequest) -> Result<Page<room::Model>> {
        let rows = page
            .apply(
                filter.apply(scope::find::<room::Entity, V>()),
                filter.time_column(),
                room::Column::Id,
            )
            .fetch_all(self.source, "rooms.list")
            .await?;
        Ok(page.page(rows, |room| (filter.time_of(room), room.id.as_uuid())))
    }

    /// How many rooms the filter names.
    ///
    /// # Errors
    /// None beyond the database's own.
    pub async fn count(&self, filter: RoomFilter) -> Result<u64> {
        filter
            .apply(scope::find::<room::Entity, V>())
            .fetch_count(self.source, "rooms.count")
            .await
    }
}

struct RoomWithOwner {
    room: room::Model,
    owner: Option<Person>,
}

impl FromQueryResult for RoomWithOwner {
    fn from_query_result(row: &QueryResult, prefix: &str) -> Result<Self, sea_orm::DbErr> {
        let room = room::Model::from_query_result(row, prefix)?;
        let username: Option<String> = row.try_get_by(Person::USERNAME)?;
        let owner = match username {
            Some(_) => Some(Person::from_row(room.owner_id, row)?),
            None => None,
        };
        Ok(Self { room, owner })
    }
}
