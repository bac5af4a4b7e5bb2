//! `leave_stay`: exactly this participation ends, whatever its user did since.

use chrono::{DateTime, Utc};
use entity::{ParticipantId, RoomId, UserId, room, room_participant};

use super::Participants;
use super::leave::of_seat;
use crate::authority::{ActorRole, Operation as Asked};
use crate::error::{Error, Invalid, Rejected, Result, Rule, Subject};
use crate::event::{Change, LeaveReason, UNKNOWN_STAY};
use crate::input;
use crate::operation::{Columns, Lock, Moment, Operation, Plan, Refusal};
use crate::rules::{end_if_empty, end_participation_at};
use crate::settings::EmptyRoomPolicy;
use crate::unit::Sink;

/// How a participation ended, for [`Participants::leave_stay`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeaveDetails {
    /// When, if not just now: that a connection was lost is often noticed later. Never in the future.
    pub at: Option<DateTime<Utc>>,
    /// Why: [`LeaveReason::Left`], [`LeaveReason::LostConnection`] or [`LeaveReason::Moved`]. What the others stand for, the store
    /// does itself.
    pub reason: LeaveReason,
}

impl<S: Sink> Participants<'_, S> {
    /// Ends this very participation, with its duration; the last one out may end the meeting, see [`EmptyRoomPolicy`]. Appends
    /// USER_LEFT with the reason. Where it has ended already it stays so and nothing is appended: what tells of a lost
    /// connection may come twice, or late, and a rejoin, which is another participation, is never closed by it.
    ///
    /// It ended `details.at` or now; when that is before it began, when it began. The event has the time at which it was appended. An end that
    /// the system says and that lies before the one that is known replaces it, but for that of a kick or a ban: so a report that comes after the
    /// room was ended leaves what it would have left in time, whichever of two reports comes first. Appends USER_STAY_CORRECTED then.
    ///
    /// Takes the room's lock, if it has not ended; one statement on PostgreSQL, and three where it has, or four where that is corrected. For
    /// oneself, or by the system for anybody.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a time that is to come, by the store's clock, or a reason that is not a caller's; [`Error::NotFound`] when there never was such a
    /// participation; [`Rejected::NotAllowed`].
    pub async fn leave_stay(&self, stay: ParticipantId, details: LeaveDetails) -> Result<room_participant::Model> {
        let LeaveDetails { at, reason } = details;
        if !matches!(
            reason,
            LeaveReason::Left | LeaveReason::LostConnection | LeaveReason::Moved
        ) {
            let (field, rule) = ("reason", Rule::OneOf("left, lost_connection, moved"));
            return Err(Invalid { field, rule }.into());
        }
        let at = at.map(|at| input::time("at", at)).transpose()?;
        if at.is_some_and(|at| at > self.source.context().now()) {
            let (field, rule) = ("at", Rule::NotAfter("now"));
            return Err(Invalid { field, rule }.into());
        }
        let empty_rooms = self.source.context().empty_rooms();
        let leave = LeaveStay {
            stay,
            at,
            reason,
            empty_rooms,
        };
        match self.source.perform(leave).await {
            Err(Error::Rejected(Rejected::NotPresent { .. })) => self.correct(stay, at).await,
            outcome => outcome,
        }
    }

    /// A participation that is over: it does not begin again, and what is read now is what was found then, or an earlier end.
    async fn correct(&self, stay: ParticipantId, at: Option<DateTime<Utc>>) -> Result<room_participant::Model> {
        let over = self.get(stay).await?;
        let Some(left_at) = at.filter(|at| over.left_at > Some((*at).max(over.joined_at))) else {
            return Ok(over);
        };
        if over.is_kicked || over.is_banned || !self.source.actor().is_system() {
            return Ok(over);
        }
        match self.source.perform(CorrectStay { stay, left_at }).await {
            // Somebody else was here first, with an end that is earlier still.
            Err(Error::Rejected(Rejected::NotPresent { .. })) => self.get(stay).await,
            outcome => outcome,
        }
    }
}

