//! The WebSocket of a room: what happens there, whoever made it happen, in any process.
//!
//! Each socket subscribes to the store's feed, which asks the database once for all subscribers of the process and holds up nobody for a slow
//! one. The server speaks; the client answers pings. Whoever's own seat ends is told why, and the socket is closed.

use std::pin::Pin;
use std::time::Duration;

use axum::extract::State;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::Response;
use chrono::{DateTime, Utc};
use conferencing_store::entity::{AuditAction, ParticipantId, RoomId, UserId, room_participant};
use conferencing_store::feed::FeedFilter;
use conferencing_store::page::{MAX_PAGE_SIZE, Order, PageRequest};
use conferencing_store::{Actor, AuditEvent, Change, Error, FeedEvent, FeedPosition, LeaveReason, SeatOrBan};
use futures_util::stream::{Stream, StreamExt as _};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Interval, MissedTickBehavior};
use utoipa::IntoParams;

use super::extract::{Path, Query};
use super::trail::details;
use super::views::{PersonView, PresentView};
use crate::app::App;
use crate::auth::{Caller, sessions};
use crate::presence::OpenSocket;
use crate::problem::Problem;

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
/// How long one message may take to be sent.
const PATIENCE: Duration = Duration::from_secs(10);
/// After how many pings without an answer a socket is closed.
const UNANSWERED: u32 = 2;
/// How often the session is looked at.
const SESSION: Duration = Duration::from_mins(1);

/// Why the server closes a socket. Codes of 4000 and more are this service's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closing {
    /// They were put out; they may come back.
    Kicked,
    /// They were put out, and are kept out.
    Banned,
    /// The meeting is over.
    RoomEnded,
    /// They left, in another window or by another device.
    Left,
    /// The seat was given up: the connection had been lost, or the process that served it. Join again.
    SeatLost,
    /// The session is over, or the account.
    SignedOut,
    /// The service stops: connect again, after a moment and to whichever process answers.
    Restart,
    /// Too much waited for this socket, or there is a fault: connect again behind the last position.
    TryAgain,
}

impl Closing {
    /// The code of the close frame.
    pub fn code(self) -> u16 {
        match self {
            Self::Kicked => 4001,
            Self::Banned => 4002,
            Self::RoomEnded => 4003,
            Self::Left => 4004,
            Self::SeatLost => 4005,
            Self::SignedOut => 4006,
            Self::Restart => 1012,
            Self::TryAgain => 1013,
        }
    }

    fn reason(self) -> &'static str {
        match self {
            Self::Kicked => "kicked",
            Self::Banned => "banned",
            Self::RoomEnded => "room_ended",
            Self::Left => "left",
            Self::SeatLost => "seat_lost",
            Self::SignedOut => "signed_out",
            Self::Restart => "restart",
            Self::TryAgain => "try_again",
        }
    }

    /// Whether the seat is over.
    fn ends_seat(self) -> bool {
        !matches!(self, Self::SignedOut | Self::Restart | Self::TryAgain)
    }
}

/// What the server sends.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Told {
    /// First of all: who is present. Events are those behind the position.
    Hello {
        stay: ParticipantId,
        position: FeedPosition,
        participants: Vec<PresentView>,
    },
    Event(Box<Happened>),
    /// The last: why the socket is closed.
    Closing {
        reason: &'static str,
        message: Option<String>,
    },
}

