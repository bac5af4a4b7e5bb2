//! Which seats of this process have a WebSocket, and which are given up because none came, or came back.
//!
//! A seat names this process's media node. While the process lives, it sees by itself who is gone: a seat without a socket is left after a
//! while (`leave_stay`, `lost_connection`). When it dies, its node falls silent, and any other process sweeps its seats (upkeep.rs).

use std::collections::HashMap;
use std::sync::Mutex;

use conferencing_store::entity::ParticipantId;
use conferencing_store::{Actor, Error, LeaveDetails, LeaveReason};

use crate::app::App;

#[derive(Default)]
struct Seat {
    sockets: usize,
    /// Grows with each change, so that an older timer does nothing.
    change: u64,
}

/// The seats of this process.
#[derive(Default)]
pub struct Presence {
    seats: Mutex<HashMap<ParticipantId, Seat>>,
}

impl Presence {
    fn change<T>(&self, stay: ParticipantId, change: impl FnOnce(&mut Seat) -> T) -> Option<T> {
        let mut seats = self.seats.lock().ok()?;
        let seat = seats.entry(stay).or_default();
        seat.change += 1;
        Some(change(seat))
    }

    /// The stay is over: nothing is waited for any more.
    pub fn over(&self, stay: ParticipantId) {
        if let Ok(mut seats) = self.seats.lock() {
            seats.remove(&stay);
        }
    }

    fn is_given_up(&self, stay: ParticipantId, change: u64) -> bool {
        let Ok(mut seats) = self.seats.lock() else {
            return false;
        };
        let given_up = seats
            .get(&stay)
            .is_some_and(|seat| seat.sockets == 0 && seat.change == change);
        if given_up {
            seats.remove(&stay);
        }
        given_up
    }
}

impl App {
    /// Somebody took a seat: their socket is to come.
    pub(crate) fn expect_socket(&self, stay: ParticipantId) {
        if let Some(change) = self.presence().change(stay, |seat| seat.change) {
            self.give_up_later(stay, change);
        }
    }

    /// A socket of the seat is open for as long as this lives.
    pub(crate) fn socket_opened(&self, stay: ParticipantId) -> OpenSocket {
        self.presence().change(stay, |seat| seat.sockets += 1);
        metrics::gauge!("signaling_sockets").increment(1);
        OpenSocket {
            app: self.clone(),
            stay,
        }
    }

    fn give_up_later(&self, stay: ParticipantId, change: u64) {
        let app = self.clone();
        self.spawn(async move {
            let grace = tokio::time::sleep(app.config().seat_grace());
            // Who is put out because the process stops comes back to another one.
            let stopped = app.stopping().run_until_cancelled(grace).await.is_none();
            if !stopped && app.presence().is_given_up(stay, change) {
                app.leave_seat(stay).await;
            }
        });
    }

    async fn leave_seat(&self, stay: ParticipantId) {
        match self.try_to_leave(stay).await {
            Ok(()) => {}
            // The seat is ours still: it is tried again.
            Err(error) if error.is_retryable() => self.expect_socket(stay),
            Err(error) => tracing::error!(%stay, "a seat without a socket could not be left: {error}"),
        }
    }

    async fn try_to_leave(&self, stay: ParticipantId) -> Result<(), Error> {
        let seat = self.store().participants().get(stay).await?;
        // Over already, or served by another process by now, which sees to it.
        if seat.left_at.is_some() || seat.node_id != Some(self.node()) {
            return Ok(());
        }
        let details = LeaveDetails {
            at: None,
            reason: LeaveReason::LostConnection,
        };
        let acting = self.store().acting(&Actor::system("presence"));
        acting.participants().leave_stay(stay, details).await.map(drop)
    }
}

/// Of a socket: it is counted until this is dropped.
pub(crate) struct OpenSocket {
    app: App,
    stay: ParticipantId,
}

impl Drop for OpenSocket {
    fn drop(&mut self) {
        metrics::gauge!("signaling_sockets").decrement(1);
        let last = {
            let Ok(mut seats) = self.app.presence().seats.lock() else {
                return;
            };
            // None once the stay is over.
            let Some(seat) = seats.get_mut(&self.stay) else {
                return;
            };
            seat.change += 1;
            seat.sockets = seat.sockets.saturating_sub(1);
            (seat.sockets == 0).then_some(seat.change)
        };
        if let Some(change) = last {
            self.app.give_up_later(self.stay, change);
        }
    }
}
