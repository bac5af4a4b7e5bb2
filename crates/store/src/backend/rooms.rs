//! Statements that change rooms. Lock order: users, rooms, participants; see docs/INVARIANTS.md.

use entity::{RoomId, room};

use super::Dialect;
use super::audit::Entry;
use super::plan::{Kind, Plan, Step};
use super::recordings::stop_running;
use crate::audit::Change;
use crate::authority::{Operation, Standing, may};
use crate::operation::Moment;
use crate::rooms::CheckedRoom;

/// A room for a live, active owner: 1 statement. Nothing happens when the code is taken.
pub(crate) fn create(at: &Moment<'_>, room: RoomId, code: &str, new: &CheckedRoom) -> Plan {
    let columns = at.dialect.columns_of::<room::Entity>();
    let event = Change::RoomCreated {
        room_code: code.to_owned(),
    };
    let plan = Plan::yielding("created")
        .bind("room", room)
        .bind("owner", new.owner)
        .bind("room_code", code)
        .bind("title", new.title.clone())
        .bind("description", new.description.clone())
        .bind("scheduled_start", new.scheduled_start)
        .bind("scheduled_end", new.scheduled_end)
        .bind("max_participants", new.max_participants)
        .bind("is_public", new.is_public)
        .bind("is_recordable", new.is_recordable)
        .bind("require_auth", new.require_auth)
        .bind("now", at.now)
        .step(active_user(at.dialect, "owning", ":owner"))
        .step(Step::guard(
            "created",
            &[("id", Kind::Uuid)],
            format!(
                "INSERT INTO rooms (id, owner_id, room_code, title, description, scheduled_start, scheduled_end, max_participants,
                    is_public, is_recordable, require_auth, status, peak_participants, total_joins, active_participants,
                    created_at, updated_at)
                SELECT :room, owning.id, :room_code, :title, :description, :scheduled_start, :scheduled_end, :max_participants,
                    :is_public, :is_recordable, :require_auth, {created}, 0, 0, 0, :now, :now
                FROM owning WHERE TRUE
                ON CONFLICT (room_code) DO NOTHING RETURNING {columns}",
                created = at.dialect.as_enum("'CREATED'", "room_status"),
            ),
        ));
    plan.audit(
        at,
        &Entry {
            name: "audited",
            from: "created",
            room: "created.id",
            event: &event,
            computed: &[],
        },
    )
}

/// CREATED to LIVE: 1 statement.
pub(crate) fn start(at: &Moment<'_>, room: RoomId) -> Plan {
    let columns = at.dialect.columns_of::<room::Entity>();
    let plan = with_standing(at, Plan::yielding("started"), Operation::StartRoom, room, None).step(Step::guard(
        "started",
        &[("id", Kind::Uuid)],
        format!(
            "UPDATE rooms SET status = 'LIVE', started_at = :now, updated_at = :now
            WHERE id = (SELECT id FROM allowed) AND status = 'CREATED' RETURNING {columns}"
        ),
    ));
    plan.audit(
        at,
        &Entry {
            name: "audited",
            from: "started",
            room: "started.id",
            event: &Change::RoomStarted { by_join: false },
            computed: &[],
        },
    )
}

/// LIVE to ENDED: the first of 2 statements. It takes the room's lock, so that nobody can come in any more.
pub(crate) fn end(at: &Moment<'_>, room: RoomId) -> Plan {
    let columns = at.dialect.columns_of::<room::Entity>();
    let ended_at = at.dialect.later(":now", "started_at");
    with_standing(at, Plan::yielding("ended"), Operation::EndRoom, room, None).step(Step::guard(
        "ended",
        &[],
        format!(
            "UPDATE rooms SET status = 'ENDED', ended_at = {ended_at}, active_participants = 0, updated_at = :now,
                duration_seconds = {duration}
            WHERE id = (SELECT id FROM allowed) AND status = 'LIVE' RETURNING {columns}",
            duration = at.dialect.seconds_between("started_at", &ended_at),
        ),
    ))
}

/// The second: closes every stay that is open, those included that began while the first waited for the lock, and stops
/// what is being recorded.
pub(crate) fn close_stays(at: &Moment<'_>, ended: &room::Model) -> Plan {
    let left_at = at.dialect.later(":now", "joined_at");
    let duration = at.dialect.seconds_between("joined_at", &left_at);
    let event = Change::RoomEnded {
        duration_seconds: ended.duration_seconds.unwrap_or(0),
        closed_stays: 0,
    };
    let plan = Plan::yielding("counted")
        .bind("room", ended.id)
        .bind("now", at.now)
        .step(Step::lookup(
            "closed",
            &[("id", Kind::Uuid)],
            format!(
                "UPDATE room_participants SET left_at = {left_at}, duration_seconds = {duration}
                WHERE room_id = :room AND left_at IS NULL RETURNING id"
            ),
        ))
        .step(Step::guard(
            "counted",
            &[("stays", Kind::Integer)],
            "SELECT CAST(count(*) AS integer) AS stays FROM closed",
        ));
    stop_running(at, plan, ":room").audit(
        at,
        &Entry {
            name: "audited",
            from: "counted",
            room: ":room",
            event: &event,
            computed: &[("closed_stays", "counted.stays")],
        },
    )
}

