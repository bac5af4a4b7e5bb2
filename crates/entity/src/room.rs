//! `rooms`: meetings, instant or scheduled.

use sea_orm::entity::prelude::*;

use crate::{RoomId, UserId};

/// Where a meeting stands, the type `room_status`. CREATED → LIVE, CANCELLED; LIVE → ENDED; a trigger refuses the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EnumIter, DeriveActiveEnum, serde::Serialize, serde::Deserialize)]
#[sea_orm(
    rs_type = "Enum",
    db_type = "Enum",
    enum_name = "room_status",
    rename_all = "SCREAMING_SNAKE_CASE"
)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum RoomStatus {
    /// Open, nobody has come yet.
    Created,
    /// Running.
    Live,
    /// Over, for good.
    Ended,
    /// Called off before it began, for good.
    Cancelled,
}

/// A meeting room. Its counters are kept by the statements that seat and unseat people, under this row's lock.
#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel, serde::Serialize)]
#[sea_orm(table_name = "rooms")]
pub struct Model {
    /// UUIDv7 of the application.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: RoomId,
    /// Who owns it.
    pub owner_id: UserId,
    /// What people type to get in; unique for ever.
    #[sea_orm(column_type = "String(StringLen::N(20))")]
    pub room_code: String,
    /// The meeting's title.
    #[sea_orm(column_type = "String(StringLen::N(255))")]
    pub title: String,
    /// What it is about.
    #[sea_orm(column_type = "Text", nullable)]
    pub description: Option<String>,
    /// Planned begin.
    pub scheduled_start: Option<DateTimeUtc>,
    /// Planned end, after the planned begin.
    pub scheduled_end: Option<DateTimeUtc>,
    /// Seats.
    pub max_participants: i32,
    /// Listed for everybody.
    pub is_public: bool,
    /// May be recorded.
    pub is_recordable: bool,
    /// Only for people who signed in.
    pub require_auth: bool,
    /// Where the meeting stands.
    pub status: RoomStatus,
    /// When it went live.
    pub started_at: Option<DateTimeUtc>,
    /// When it ended.
    pub ended_at: Option<DateTimeUtc>,
    /// The most that were present at once.
    pub peak_participants: i32,
    /// How often somebody joined, rejoins included.
    pub total_joins: i32,
    /// Whole seconds from start to end.
    pub duration_seconds: Option<i32>,
    /// How many are present now: the rows of `room_participants` with no `left_at`.
    pub active_participants: i32,
    /// When the room was deleted.
    pub deleted_at: Option<DateTimeUtc>,
    /// When the row was made.
    pub created_at: DateTimeUtc,
    /// When the row was last changed.
    pub updated_at: DateTimeUtc,
    /// The owner.
    #[sea_orm(belongs_to, from = "owner_id", to = "id", on_delete = "Restrict")]
    pub owner: BelongsTo<super::user::Entity>,
    /// All participations, past and present.
    #[sea_orm(has_many)]
    pub participants: HasMany<super::room_participant::Entity>,
    /// What was recorded.
    #[sea_orm(has_many)]
    pub recordings: HasMany<super::recording::Entity>,
}

read_only!("rooms");
