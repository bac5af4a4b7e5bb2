//! Statements of moderators: bans and roles. Lock order: users, rooms, participants; see docs/INVARIANTS.md.

use chrono::{DateTime, Utc};
use entity::{ParticipantId, ParticipantRole, RoomId, UserId, room_participant};

use super::audit::Entry;
use super::participants::{lift_expired_ban, may_remove, text};
use super::plan::{Kind, Plan, Step};
use super::rooms::{STANDING, allowed_standings, find_standing, lock_room};
use crate::audit::Change;
use crate::authority::Operation;
use crate::operation::Moment;

/// Bans: 1 statement. Somebody present is put out, and the ban stands on the stay that this ended; for somebody absent a row
/// is made that begins and ends at once.
pub(crate) fn ban(
    at: &Moment<'_>,
    room: RoomId,
    user: UserId,
    reason: Option<&str>,
    expires_at: Option<DateTime<Utc>>,
) -> Plan {
    let left_at = at.dialect.later(":now", "joined_at");
    let duration = at.dialect.seconds_between("joined_at", &left_at);
    let lifted = Change::UserUnbanned {
        target: user,
        expired: true,
    };
    let event = Change::UserBanned {
        target: user,
        reason: reason.map(str::to_owned),
        expires_at,
        was_present: false,
    };
    let plan = Plan::yielding("done")
        .bind("user", user)
        .bind("stay", at.id())
        .bind("reason", reason.map(str::to_owned))
        .bind("expires_at", expires_at)
        .step(Step::guard(
            "known",
            &[("id", Kind::Uuid)],
            "SELECT id FROM users WHERE id = :user AND deleted_at IS NULL",
        ));
    let plan = find_standing(at, lock_room(at, plan, room))
        .step(Step::guard(
            "bannable",
            &[("id", Kind::Uuid), ("owner_id", Kind::Uuid)],
            // All that may refuse a ban of somebody absent: past this, an expired ban is lifted for good.
            format!(
                "SELECT locked.id, locked.owner_id FROM locked, known
                WHERE locked.owner_id <> :user AND {STANDING} IN ({})",
                allowed_standings(Operation::Ban)
            ),
        ))
        .step(lift_expired_ban("bannable"))
        .step(Step::lookup(
            "closed",
            &[("id", Kind::Uuid), ("room_id", Kind::Uuid)],
            format!(
                "UPDATE room_participants SET left_at = {left_at}, duration_seconds = {duration},
                    is_kicked = TRUE, kicked_at = {left_at}, kicked_by = :actor, kick_reason = :reason,
                    is_banned = TRUE, banned_at = :now, banned_by = :actor, ban_reason = :reason, ban_expires_at = :expires_at
                WHERE room_id = (SELECT id FROM bannable) AND user_id = :user AND left_at IS NULL AND {}
                RETURNING id, room_id",
                may_remove(Operation::Ban)
            ),
        ))
        .step(Step::effect(
            "counted",
            "UPDATE rooms SET active_participants = active_participants - 1, updated_at = :now
            WHERE id = (SELECT room_id FROM closed)",
        ))
        .step(Step::lookup(
            "barred",
            &[("id", Kind::Uuid)],
            format!(
                "INSERT INTO room_participants (id, user_id, room_id, role, joined_at, left_at, duration_seconds, is_kicked,
                    is_banned, banned_at, banned_by, ban_reason, ban_expires_at)
                SELECT :stay, :user, bannable.id, {role}, :now, :now, 0, FALSE, TRUE, :now, :actor, :reason, :expires_at
                FROM bannable WHERE NOT EXISTS (SELECT 1 FROM closed) AND (SELECT count(*) FROM lifted) >= 0
                ON CONFLICT DO NOTHING RETURNING id",
                role = at.dialect.as_enum("'PARTICIPANT'", "participant_role"),
            ),
        ))
        .step(Step::guard(
            "done",
            &[("id", Kind::Uuid), ("was_present", Kind::Integer)],
            "SELECT id, 1 AS was_present FROM closed UNION ALL SELECT id, 0 AS was_present FROM barred",
        ));
    plan.audit_brought(
        at,
        [
            Some(&Entry {
                name: "lift_audited",
                from: "lifted",
                room: "lifted.room_id",
                event: &lifted,
                computed: &[],
            }),
            None,
        ],
    )
    .audit(
        at,
        &Entry {
            name: "audited",
            from: "done",
            room: ":room",
            event: &event,
            computed: &[("was_present", &at.dialect.json_bool("done.was_present = 1"))],
        },
    )
}