/// A guard that finds a live, active user and keeps them so until the transaction ends.
pub(crate) fn active_user(dialect: Dialect, name: &'static str, user: &str) -> Step {
    Step::guard(
        name,
        &[("id", Kind::Uuid)],
        format!(
            "SELECT id FROM users WHERE id = {user} AND is_active AND deleted_at IS NULL{}",
            dialect.for_share()
        ),
    )
}

/// SQL for what the actor (`:actor`, `:is_system`) is to the room in step `locked`, given their seat in step `seated`.
pub(crate) const STANDING: &str = "CASE WHEN :is_system THEN 'SYSTEM' WHEN locked.owner_id = :actor THEN 'OWNER'
    ELSE COALESCE((SELECT role FROM seated), 'OUTSIDER') END";

/// Locks the room: step `locked`.
pub(crate) fn lock_room(at: &Moment<'_>, plan: Plan, room: RoomId) -> Plan {
    lock_room_after(at, plan, room, None)
}

/// As [`lock_room`], once the guard called `first` has its lock: users come before rooms.
fn lock_room_after(at: &Moment<'_>, plan: Plan, room: RoomId, first: Option<&str>) -> Plan {
    let first = first
        .map(|step| format!(" AND EXISTS (SELECT 1 FROM {step})"))
        .unwrap_or_default();
    plan.bind("room", room).bind("now", at.now).step(Step::guard(
        "locked",
        &[("id", Kind::Uuid), ("owner_id", Kind::Uuid)],
        format!(
            "SELECT id, owner_id FROM rooms WHERE id = :room AND deleted_at IS NULL{first}{}",
            at.dialect.for_change()
        ),
    ))
}

/// Finds the actor's seat in the locked room, for [`STANDING`]: step `seated`.
pub(crate) fn find_standing(at: &Moment<'_>, plan: Plan) -> Plan {
    plan.bind("actor", at.actor.user_id())
        .bind("is_system", at.actor.is_system())
        .step(Step::lookup(
            "seated",
            &[("role", Kind::Text)],
            format!(
                "SELECT CAST(role AS text) AS role FROM room_participants
                WHERE room_id = (SELECT id FROM locked) AND user_id = :actor AND left_at IS NULL{}",
                at.dialect.for_share()
            ),
        ))
}

/// SQL for the list of standings that may do it, in a room as such.
pub(crate) fn allowed_standings(operation: Operation) -> String {
    let allowed: Vec<String> = Standing::IN_A_ROOM
        .into_iter()
        .filter(|standing| may(operation, *standing, None))
        .map(|standing| format!("'{}'", standing.code()))
        .collect();
    allowed.join(", ")
}

/// Locks the room and goes on only if the actor may do it: step `allowed` has the room's id.
pub(crate) fn with_standing(
    at: &Moment<'_>,
    plan: Plan,
    operation: Operation,
    room: RoomId,
    first: Option<&str>,
) -> Plan {
    find_standing(at, lock_room_after(at, plan, room, first)).step(Step::guard(
        "allowed",
        &[("id", Kind::Uuid)],
        format!(
            "SELECT id FROM locked WHERE {STANDING} IN ({})",
            allowed_standings(operation)
        ),
    ))
}

/// LIVE to ENDED if nobody is left: 1 statement, to follow one that put somebody out. Yields a row either way.
pub(crate) fn end_if_empty(at: &Moment<'_>, room: RoomId) -> Plan {
    let ended_at = at.dialect.later(":now", "started_at");
    let event = Change::RoomEnded {
        duration_seconds: 0,
        closed_stays: 0,
    };
    let plan = Plan::yielding("summed_up")
        .bind("room", room)
        .bind("now", at.now)
        .step(Step::lookup(
            "ended",
            &[("id", Kind::Uuid), ("duration_seconds", Kind::Integer)],
            format!(
                "UPDATE rooms SET status = 'ENDED', ended_at = {ended_at}, duration_seconds = {duration}, updated_at = :now
                WHERE id = :room AND status = 'LIVE' AND active_participants = 0 RETURNING id, duration_seconds",
                duration = at.dialect.seconds_between("started_at", &ended_at),
            ),
        ))
        .step(Step::guard("summed_up", &[], "SELECT count(*) AS ended FROM ended"));
    stop_running(at, plan, "(SELECT id FROM ended)").audit(
        at,
        &Entry {
            name: "audited",
            from: "ended",
            room: "ended.id",
            event: &event,
            computed: &[("duration_seconds", "ended.duration_seconds")],
        },
    )
}
