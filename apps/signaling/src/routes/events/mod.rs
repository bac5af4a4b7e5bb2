//! The WebSocket of a room: what happens there, whoever made it happen, in any process.
//!
//! Each socket subscribes to the store's feed, which asks the database once for all subscribers of the process and holds up nobody for a slow
//! one. The server speaks; the client answers pings. Whoever's own seat ends is told why, and the socket is closed.

mod messages;
mod socket;

use std::sync::Arc;

use axum::extract::State;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{WebSocket, WebSocketUpgrade};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::Response;
use conferencing_store::entity::{AuditAction, ParticipantId, room_participant};
use conferencing_store::feed::FeedFilter;
use conferencing_store::page::MAX_PAGE_SIZE;
use conferencing_store::{Actor, AuditEvent, Change, Error, FeedEvent, FeedPosition, SeatOrBan};
use serde::Deserialize;
use utoipa::IntoParams;

use super::extract::{Path, Query};
use crate::app::App;
use crate::auth::{Caller, sessions};
use crate::problem::Problem;
use socket::Socket;

/// What those in a room are told of.
const TOLD: [AuditAction; 18] = [
    AuditAction::RoomStarted,
    AuditAction::RoomEnded,
    AuditAction::RoomUpdated,
    AuditAction::RoomOwnershipTransferred,
    AuditAction::UserJoined,
    AuditAction::UserLeft,
    AuditAction::UserKicked,
    AuditAction::UserBanned,
    AuditAction::RolePromotion,
    AuditAction::RoleDemotion,
    AuditAction::RoleChanged,
    AuditAction::RecordingStarted,
    AuditAction::RecordingStopped,
    AuditAction::RecordingFailed,
    AuditAction::UserMuted,
    AuditAction::UserUnmuted,
    AuditAction::ScreenShareStarted,
    AuditAction::ScreenShareStopped,
];

/// The longest message of a client that is read: none has anything to say.
const LONGEST: usize = 4096;

/// How to open it.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Opening {
    /// A ticket, for clients that send neither cookie nor header.
    ticket: Option<String>,
    /// The position of the last event that was heard: those behind it are told first.
    after: Option<String>,
}

/// Opens the WebSocket of a room, for who has a seat in it. Close codes: 4001 kicked, 4002 banned, 4003 the meeting is over, 4004 left
/// elsewhere, 4005 the seat was given up, 4006 signed out; 1012 and 1013: connect again.
#[utoipa::path(get, path = "/rooms/{code}/events", tag = "events", params(("code" = String, Path), Opening), responses(
    (status = 101, description = "The WebSocket is open"), (status = 401, body = Problem), (status = 403, body = Problem),
    (status = 404, body = Problem), (status = 409, body = Problem), (status = 422, body = Problem), (status = 503, body = Problem)))]
pub(crate) async fn open(
    State(app): State<App>,
    Path(code): Path<String>,
    Query(opening): Query<Opening>,
    mut parts: Parts,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Problem> {
    let upgrade = upgrade.map_err(|rejection| {
        let status = axum::response::IntoResponse::into_response(rejection).status();
        Problem::new(status, "not_a_websocket", "this path is opened as a WebSocket")
    })?;
    let caller = match &opening.ticket {
        Some(ticket) => {
            let found = sessions::use_ticket(&app.store().sql(), ticket, app.now()).await?;
            Caller::of_session(&app, &parts, found)?
        }
        None => {
            use axum::extract::FromRequestParts as _;
            Caller::from_request_parts(&mut parts, &app).await?
        }
    };
    let room = app.room(&code).await?.id;
    let permit = Arc::clone(app.sockets()).try_acquire_owned().map_err(|_| {
        let status = StatusCode::SERVICE_UNAVAILABLE;
        Problem::new(
            status,
            "too_many_sockets",
            "this process has as many WebSockets as it takes",
        )
        .retry_after(5)
    })?;
    // The position first, then the seat: what ends the seat from here on is behind the position.
    let (after, is_given) = match &opening.after {
        Some(after) => (after.parse()?, true),
        None => (app.store().feed().now().await?, false),
    };
    let SeatOrBan::Seat(seat) = app.store().participants().standing(room, caller.id()).await? else {
        return Err(Problem::new(StatusCode::CONFLICT, "not_present", "join the room first"));
    };
    let filter = FeedFilter {
        room: Some(room),
        actions: TOLD.to_vec(),
        ..FeedFilter::default()
    };
    let position = if is_given {
        not_before_join(&app, &filter, seat.id, after).await?
    } else {
        after
    };
    take_over(&app, &seat).await?;
    let events = app.store().feed().subscribe(filter, Some(position.clone())).await?;
    let counted = app.socket_opened(seat.id);
    let open = Socket {
        app: app.clone(),
        room,
        seat: seat.id,
        caller,
        events: Box::pin(events),
        _counted: counted,
        _permit: permit,
    };
    let open = move |socket: WebSocket| async move {
        let app = open.app.clone();
        let task = app.tracked(open.run(socket, position));
        task.await;
    };
    Ok(upgrade.max_message_size(LONGEST).on_upgrade(open))
}

/// The position, or the place behind the seat's own join if that comes later: what was before they came is not for them. Times do not tell,
/// since joins at once are committed in another order than the one in which they began.
async fn not_before_join(
    app: &App,
    filter: &FeedFilter,
    seat: ParticipantId,
    after: FeedPosition,
) -> Result<FeedPosition, Error> {
    let is_own_join = |event: &FeedEvent| {
        let AuditEvent::Change(change) = &event.entry.event else {
            return false;
        };
        matches!(change, Change::UserJoined { stay, .. } if *stay == seat)
    };
    let mut read = after.clone();
    loop {
        // By the filter of the subscription: a position skips what its filter leaves out.
        let batch = app.store().feed().read(filter, &read, MAX_PAGE_SIZE).await?;
        if let Some(join) = batch.events.into_iter().find(is_own_join) {
            return Ok(join.position);
        }
        if batch.is_end {
            return Ok(after);
        }
        read = batch.position;
    }
}

/// From now on the seat is this process's.
async fn take_over(app: &App, seat: &room_participant::Model) -> Result<(), Error> {
    let node = app.node();
    if seat.node_id == Some(node) {
        return Ok(());
    }
    let acting = app.store().acting(&Actor::system("presence"));
    acting.participants().assign_node(seat.id, node).await.map(drop)
}
