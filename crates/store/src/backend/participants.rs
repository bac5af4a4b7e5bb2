//! Statements that seat and unseat people. Lock order: users, rooms, participants; see docs/INVARIANTS.md.

use entity::{ParticipantRole, RoomId, UserId, room_participant};
use sea_orm::{ActiveEnum, Iterable};

use super::audit::Entry;
use super::plan::{Kind, Plan, Step};
use super::rooms::{STANDING, active_user, find_standing, lock_room};
use crate::audit::Change;
use crate::authority::{Operation, Standing, may};
use crate::operation::Moment;

pub(crate) fn text(role: ParticipantRole) -> String {
    role.to_value().value.into_owned()
}

/// Takes a seat: 1 statement. The room goes live with the first.
pub(crate) fn join(at: &Moment<'_>, room: RoomId, user: UserId, role: ParticipantRole) -> Plan {
    let columns = at.dialect.columns_of::<room_participant::Entity>();
    let seat_role = at.dialect.as_enum(
        "CASE WHEN locked.owner_id <> :user THEN :role_text
            WHEN EXISTS (SELECT 1 FROM room_participants WHERE room_id = :room AND left_at IS NULL AND role = 'HOST')
                THEN 'CO_HOST'
            ELSE 'HOST' END",
        "participant_role",
    );
    let joined = Change::UserJoined {
        target: (at.actor.user_id() != Some(user)).then_some(user),
        role,
    };
    let plan = Plan::yielding("seat")
        .bind("room", room)
        .bind("user", user)
        .bind("stay", at.id())
        .bind("role_text", text(role))
        .bind("now", at.now)
        .step(active_user(at.dialect, "member", ":user"))
        .step(Step::guard(
            "locked",
            &[("id", Kind::Uuid), ("owner_id", Kind::Uuid), ("status", Kind::Text)],
            format!(
                "SELECT id, owner_id, CAST(status AS text) AS status FROM rooms
                WHERE id = :room AND deleted_at IS NULL AND EXISTS (SELECT 1 FROM member)
                    AND status IN ('CREATED', 'LIVE') AND active_participants < max_participants
                    AND (owner_id = :user OR :role_text <> 'HOST'){}",
                at.dialect.for_change()
            ),
        ))
        .step(lift_expired_ban("locked"))
        // The unique indexes see what others committed meanwhile, and say no without an error.
        .step(Step::guard(
            "seat",
            &[("room_id", Kind::Uuid), ("role", Kind::Text)],
            format!(
                "INSERT INTO room_participants (id, user_id, room_id, role, joined_at, is_kicked, is_banned)
                SELECT :stay, :user, locked.id, {seat_role}, :now, FALSE, FALSE FROM locked
                WHERE (SELECT count(*) FROM lifted) >= 0 ON CONFLICT DO NOTHING RETURNING {columns}"
            ),
        ))
        .step(Step::effect(
            "counted",
            format!(
                "UPDATE rooms SET active_participants = active_participants + 1, total_joins = total_joins + 1,
                    peak_participants = {peak}, status = 'LIVE', started_at = COALESCE(started_at, :now), updated_at = :now
                WHERE id = (SELECT room_id FROM seat)",
                peak = at.dialect.later("peak_participants", "active_participants + 1"),
            ),
        ));
    let lifted = Change::UserUnbanned {
        target: user,
        expired: true,
    };
    let lifted = Entry {
        name: "lift_audited",
        from: "lifted",
        room: "lifted.room_id",
        event: &lifted,
        computed: &[],
    };
    let started = Entry {
        name: "start_audited",
        from: "seat, locked WHERE locked.status = 'CREATED'",
        room: "seat.room_id",
        event: &Change::RoomStarted { by_join: true },
        computed: &[],
    };
    plan.audit_brought(at, [Some(&lifted), Some(&started)]).audit(
        at,
        &Entry {
            name: "audited",
            from: "seat",
            room: "seat.room_id",
            event: &joined,
            computed: &[("role", "seat.role")],
        },
    )
}

