//! What all changes of one recording have in common.
//!
//! They take the lock of the recording's room too, whatever became of the room: so who may do it is settled, and the end of
//! the room comes wholly before or after.

use chrono::{DateTime, Utc};
use entity::{RecordingId, RecordingStatus, recording, room, user};

use super::CheckedMeasures;
use crate::authority::{ActorRole, Operation as Asked};
use crate::database::statement::enum_list;
use crate::error::{Error, Invalid, Rejected, Rule, Subject};
use crate::event::Change;
use crate::operation::{Columns, Event, Lock, Moment, Plan, Refusal};
use crate::rules::{ACTOR_ROLE, allowed};

use RecordingStatus::{Failed, InProgress, Processing, Ready, Started, Stopped};

/// Being written.
pub(super) const RUNNING: &[RecordingStatus] = &[Started, InProgress];

/// Not being written any more.
pub(super) const AT_REST: &[RecordingStatus] = &[Stopped, Failed, Processing, Ready];

/// SQL over the step `room`: what the actor is to the recording in the step `target`. Its owner counts as the room's.
fn actor_role() -> String {
    format!("CASE WHEN NOT :is_system AND (SELECT owner_id FROM target) = :actor THEN 'OWNER' ELSE {ACTOR_ROLE} END")
}

/// The refusal for want of authority.
pub(super) fn not_allowed(operation: Asked, actor_role: String) -> Refusal {
    let facts = [
        actor_role,
        "(SELECT room_id FROM target)".to_owned(),
        "(SELECT owner_id FROM target)".to_owned(),
    ];
    Refusal::with_all(facts, move |facts| {
        let not_allowed = Rejected::NotAllowed {
            operation,
            actor_role: ActorRole::of_code(&facts.get::<String>(0)?),
            room: Some(facts.get(1)?),
            user: Some(facts.get(2)?),
        };
        Ok(not_allowed.into())
    })
}

/// As [`not_allowed`], for a guard of the step `changed`.
pub(super) fn not_allowed_to_change(operation: Asked) -> Refusal {
    not_allowed(operation, format!("(SELECT {} FROM room)", actor_role()))
}

/// A change of a live recording: the step `changed`.
pub(super) fn changing(at: &Moment<'_>, recording: RecordingId, asked: Asked, set: &str) -> Plan {
    let plan = find_target(at, recording, "deleted_at IS NULL");
    change_target(at, plan, recording, asked, set, "deleted_at IS NULL")
}

/// A change of a deleted one, whose owner stays as they are until it is done: the step `member`.
pub(super) fn restoring(at: &Moment<'_>, recording: RecordingId, asked: Asked, set: &str) -> Plan {
    // Users before rooms.
    let plan = find_target(at, recording, "deleted_at IS NOT NULL").lock::<user::Entity>(
        "member",
        Lock::Share,
        &["id"],
        "id = (SELECT owner_id FROM target)",
    );
    change_target(at, plan, recording, asked, set, "deleted_at IS NOT NULL")
}

/// Room and owner of a recording never change, so they can be read before anything is locked.
fn find_target(at: &Moment<'_>, recording: RecordingId, visible: &str) -> Plan {
    Plan::new(at, "changed")
        .bind("recording", recording)
        .lock::<recording::Entity>(
            "target",
            Lock::None,
            &["id", "room_id", "owner_id"],
            format!("id = :recording AND {visible}"),
        )
}

fn change_target(at: &Moment<'_>, plan: Plan, recording: RecordingId, asked: Asked, set: &str, visible: &str) -> Plan {
    let updated_at = at.dialect.later(":now", "updated_at");
    plan.lock::<room::Entity>(
        "room",
        Lock::Change,
        &["id", "owner_id"],
        "id = (SELECT room_id FROM target)",
    )
    .find_own_seat(at)
    .update::<recording::Entity>(
        "changed",
        Columns::All,
        format!("{set}, updated_at = {updated_at}"),
        // The join reads the step `room`, so that its lock is taken whoever the actor is.
        format!("id = (SELECT target.id FROM target, room) AND {visible}"),
    )
    .found("target", Error::NotFound(Subject::Recording(recording)))
    .guard(
        "room",
        format!("{} IN ({})", actor_role(), allowed(asked, None)),
        not_allowed(asked, actor_role()),
    )
}

/// Requires of the recording that its status is one of these.
pub(super) fn in_status(plan: Plan, recording: RecordingId, allowed: &[RecordingStatus]) -> Plan {
    let refusal = Refusal::with("status", move |status| Rejected::RecordingStatus { recording, status });
    plan.guard("changed", format!("status IN ({})", enum_list(allowed)), refusal)
}

/// The end of such a plan: its event.
pub(super) fn changed(at: &Moment<'_>, plan: Plan, change: &Change) -> Plan {
    plan.event(at, &Event::of(change, "changed").room("changed.room_id"))
}

/// SQL for the measures that are given; what is not given stays as it is.
pub(super) const MEASURES: &str = "size_bytes = COALESCE(:size_bytes, size_bytes), codec = COALESCE(:codec, codec),
    resolution = COALESCE(:resolution, resolution), fps = COALESCE(:fps, fps), bitrate = COALESCE(:bitrate, bitrate)";

pub(super) fn bind_measures(plan: Plan, measures: &CheckedMeasures) -> Plan {
    plan.bind("size_bytes", measures.size_bytes)
        .bind("duration_seconds", measures.duration_seconds)
        .bind("codec", measures.codec.clone())
        .bind("resolution", measures.resolution.clone())
        .bind("fps", measures.fps)
        .bind("bitrate", measures.bitrate)
}

/// What is to be deleted in the past would be gone at once.
pub(super) fn not_in_the_future(at: &Moment<'_>, expires_at: Option<DateTime<Utc>>) -> Option<Error> {
    let invalid = Invalid {
        field: "expires_at",
        rule: Rule::After("now"),
    };
    expires_at
        .is_some_and(|expires_at| expires_at <= at.now)
        .then(|| invalid.into())
}
