//! Statements that change recordings. Lock order: users, rooms, participants, recordings; see docs/adr/0005-one-lock-order.md.
//!
//! What changes one recording takes its room's lock too, whatever became of the room: so who may do it is settled, and the
//! end of the room comes wholly before or after. The sweeps are in `recording_sweeps`.

use chrono::{DateTime, Utc};
use entity::{RecordingId, RecordingStatus, recording};
use sea_orm::ActiveEnum;
use uuid::Uuid;

use super::Dialect;
use super::audit::Entry;
use super::plan::{Bind, Kind, Plan, Step};
use super::rooms::{STANDING, active_user, find_standing};
use crate::audit::Change;
use crate::authority::{Operation, Standing, may};
use crate::operation::Moment;
use crate::recordings::{CheckedMeasures, CheckedRecording};

use RecordingStatus::{Failed, InProgress, Processing, Ready, Started, Stopped};

/// Being written.
pub(super) const RUNNING: &[RecordingStatus] = &[Started, InProgress];

/// Not being written any more.
pub(super) const AT_REST: &[RecordingStatus] = &[Stopped, Failed, Processing, Ready];

const EVERY: &[RecordingStatus] = &[Started, InProgress, Stopped, Failed, Processing, Ready];

/// What the actor is to the recording in step `target`, in the room in step `locked`: its owner counts as the room's.
const STANDING_TOWARDS: &str = "CASE WHEN NOT :is_system AND target.owner_id = :actor THEN 'OWNER' ELSE";

/// For a change to be described before the database knows which recording it is.
pub(super) const UNKNOWN: RecordingId = RecordingId::from_uuid(Uuid::nil());

pub(super) fn list(statuses: &[RecordingStatus]) -> String {
    let quoted = statuses.iter().map(|status| format!("'{}'", status.to_value().value));
    quoted.collect::<Vec<_>>().join(", ")
}

fn allowed_standings(operation: Operation) -> String {
    let allowed = Standing::IN_A_ROOM
        .into_iter()
        .filter(|standing| may(operation, *standing, None))
        .map(|standing| format!("'{}'", standing.code()));
    allowed.collect::<Vec<_>>().join(", ")
}

/// A new recording of a live, recordable room: 1 statement. Nothing happens when the storage key is taken.
pub(crate) fn start(at: &Moment<'_>, recording: RecordingId, new: &CheckedRecording) -> Plan {
    let columns = at.dialect.columns_of::<recording::Entity>();
    let event = Change::RecordingStarted { recording };
    let plan = Plan::yielding("begun")
        .bind("recording", recording)
        .bind("room", new.room)
        .bind("owner", new.owner)
        .bind("storage_key", new.storage_key.clone())
        .bind("storage_bucket", new.storage_bucket.clone())
        .bind("filename", new.filename.clone())
        .bind("is_public", new.is_public)
        .bind("expires_at", new.expires_at)
        .bind("now", at.now)
        .step(active_user(at.dialect, "owning", ":owner"))
        // The status is asked for here and not later, because only a locking select reads the room's newest version.
        .step(Step::guard(
            "locked",
            &[("id", Kind::Uuid), ("owner_id", Kind::Uuid)],
            format!(
                "SELECT id, owner_id FROM rooms
                WHERE id = :room AND deleted_at IS NULL AND EXISTS (SELECT 1 FROM owning) AND status = 'LIVE' AND is_recordable{}",
                at.dialect.for_change()
            ),
        ));
    let plan = find_standing(at, plan)
        .step(Step::guard(
            "allowed",
            &[("id", Kind::Uuid)],
            format!(
                "SELECT id FROM locked WHERE {STANDING} IN ({}) AND (:is_system OR EXISTS (SELECT 1 FROM seated))",
                allowed_standings(Operation::Record)
            ),
        ))
        .step(Step::guard(
            "begun",
            &[("room_id", Kind::Uuid)],
            format!(
                "INSERT INTO recordings (id, room_id, owner_id, storage_key, storage_bucket, filename, status, started_at,
                    retry_count, is_public, expires_at, created_at, updated_at)
                SELECT :recording, allowed.id, :owner, :storage_key, :storage_bucket, :filename, {started}, :now,
                    0, :is_public, :expires_at, :now, :now
                FROM allowed WHERE TRUE
                ON CONFLICT (storage_key) DO NOTHING RETURNING {columns}",
                started = at.dialect.as_enum("'STARTED'", "recording_status"),
            ),
        ));
    plan.audit(
        at,
        &Entry {
            name: "audited",
            from: "begun",
            room: "begun.room_id",
            event: &event,
            computed: &[],
        },
    )
}

