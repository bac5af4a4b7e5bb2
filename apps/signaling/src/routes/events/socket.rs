//! An open socket: what it hears from the feed, its client and the service, until one of them ends it.

use std::pin::Pin;
use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, WebSocket};
use conferencing_store::entity::{ParticipantId, RoomId, UserId};
use conferencing_store::page::{MAX_PAGE_SIZE, Order, PageRequest};
use conferencing_store::{AuditEvent, Change, Error, FeedEvent, FeedPosition};
use futures_util::stream::{Stream, StreamExt as _};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Interval, MissedTickBehavior};

use super::messages::{Closing, Happened, Told};
use crate::app::App;
use crate::auth::{Caller, sessions};
use crate::presence::OpenSocket;
use crate::routes::trail::details;
use crate::routes::views::{PersonView, PresentView};

/// How long one message may take to be sent.
const PATIENCE: Duration = Duration::from_secs(10);
/// After how many pings without an answer a socket is closed.
const UNANSWERED: u32 = 2;
/// How often the session is looked at.
const SESSION: Duration = Duration::from_mins(1);

type Events = Pin<Box<dyn Stream<Item = Result<FeedEvent, Error>> + Send>>;

/// A socket that is to be opened.
pub(super) struct Socket {
    pub(super) app: App,
    pub(super) room: RoomId,
    pub(super) seat: ParticipantId,
    pub(super) caller: Caller,
    pub(super) events: Events,
    pub(super) _counted: OpenSocket,
    pub(super) _permit: OwnedSemaphorePermit,
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
    pub(super) async fn run(mut self, mut socket: WebSocket, position: FeedPosition) {
        let Ok(Some((closing, message))) = self.talk(&mut socket, position).await else {
            return;
        };
        if closing.ends_seat() {
            self.app.presence().over(self.seat);
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
                let stay = self.seat;
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

    /// Tells of an event. Why the socket is closed, where their seat ends with it.
    async fn hear(
        &mut self,
        socket: &mut WebSocket,
        event: FeedEvent,
    ) -> Result<Option<(Closing, Option<String>)>, Gone> {
        let closing = Closing::of(&event.entry.event, self.seat);
        match self.happened(event).await {
            Ok(happened) => tell(socket, &Told::Event(Box::new(happened))).await?,
            Err(error) => return Ok(Some(broken(&error))),
        }
        metrics::counter!("signaling_socket_events_total").increment(1);
        Ok(closing)
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
        // What the recorder says is for operators: it may name hosts and files.
        if matches!(entry.event, AuditEvent::Change(Change::RecordingFailed { .. }))
            && let Some(details) = details.as_object_mut()
        {
            details.remove("message");
        }
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
