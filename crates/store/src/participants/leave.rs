//! `leave`: a user gives the seat up.

use entity::{AuditAction, RoomId, UserId, room_participant};

use super::Participants;
use crate::actor::Actor;
use crate::authority::{Operation as Asked, may};
use crate::database::Dialect;
use crate::error::{Rejected, Result};
use crate::event::{Change, LeaveReason, UNKNOWN_STAY};
use crate::operation::{AskedList, Columns, DONE, Event, Grouped, Member, Moment, Operation, Plan};
use crate::rules::{end_if_empty, end_participation_set, seat_key};
use crate::settings::EmptyRoomPolicy;
use crate::unit::Sink;

impl<S: Sink> Participants<'_, S> {
    /// Ends the participation of `user`, with its duration; the last one out may end the meeting, see [`EmptyRoomPolicy`]. Appends USER_LEFT,
    /// with [`LeaveReason::Left`].
    /// Takes the room's lock; one statement on PostgreSQL. For oneself, or by the system for anybody (a connection that was
    /// lost).
    ///
    /// # Errors
    /// [`crate::Error::NotFound`] for the room; [`Rejected::NotPresent`]; [`Rejected::NotAllowed`].
    pub async fn leave(&self, room: RoomId, user: UserId) -> Result<room_participant::Model> {
        let empty_rooms = self.source.context().empty_rooms();
        self.source
            .perform_grouped(Leave {
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
        let left = self.left(at.actor);
        let plan = Plan::new(at, "seat")
            .denied(at.only_oneself(Asked::Leave, Some(room), user))
            .bind("user", user)
            .lock_room(room, &["id"])
            .room_exists(room)
            .update::<room_participant::Entity>(
                "seat",
                Columns::All,
                end_participation_set(at.dialect),
                seat_in_room(at.dialect),
            )
            .found("seat", Rejected::NotPresent { user, room })
            .count_out("seat")
            .event(
                at,
                &of_seat(at, &left)
                    .room("seat.room_id")
                    .computed("duration_seconds", "seat.duration_seconds"),
            );
        end_if_empty(at, plan, empty_rooms, ":room", "TRUE", [("room", room.into())])
    }
}

impl Grouped for Leave {
    fn room(&self) -> RoomId {
        self.room
    }

    fn user(&self) -> UserId {
        self.user
    }

    fn is_ordinary(&self, actor: &Actor) -> bool {
        may(Asked::Leave, actor.role_towards(self.user), None)
    }

    /// Ends the participations of all who are present. Where the room would end with the last of them, somebody else must be left.
    fn together(at: &Moment<'_>, room: RoomId, those: &[Member<'_, Self>]) -> Plan {
        let mut asked = AskedList::of(AuditAction::UserLeft);
        for Member { operation, actor } in those {
            asked.push(at, operation.user, actor, &operation.left(actor), &[]);
        }
        let keeps_open = those
            .iter()
            .all(|member| member.operation.empty_rooms == EmptyRoomPolicy::KeepOpen);
        let somebody_stays = if keeps_open {
            "TRUE"
        } else {
            "active_participants > (SELECT count(*) FROM asked)"
        };
        Plan::new(at, DONE)
            .bind("room", room)
            .asked(asked, "")
            .lookup(
                "room",
                &["id"],
                format!(
                    "SELECT id FROM rooms WHERE id = :room AND deleted_at IS NULL AND {somebody_stays}{}",
                    at.dialect.for_change()
                ),
            )
            .lookup(
                "seat",
                &["room_id"],
                format!(
                    "UPDATE room_participants SET {} WHERE room_id = (SELECT id FROM room) AND left_at IS NULL AND {}{} RETURNING {}",
                    end_participation_set(at.dialect),
                    at.dialect.among("user_id", "SELECT about FROM asked"),
                    at.dialect.among_current(),
                    at.dialect.columns_of::<room_participant::Entity>()
                ),
            )
            .done_together(
                at,
                "active_participants = active_participants - done.number",
                &[("duration_seconds", "seat.duration_seconds")],
            )
    }
}

impl Leave {
    fn left(&self, actor: &Actor) -> Change {
        Change::UserLeft {
            target: actor.other_than_self(self.user),
            stay: UNKNOWN_STAY,
            reason: LeaveReason::Left,
            duration_seconds: 0,
        }
    }
}

/// An event of the stay in the step `seat`.
pub(super) fn of_seat(at: &Moment<'_>, change: &Change) -> Event {
    Event::of(change, "seat").computed("stay", at.dialect.uuid_text("seat.id"))
}

/// The key of the seat of `:user` in the step `room`.
pub(super) fn seat_in_room(dialect: Dialect) -> String {
    seat_key(dialect, "(SELECT id FROM room)", ":user")
}