/// A change of one recording: who may make it, when, and what it writes.
pub(crate) struct Alteration {
    /// What the actor asks for.
    pub(crate) asked: Operation,
    /// It brings back a deleted recording, of an owner who is not deleted; otherwise it is about live ones.
    pub(crate) restores: bool,
    /// The statuses that allow it.
    pub(crate) from: &'static [RecordingStatus],
    /// Further conditions, each with its AND.
    guard: &'static str,
    set: String,
    binds: Vec<(&'static str, Bind)>,
    event: Change,
    computed: &'static [(&'static str, &'static str)],
}

impl Alteration {
    fn new(asked: Operation, from: &'static [RecordingStatus], set: impl Into<String>, event: Change) -> Self {
        Self {
            asked,
            restores: false,
            from,
            guard: "",
            set: set.into(),
            binds: Vec::new(),
            event,
            computed: &[],
        }
    }

    fn bind(mut self, name: &'static str, value: impl Into<Bind>) -> Self {
        self.binds.push((name, value.into()));
        self
    }

    fn bind_measures(self, measures: &CheckedMeasures) -> Self {
        self.bind("size_bytes", measures.size_bytes)
            .bind("duration_seconds", measures.duration_seconds)
            .bind("codec", measures.codec.clone())
            .bind("resolution", measures.resolution.clone())
            .bind("fps", measures.fps)
            .bind("bitrate", measures.bitrate)
    }
}

/// SQL for the measures that are given; what is not given stays as it is.
const MEASURES: &str = "size_bytes = COALESCE(:size_bytes, size_bytes), codec = COALESCE(:codec, codec),
    resolution = COALESCE(:resolution, resolution), fps = COALESCE(:fps, fps), bitrate = COALESCE(:bitrate, bitrate)";

/// SQL that ends the writing at `when`, or leaves the end that it has; never before the start, whatever the clocks say.
pub(super) fn at_rest(dialect: Dialect, when: &str, duration: &str) -> String {
    let stopped_at = format!("COALESCE(stopped_at, {})", dialect.later(when, "started_at"));
    let seconds = dialect.seconds_between("started_at", &stopped_at);
    format!("stopped_at = {stopped_at}, duration_seconds = COALESCE({duration}, {seconds})")
}

pub(crate) fn progress(recording: RecordingId) -> Alteration {
    let event = Change::RecordingProgressed { recording };
    Alteration::new(Operation::Record, RUNNING, "status = 'IN_PROGRESS'", event)
}

pub(crate) fn stop(dialect: Dialect, recording: RecordingId, measures: &CheckedMeasures) -> Alteration {
    let event = Change::RecordingStopped {
        recording,
        with_room: false,
    };
    let rest = at_rest(dialect, ":now", ":duration_seconds");
    let set = format!("status = 'STOPPED', {rest}, {MEASURES}");
    Alteration::new(Operation::Record, RUNNING, set, event).bind_measures(measures)
}

/// From a running one by whoever may record; from a later status it is the processing that failed, and the platform's to say.
pub(crate) fn fail(dialect: Dialect, recording: RecordingId, message: &str, by_system: bool) -> Alteration {
    let event = Change::RecordingFailed {
        recording,
        message: message.to_owned(),
        stuck: false,
    };
    let from = if by_system {
        &[Started, InProgress, Stopped, Processing]
    } else {
        RUNNING
    };
    let rest = at_rest(dialect, ":now", "duration_seconds");
    let set = format!("status = 'FAILED', error_message = :message, {rest}");
    Alteration::new(Operation::Record, from, set, event).bind("message", message)
}

pub(crate) fn process(recording: RecordingId) -> Alteration {
    let event = Change::RecordingProcessing { recording };
    Alteration::new(Operation::ProcessRecording, &[Stopped], "status = 'PROCESSING'", event)
}

pub(crate) fn ready(recording: RecordingId, url: &str, measures: &CheckedMeasures) -> Alteration {
    let event = Change::RecordingReady { recording };
    let set = format!(
        "status = 'READY', storage_url = :url, duration_seconds = COALESCE(:duration_seconds, duration_seconds), {MEASURES}"
    );
    Alteration::new(Operation::ProcessRecording, &[Processing], set, event)
        .bind("url", url)
        .bind_measures(measures)
}

pub(crate) fn retry(dialect: Dialect, recording: RecordingId, max_retries: i32) -> Alteration {
    let event = Change::RecordingRetried {
        recording,
        retry_count: 0,
    };
    // A failure that was written past this store may lack the end.
    let rest = at_rest(dialect, ":now", "duration_seconds");
    let set = format!("status = 'PROCESSING', retry_count = retry_count + 1, error_message = NULL, {rest}");
    Alteration {
        guard: " AND retry_count < :max_retries",
        computed: &[("retry_count", "altered.retry_count")],
        ..Alteration::new(Operation::ProcessRecording, &[Failed], set, event)
    }
    .bind("max_retries", max_retries)
}

pub(crate) fn delete(recording: RecordingId) -> Alteration {
    let event = Change::RecordingDeleted {
        recording,
        expired: false,
    };
    Alteration::new(Operation::ManageRecording, AT_REST, "deleted_at = :now", event)
}

/// The clocks of a sweep and of this may differ; what a sweep deleted has `deleted_at` at or after `expires_at`.
pub(crate) fn restore(recording: RecordingId) -> Alteration {
    let event = Change::RecordingRestored { recording };
    Alteration {
        restores: true,
        guard: " AND (expires_at IS NULL OR (expires_at > :now AND expires_at > deleted_at))",
        ..Alteration::new(Operation::ManageRecording, EVERY, "deleted_at = NULL", event)
    }
}

pub(crate) fn set_expiry(recording: RecordingId, expires_at: Option<DateTime<Utc>>) -> Alteration {
    let event = Change::RecordingExpiryChanged { recording, expires_at };
    Alteration::new(Operation::ManageRecording, EVERY, "expires_at = :expires_at", event).bind("expires_at", expires_at)
}

/// Alters one recording: 1 statement.
pub(crate) fn alter(at: &Moment<'_>, recording: RecordingId, alteration: Alteration) -> Plan {
    let columns = at.dialect.columns_of::<recording::Entity>();
    let deleted = if alteration.restores { "IS NOT NULL" } else { "IS NULL" };
    let mut plan = Plan::yielding("altered")
        .bind("recording", recording)
        .bind("now", at.now)
        // Room and owner of a recording never change, so they can be read before anything is locked.
        .step(Step::guard(
            "target",
            &[("id", Kind::Uuid), ("room_id", Kind::Uuid), ("owner_id", Kind::Uuid)],
            format!("SELECT id, room_id, owner_id FROM recordings WHERE id = :recording AND deleted_at {deleted}"),
        ));
    let mut first = "";
    if alteration.restores {
        plan = plan.step(Step::guard(
            "owning",
            &[("id", Kind::Uuid)],
            format!(
                "SELECT id FROM users WHERE id = (SELECT owner_id FROM target) AND deleted_at IS NULL{}",
                at.dialect.for_share()
            ),
        ));
        first = " AND EXISTS (SELECT 1 FROM owning)";
    }
    let plan = plan.step(Step::guard(
        "locked",
        &[("id", Kind::Uuid), ("owner_id", Kind::Uuid)],
        format!(
            "SELECT id, owner_id FROM rooms WHERE id = (SELECT room_id FROM target){first}{}",
            at.dialect.for_change()
        ),
    ));
    let mut plan = find_standing(at, plan)
        .step(Step::guard(
            "allowed",
            &[("id", Kind::Uuid)],
            format!(
                "SELECT target.id FROM target, locked WHERE {STANDING_TOWARDS} {STANDING} END IN ({})",
                allowed_standings(alteration.asked)
            ),
        ))
        .step(Step::guard(
            "altered",
            &[("room_id", Kind::Uuid), ("retry_count", Kind::Integer)],
            format!(
                "UPDATE recordings SET {set}, updated_at = {updated_at}
                WHERE id = (SELECT id FROM allowed) AND deleted_at {deleted} AND status IN ({from}){guard}
                RETURNING {columns}",
                set = alteration.set,
                updated_at = at.dialect.later(":now", "updated_at"),
                from = list(alteration.from),
                guard = alteration.guard,
            ),
        ));
    for (name, value) in alteration.binds {
        plan = plan.bind(name, value);
    }
    plan.audit(
        at,
        &Entry {
            name: "audited",
            from: "altered",
            room: "altered.room_id",
            event: &alteration.event,
            computed: alteration.computed,
        },
    )
}

/// Stops all that is being recorded in a room (SQL for its id) at `:now`, and tells so of each. For the plan that ends the room: it must hold the
/// room's lock since before it began, so that no recording starts meanwhile.
pub(crate) fn stop_running(at: &Moment<'_>, plan: Plan, room: &str) -> Plan {
    let event = Change::RecordingStopped {
        recording: UNKNOWN,
        with_room: true,
    };
    plan.step(Step::lookup(
        "silenced",
        &[("id", Kind::Uuid)],
        format!(
            "UPDATE recordings SET status = 'STOPPED', {rest}, updated_at = {updated_at}
            WHERE room_id = {room} AND status IN ({running}) RETURNING id",
            rest = at_rest(at.dialect, ":now", "duration_seconds"),
            updated_at = at.dialect.later(":now", "updated_at"),
            running = list(RUNNING),
        ),
    ))
    .audit_each(
        at,
        "silenced.id",
        &Entry {
            name: "silenced_audited",
            from: "silenced",
            room: ":room",
            event: &event,
            computed: &[("recording", &at.dialect.uuid_text("silenced.id"))],
        },
    )
}
