//! Statements that erase a user: four in one transaction, because each kind of lock shows what the next kind must cover. Lock
//! order: users, rooms by ascending id, recordings by ascending id. Seats come after their room and are nobody else's while it is
//! locked.

use entity::{RecordingId, RoomId, UserId};
use serde_json::{Value as Json, json};
use uuid::Uuid;

use super::Dialect;
use super::audit::{Each, Entry};
use super::plan::{Kind, Plan, Step};
use crate::audit::Change;
use crate::input::ERASED_USERNAME;
use crate::operation::Moment;

/// What erased users are called.
const DISPLAY_NAME: &str = "Deleted user";

/// The first: the row loses all that tells who it was. It takes the user's lock, so that they can neither come in anywhere nor
/// get a room or a way in any more. A row that was deleted without being erased is erased too.
pub(crate) fn anonymise(at: &Moment<'_>, user: UserId) -> Plan {
    Plan::yielding("erased")
        .bind("user", user)
        .bind("username", format!("{ERASED_USERNAME}{user}"))
        .bind("display_name", DISPLAY_NAME)
        .bind("now", at.now)
        .step(Step::guard(
            "erased",
            &[],
            "UPDATE users SET username = :username, display_name = :display_name, email = NULL, password_hash = NULL,
                is_active = FALSE, is_verified = FALSE, last_login_at = NULL, deleted_at = COALESCE(deleted_at, :now),
                updated_at = :now
            WHERE id = :user AND (deleted_at IS NULL OR username <> :username) RETURNING updated_at AS erased_at",
        ))
}

/// The second: locks the rooms that they own and that are not over, and those that they are in. Yields `found`, a JSON list.
pub(crate) fn lock_rooms(at: &Moment<'_>, user: UserId) -> Plan {
    let found = at.dialect.json_rows(&[
        ("id", &at.dialect.readable_uuid("id")),
        ("owner", &at.dialect.readable_uuid("owner_id")),
        ("status", "status"),
    ]);
    let concerned = "SELECT id FROM rooms WHERE owner_id = :user AND status IN ('CREATED', 'LIVE')
        UNION ALL SELECT room_id FROM room_participants WHERE user_id = :user AND left_at IS NULL";
    Plan::yielding("found")
        .bind("user", user)
        // The columns are the newest, also of a room that changed while its lock was waited for.
        .step(Step::lookup(
            "rooms_locked",
            &[("id", Kind::Uuid), ("owner_id", Kind::Uuid), ("status", Kind::Text)],
            format!(
                "SELECT id, owner_id, CAST(status AS text) AS status FROM rooms WHERE {} ORDER BY id{}",
                at.dialect.among("id", concerned),
                at.dialect.for_change()
            ),
        ))
        .step(found_rows(&found, "rooms_locked"))
}

/// The third: locks the recordings that they own, and those that run in `ended` rooms. Yields `found`, a JSON list.
pub(crate) fn lock_recordings(at: &Moment<'_>, user: UserId, ended: &Json) -> Plan {
    let found = at.dialect.json_rows(&[
        ("id", &at.dialect.readable_uuid("id")),
        ("room", &at.dialect.readable_uuid("room_id")),
        ("owner", &at.dialect.readable_uuid("owner_id")),
        ("status", "status"),
        ("bucket", "storage_bucket"),
        ("key", "storage_key"),
    ]);
    let concerned = format!(
        "SELECT id FROM recordings WHERE owner_id = :user AND deleted_at IS NULL
        UNION ALL SELECT id FROM recordings WHERE status IN ('STARTED', 'IN_PROGRESS')
            AND room_id IN (SELECT of_id FROM {})",
        at.dialect.listed(":ended")
    );
    Plan::yielding("found")
        .bind("user", user)
        .bind("ended", ended.clone())
        .step(Step::lookup(
            "recordings_locked",
            &[
                ("id", Kind::Uuid),
                ("room_id", Kind::Uuid),
                ("owner_id", Kind::Uuid),
                ("status", Kind::Text),
                ("storage_bucket", Kind::Text),
                ("storage_key", Kind::Text),
            ],
            format!(
                "SELECT id, room_id, owner_id, CAST(status AS text) AS status, storage_bucket, storage_key FROM recordings
                WHERE {} ORDER BY id{}",
                at.dialect.among("id", &concerned),
                at.dialect.for_change()
            ),
        ))
        .step(found_rows(&found, "recordings_locked"))
}

fn found_rows(rows: &str, from: &str) -> Step {
    Step::guard("found", &[], format!("SELECT {rows} AS found FROM {from}"))
}

