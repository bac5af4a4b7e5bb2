//! What a media server's webhooks are to the store. They come late, twice, and in any order; what they leave is what they would leave in
//! the right one.
//!
//! - The **seat** is taken when a token for the media server is made: its participation goes into the token, and comes back in every
//!   webhook. So a webhook speaks of one stay, and never of whatever seat the user has by now.
//! - Each webhook is acted on **once**, by the inbox, in the unit that does the work.
//! - What it does is so made that it may come at any time: a stay ends when it did (`leave_stay`), a recorder's report changes what has not
//!   gone beyond it (`report_egress`).

mod script;

use chrono::{DateTime, Utc};
use conferencing_store::entity::{ParticipantId, RoomId};
use conferencing_store::{
    Actor, EgressReport, EgressState, Error, LeaveDetails, LeaveReason, MediaKind, Observation, RecordingMeasures,
    Store, Unit,
};

pub use script::{EndState, Meeting, Timeline, delivered_badly, in_the_right_order};

/// A webhook, read from the request's body once its signature has been checked.
#[derive(Clone, Debug)]
pub struct Webhook {
    /// The media server's id of the event: the same each time that it is delivered.
    pub id: String,
    /// When it happened there.
    pub at: DateTime<Utc>,
    /// What.
    pub event: MediaEvent,
}

/// What the media server tells of.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "named after the media server's events")]
pub enum MediaEvent {
    ParticipantJoined { stay: ParticipantId },
    ParticipantLeft { stay: ParticipantId, connection_lost: bool },
    TrackMuted { stay: ParticipantId, kind: MediaKind },
    TrackUnmuted { stay: ParticipantId, kind: MediaKind },
    Egress(Egress),
}

/// A recorder of the media server, as each of its webhooks describes it.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "named after the media server's fields")]
pub struct Egress {
    pub id: String,
    pub room: RoomId,
    pub file: String,
    pub started_at: DateTime<Utc>,
    pub status: EgressStatus,
}

/// How it stands.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "named after the media server's states")]
pub enum EgressStatus {
    Starting,
    Active,
    Complete { size_bytes: i64, duration_seconds: i32 },
    Failed { error: String },
}

/// What the service does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was taken in.
    Done,
    /// It had been taken in before.
    Duplicate,
    /// Somebody came into the room whose stay is over: the media server is to put them out.
    Disconnect(ParticipantId),
}

/// Acts on a webhook. An error is answered with a status that makes the media server deliver it again: nothing of it was done.
///
/// # Errors
/// Those of the store.
pub async fn handle(store: &Store, webhook: &Webhook) -> Result<Outcome, Error> {
    let work = |unit: Unit| async move {
        if unit.inbox().once("media", &webhook.id).await? {
            act(&unit, webhook).await
        } else {
            Ok(Outcome::Duplicate)
        }
    };
    store.transact(&Actor::system("webhooks"), work).await
}

async fn act(unit: &Unit, webhook: &Webhook) -> Result<Outcome, Error> {
    match &webhook.event {
        MediaEvent::ParticipantJoined { stay } => {
            let seat = unit.participants().get(*stay).await?;
            Ok(match seat.left_at {
                None => Outcome::Done,
                Some(_) => Outcome::Disconnect(*stay),
            })
        }
        MediaEvent::ParticipantLeft { stay, connection_lost } => {
            let reason = if *connection_lost {
                LeaveReason::LostConnection
            } else {
                LeaveReason::Left
            };
            let at = Some(webhook.at);
            unit.participants()
                .leave_stay(*stay, LeaveDetails { at, reason })
                .await?;
            Ok(Outcome::Done)
        }
        MediaEvent::TrackMuted { stay, kind } => {
            observe(unit, *stay, |target| {
                let kind = *kind;
                Observation::UserMuted { target, kind }
            })
            .await
        }
        MediaEvent::TrackUnmuted { stay, kind } => {
            observe(unit, *stay, |target| {
                let kind = *kind;
                Observation::UserUnmuted { target, kind }
            })
            .await
        }
        MediaEvent::Egress(egress) => report(unit, egress, webhook.at).await,
    }
}

/// The audit log says in which order these were heard of; which came last, the media server knows.
async fn observe(
    unit: &Unit,
    stay: ParticipantId,
    observation: impl FnOnce(conferencing_store::entity::UserId) -> Observation,
) -> Result<Outcome, Error> {
    let seat = unit.participants().get(stay).await?;
    unit.audit()
        .append(Some(seat.room_id), observation(seat.user_id))
        .await?;
    Ok(Outcome::Done)
}

async fn report(unit: &Unit, egress: &Egress, at: DateTime<Utc>) -> Result<Outcome, Error> {
    let state = match &egress.status {
        EgressStatus::Starting => EgressState::Starting,
        EgressStatus::Active => EgressState::Active,
        EgressStatus::Complete {
            size_bytes,
            duration_seconds,
        } => EgressState::Complete {
            at,
            measures: RecordingMeasures {
                size_bytes: Some(*size_bytes),
                duration_seconds: Some(*duration_seconds),
                ..RecordingMeasures::default()
            },
        },
        EgressStatus::Failed { error } => EgressState::Failed { at, message: error },
    };
    let report = EgressReport {
        egress_id: &egress.id,
        room: egress.room,
        // Whoever owns the room.
        owner: None,
        storage_bucket: "media",
        storage_key: &egress.file,
        filename: "meeting.mp4",
        started_at: egress.started_at,
        state,
    };
    unit.recordings().report_egress(report).await?;
    Ok(Outcome::Done)
}