pub(crate) struct LeaveStay {
    pub(crate) stay: ParticipantId,
    pub(crate) at: Option<DateTime<Utc>>,
    pub(crate) reason: LeaveReason,
    pub(crate) empty_rooms: EmptyRoomPolicy,
}

impl Operation for LeaveStay {
    const NAME: &'static str = "participants.leave_stay";
    type Output = room_participant::Model;

    /// Whose it is and in which room never changes, nor that it has ended: so much is read before the room is locked, and who has
    /// nothing to end does not wait for the lock.
    fn plan(&self, at: &Moment<'_>) -> Plan {
        let stay = self.stay;
        let left = Change::UserLeft {
            target: None,
            stay: UNKNOWN_STAY,
            reason: self.reason,
            duration_seconds: 0,
        };
        let plan = Plan::new(at, "seat")
            .bind("stay", stay)
            .bind("left_at", self.at.unwrap_or(at.now))
            .lock::<room_participant::Entity>("named", Lock::None, &["id", "room_id"], "id = :stay")
            .lock::<room::Entity>("room", Lock::Change, &["id"], "id = (SELECT room_id FROM named)")
            .update::<room_participant::Entity>(
                "seat",
                Columns::All,
                end_participation_at(at.dialect, ":left_at"),
                "id = :stay AND room_id = (SELECT id FROM room) AND left_at IS NULL",
            )
            .found("named", Error::NotFound(Subject::Participant(stay)))
            .guard("named", ":is_system OR user_id = :actor", not_theirs())
            .guard("named", "left_at IS NULL", over())
            .count_out("seat")
            .event(
                at,
                &of_seat(at, &left)
                    .room("seat.room_id")
                    .done_to("seat.user_id")
                    .computed("duration_seconds", "seat.duration_seconds"),
            );
        let its_room = "(SELECT room_id FROM room_participants WHERE id = :stay)";
        end_if_empty(at, plan, self.empty_rooms, its_room, "TRUE", [("stay", stay.into())])
    }
}

pub(crate) struct CorrectStay {
    pub(crate) stay: ParticipantId,
    pub(crate) left_at: DateTime<Utc>,
}

impl Operation for CorrectStay {
    const NAME: &'static str = "participants.correct_stay";
    type Output = room_participant::Model;

    /// The update asks all of it again: of two corrections the earlier end stays, whichever comes first.
    fn plan(&self, at: &Moment<'_>) -> Plan {
        let corrected = Change::UserStayCorrected {
            target: None,
            stay: UNKNOWN_STAY,
            duration_seconds: 0,
        };
        let left_at = at.dialect.later(":left_at", "joined_at");
        Plan::new(at, "seat")
            .bind("stay", self.stay)
            .bind("left_at", self.left_at)
            .update::<room_participant::Entity>(
                "seat",
                Columns::All,
                end_participation_at(at.dialect, ":left_at"),
                "id = :stay",
            )
            .found("seat", Error::NotFound(Subject::Participant(self.stay)))
            .guard(
                "seat",
                format!("left_at > {left_at} AND NOT is_kicked AND NOT is_banned"),
                over(),
            )
            .event(
                at,
                &of_seat(at, &corrected)
                    .room("seat.room_id")
                    .done_to("seat.user_id")
                    .computed("duration_seconds", "seat.duration_seconds"),
            )
    }
}

fn not_theirs() -> Refusal {
    Refusal::with_all(["room_id", "user_id"], |named| {
        let (room, user): (RoomId, UserId) = (named.get(0)?, named.get(1)?);
        let refusal = Rejected::NotAllowed {
            operation: Asked::Leave,
            actor_role: ActorRole::Outsider,
            room: Some(room),
            user: Some(user),
        };
        Ok(refusal.into())
    })
}

/// For operations that know it to be no failure.
pub(super) fn over() -> Refusal {
    Refusal::with_all(["room_id", "user_id"], |named| {
        let (room, user) = (named.get(0)?, named.get(1)?);
        Ok(Rejected::NotPresent { user, room }.into())
    })
}
