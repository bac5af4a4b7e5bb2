//! What clients see of the store's rows: nothing that is not for them, under names that do not change with a column's.

use chrono::{DateTime, Utc};
use conferencing_store::entity::{
    ParticipantId, ParticipantRole, RecordingId, RecordingStatus, RoomId, RoomStatus, UserId, recording, room,
    room_participant, user,
};
use conferencing_store::page::{Cursor, Order, Page, PageRequest};
use conferencing_store::participants::{ParticipantWithUser, Person};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::problem::Problem;

/// What the store puts before the names of guests, which nobody else's begin with.
const GUEST_NAME: &str = "guest-";

/// Somebody.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct UserView {
    #[schema(value_type = Uuid)]
    pub(crate) id: UserId,
    /// What they sign in with; none for guests.
    pub(crate) username: Option<String>,
    pub(crate) display_name: String,
    pub(crate) is_guest: bool,
}

impl From<user::Model> for UserView {
    fn from(row: user::Model) -> Self {
        let is_guest = row.is_guest();
        Self {
            id: row.id,
            username: (!is_guest).then_some(row.username),
            display_name: row.display_name,
            is_guest,
        }
    }
}

/// As the others in a room see them: without the name to sign in with.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PersonView {
    #[schema(value_type = Uuid)]
    pub(crate) id: UserId,
    pub(crate) display_name: String,
    pub(crate) is_guest: bool,
}

impl From<Person> for PersonView {
    fn from(person: Person) -> Self {
        Self {
            id: person.id,
            is_guest: person.username.starts_with(GUEST_NAME),
            display_name: person.display_name,
        }
    }
}

/// A room.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RoomView {
    #[schema(value_type = Uuid)]
    pub(crate) id: RoomId,
    pub(crate) code: String,
    pub(crate) title: String,
    pub(crate) description: Option<String>,
    #[schema(value_type = Uuid)]
    pub(crate) owner: UserId,
    /// `CREATED`, `LIVE`, `ENDED` or `CANCELLED`.
    #[schema(value_type = String, example = "LIVE")]
    pub(crate) status: RoomStatus,
    pub(crate) is_public: bool,
    /// Guests are not let in.
    pub(crate) require_auth: bool,
    pub(crate) is_recordable: bool,
    pub(crate) max_participants: i32,
    /// How many are present.
    pub(crate) active_participants: i32,
    pub(crate) scheduled_start: Option<DateTime<Utc>>,
    pub(crate) scheduled_end: Option<DateTime<Utc>>,
    pub(crate) started_at: Option<DateTime<Utc>>,
    pub(crate) ended_at: Option<DateTime<Utc>>,
}

impl From<room::Model> for RoomView {
    fn from(row: room::Model) -> Self {
        Self {
            id: row.id,
            code: row.room_code,
            title: row.title,
            description: row.description,
            owner: row.owner_id,
            status: row.status,
            is_public: row.is_public,
            require_auth: row.require_auth,
            is_recordable: row.is_recordable,
            max_participants: row.max_participants,
            active_participants: row.active_participants,
            scheduled_start: row.scheduled_start,
            scheduled_end: row.scheduled_end,
            started_at: row.started_at,
            ended_at: row.ended_at,
        }
    }
}

/// A seat in a room: a participation that goes on.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SeatView {
    /// The participation. The token for the media server carries it, and its webhooks bring it back.
    #[schema(value_type = Uuid)]
    pub(crate) stay: ParticipantId,
    #[schema(value_type = Uuid)]
    pub(crate) user: UserId,
    /// `HOST`, `CO_HOST` or `PARTICIPANT`.
    #[schema(value_type = String, example = "PARTICIPANT")]
    pub(crate) role: ParticipantRole,
    pub(crate) joined_at: DateTime<Utc>,
}

impl From<&room_participant::Model> for SeatView {
    fn from(row: &room_participant::Model) -> Self {
        Self {
            stay: row.id,
            user: row.user_id,
            role: row.role,
            joined_at: row.joined_at,
        }
    }
}

/// Somebody who is present.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PresentView {
    #[serde(flatten)]
    pub(crate) seat: SeatView,
    pub(crate) person: PersonView,
}

impl From<ParticipantWithUser> for PresentView {
    fn from(row: ParticipantWithUser) -> Self {
        Self {
            seat: SeatView::from(&row.participant),
            person: row.user.into(),
        }
    }
}

/// A ban that stands.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct BanView {
    pub(crate) person: PersonView,
    pub(crate) reason: Option<String>,
    pub(crate) banned_at: Option<DateTime<Utc>>,
    /// None means for good.
    pub(crate) until: Option<DateTime<Utc>>,
}

impl From<ParticipantWithUser> for BanView {
    fn from(row: ParticipantWithUser) -> Self {
        Self {
            person: row.user.into(),
            reason: row.participant.ban_reason,
            banned_at: row.participant.banned_at,
            until: row.participant.ban_expires_at,
        }
    }
}

/// A recording, without where its file lies.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RecordingView {
    #[schema(value_type = Uuid)]
    pub(crate) id: RecordingId,
    #[schema(value_type = Uuid)]
    pub(crate) owner: UserId,
    /// `STARTED`, `IN_PROGRESS`, `STOPPED`, `FAILED`, `PROCESSING` or `READY`.
    #[schema(value_type = String, example = "STARTED")]
    pub(crate) status: RecordingStatus,
    pub(crate) filename: String,
    pub(crate) started_at: DateTime<Utc>,
    pub(crate) stopped_at: Option<DateTime<Utc>>,
    pub(crate) duration_seconds: Option<i32>,
    pub(crate) size_bytes: Option<i64>,
}

impl From<recording::Model> for RecordingView {
    fn from(row: recording::Model) -> Self {
        Self {
            id: row.id,
            owner: row.owner_id,
            status: row.status,
            filename: row.filename,
            started_at: row.started_at,
            stopped_at: row.stopped_at,
            duration_seconds: row.duration_seconds,
            size_bytes: row.size_bytes,
        }
    }
}

/// Part of a list.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PageView<T> {
    pub(crate) items: Vec<T>,
    /// For `cursor`; none when this is the last page.
    pub(crate) next: Option<String>,
}

impl<T> PageView<T> {
    pub(crate) fn of<R: Into<T>>(page: Page<R>) -> Self {
        Self {
            items: page.items.into_iter().map(Into::into).collect(),
            next: page.next.map(|cursor: Cursor| cursor.to_string()),
        }
    }
}

/// Which part of a list.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Paging {
    /// At most so many, 1 to 500; 50 if it is not said.
    pub(crate) size: Option<u16>,
    /// The `next` of the page before.
    pub(crate) cursor: Option<String>,
}

impl Paging {
    pub(crate) fn request(&self, order: Order) -> Result<PageRequest, Problem> {
        let page = PageRequest::first(self.size.unwrap_or(50), order)?;
        Ok(match &self.cursor {
            Some(cursor) => page.after(cursor.parse()?),
            None => page,
        })
    }
}