/// Lifts a standing ban: 1 statement.
pub(crate) fn unban(at: &Moment<'_>, room: RoomId, user: UserId) -> Plan {
    let event = Change::UserUnbanned {
        target: user,
        expired: false,
    };
    change_row(
        at,
        room,
        user,
        Operation::Unban,
        "is_banned = FALSE",
        "is_banned",
        &event,
    )
}

/// PARTICIPANT to CO_HOST or back: 1 statement.
pub(crate) fn change_role(
    at: &Moment<'_>,
    room: RoomId,
    user: UserId,
    from: ParticipantRole,
    to: ParticipantRole,
) -> Plan {
    let target = user;
    let event = if to == ParticipantRole::CoHost {
        Change::RolePromotion { target, from, to }
    } else {
        Change::RoleDemotion { target, from, to }
    };
    let set = format!("role = '{}'", text(to));
    let guard = format!("left_at IS NULL AND role = '{}'", text(from));
    change_row(at, room, user, Operation::ChangeRole, &set, &guard, &event)
}

/// Changes the one row of `user` that `guard` singles out, if the actor may.
fn change_row(
    at: &Moment<'_>,
    room: RoomId,
    user: UserId,
    operation: Operation,
    set: &str,
    guard: &str,
    event: &Change,
) -> Plan {
    let columns = at.dialect.columns_of::<room_participant::Entity>();
    find_standing(at, lock_room(at, Plan::yielding("changed"), room))
        .bind("user", user)
        .step(Step::guard(
            "changed",
            &[("room_id", Kind::Uuid)],
            format!(
                "UPDATE room_participants SET {set}
                WHERE room_id = (SELECT id FROM locked) AND user_id = :user AND {guard}
                    AND (SELECT {STANDING} FROM locked) IN ({})
                RETURNING {columns}",
                allowed_standings(operation)
            ),
        ))
        .audit(
            at,
            &Entry {
                name: "audited",
                from: "changed",
                room: "changed.room_id",
                event,
                computed: &[],
            },
        )
}

/// The first of 2 statements of a hand-over: takes the room's lock and finds the new host's seat.
pub(crate) fn prepare_hand_over(at: &Moment<'_>, room: RoomId, to: UserId) -> Plan {
    find_standing(at, lock_room(at, Plan::yielding("heir"), room))
        .bind("user", to)
        .step(Step::guard(
            "heir",
            &[],
            format!(
                "SELECT id, CAST(role AS text) AS role FROM room_participants
                WHERE room_id = (SELECT id FROM locked) AND user_id = :user AND left_at IS NULL AND role <> 'HOST'
                    AND (SELECT {STANDING} FROM locked) IN ({}){}",
                allowed_standings(Operation::HandOver),
                // Reads the seat as it is now, not as it was before the wait for the room.
                at.dialect.for_change()
            ),
        ))
}

/// The second: it sees every host there is, one included who came while the first waited for the lock.
pub(crate) fn hand_over(at: &Moment<'_>, room: RoomId, to: UserId, heir: ParticipantId, from: ParticipantRole) -> Plan {
    let columns = at.dialect.columns_of::<room_participant::Entity>();
    let event = Change::RoleChanged {
        target: to,
        from,
        to: ParticipantRole::Host,
        former_host: None,
    };
    let former = at.dialect.uuid_text("(SELECT user_id FROM demoted)");
    Plan::yielding("promoted")
        .bind("room", room)
        .bind("heir", heir)
        .step(Step::lookup(
            "demoted",
            &[("id", Kind::Uuid), ("user_id", Kind::Uuid)],
            "UPDATE room_participants SET role = 'CO_HOST'
            WHERE room_id = :room AND left_at IS NULL AND role = 'HOST' RETURNING id, user_id",
        ))
        .step(Step::guard(
            "promoted",
            &[("room_id", Kind::Uuid)],
            format!(
                "UPDATE room_participants SET role = 'HOST'
                WHERE id = :heir AND (SELECT count(*) FROM demoted) >= 0 RETURNING {columns}"
            ),
        ))
        .audit(
            at,
            &Entry {
                name: "audited",
                from: "promoted",
                room: "promoted.room_id",
                event: &event,
                computed: &[("former_host", &former)],
            },
        )
}
