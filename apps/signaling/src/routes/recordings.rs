//! Recordings of a room. The media server writes the file, and tells of it by webhooks.

use axum::extract::State;
use axum::http::StatusCode;
use conferencing_store::authority::ActorRole;
use conferencing_store::entity::RecordingId;
use conferencing_store::page::Order;
use conferencing_store::{NewRecording, RecordingMeasures};
use serde::Deserialize;
use utoipa::ToSchema;

use super::extract::{Json, Path, Query};
use super::views::{PageView, Paging, RecordingView};
use crate::app::App;
use crate::auth::Caller;
use crate::problem::Problem;

/// Where the media server is told to write.
pub(crate) const BUCKET: &str = "recordings";

/// A new recording.
#[derive(Default, Deserialize, ToSchema)]
pub(crate) struct Start {
    /// What the file is called; `meeting.mp4` if it is not said.
    filename: Option<String>,
}

/// Begins a recording. By the owner or the host, while present.
#[utoipa::path(post, path = "/rooms/{code}/recordings", tag = "recordings", params(("code" = String, Path)), request_body = Start, responses(
    (status = 201, body = RecordingView), (status = 403, body = Problem), (status = 404, body = Problem), (status = 409, body = Problem)))]
pub(crate) async fn start(
    State(app): State<App>,
    caller: Caller,
    Path(code): Path<String>,
    Json(start): Json<Start>,
) -> Result<(StatusCode, Json<RecordingView>), Problem> {
    let (room, acting) = app.acting_in(&caller, &code).await?;
    let storage_key = format!("{}/{:032x}.mp4", room.id, rand::random::<u128>());
    let new = NewRecording {
        room: room.id,
        owner: caller.id(),
        storage_bucket: BUCKET,
        storage_key: &storage_key,
        filename: start.filename.as_deref().unwrap_or("meeting.mp4"),
        egress_id: None,
        is_public: false,
        expires_at: None,
    };
    let recording = acting.recordings().start(new).await?;
    Ok((StatusCode::CREATED, Json(recording.into())))
}

/// Ends a recording. By its owner, the room's, or the host.
#[utoipa::path(post, path = "/recordings/{id}/stop", tag = "recordings", params(("id" = Uuid, Path)), responses(
    (status = 200, body = RecordingView), (status = 403, body = Problem), (status = 404, body = Problem), (status = 409, body = Problem)))]
pub(crate) async fn stop(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<RecordingId>,
) -> Result<Json<RecordingView>, Problem> {
    let acting = app.store().acting(&caller.actor());
    let stopped = acting.recordings().stop(id, RecordingMeasures::default()).await?;
    Ok(Json(stopped.into()))
}

/// What was recorded of a room. For those who are in it, and its owner.
#[utoipa::path(get, path = "/rooms/{code}/recordings", tag = "recordings", params(("code" = String, Path), Paging), responses(
    (status = 200, body = PageView<RecordingView>), (status = 403, body = Problem), (status = 404, body = Problem)))]
pub(crate) async fn list(
    State(app): State<App>,
    caller: Caller,
    Path(code): Path<String>,
    Query(paging): Query<Paging>,
) -> Result<Json<PageView<RecordingView>>, Problem> {
    let room = app.room(&code).await?;
    if app.role_in(&caller, room.id).await? == ActorRole::Outsider {
        return Err(Problem::forbidden(
            "only those who are in the room see what is recorded",
        ));
    }
    let page = paging.request(Order::NewestFirst)?;
    let recordings = app.store().recordings().list_of_room(room.id, &page).await?;
    Ok(Json(PageView::of(recordings)))
}
