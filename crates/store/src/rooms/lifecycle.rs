//! `start`, `end`, `cancel`: from CREATED to LIVE to ENDED, or to CANCELLED.

use entity::{RoomId, room, room_participant};

use super::Rooms;
use super::change::{changed, changing};
use crate::authority::Operation as Asked;
use crate::error::{Rejected, Result};
use crate::event::{Change, LeaveReason};
use crate::operation::{Columns, Event, Moment, Operation, Plan, Refusal};
use crate::rules::{CLOSED, each_left, end_participation_set, end_room_set, stop_recordings};
use crate::unit::Sink;

impl<S: Sink> Rooms<'_, S> {
    /// Lets a meeting begin: CREATED to LIVE. Appends ROOM_STARTED. The first join does this too. By the owner or the system.
    ///
    /// # Errors
    /// [`crate::Error::NotFound`]; [`Rejected::RoomStatus`] when it is not CREATED; [`Rejected::NotAllowed`].
    pub async fn start(&self, id: RoomId) -> Result<room::Model> {
        self.source.perform(Start(id)).await
    }

    /// Ends a meeting for good: LIVE to ENDED, with its duration. Every participation that is still open ends with it, and every recording
    /// that is still running. Appends a USER_LEFT ([`LeaveReason::RoomEnded`]) for each participation, a RECORDING_STOPPED for each
    /// recording, and ROOM_ENDED, which says how many participations those were. By the owner, the host or the system. Takes the room's lock; two
    /// statements in one transaction.
    ///
    /// # Errors
    /// [`crate::Error::NotFound`]; [`Rejected::RoomStatus`] when it is not LIVE; [`Rejected::NotAllowed`].
    pub async fn end(&self, id: RoomId) -> Result<room::Model> {
        self.source.perform(End(id)).await
    }

    /// Calls a meeting off before it began: CREATED to CANCELLED, for good. Appends ROOM_CANCELLED. By the owner or the system.
    ///
    /// # Errors
    /// [`crate::Error::NotFound`]; [`Rejected::RoomStatus`] when it is not CREATED; [`Rejected::NotAllowed`].
    pub async fn cancel(&self, id: RoomId) -> Result<room::Model> {
        self.source.perform(Cancel(id)).await
    }
}

/// Requires of the step `room` that its status is one of these, which is SQL to stand between parentheses.
pub(super) fn in_status(plan: Plan, room: RoomId, allowed: &str) -> Plan {
    let refusal = Refusal::with("status", move |status| Rejected::RoomStatus { room, status });
    plan.guard("room", format!("status IN ({allowed})"), refusal)
}

pub(crate) struct Start(pub(crate) RoomId);

impl Operation for Start {
    const NAME: &'static str = "rooms.start";
    type Output = room::Model;

    fn plan(&self, at: &Moment<'_>) -> Plan {
        let set = "status = 'LIVE', started_at = :now, updated_at = :now";
        let plan = changing(at, Asked::StartRoom, self.0, set);
        changed(
            at,
            in_status(plan, self.0, "'CREATED'"),
            &Change::RoomStarted { by_join: false },
        )
    }
}

pub(crate) struct Cancel(pub(crate) RoomId);

impl Operation for Cancel {
    const NAME: &'static str = "rooms.cancel";
    type Output = room::Model;

    fn plan(&self, at: &Moment<'_>) -> Plan {
        let set = "status = 'CANCELLED', updated_at = :now";
        let plan = changing(at, Asked::ManageRoom, self.0, set);
        changed(at, in_status(plan, self.0, "'CREATED'"), &Change::RoomCancelled {})
    }
}

pub(crate) struct End(pub(crate) RoomId);

impl Operation for End {
    const NAME: &'static str = "rooms.end";
    type Output = room::Model;

    /// The first plan takes the room's lock, so that nobody can come in any more; the second closes every participation that
    /// is open, those included that began while the first waited for the lock.
    fn plan(&self, at: &Moment<'_>) -> Plan {
        let plan = changing(at, Asked::EndRoom, self.0, end_room_set(at.dialect));
        in_status(plan, self.0, "'LIVE'").then(close(at, self.0))
    }
}

fn close(at: &Moment<'_>, room: RoomId) -> Plan {
    let change = Change::RoomEnded {
        duration_seconds: 0,
        ended_participations: 0,
    };
    let plan = Plan::without_answer(at, "ended")
        .bind("room", room)
        .update_if_there::<room_participant::Entity>(
            "closed",
            Columns::Of(CLOSED),
            end_participation_set(at.dialect),
            "room_id = :room AND left_at IS NULL",
        )
        .step(
            "ended",
            &["duration_seconds", "closed"],
            "SELECT duration_seconds, CAST((SELECT count(*) FROM closed) AS integer) AS closed FROM rooms WHERE id = :room",
        );
    let plan = each_left(at, plan, "closed", LeaveReason::RoomEnded);
    stop_recordings(at, plan, ":room").event(
        at,
        &Event::of(&change, "ended")
            .room(":room")
            .computed("duration_seconds", "ended.duration_seconds")
            .computed("ended_participations", "ended.closed"),
    )
}
