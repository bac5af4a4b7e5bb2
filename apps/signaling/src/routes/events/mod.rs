//! The WebSocket of a room: what happens there, whoever made it happen, in any process.
//!
//! Each socket subscribes to the store's feed, which asks the database once for all subscribers of the process and holds up nobody for a slow
//! one. The server speaks; the client answers pings. Whoever's own seat ends is told why, and the socket is closed.

mod messages;
mod socket;

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{WebSocket, WebSocketUpgrade};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::Response;
use conferencing_store::entity::{AuditAction, MediaNodeId, ParticipantId, RoomId, UserId, room_participant};
use conferencing_store::feed::FeedFilter;
use conferencing_store::page::MAX_PAGE_SIZE;
use conferencing_store::{Actor, AuditEvent, Change, Error, FeedEvent, FeedPosition, SeatOrBan};
use futures_util::stream::{self, StreamExt as _};
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
/// How many sockets one seat may have open at a process: windows of one person, not more.
const SOCKETS_OF_A_SEAT: usize = 8;
/// How many clients of a process may read at once what they have missed, which may be much.
pub(crate) const CATCHING_UP: usize = 2;
/// How long a client waits for its turn to do so.
const CATCH_UP_WAIT: Duration = Duration::from_secs(5);
/// How many events of the room may have been missed.
const MISSED: usize = 2_000;

/// How to open it.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Opening {
    /// A ticket, for clients that send neither cookie nor header.
    ticket: Option<String>,
    /// The position of the last event that was heard: those behind it are told first, 2,000 at most; who has missed more begins anew.
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
    let filter = FeedFilter {
        room: Some(room),
        actions: TOLD.to_vec(),
        ..FeedFilter::default()
    };
    // The place in the feed first, then the seat: what ends the seat from here on is heard.
    let beginning = match &opening.after {
        Some(after) => {
            let seat = seat_in(&app, room, caller.id()).await?.id;
            catch_up(&app, &filter, seat, after.parse()?).await?
        }
        None => Beginning::now(&app).await?,
    };
    let seat = seat_in(&app, room, caller.id()).await?;
    if beginning.seat.is_some_and(|caught_up| caught_up != seat.id) {
        return Err(not_present());
    }
    let counted = app.socket_opened(seat.id, SOCKETS_OF_A_SEAT).ok_or_else(|| {
        let detail = "this seat has as many WebSockets as it takes";
        Problem::new(StatusCode::CONFLICT, "too_many_sockets_of_a_seat", detail)
    })?;
    app.on_our_node(|node| take_over(&app, &seat, node)).await?;
    let events = app.store().feed().subscribe(filter, Some(beginning.goes_on)).await?;
    let missed = stream::iter(beginning.missed.into_iter().map(Ok));
    let open = Socket {
        app: app.clone(),
        room,
        seat: seat.id,
        caller,
        events: Box::pin(missed.chain(events)),
        _counted: counted,
        _permit: permit,
    };
    let open = move |socket: WebSocket| async move {
        let app = open.app.clone();
        let task = app.tracked(open.run(socket, beginning.position));
        task.await;
    };
    let upgrade = upgrade.max_frame_size(LONGEST).max_message_size(LONGEST);
    Ok(upgrade.on_upgrade(open))
}

fn not_present() -> Problem {
    Problem::new(StatusCode::CONFLICT, "not_present", "join the room first")
}

async fn seat_in(app: &App, room: RoomId, user: UserId) -> Result<room_participant::Model, Problem> {
    match app.store().participants().standing(room, user).await? {
        SeatOrBan::Seat(seat) => Ok(seat),
        _ => Err(not_present()),
    }
}

/// Where a socket begins.
struct Beginning {
    /// What it is told to be behind.
    position: FeedPosition,
    /// What lies between there and `goes_on`.
    missed: Vec<FeedEvent>,
    /// Where the subscription takes over. The database's own word, whatever the client asked for.
    goes_on: FeedPosition,
    /// Whose events `missed` has, if they were looked for.
    seat: Option<ParticipantId>,
}

impl Beginning {
    async fn now(app: &App) -> Result<Self, Error> {
        let now = app.store().feed().now().await?;
        Ok(Self {
            position: now.clone(),
            missed: Vec::new(),
            goes_on: now,
            seat: None,
        })
    }
}

/// Reads what a client has missed behind `after`, but nothing from before the join of this seat: that is not for them. The feed's order tells,
/// and not times, since joins at once are committed in another order than the one in which they began. The seat must have been there before.
///
/// The position is a client's text, and may be any. So it decides about what is read here and nothing else; at most [`CATCHING_UP`] do that at
/// once; and who has missed more than [`MISSED`] begins with what is now, as who asks for nothing.
async fn catch_up(
    app: &App,
    filter: &FeedFilter,
    seat: ParticipantId,
    after: FeedPosition,
) -> Result<Beginning, Error> {
    let is_own_join = |event: &FeedEvent| {
        let AuditEvent::Change(change) = &event.entry.event else {
            return false;
        };
        matches!(change, Change::UserJoined { stay, .. } if *stay == seat)
    };
    let Ok(Ok(_turn)) = tokio::time::timeout(CATCH_UP_WAIT, app.catching_up().acquire()).await else {
        return Beginning::now(app).await;
    };
    let (mut position, mut missed) = (after.clone(), Vec::new());
    let mut read = after;
    let mut looked_at = 0;
    loop {
        // By the filter of the subscription: a position skips what its filter leaves out.
        let batch = app.store().feed().read(filter, &read, MAX_PAGE_SIZE).await?;
        looked_at += batch.events.len();
        if looked_at > MISSED {
            return Beginning::now(app).await;
        }
        for event in batch.events {
            if is_own_join(&event) {
                missed.clear();
                position = event.position;
            } else {
                missed.push(event);
            }
        }
        if batch.is_end {
            return Ok(Beginning {
                position,
                missed,
                goes_on: batch.position,
                seat: Some(seat),
            });
        }
        read = batch.position;
    }
}

/// From now on the seat is served by this node, if it was not.
async fn take_over(app: &App, seat: &room_participant::Model, node: MediaNodeId) -> Result<(), Error> {
    if seat.node_id == Some(node) {
        return Ok(());
    }
    let acting = app.store().acting(&Actor::system("presence"));
    acting.participants().assign_node(seat.id, node).await.map(drop)
}
