//! `room_participants`: who was in which room, from when to when.

use sea_orm::entity::prelude::*;

use crate::{MediaNodeId, ParticipantId, RoomId, UserId};

/// What a participant may do, the type `participant_role`.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    EnumIter,
    DeriveActiveEnum,
    serde::Serialize,
    serde::Deserialize,
)]
#[sea_orm(
    rs_type = "Enum",
    db_type = "Enum",
    enum_name = "participant_role",
    rename_all = "SCREAMING_SNAKE_CASE"
)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ParticipantRole {
    /// Runs the meeting; at most one is present in a room.
    Host,
    /// Helps to run it.
    CoHost,
    /// Takes part.
    Participant,
}

/// One participation of one user in one room. A rejoin is a new row; a ban stands on the participation that it closed.
#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel, serde::Serialize)]
#[sea_orm(table_name = "room_participants")]
pub struct Model {
    /// UUIDv7 of the application.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: ParticipantId,
    /// Who.
    pub user_id: UserId,
    /// Where.
    pub room_id: RoomId,
    /// As what.
    pub role: ParticipantRole,
    /// From when.
    pub joined_at: DateTimeUtc,
    /// Until when; none while present.
    pub left_at: Option<DateTimeUtc>,
    /// The participation was ended by somebody else.
    pub is_kicked: bool,
    /// When it was.
    pub kicked_at: Option<DateTimeUtc>,
    /// By whom; none when the system itself did it.
    pub kicked_by: Option<UserId>,
    /// What was said about it.
    #[sea_orm(column_type = "String(StringLen::N(500))", nullable)]
    pub kick_reason: Option<String>,
    /// The user may not come back while this stands.
    pub is_banned: bool,
    /// When the ban was put.
    pub banned_at: Option<DateTimeUtc>,
    /// By whom; none when the system itself did it.
    pub banned_by: Option<UserId>,
    /// What was said about it.
    #[sea_orm(column_type = "String(StringLen::N(500))", nullable)]
    pub ban_reason: Option<String>,
    /// When the ban runs out; none means never.
    pub ban_expires_at: Option<DateTimeUtc>,
    /// Whole seconds from `joined_at` to `left_at`; none while present.
    pub duration_seconds: Option<i32>,
    /// The media node that serves it while present, where that was said; none once it ended, unless it ended because the node was lost.
    pub node_id: Option<MediaNodeId>,
    /// The user.
    #[sea_orm(
        belongs_to,
        relation_enum = "User",
        from = "user_id",
        to = "id",
        on_delete = "Cascade"
    )]
    pub user: BelongsTo<super::user::Entity>,
    /// The room.
    #[sea_orm(belongs_to, from = "room_id", to = "id", on_delete = "Cascade")]
    pub room: BelongsTo<super::room::Entity>,
    /// Who ended the participation.
    #[sea_orm(belongs_to, relation_enum = "Kicker", from = "kicked_by", to = "id")]
    pub kicker: BelongsTo<Option<super::user::Entity>>,
    /// Who put the ban.
    #[sea_orm(belongs_to, relation_enum = "Banner", from = "banned_by", to = "id")]
    pub banner: BelongsTo<Option<super::user::Entity>>,
    /// The media node.
    #[sea_orm(belongs_to, relation_enum = "Node", from = "node_id", to = "id")]
    pub node: BelongsTo<Option<super::media_node::Entity>>,
}

read_only!("room_participants");
