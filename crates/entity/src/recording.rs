//! `recordings`: what was recorded and where the file lies.

use sea_orm::entity::prelude::*;

use crate::{RecordingId, RoomId, UserId};

/// Where a recording stands, the type `recording_status`. A trigger refuses the changes that docs/SCHEMA.md does not list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EnumIter, DeriveActiveEnum, serde::Serialize, serde::Deserialize)]
#[sea_orm(
    rs_type = "Enum",
    db_type = "Enum",
    enum_name = "recording_status",
    rename_all = "SCREAMING_SNAKE_CASE"
)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum RecordingStatus {
    /// Asked for.
    Started,
    /// Media is being written.
    InProgress,
    /// Written, not yet worked on.
    Stopped,
    /// Went wrong; may be tried again.
    Failed,
    /// Being transcoded.
    Processing,
    /// Can be watched, for good.
    Ready,
}

/// A recording's facts; the file itself is elsewhere.
#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel, serde::Serialize)]
#[sea_orm(table_name = "recordings")]
pub struct Model {
    /// UUIDv7 of the application.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: RecordingId,
    /// What was recorded.
    pub room_id: RoomId,
    /// Whose it is.
    pub owner_id: UserId,
    /// The object's key in its bucket; unique.
    #[sea_orm(column_type = "String(StringLen::N(500))")]
    pub storage_key: String,
    /// Where it can be watched, once ready.
    #[sea_orm(column_type = "Text", nullable)]
    pub storage_url: Option<String>,
    /// The bucket.
    #[sea_orm(column_type = "String(StringLen::N(100))")]
    pub storage_bucket: String,
    /// The media server's own id of the recorder; unique.
    #[sea_orm(column_type = "String(StringLen::N(255))", nullable)]
    pub egress_id: Option<String>,
    /// The name it is offered under.
    #[sea_orm(column_type = "String(StringLen::N(255))")]
    pub filename: String,
    /// Bytes.
    pub size_bytes: Option<i64>,
    /// Seconds of media.
    pub duration_seconds: Option<i32>,
    /// Such as `h264`.
    #[sea_orm(column_type = "String(StringLen::N(50))", nullable)]
    pub codec: Option<String>,
    /// Such as `1920x1080`.
    #[sea_orm(column_type = "String(StringLen::N(20))", nullable)]
    pub resolution: Option<String>,
    /// Frames a second.
    pub fps: Option<i32>,
    /// kbit/s.
    pub bitrate: Option<i32>,
    /// Where it stands.
    pub status: RecordingStatus,
    /// When it was asked for.
    pub started_at: DateTimeUtc,
    /// When the writing ended.
    pub stopped_at: Option<DateTimeUtc>,
    /// What went wrong.
    #[sea_orm(column_type = "Text", nullable)]
    pub error_message: Option<String>,
    /// How often it was tried again.
    pub retry_count: i32,
    /// Anybody with the link may watch.
    pub is_public: bool,
    /// When it is to be deleted; none means never.
    pub expires_at: Option<DateTimeUtc>,
    /// When it was deleted.
    pub deleted_at: Option<DateTimeUtc>,
    /// Until when somebody has its file to purge; once set, the recording is not restored any more.
    pub purge_claimed_until: Option<DateTimeUtc>,
    /// When its file was known to be purged, for good.
    pub purged_at: Option<DateTimeUtc>,
    /// When the row was made.
    pub created_at: DateTimeUtc,
    /// When the row was last changed.
    pub updated_at: DateTimeUtc,
    /// The room.
    #[sea_orm(belongs_to, from = "room_id", to = "id", on_delete = "Restrict")]
    pub room: BelongsTo<super::room::Entity>,
    /// The owner.
    #[sea_orm(belongs_to, from = "owner_id", to = "id", on_delete = "Restrict")]
    pub owner: BelongsTo<super::user::Entity>,
}

read_only!("recordings");
