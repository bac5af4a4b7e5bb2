//! `promote`, `demote` and `hand_over_host`: who is what in a meeting.

use entity::{ParticipantRole, RoomId, UserId, room_participant};

use super::Participants;
use super::leave::seat_in_room;
use crate::authority::Operation as Asked;
use crate::database::statement::enum_text;
use crate::error::{Rejected, Result};
use crate::event::Change;
use crate::operation::{Columns, Event, Lock, Moment, Operation, Plan};
use crate::rules::seat_key;
use crate::unit::Sink;

impl<S: Sink> Participants<'_, S> {
    /// PARTICIPANT to CO_HOST, of somebody present. Appends ROLE_PROMOTION. By the owner, the host or the system. Takes the
    /// room's lock; one statement on PostgreSQL.
    ///
    /// # Errors
    /// [`crate::Error::NotFound`] for the room; [`Rejected::NotPresent`]; [`Rejected::AlreadyRole`]; [`Rejected::Protected`] for the
    /// host, whose role is handed over instead; [`Rejected::NotAllowed`].
    pub async fn promote(&self, room: RoomId, user: UserId) -> Result<room_participant::Model> {
        let to = ParticipantRole::CoHost;
        self.source.perform(ChangeRole { room, user, to }).await
    }

    /// CO_HOST to PARTICIPANT, of somebody present. Appends ROLE_DEMOTION. Otherwise as [`Participants::promote`].
    ///
    /// # Errors
    /// As of [`Participants::promote`].
    pub async fn demote(&self, room: RoomId, user: UserId) -> Result<room_participant::Model> {
        let to = ParticipantRole::Participant;
        self.source.perform(ChangeRole { room, user, to }).await
    }

    /// Makes `to`, who is present, the HOST; who was becomes CO_HOST. At no time are there two. Appends ROLE_CHANGED with the
    /// former host. By the host, the owner or the system. Takes the room's lock; two statements in one transaction.
    ///
    /// # Errors
    /// [`crate::Error::NotFound`] for the room; [`Rejected::NotPresent`]; [`Rejected::AlreadyRole`]; [`Rejected::NotAllowed`].
    pub async fn hand_over_host(&self, room: RoomId, to: UserId) -> Result<room_participant::Model> {
        self.source.perform(HandOver { room, to }).await
    }
}

pub(crate) struct ChangeRole {
    pub(crate) room: RoomId,
    pub(crate) user: UserId,
    pub(crate) to: ParticipantRole,
}

impl Operation for ChangeRole {
    const NAME: &'static str = "participants.change_role";
    type Output = room_participant::Model;

    fn plan(&self, at: &Moment<'_>) -> Plan {
        let Self { room, user, to } = *self;
        let (operation, target) = (Asked::ChangeRole, user);
        let (from, change) = if to == ParticipantRole::CoHost {
            let from = ParticipantRole::Participant;
            (from, Change::RolePromotion { target, from, to })
        } else {
            let from = ParticipantRole::CoHost;
            (from, Change::RoleDemotion { target, from, to })
        };
        Plan::new(at, "seat")
            .bind("user", user)
            .lock_room(room, &["id", "owner_id"])
            .find_own_seat(at)
            .update::<room_participant::Entity>(
                "seat",
                Columns::All,
                format!("role = '{}'", enum_text(&to)),
                seat_in_room(at.dialect),
            )
            .room_exists(room)
            .allowed(operation, room, Some(user))
            .found("seat", Rejected::NotPresent { user, room })
            .guard(
                "seat",
                "CAST(role AS text) <> 'HOST'",
                Rejected::Protected { operation, user },
            )
            .guard(
                "seat",
                format!("CAST(role AS text) = '{}'", enum_text(&from)),
                Rejected::AlreadyRole { user, room, role: to },
            )
            .event(at, &Event::of(&change, "seat").room("seat.room_id"))
    }
}

pub(crate) struct HandOver {
    pub(crate) room: RoomId,
    pub(crate) to: UserId,
}

impl Operation for HandOver {
    const NAME: &'static str = "participants.hand_over_host";
    type Output = room_participant::Model;

    /// The first plan takes the room's lock and finds the new host's seat; the second sees every host there is, one included who
    /// came while the first waited for the lock.
    fn plan(&self, at: &Moment<'_>) -> Plan {
        let (room, user, role) = (self.room, self.to, ParticipantRole::Host);
        let change = Change::RoleChanged {
            target: user,
            from: ParticipantRole::Participant,
            to: role,
            former_host: None,
        };
        let promote = Plan::new(at, "promoted")
            .bind("room", room)
            .bind("user", user)
            .lock::<room_participant::Entity>(
                "heir",
                Lock::Change,
                &["id", "role"],
                seat_key(at.dialect, ":room", ":user"),
            )
            .update_if_there::<room_participant::Entity>(
                "demoted",
                &["id", "user_id"],
                "role = 'CO_HOST'",
                "room_id = :room AND left_at IS NULL AND role = 'HOST'",
            )
            .update::<room_participant::Entity>(
                "promoted",
                Columns::All,
                "role = 'HOST'",
                "id = (SELECT id FROM heir) AND (SELECT count(*) FROM demoted) >= 0",
            )
            .event(
                at,
                &Event::of(&change, "promoted, heir")
                    .room("promoted.room_id")
                    .computed("from", "heir.role")
                    .computed("former_host", at.dialect.uuid_text("(SELECT user_id FROM demoted)")),
            );
        Plan::without_answer(at, "heir")
            .bind("user", user)
            .lock_room(room, &["id", "owner_id"])
            .find_own_seat(at)
            .gate("allowed", "room")
            // Locked, so that it is the seat as it is now, not as it was before the wait for the room.
            .lock::<room_participant::Entity>(
                "heir",
                Lock::Change,
                &["id"],
                seat_key(at.dialect, "(SELECT id FROM allowed)", ":user"),
            )
            .room_exists(room)
            .allowed(Asked::HandOver, room, Some(user))
            .found("heir", Rejected::NotPresent { user, room })
            .guard(
                "heir",
                "CAST(role AS text) <> 'HOST'",
                Rejected::AlreadyRole { user, room, role },
            )
            .then(promote)
    }
}
