//! Statements that change many recordings at once. They lock the recordings alone, and wait for nobody.

use chrono::{DateTime, Utc};

use super::audit::Entry;
use super::plan::{Kind, Plan, Step};
use super::recordings::{AT_REST, RUNNING, UNKNOWN, at_rest, list};
use crate::audit::Change;
use crate::operation::Moment;

/// Deletes up to `limit` recordings whose time has come: 1 statement. Those being written are left until they are not.
pub(crate) fn sweep_expired(at: &Moment<'_>, limit: u16) -> Plan {
    let event = Change::RecordingDeleted {
        recording: UNKNOWN,
        expired: true,
    };
    let due = format!(
        "deleted_at IS NULL AND expires_at <= :now AND status IN ({}) ORDER BY expires_at, id",
        list(AT_REST)
    );
    let plan = Plan::yielding("told").bind("now", at.now);
    sweep(at, plan, limit, &due, "deleted_at = :now", &event)
}

/// Fails up to `limit` recordings that made no progress since `:before`: 1 statement. They count as written until their last
/// sign of progress.
pub(crate) fn sweep_stuck(at: &Moment<'_>, limit: u16, before: DateTime<Utc>, message: &str) -> Plan {
    let event = Change::RecordingFailed {
        recording: UNKNOWN,
        message: message.to_owned(),
        stuck: true,
    };
    let due = format!(
        "status IN ({}) AND updated_at < :before AND deleted_at IS NULL ORDER BY updated_at, id",
        list(RUNNING)
    );
    let rest = at_rest(at.dialect, "updated_at", "duration_seconds");
    let set = format!("status = 'FAILED', error_message = :message, {rest}");
    let plan = Plan::yielding("told")
        .bind("now", at.now)
        .bind("before", before)
        .bind("message", message);
    sweep(at, plan, limit, &due, &set, &event)
}

/// Takes up to `limit` rows that nobody else has taken, changes them, and tells which: step `told`, one row always.
fn sweep(at: &Moment<'_>, plan: Plan, limit: u16, due: &str, set: &str, event: &Change) -> Plan {
    let id = at.dialect.uuid_text("swept.id");
    let members = [
        ("id", id.as_str()),
        ("room_id", &at.dialect.uuid_text("swept.room_id")),
        ("storage_bucket", "swept.storage_bucket"),
        ("storage_key", "swept.storage_key"),
    ];
    plan.bind("limit", i64::from(limit))
        .step(Step::lookup(
            "due",
            &[("id", Kind::Uuid)],
            format!(
                "SELECT id FROM recordings WHERE {due} LIMIT :limit{}",
                at.dialect.for_change_of_free()
            ),
        ))
        .step(Step::lookup(
            "swept",
            &[
                ("id", Kind::Uuid),
                ("room_id", Kind::Uuid),
                ("storage_bucket", Kind::Text),
                ("storage_key", Kind::Text),
            ],
            format!(
                "UPDATE recordings SET {set}, updated_at = {updated_at} WHERE {due}
                RETURNING id, room_id, storage_bucket, storage_key",
                updated_at = at.dialect.later(":now", "updated_at"),
                due = at.dialect.among("id", "SELECT id FROM due"),
            ),
        ))
        .step(Step::guard(
            "told",
            &[],
            format!("SELECT {} AS told FROM swept", at.dialect.json_rows(&members)),
        ))
        .audit_each(
            at,
            "swept.id",
            &Entry {
                name: "swept_audited",
                from: "swept",
                room: "swept.room_id",
                event,
                computed: &[("recording", &id)],
            },
        )
}