/// What the locks found, by what is to become of it. With the locks held nothing else can.
#[derive(Debug, Default)]
pub(crate) struct Doomed {
    /// Owned and LIVE.
    pub(crate) ended: Vec<RoomId>,
    /// Owned and CREATED.
    pub(crate) cancelled: Vec<RoomId>,
    /// Somebody else's, with the user in them.
    pub(crate) left: Vec<RoomId>,
    /// Running in a room that ends, whosever they are.
    pub(crate) stopped_with_room: Vec<(RecordingId, RoomId)>,
    /// Owned and running elsewhere.
    pub(crate) stopped: Vec<(RecordingId, RoomId)>,
    /// Owned.
    pub(crate) deleted: Vec<(RecordingId, RoomId)>,
}

/// Rooms for [`Dialect::listed`], each with an id for its event.
pub(crate) fn listed_rooms(at: &Moment<'_>, rooms: &[RoomId]) -> Json {
    let item = |room: &RoomId| item(at, room.as_uuid(), *room);
    rooms.iter().map(item).collect()
}

fn listed_recordings(at: &Moment<'_>, recordings: &[(RecordingId, RoomId)]) -> Json {
    let item = |(recording, room): &(RecordingId, RoomId)| item(at, recording.as_uuid(), *room);
    recordings.iter().map(item).collect()
}

fn item(at: &Moment<'_>, of: Uuid, room: RoomId) -> Json {
    json!({ "of": of, "room": room, "event": at.id() })
}

/// The fourth: does it, and tells.
pub(crate) fn finish(at: &Moment<'_>, user: UserId, doomed: &Doomed) -> Plan {
    let lists = [
        ("ended_rooms", listed_rooms(at, &doomed.ended)),
        ("cancelled_rooms", listed_rooms(at, &doomed.cancelled)),
        ("left_rooms", listed_rooms(at, &doomed.left)),
        ("stopped_with_room", listed_recordings(at, &doomed.stopped_with_room)),
        ("stopped", listed_recordings(at, &doomed.stopped)),
        ("deleted", listed_recordings(at, &doomed.deleted)),
    ];
    let plan = lists
        .into_iter()
        .fold(Plan::yielding("summed_up"), |plan, (name, list)| plan.bind(name, list))
        .bind("user", user)
        .bind("now", at.now);
    let plan = close_recordings(at.dialect, close_rooms(at.dialect, plan))
        .step(Step::lookup(
            "removed",
            &[("id", Kind::Uuid)],
            "DELETE FROM auth_providers WHERE user_id = :user RETURNING id",
        ))
        .step(Step::guard(
            "summed_up",
            &[("providers", Kind::Integer), ("stays", Kind::Integer)],
            "SELECT CAST((SELECT count(*) FROM removed) AS integer) AS providers,
                CAST((SELECT COALESCE(sum(stays), 0) FROM present) + (SELECT count(*) FROM seated) AS integer) AS stays",
        ));
    tell(at, plan, user, doomed)
}

/// Stays are counted before they are closed: an UPDATE would hand over every single one.
fn close_rooms(dialect: Dialect, plan: Plan) -> Plan {
    let left_at = dialect.later(":now", "joined_at");
    let stay = dialect.seconds_between("joined_at", &left_at);
    let ended_at = dialect.later(":now", "started_at");
    let of_list = |column, list| dialect.among(column, &format!("SELECT of_id FROM {}", dialect.listed(list)));
    let in_ended = of_list("room_id", ":ended_rooms");
    plan.step(Step::lookup(
        "present",
        &[("room_id", Kind::Uuid), ("stays", Kind::Integer)],
        format!(
            "SELECT room_id, CAST(count(*) AS integer) AS stays FROM room_participants
            WHERE left_at IS NULL AND {in_ended} GROUP BY room_id"
        ),
    ))
    .step(Step::lookup(
        "seated",
        &[("room_id", Kind::Uuid)],
        format!(
            "SELECT room_id FROM room_participants WHERE left_at IS NULL AND user_id = :user AND {}",
            of_list("room_id", ":left_rooms")
        ),
    ))
    .step(Step::effect(
        "stays_ended",
        format!(
            "UPDATE room_participants SET left_at = {left_at}, duration_seconds = {stay}
            WHERE left_at IS NULL AND {in_ended}"
        ),
    ))
    .step(Step::effect(
        "seats_left",
        format!(
            "UPDATE room_participants SET left_at = {left_at}, duration_seconds = {stay}
            WHERE left_at IS NULL AND user_id = :user AND {}",
            dialect.among("room_id", "SELECT room_id FROM seated")
        ),
    ))
    .step(Step::effect(
        "counted",
        format!(
            "UPDATE rooms SET active_participants = active_participants - 1, updated_at = :now WHERE {}",
            dialect.among("id", "SELECT room_id FROM seated")
        ),
    ))
    .step(Step::lookup(
        "ended",
        &[("id", Kind::Uuid), ("duration_seconds", Kind::Integer)],
        format!(
            "UPDATE rooms SET status = 'ENDED', ended_at = {ended_at}, active_participants = 0, updated_at = :now,
                duration_seconds = {duration}
            WHERE {which} RETURNING id, duration_seconds",
            which = of_list("id", ":ended_rooms"),
            duration = dialect.seconds_between("started_at", &ended_at),
        ),
    ))
    .step(Step::effect(
        "cancelled",
        format!(
            "UPDATE rooms SET status = 'CANCELLED', updated_at = :now WHERE {}",
            of_list("id", ":cancelled_rooms")
        ),
    ))
}

