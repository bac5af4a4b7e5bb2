//! What the media server tells of. Webhooks come late, twice and in any order; each is acted on once, and what it does may come at any time.

use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::{HeaderMap, StatusCode};
use chrono::{DateTime, Utc};
use conferencing_store::entity::{ParticipantId, RoomId};
use conferencing_store::{
    Actor, EgressReport, EgressState, Error, LeaveDetails, LeaveReason, MediaKind, Observation, RecordingMeasures, Unit,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::extract::Json;
use super::recordings::BUCKET;
use crate::app::App;
use crate::problem::Problem;

/// Whose ids the deliveries have, for the inbox.
const SOURCE: &str = "media";

/// A webhook of the media server. Its id is that of the delivery, and the same each time that it is delivered.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Webhook {
    /// When it happened there.
    pub at: DateTime<Utc>,
    /// What.
    #[serde(flatten)]
    pub event: MediaEvent,
}

/// What happened at the media server. A stay is what the token for it carried: so a webhook is of one participation, and never of a rejoin.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(tag = "event", rename_all = "snake_case")]
#[allow(missing_docs, reason = "named after the media server's events")]
pub enum MediaEvent {
    ParticipantJoined {
        #[schema(value_type = Uuid)]
        stay: ParticipantId,
    },
    ParticipantLeft {
        #[schema(value_type = Uuid)]
        stay: ParticipantId,
        #[serde(default)]
        connection_lost: bool,
    },
    TrackMuted {
        #[schema(value_type = Uuid)]
        stay: ParticipantId,
        #[schema(value_type = String)]
        kind: MediaKind,
    },
    TrackUnmuted {
        #[schema(value_type = Uuid)]
        stay: ParticipantId,
        #[schema(value_type = String)]
        kind: MediaKind,
    },
    EgressStarted(Egress),
    EgressUpdated(Egress),
    EgressEnded(Egress),
}

/// A recorder, as each of its webhooks describes it.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[allow(missing_docs, reason = "named after the media server's fields")]
pub struct Egress {
    pub egress_id: String,
    #[schema(value_type = Uuid)]
    pub room: RoomId,
    pub file: String,
    pub started_at: DateTime<Utc>,
    /// Of one that ended.
    #[serde(default)]
    pub size_bytes: Option<i64>,
    #[serde(default)]
    pub duration_seconds: Option<i32>,
    /// Of one that failed.
    #[serde(default)]
    pub error: Option<String>,
}

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It was taken in.
    Done,
    /// It had been taken in before.
    Duplicate,
    /// Somebody came in whose stay is over: the media server is to put them out.
    Disconnect,
}

/// The answer to a webhook.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Answer {
    /// What became of it.
    pub outcome: Outcome,
}

/// Takes a webhook of the media server in, once. Signed as Standard Webhooks has it: `webhook-id`, `webhook-timestamp`, `webhook-signature`.
/// Anything but 200 means that nothing was done, or that nobody knows: deliver it again.
#[utoipa::path(post, path = "/webhooks/media", tag = "webhooks", request_body = Webhook, responses(
    (status = 200, body = Answer), (status = 401, body = Problem), (status = 404, body = Problem), (status = 503, body = Problem)))]
pub(crate) async fn receive(
    State(app): State<App>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Answer>, Problem> {
    let body = body?;
    let key = app.webhooks().ok_or_else(|| {
        let detail = "no webhooks are expected: SIGNALING_WEBHOOK_SECRET is not set";
        Problem::new(StatusCode::NOT_FOUND, "no_webhooks", detail)
    })?;
    let id = key.verify(&headers, &body, app.now()).ok_or_else(|| {
        let detail = "the webhook is not signed by the media server, or was sent too long ago";
        Problem::new(StatusCode::UNAUTHORIZED, "wrong_signature", detail)
    })?;
    let webhook: Webhook = serde_json::from_slice(&body)
        .map_err(|error| Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "malformed_body", error.to_string()))?;
    let webhook = &webhook;
    // A question changes nothing, and has its answer each time that it is asked: the one before may have been lost.
    let is_question = matches!(webhook.event, MediaEvent::ParticipantJoined { .. });
    let work = |unit: Unit| async move {
        match is_question || unit.inbox().once(SOURCE, id).await? {
            true => act(&unit, webhook).await,
            false => Ok(Outcome::Duplicate),
        }
    };
    let outcome = app.store().transact(&Actor::system("webhooks"), work).await?;
    if let (MediaEvent::ParticipantLeft { stay, .. }, Outcome::Done) = (&webhook.event, outcome) {
        app.presence().over(*stay);
    }
    Ok(Json(Answer { outcome }))
}

async fn act(unit: &Unit, webhook: &Webhook) -> Result<Outcome, Error> {
    match &webhook.event {
        MediaEvent::ParticipantJoined { stay } => {
            let seat = unit.participants().get(*stay).await?;
            return Ok(match seat.left_at {
                None => Outcome::Done,
                Some(_) => Outcome::Disconnect,
            });
        }
        MediaEvent::ParticipantLeft { stay, connection_lost } => {
            let reason = match connection_lost {
                true => LeaveReason::LostConnection,
                false => LeaveReason::Left,
            };
            // Nothing is in the future, whatever their clock says.
            let at = Some(webhook.at.min(unit.now()));
            let details = LeaveDetails { at, reason };
            unit.participants().leave_stay(*stay, details).await?;
        }
        MediaEvent::TrackMuted { stay, kind } => {
            let (seat, kind) = (unit.participants().get(*stay).await?, *kind);
            let target = seat.user_id;
            let muted = Observation::UserMuted { target, kind };
            unit.audit().append(Some(seat.room_id), muted).await?;
        }
        MediaEvent::TrackUnmuted { stay, kind } => {
            let (seat, kind) = (unit.participants().get(*stay).await?, *kind);
            let target = seat.user_id;
            let unmuted = Observation::UserUnmuted { target, kind };
            unit.audit().append(Some(seat.room_id), unmuted).await?;
        }
        MediaEvent::EgressStarted(egress) => report(unit, egress, EgressState::Starting).await?,
        MediaEvent::EgressUpdated(egress) => report(unit, egress, EgressState::Active).await?,
        MediaEvent::EgressEnded(egress) => {
            let at = webhook.at.min(unit.now());
            let state = match &egress.error {
                Some(message) => EgressState::Failed { at, message },
                None => EgressState::Complete {
                    at,
                    measures: RecordingMeasures {
                        size_bytes: egress.size_bytes,
                        duration_seconds: egress.duration_seconds,
                        ..RecordingMeasures::default()
                    },
                },
            };
            report(unit, egress, state).await?;
        }
    }
    Ok(Outcome::Done)
}

/// A recorder that nobody here began is recorded too, for the room's owner.
async fn report(unit: &Unit, egress: &Egress, state: EgressState<'_>) -> Result<(), Error> {
    let report = EgressReport {
        egress_id: &egress.egress_id,
        room: egress.room,
        owner: None,
        storage_bucket: BUCKET,
        storage_key: &egress.file,
        filename: "meeting.mp4",
        started_at: egress.started_at,
        state,
    };
    unit.recordings().report_egress(report).await.map(drop)
}