/// Lifts the ban of `:user` if it has run out: step `lifted`, in the room whose id the guard `room` hands on. It may write
/// although a unique index then refuses the plan's own row, which is fine for once: the ban is over either way, and the
/// step has an event of its own.
pub(crate) fn lift_expired_ban(room: &str) -> Step {
    Step::lookup(
        "lifted",
        &[("id", Kind::Uuid), ("room_id", Kind::Uuid)],
        format!(
            "UPDATE room_participants SET is_banned = FALSE
            WHERE room_id = (SELECT id FROM {room}) AND user_id = :user AND is_banned AND ban_expires_at <= :now
            RETURNING id, room_id"
        ),
    )
}

/// Ends a stay by its user's wish: 1 statement.
pub(crate) fn leave(at: &Moment<'_>, room: RoomId, user: UserId) -> Plan {
    let event = Change::UserLeft {
        target: (at.actor.user_id() != Some(user)).then_some(user),
        duration_seconds: 0,
    };
    let plan = lock_room(at, Plan::yielding("seat"), room).bind("user", user);
    end_stay(at, plan, "", "", &event)
}

/// Ends a stay by somebody else's: 1 statement.
pub(crate) fn kick(at: &Moment<'_>, room: RoomId, target: UserId, reason: Option<&str>) -> Plan {
    let event = Change::UserKicked {
        target,
        reason: reason.map(str::to_owned),
        duration_seconds: 0,
    };
    let guard = format!(" AND {}", may_remove(Operation::Kick));
    let plan = find_standing(at, lock_room(at, Plan::yielding("seat"), room))
        .bind("user", target)
        .bind("reason", reason.map(str::to_owned));
    let left_at = at.dialect.later(":now", "joined_at");
    let set = format!(", is_kicked = TRUE, kicked_at = {left_at}, kicked_by = :actor, kick_reason = :reason");
    end_stay(at, plan, &set, &guard, &event)
}

/// SQL that is true of a present seat whose user the actor may put out by `operation`. Needs steps `locked` and `seated`.
pub(crate) fn may_remove(operation: Operation) -> String {
    let pairs: Vec<String> = Standing::IN_A_ROOM
        .into_iter()
        .flat_map(|standing| ParticipantRole::iter().map(move |role| (standing, role)))
        .filter(|(standing, role)| may(operation, *standing, Some(*role)))
        .map(|(standing, role)| format!("('{}', '{}')", standing.code(), text(role)))
        .collect();
    format!(
        "user_id <> (SELECT owner_id FROM locked)
        AND ((SELECT {STANDING} FROM locked), CAST(role AS text)) IN (VALUES {})",
        pairs.join(", ")
    )
}

/// Closes the present seat of `:user` in the locked room, and counts it out.
fn end_stay(at: &Moment<'_>, plan: Plan, set: &str, guard: &str, event: &Change) -> Plan {
    let columns = at.dialect.columns_of::<room_participant::Entity>();
    let left_at = at.dialect.later(":now", "joined_at");
    let duration = at.dialect.seconds_between("joined_at", &left_at);
    plan.step(Step::guard(
        "seat",
        &[("room_id", Kind::Uuid), ("duration_seconds", Kind::Integer)],
        format!(
            "UPDATE room_participants SET left_at = {left_at}, duration_seconds = {duration}{set}
            WHERE room_id = (SELECT id FROM locked) AND user_id = :user AND left_at IS NULL{guard}
            RETURNING {columns}"
        ),
    ))
    .step(Step::effect(
        "counted",
        "UPDATE rooms SET active_participants = active_participants - 1, updated_at = :now
        WHERE id = (SELECT room_id FROM seat)",
    ))
    .audit(
        at,
        &Entry {
            name: "audited",
            from: "seat",
            room: "seat.room_id",
            event,
            computed: &[("duration_seconds", "seat.duration_seconds")],
        },
    )
}
