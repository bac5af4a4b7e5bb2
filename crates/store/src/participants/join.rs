//! `join`: a user takes a seat.

use entity::{ParticipantRole, RoomId, UserId, room_participant, user};

use super::Participants;
use crate::authority::Operation as Asked;
use crate::database::statement::enum_text;
use crate::error::{Conflict, Rejected, Result};
use crate::event::Change;
use crate::operation::{Event, Lock, Moment, Operation, Plan, Refusal};
use crate::rules::active;
use crate::unit::Sink;

impl<S: Sink> Participants<'_, S> {
    /// Takes a seat for `user`. The first to come starts the meeting. Appends USER_JOINED, and ROOM_STARTED before it if the
    /// meeting began. Takes the room's lock; one statement on PostgreSQL.
    ///
    /// The owner gets the HOST seat whatever `role` says, or a CO_HOST one while somebody else is HOST. Nobody else can come
    /// in as HOST. Coming back after leaving or a kick is a new participation. For oneself, or by the system for anybody.
    ///
    /// # Errors
    /// [`crate::Error::NotFound`] for room or user; [`Rejected::RoomStatus`] when the meeting is over or called off;
    /// [`Rejected::RoomFull`]; [`Rejected::AlreadyPresent`] with the seat they have; [`Rejected::Banned`];
    /// [`Rejected::UserInactive`]; [`Rejected::HostSeat`]; [`Rejected::NotAllowed`]; [`Conflict::SameInstant`].
    pub async fn join(&self, room: RoomId, user: UserId, role: ParticipantRole) -> Result<room_participant::Model> {
        self.source.perform(Join { room, user, role }).await
    }
}

pub(crate) struct Join {
    pub(crate) room: RoomId,
    pub(crate) user: UserId,
    pub(crate) role: ParticipantRole,
}

impl Operation for Join {
    const NAME: &'static str = "participants.join";
    type Output = room_participant::Model;

    fn plan(&self, at: &Moment<'_>) -> Plan {
        let Self { room, user, role } = *self;
        let plan = Plan::new(at, "seat")
            .denied(at.only_oneself(Asked::Join, Some(room), user))
            .bind("user", user)
            .bind("participant", at.id())
            .bind("role_text", enum_text(&role))
            // Users before rooms.
            .lock::<user::Entity>("member", Lock::Share, &["id"], "id = :user")
            .lock_room(room, &["id", "owner_id", "status"])
            .view::<room_participant::Entity>("present", format!("{OF_USER} AND left_at IS NULL"))
            .view::<room_participant::Entity>("twin", format!("{OF_USER} AND joined_at = :now"));

        let plan = active(view_ban(plan).room_exists(room), "member", user)
            .guard(
                "room",
                "status IN ('CREATED', 'LIVE')",
                Refusal::with("status", move |status| Rejected::RoomStatus { room, status }),
            )
            .absent_by("uq_room_participants_current", "present", already_present(room, user))
            .absent_by("uq_room_participants_current", "ban", banned(room, user))
            .guard(
                "room",
                "owner_id = :user OR :role_text <> 'HOST'",
                Rejected::HostSeat { room },
            )
            .guard(
                "room",
                "active_participants < max_participants",
                Refusal::with("max_participants", move |capacity| Rejected::RoomFull {
                    room,
                    capacity,
                }),
            )
            .absent_by(
                "uq_room_participants_joined",
                "twin",
                Conflict::SameInstant { user, room },
            );

        let seat_role = at.dialect.as_enum(
            "CASE WHEN room.owner_id <> :user THEN :role_text
                WHEN EXISTS (SELECT 1 FROM room_participants WHERE room_id = :room AND left_at IS NULL AND role = 'HOST')
                    THEN 'CO_HOST'
                ELSE 'HOST' END",
            "participant_role",
        );
        let peak = at.dialect.later("peak_participants", "active_participants + 1");
        let joined = Change::UserJoined {
            target: (at.actor.user_id() != Some(user)).then_some(user),
            role,
        };
        lift_expired_ban(at, plan, user, "room")
            // The unique indexes see what others committed meanwhile, and say no without an error.
            .insert::<room_participant::Entity>(
                "seat",
                at.dialect,
                format!(
                    "INSERT INTO room_participants (id, user_id, room_id, role, joined_at, is_kicked, is_banned)
                    SELECT :participant, :user, room.id, {seat_role}, :now, FALSE, FALSE FROM room
                    WHERE (SELECT count(*) FROM lifted) >= 0 ON CONFLICT DO NOTHING"
                ),
            )
            .effect(
                "counted",
                format!(
                    "UPDATE rooms SET active_participants = active_participants + 1, total_joins = total_joins + 1,
                        peak_participants = {peak}, status = 'LIVE', started_at = COALESCE(started_at, :now),
                        updated_at = :now
                    WHERE id = (SELECT room_id FROM seat)"
                ),
            )
            .event(
                at,
                &Event::of(
                    &Change::RoomStarted { by_join: true },
                    "seat, room WHERE room.status = 'CREATED'",
                )
                .room("seat.room_id"),
            )
            .event(
                at,
                &Event::of(&joined, "seat")
                    .room("seat.room_id")
                    .computed("role", "seat.role"),
            )
    }
}

/// A participation of `:user` in `:room`.
const OF_USER: &str = "room_id = :room AND user_id = :user";

/// Of a participation: it carries a ban that has not run out.
const BANNED_NOW: &str = "is_banned AND (ban_expires_at IS NULL OR ban_expires_at > :now)";

fn already_present(room: RoomId, user: UserId) -> Refusal {
    Refusal::with_all(["id", "role", "joined_at"], move |seat| {
        let already = Rejected::AlreadyPresent {
            user,
            room,
            seat: seat.get(0)?,
            role: seat.get(1)?,
            since: seat.get(2)?,
        };
        Ok(already.into())
    })
}

pub(super) fn banned(room: RoomId, user: UserId) -> Refusal {
    Refusal::with("ban_expires_at", move |until| Rejected::Banned { user, room, until })
}

/// A ban of `:user` in `:room` that stands: the view `ban`.
pub(super) fn view_ban(plan: Plan) -> Plan {
    plan.view::<room_participant::Entity>("ban", format!("{OF_USER} AND {BANNED_NOW}"))
}

/// Lifts the ban of `:user` if it has run out, in the room of the step `room`: step `lifted`, with USER_UNBANNED. It may write
/// although a unique index then refuses the plan's own row, which is fine for once: the ban is over either way, and the
/// step has an event of its own.
pub(super) fn lift_expired_ban(at: &Moment<'_>, plan: Plan, user: UserId, room: &str) -> Plan {
    let change = Change::UserUnbanned {
        target: user,
        expired: true,
    };
    plan.update_if_there::<room_participant::Entity>(
        "lifted",
        &["id", "room_id"],
        "is_banned = FALSE",
        format!("room_id = (SELECT id FROM {room}) AND user_id = :user AND is_banned AND ban_expires_at <= :now"),
    )
    .event(at, &Event::of(&change, "lifted").room("lifted.room_id"))
}
