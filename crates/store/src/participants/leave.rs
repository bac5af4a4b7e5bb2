//! `leave`: a user gives the seat up.

use entity::{RoomId, UserId, room_participant};

use super::Participants;
use crate::authority::Operation as Asked;
use crate::error::{Rejected, Result};
use crate::event::Change;
use crate::operation::{Columns, Event, Moment, Operation, Plan};
use crate::rules::{end_if_empty, end_participation_set};
use crate::settings::EmptyRoomPolicy;
use crate::unit::Sink;

impl<S: Sink> Participants<'_, S> {
    /// Ends the participation of `user`, with its duration; the last one out may end the meeting, see [`EmptyRoomPolicy`]. Appends USER_LEFT.
    /// Takes the room's lock; one statement on PostgreSQL. For oneself, or by the system for anybody (a connection that was
    /// lost).
    ///
    /// # Errors
    /// [`crate::Error::NotFound`] for the room; [`Rejected::NotPresent`]; [`Rejected::NotAllowed`].
    pub async fn leave(&self, room: RoomId, user: UserId) -> Result<room_participant::Model> {
        let empty_rooms = self.source.context().empty_rooms();
        self.source
            .perform(Leave {
                room,
                user,
                empty_rooms,
            })
            .await
    }
}

pub(crate) struct Leave {
    pub(crate) room: RoomId,
    pub(crate) user: UserId,
    pub(crate) empty_rooms: EmptyRoomPolicy,
}

impl Operation for Leave {
    const NAME: &'static str = "participants.leave";
    type Output = room_participant::Model;

    fn plan(&self, at: &Moment<'_>) -> Plan {
        let Self {
            room,
            user,
            empty_rooms,
        } = *self;
        let left = Change::UserLeft {
            target: (at.actor.user_id() != Some(user)).then_some(user),
            duration_seconds: 0,
        };
        let plan = Plan::new(at, "seat")
            .denied(at.only_oneself(Asked::Leave, Some(room), user))
            .bind("user", user)
            .lock_room(room, &["id"])
            .room_exists(room)
            .update::<room_participant::Entity>("seat", Columns::All, end_participation_set(at.dialect), SEAT)
            .found("seat", Rejected::NotPresent { user, room })
            .count_out("seat")
            .event(
                at,
                &Event::of(&left, "seat")
                    .room("seat.room_id")
                    .computed("duration_seconds", "seat.duration_seconds"),
            );
        end_if_empty(at, plan, empty_rooms, (room, user), "TRUE")
    }
}

/// The key of the seat of `:user` in the step `room`.
pub(super) const SEAT: &str = "room_id = (SELECT id FROM room) AND user_id = :user AND left_at IS NULL";
