//! `kick`: a moderator puts a user out, who may come back.

use entity::{ParticipantRole, RoomId, UserId, room_participant};

use super::Participants;
use super::leave::{of_seat, seat_in_room};
use crate::authority::Operation as Asked;
use crate::error::{Error, Rejected, Result};
use crate::event::{Change, UNKNOWN_STAY};
use crate::input;
use crate::operation::{Columns, Moment, Operation, Plan};
use crate::rules::{ACTOR_ROLE, allowed, end_if_empty, end_participation_set, may_remove, not_allowed};
use crate::settings::EmptyRoomPolicy;
use crate::unit::Sink;

impl<S: Sink> Participants<'_, S> {
    /// Ends the participation of `user` against their will; they may come back. `reason` has at most 500 characters. Appends
    /// USER_KICKED. Takes the room's lock; one statement on PostgreSQL. By the owner, the host or the system; by a co-host
    /// if `user` is a participant. Nobody kicks the host, the owner, or themself.
    ///
    /// # Errors
    /// [`Error::Invalid`] for the reason; [`Error::NotFound`] for the room; [`Rejected::NotPresent`];
    /// [`Rejected::Protected`]; [`Rejected::NotAllowed`].
    pub async fn kick(&self, room: RoomId, user: UserId, reason: Option<&str>) -> Result<room_participant::Model> {
        let kick = Kick {
            room,
            user,
            reason: input::optional_line("kick_reason", reason, 500)?,
            empty_rooms: self.source.context().empty_rooms(),
        };
        self.source.perform(kick).await
    }
}

pub(crate) struct Kick {
    pub(crate) room: RoomId,
    pub(crate) user: UserId,
    pub(crate) reason: Option<String>,
    pub(crate) empty_rooms: EmptyRoomPolicy,
}

impl Operation for Kick {
    const NAME: &'static str = "participants.kick";
    type Output = room_participant::Model;

    fn plan(&self, at: &Moment<'_>) -> Plan {
        let (room, user, operation) = (self.room, self.user, Asked::Kick);
        let protected = Rejected::Protected { operation, user };
        let any = format!(
            "{ACTOR_ROLE} IN ({})",
            allowed(operation, Some(ParticipantRole::Participant))
        );
        let actor_role = format!("(SELECT {ACTOR_ROLE} FROM room)");
        let kicked = Change::UserKicked {
            target: user,
            stay: UNKNOWN_STAY,
            reason: self.reason.clone(),
            duration_seconds: 0,
        };
        let plan = Plan::new(at, "seat")
            .denied(protects_oneself(at, operation, user))
            .bind("user", user)
            .bind("reason", self.reason.clone())
            .lock_room(room, &["id", "owner_id"])
            .find_own_seat(at)
            .update::<room_participant::Entity>(
                "seat",
                Columns::All,
                format!(
                    "{}, is_kicked = TRUE, kicked_at = {}, kicked_by = :actor, kick_reason = :reason",
                    end_participation_set(at.dialect),
                    at.dialect.later(":now", "joined_at"),
                ),
                seat_in_room(at.dialect),
            )
            .room_exists(room)
            // Who may kick nobody learns nothing about who is there.
            .first("room", any, not_allowed(ACTOR_ROLE, operation, room, Some(user)))
            .found("seat", Rejected::NotPresent { user, room })
            .guard("seat", NOT_PROTECTED, protected)
            .guard(
                "seat",
                may_remove(operation),
                not_allowed(&actor_role, operation, room, Some(user)),
            )
            .count_out("seat")
            .event(
                at,
                &of_seat(at, &kicked)
                    .room("seat.room_id")
                    .computed("duration_seconds", "seat.duration_seconds"),
            );
        end_if_empty(at, plan, self.empty_rooms, ":room", "TRUE", [("room", room.into())])
    }
}

/// Of a seat: neither the host's nor the owner's.
pub(super) const NOT_PROTECTED: &str = "CAST(role AS text) <> 'HOST' AND user_id <> (SELECT owner_id FROM room)";

/// Nobody kicks or bans themself.
pub(super) fn protects_oneself(at: &Moment<'_>, operation: Asked, user: UserId) -> Option<Error> {
    (at.actor.user_id() == Some(user)).then(|| Rejected::Protected { operation, user }.into())
}
