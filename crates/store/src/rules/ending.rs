//! How participations, meetings and what is recorded of them end.

use entity::{recording, room};

use crate::database::Dialect;
use crate::database::statement::Bind;
use crate::event::{Change, LeaveReason, UNKNOWN_RECORDING, UNKNOWN_STAY};
use crate::operation::{Event, Moment, Plan};
use crate::settings::EmptyRoomPolicy;

/// SQL that ends a participation at `:now`, or at its begin if that is later by another machine's clock.
pub(crate) fn end_participation_set(dialect: Dialect) -> String {
    end_participation_at(dialect, ":now")
}

/// SQL that ends a participation at `when`, or at its begin if that is later. No media node serves it any more.
pub(crate) fn end_participation_at(dialect: Dialect, when: &str) -> String {
    format!("{}, node_id = NULL", end_participation_with_node(dialect, when))
}

/// As [`end_participation_at`], of a participation that ends because its media node is lost: it keeps the node.
pub(crate) fn end_participation_with_node(dialect: Dialect, when: &str) -> String {
    let left_at = dialect.later(when, "joined_at");
    let duration = dialect.seconds_between("joined_at", &left_at);
    format!("left_at = {left_at}, duration_seconds = {duration}")
}

/// How many times its limit a sweep that ends participations or rooms looks at: so many sweepers find work beside each other.
pub(crate) const SHARED: i64 = 16;

/// SQL that ends a LIVE room.
pub(crate) fn end_room_set(dialect: Dialect) -> String {
    let ended_at = dialect.later(":now", "started_at");
    let duration = dialect.seconds_between("started_at", &ended_at);
    format!(
        "status = 'ENDED', ended_at = {ended_at}, active_participants = 0, updated_at = :now, duration_seconds = {duration}"
    )
}

/// SQL that ends the writing of a recording at `when`, or leaves the end that it has; never before its start.
pub(crate) fn stop_recording_set(dialect: Dialect, when: &str, duration: &str) -> String {
    let stopped_at = format!("COALESCE(stopped_at, {})", dialect.later(when, "started_at"));
    let seconds = dialect.seconds_between("started_at", &stopped_at);
    format!("stopped_at = {stopped_at}, duration_seconds = COALESCE({duration}, {seconds})")
}

impl Plan {
    /// Takes the participation in the step `ended`, if there is one, off its room's counter.
    pub(crate) fn count_out(self, ended: &str) -> Self {
        self.effect(
            "counted",
            format!(
                "UPDATE rooms SET active_participants = active_participants - 1, updated_at = :now
                WHERE id = (SELECT room_id FROM {ended})"
            ),
        )
    }
}

/// Takes the participations in the step `ended` off their rooms' counters, whose locks the plan has.
pub(crate) fn count_all_out(plan: Plan, ended: &str) -> Plan {
    plan.effect(
        "counted",
        format!(
            "UPDATE rooms SET active_participants = active_participants - gone.number, updated_at = :now
            FROM (SELECT room_id, CAST(count(*) AS integer) AS number FROM {ended} GROUP BY room_id) AS gone
            WHERE rooms.id = gone.room_id"
        ),
    )
}

/// The columns of participations that ended, which [`each_left`] reads.
pub(crate) const CLOSED: &[&str] = &["id", "user_id", "room_id", "duration_seconds"];

/// Appends a USER_LEFT in its room for each participation that the step `closed` ended, which yields [`CLOSED`].
pub(crate) fn each_left(at: &Moment<'_>, plan: Plan, closed: &'static str, reason: LeaveReason) -> Plan {
    let change = Change::UserLeft {
        target: None,
        stay: UNKNOWN_STAY,
        reason,
        duration_seconds: 0,
    };
    plan.event(
        at,
        &Event::of(&change, format!("{closed} AS closed_stay"))
            .room("closed_stay.room_id")
            .done_to("closed_stay.user_id")
            .computed("stay", at.dialect.uuid_text("closed_stay.id"))
            .computed("duration_seconds", "closed_stay.duration_seconds")
            .for_each("closed_stay.id"),
    )
}

/// Stops all that is being recorded in a room, each with its RECORDING_STOPPED. For a plan that ends the room, and that holds
/// its lock since before it began: no recording starts meanwhile. `room` is SQL for its id.
pub(crate) fn stop_recordings(at: &Moment<'_>, plan: Plan, room: &str) -> Plan {
    stop_those(at, plan, &format!("room_id = {room}"))
}

/// As [`stop_recordings`], of several rooms: `rooms` is a select of their ids. Takes the recordings' locks in their order.
pub(crate) fn stop_recordings_of_all(at: &Moment<'_>, plan: Plan, rooms: &str) -> Plan {
    let plan = plan.lookup(
        "running",
        &["id"],
        format!(
            "SELECT id FROM recordings WHERE {} AND status IN ('STARTED', 'IN_PROGRESS') ORDER BY id{}",
            at.dialect.among("room_id", rooms),
            at.dialect.for_change()
        ),
    );
    stop_those(at, plan, &at.dialect.among("id", "SELECT id FROM running"))
}

fn stop_those(at: &Moment<'_>, plan: Plan, which: &str) -> Plan {
    let change = Change::RecordingStopped {
        recording: UNKNOWN_RECORDING,
        with_room: true,
    };
    let set = stop_recording_set(at.dialect, ":now", "duration_seconds");
    let updated_at = at.dialect.later(":now", "updated_at");
    plan.update_if_there::<recording::Entity>(
        "stopped",
        &["id", "room_id"],
        format!("status = 'STOPPED', {set}, updated_at = {updated_at}"),
        format!("{which} AND status IN ('STARTED', 'IN_PROGRESS')"),
    )
    .event(
        at,
        &Event::of(&change, "stopped")
            .room("stopped.room_id")
            .computed("recording", at.dialect.uuid_text("stopped.id"))
            .for_each("stopped.id"),
    )
}

/// LIVE to ENDED if nobody is left and the store's policy says so: follows a plan that put somebody out. `room` is SQL for the room's
/// id, and `put_out` is SQL that is true when it did put somebody out, both over `binds`. Nobody is present then, so nobody's
/// participation ends with it.
pub(crate) fn end_if_empty<const N: usize>(
    at: &Moment<'_>,
    plan: Plan,
    policy: EmptyRoomPolicy,
    room: &str,
    put_out: &str,
    binds: [(&'static str, Bind); N],
) -> Plan {
    if policy == EmptyRoomPolicy::KeepOpen {
        return plan;
    }
    let change = Change::RoomEnded {
        duration_seconds: 0,
        ended_participations: 0,
    };
    let end = Plan::without_answer(at, "summed_up");
    let end = binds
        .into_iter()
        .fold(end, |end, (name, value)| end.bind(name, value))
        .update_if_there::<room::Entity>(
            "ended",
            &["id", "duration_seconds"],
            end_room_set(at.dialect),
            format!("id = {room} AND status = 'LIVE' AND active_participants = 0 AND {put_out}"),
        )
        .step("summed_up", &[], "SELECT count(*) AS ended FROM ended");
    let end = stop_recordings(at, end, "(SELECT id FROM ended)").event(
        at,
        &Event::of(&change, "ended")
            .room("ended.id")
            .computed("duration_seconds", "ended.duration_seconds"),
    );
    plan.then(end)
}