/// An event of the room.
#[derive(Debug, Serialize)]
struct Happened {
    /// For `after`, when this was the last event that was heard.
    position: FeedPosition,
    at: DateTime<Utc>,
    action: String,
    actor: Option<PersonView>,
    /// To whom it was done; none where that is the actor.
    target: Option<PersonView>,
    details: Value,
}

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
    let permit = std::sync::Arc::clone(app.sockets()).try_acquire_owned().map_err(|_| {
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
        seat,
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

type Events = Pin<Box<dyn Stream<Item = Result<FeedEvent, Error>> + Send>>;

struct Socket {
    app: App,
    room: RoomId,
    seat: room_participant::Model,
    caller: Caller,
    events: Events,
    _counted: OpenSocket,
    _permit: OwnedSemaphorePermit,
}

/// The client does not read, or is gone.
struct Gone;

async fn send(socket: &mut WebSocket, message: Message) -> Result<(), Gone> {
    match tokio::time::timeout(PATIENCE, socket.send(message)).await {
        Ok(Ok(())) => Ok(()),
        _ => Err(Gone),
    }
}

async fn tell(socket: &mut WebSocket, told: &Told) -> Result<(), Gone> {
    match serde_json::to_string(told) {
        Ok(text) => send(socket, Message::Text(text.into())).await,
        Err(_) => Err(Gone),
    }
}

fn every(period: Duration) -> Interval {
    let mut interval = tokio::time::interval_at(tokio::time::Instant::now() + period, period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}

impl Socket {
    async fn run(mut self, mut socket: WebSocket, position: FeedPosition) {
        let Ok(Some((closing, message))) = self.talk(&mut socket, position).await else {
            return;
        };
        if closing.ends_seat() {
            self.app.presence().over(self.seat.id);
        }
        let reason = closing.reason();
        let last = Told::Closing { reason, message };
        let frame = CloseFrame {
            code: closing.code(),
            reason: reason.into(),
        };
        if tell(&mut socket, &last).await.is_ok() && send(&mut socket, Message::Close(Some(frame))).await.is_ok() {
            // Until the client has said goodbye too, or for a moment.
            let goodbye = async { while let Some(Ok(_)) = socket.recv().await {} };
            let _ = tokio::time::timeout(Duration::from_secs(1), goodbye).await;
        }
    }

    /// Until there is a reason to close; none where the client has closed.
    async fn talk(
        &mut self,
        socket: &mut WebSocket,
        position: FeedPosition,
    ) -> Result<Option<(Closing, Option<String>)>, Gone> {
        match self.present().await {
            Ok(participants) => {
                let stay = self.seat.id;
                let hello = Told::Hello {
                    stay,
                    position,
                    participants,
                };
                tell(socket, &hello).await?;
            }
            Err(error) => return Ok(Some(broken(&error))),
        }
        let (mut pings, mut sessions) = (every(self.app.config().ping()), every(SESSION));
        let mut unanswered = 0;
        let stopping = self.app.stopping().clone();
        loop {
            tokio::select! {
                biased;
                () = stopping.cancelled() => return Ok(Some((Closing::Restart, None))),
                event = self.events.next() => match event {
                    Some(Ok(event)) => {
                        if let Some(closing) = self.hear(socket, event).await? {
                            return Ok(Some(closing));
                        }
                    }
                    Some(Err(error)) => return Ok(Some(broken(&error))),
                    None => return Ok(Some((Closing::TryAgain, None))),
                },
                message = socket.recv() => match message {
                    Some(Ok(Message::Close(_)) | Err(_)) | None => return Ok(None),
                    Some(Ok(Message::Pong(_))) => unanswered = 0,
                    // Nobody is asked anything.
                    Some(Ok(_)) => {}
                },
                _ = pings.tick() => {
                    if unanswered >= UNANSWERED {
                        return Err(Gone);
                    }
                    unanswered += 1;
                    send(socket, Message::Ping(axum::body::Bytes::new())).await?;
                }
                _ = sessions.tick() => {
                    let key = self.caller.session.clone();
                    let found = sessions::find_by_key(&self.app.store().sql(), key, self.app.now()).await;
                    if matches!(found, Ok(None)) {
                        return Ok(Some((Closing::SignedOut, None)));
                    }
                }
            }
        }
    }

    /// Everybody, page by page.
    async fn present(&mut self) -> Result<Vec<PresentView>, Error> {
        let mut all = Vec::new();
        let mut page = PageRequest::first(MAX_PAGE_SIZE, Order::OldestFirst)?;
        loop {
            let present = self.app.store().participants().list_present(self.room, &page).await?;
            all.extend(present.items.into_iter().map(PresentView::from));
            match present.next {
                Some(next) => page = page.after(next),
                None => return Ok(all),
            }
        }
    }

    /// Tells of an event; what it is to them, if their seat ends with it.
    async fn hear(
        &mut self,
        socket: &mut WebSocket,
        event: FeedEvent,
    ) -> Result<Option<(Closing, Option<String>)>, Gone> {
        let closing = self.closing(&event.entry.event);
        match self.happened(event).await {
            Ok(happened) => tell(socket, &Told::Event(Box::new(happened))).await?,
            Err(error) => return Ok(Some(broken(&error))),
        }
        metrics::counter!("signaling_socket_events_total").increment(1);
        Ok(closing)
    }

    /// Why their own seat is over, if that is what the event says.
    fn closing(&self, event: &AuditEvent) -> Option<(Closing, Option<String>)> {
        let AuditEvent::Change(change) = event else {
            return None;
        };
        let own = self.seat.id;
        match change {
            Change::UserKicked { stay, reason, .. } if *stay == own => Some((Closing::Kicked, reason.clone())),
            Change::UserBanned {
                stay: Some(stay),
                reason,
                ..
            } if *stay == own => Some((Closing::Banned, reason.clone())),
            Change::UserLeft { stay, reason, .. } if *stay == own => {
                let closing = match reason {
                    LeaveReason::Left | LeaveReason::Moved => Closing::Left,
                    LeaveReason::RoomEnded => Closing::RoomEnded,
                    LeaveReason::Deactivated | LeaveReason::Erased => Closing::SignedOut,
                    _ => Closing::SeatLost,
                };
                Some((closing, None))
            }
            _ => None,
        }
    }

    async fn happened(&mut self, event: FeedEvent) -> Result<Happened, Error> {
        let entry = event.entry;
        let target = match &entry.event {
            AuditEvent::Unrecognized { .. } => None,
            known => serde_json::to_value(known)
                .ok()
                .and_then(|value| serde_json::from_value(value.get("details")?.get("target")?.clone()).ok()),
        };
        let mut details = details(&entry.event);
        // Why somebody was put out is between them and who did it.
        let put_out = matches!(
            entry.event,
            AuditEvent::Change(Change::UserKicked { .. } | Change::UserBanned { .. })
        );
        if put_out
            && target != Some(self.caller.id())
            && let Some(details) = details.as_object_mut()
        {
            details.remove("reason");
        }
        Ok(Happened {
            position: event.position,
            at: entry.at,
            action: entry.event.action(),
            actor: self.named(entry.actor).await?,
            target: self.named(target).await?,
            details,
        })
    }

    async fn named(&mut self, user: Option<UserId>) -> Result<Option<PersonView>, Error> {
        let Some(id) = user else {
            return Ok(None);
        };
        let name = self.app.name_of(id).await?;
        Ok(Some(PersonView {
            id,
            display_name: name.display_name.clone(),
            is_guest: name.is_guest,
        }))
    }
}

/// What a fault or a slow client is told.
fn broken(error: &Error) -> (Closing, Option<String>) {
    if !error.is_retryable() {
        tracing::error!("a WebSocket is closed: {error}");
    }
    (Closing::TryAgain, None)
}
