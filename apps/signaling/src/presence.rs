//! Which seats of this process have a WebSocket, and which are given up because none came, or came back.
//!
//! A seat names this process's media node. While the process lives, it sees by itself who is gone: a seat without a socket is left after a
//! while (`leave_stay`, `lost_connection`). When it dies, its node falls silent, and any other process sweeps its seats (upkeep.rs).

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Mutex, MutexGuard, PoisonError};

use conferencing_store::entity::{MediaNodeId, ParticipantId};
use conferencing_store::{Actor, Error, LeaveDetails, LeaveReason, Rejected};

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
    fn lock(&self) -> MutexGuard<'_, HashMap<ParticipantId, Seat>> {
        self.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn knows(&self, stay: ParticipantId) -> bool {
        self.lock().contains_key(&stay)
    }

    /// A socket is waited for, from this change on.
    fn expect(&self, stay: ParticipantId) -> u64 {
        let mut seats = self.lock();
        let seat = seats.entry(stay).or_default();
        seat.change += 1;
        seat.change
    }

    /// False where `most` are open.
    fn open(&self, stay: ParticipantId, most: usize) -> bool {
        let mut seats = self.lock();
        let seat = seats.entry(stay).or_default();
        if seat.sockets >= most {
            return false;
        }
        seat.change += 1;
        seat.sockets += 1;
        true
    }

    /// The change from which on another is waited for, if that was the last.
    fn close(&self, stay: ParticipantId) -> Option<u64> {
        let mut seats = self.lock();
        // None once the stay is over.
        let seat = seats.get_mut(&stay)?;
        seat.change += 1;
        seat.sockets = seat.sockets.saturating_sub(1);
        (seat.sockets == 0).then_some(seat.change)
    }

    /// The stay is over: nothing is waited for any more.
    pub fn over(&self, stay: ParticipantId) {
        self.lock().remove(&stay);
    }

    /// Whether nothing has changed, and no socket is open.
    fn is_given_up(&self, stay: ParticipantId, change: u64) -> bool {
        let mut seats = self.lock();
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
    /// Seats somebody by `seat`, on this process's node; once more, on a new one, where the node was taken for dead.
    pub(crate) async fn on_our_node<T, F>(&self, seat: impl Fn(MediaNodeId) -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let node = self.node();
        match seat(node).await {
            Err(Error::Rejected(Rejected::NodeLost { node: lost, .. })) if lost == node => {
                self.begin_anew().await?;
                seat(self.node()).await
            }
            outcome => outcome,
        }
    }

    /// Somebody took a seat: their socket is to come.
    pub(crate) fn expect_socket(&self, stay: ParticipantId) {
        let change = self.presence().expect(stay);
        self.give_up_later(stay, change);
    }

    /// A socket of the seat is open for as long as this lives. None if as many as there may be are open.
    pub(crate) fn socket_opened(&self, stay: ParticipantId, most: usize) -> Option<OpenSocket> {
        self.presence().open(stay, most).then(|| {
            metrics::gauge!("signaling_sockets").increment(1);
            OpenSocket {
                app: self.clone(),
                stay,
            }
        })
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
            Ok(()) | Err(Error::NotFound(_)) => {}
            // The seat may be ours still: it is tried again, whatever it was. Who has left has nothing more to leave.
            Err(error) => {
                tracing::warn!(%stay, "a seat without a socket could not be left, and is tried again: {error}");
                self.expect_socket(stay);
            }
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
        if let Some(change) = self.app.presence().close(self.stay) {
            self.app.give_up_later(self.stay, change);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seat_is_given_up_by_the_timer_of_its_last_change_alone() {
        let (seats, stay) = (Presence::default(), ParticipantId::from_uuid(uuid::Uuid::nil()));
        let joined = seats.expect(stay);
        assert!(seats.open(stay, 2));
        assert!(!seats.is_given_up(stay, joined), "a socket came");
        let gone = seats.close(stay).unwrap();
        assert!(seats.open(stay, 2));
        assert!(!seats.is_given_up(stay, gone), "they came back");
        let gone_again = seats.close(stay).unwrap();
        assert!(!seats.is_given_up(stay, gone), "that was another time");
        assert!(seats.is_given_up(stay, gone_again));
        assert!(!seats.is_given_up(stay, gone_again), "once");
    }

    #[test]
    fn a_seat_is_kept_while_one_of_its_sockets_is_open() {
        let (seats, stay) = (Presence::default(), ParticipantId::from_uuid(uuid::Uuid::nil()));
        assert!(seats.open(stay, 2) && seats.open(stay, 2));
        assert!(!seats.open(stay, 2), "no more than these");
        assert_eq!(seats.close(stay), None);
        let change = seats.lock()[&stay].change;
        assert!(!seats.is_given_up(stay, change));
        seats.over(stay);
        assert_eq!(seats.close(stay), None, "nothing is waited for once the stay is over");
    }
}