/// A running recording is STOPPED before it is deleted, so that no row says for ever that it runs.
fn close_recordings(dialect: Dialect, plan: Plan) -> Plan {
    let lists = [":stopped_with_room", ":stopped", ":deleted"]
        .map(|list| format!("SELECT of_id FROM {}", dialect.listed(list)));
    plan.step(Step::effect(
        "recordings_closed",
        format!(
            "UPDATE recordings SET updated_at = :now,
                stopped_at = CASE WHEN status IN ('STARTED', 'IN_PROGRESS') THEN {stopped_at} ELSE stopped_at END,
                status = CASE WHEN status IN ('STARTED', 'IN_PROGRESS') THEN 'STOPPED' ELSE status END,
                deleted_at = CASE WHEN owner_id = :user THEN COALESCE(deleted_at, :now) ELSE deleted_at END
            WHERE {which}",
            which = dialect.among("id", &lists.join(" UNION ")),
            stopped_at = dialect.later(":now", "started_at"),
        ),
    ))
}

/// Rooms and recordings have their own events, so that a room's trail tells how it ended; then the erasure's.
fn tell(at: &Moment<'_>, plan: Plan, user: UserId, doomed: &Doomed) -> Plan {
    let listed = |bind: &str| at.dialect.listed(bind);
    let recording = RecordingId::from_uuid(Uuid::nil());
    let of_recording: &[(&str, &str)] = &[("recording", "item.of_text")];
    let (ended, cancelled) = (
        Change::RoomEnded {
            duration_seconds: 0,
            closed_stays: 0,
        },
        Change::RoomCancelled {},
    );
    let with_room = Change::RecordingStopped {
        recording,
        with_room: true,
    };
    let alone = Change::RecordingStopped {
        recording,
        with_room: false,
    };
    let deleted = Change::RecordingDeleted {
        recording,
        expired: false,
    };
    let closed_stays = "COALESCE((SELECT stays FROM present WHERE present.room_id = ended.id), 0)";
    let ended_computed: &[(&str, &str)] = &[
        ("duration_seconds", "ended.duration_seconds"),
        ("closed_stays", closed_stays),
    ];
    let ended_from = format!("{} JOIN ended ON ended.id = item.of_id", listed(":ended_rooms"));
    let from_lists = [":stopped_with_room", ":stopped", ":deleted", ":cancelled_rooms"].map(listed);
    let all = [
        ("stop_told", "stop_details", &from_lists[0], &with_room, of_recording),
        (
            "lone_stop_told",
            "lone_stop_details",
            &from_lists[1],
            &alone,
            of_recording,
        ),
        ("delete_told", "delete_details", &from_lists[2], &deleted, of_recording),
        ("cancel_told", "cancel_details", &from_lists[3], &cancelled, &[]),
        ("end_told", "end_details", &ended_from, &ended, ended_computed),
    ];
    let plan = all
        .into_iter()
        .fold(plan, |plan, (name, details, from, event, computed)| {
            let room = "item.room_id";
            plan.audit_listed(
                at,
                &Each {
                    name,
                    details,
                    from,
                    room,
                    event,
                    computed,
                },
            )
        });
    let count = |rows: usize| i32::try_from(rows).unwrap_or(i32::MAX);
    let event = Change::UserDeleted {
        target: user,
        providers_removed: 0,
        rooms_ended: count(doomed.ended.len()),
        rooms_cancelled: count(doomed.cancelled.len()),
        closed_stays: 0,
        recordings_deleted: count(doomed.deleted.len()),
    };
    plan.audit(
        at,
        &Entry {
            name: "audited",
            from: "summed_up",
            room: "NULL",
            event: &event,
            computed: &[
                ("providers_removed", "summed_up.providers"),
                ("closed_stays", "summed_up.stays"),
            ],
        },
    )
}
