//! The sweeps, which the system runs from time to time. They lock the recordings alone, and wait for nobody.

use std::time::Duration;

use entity::{RecordingId, RoomId};
use sea_orm::{ColumnType, DbErr, QueryResult};

use super::Recordings;
use super::change::{AT_REST, RUNNING};
use crate::authority::Operation as Asked;
use crate::database::statement::enum_list;
use crate::error::Result;
use crate::event::{Change, UNKNOWN_RECORDING};
use crate::input;
use crate::operation::{Answer, Event, Moment, Operation, Plan, column, json};
use crate::rules::stop_recording_set;
use crate::unit::Sink;

/// What a sweep took: enough to purge the file, and to tell the recorder.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[cfg_attr(feature = "schemars", derive(schemars::JsonSchema))]
pub struct SweptRecording {
    /// The recording.
    pub id: RecordingId,
    /// Its room.
    pub room_id: RoomId,
    /// The bucket of its file.
    pub storage_bucket: String,
    /// The key of its file.
    pub storage_key: String,
}

impl<S: Sink> Recordings<'_, S> {
    /// Deletes recordings whose time has come, the longest due first, at most `limit` (1 to [`MAX_SWEEP`](super::MAX_SWEEP)), and returns them in
    /// no order. Fewer than `limit` means that nothing is left, or that others are at it. Those
    /// that run are left until they have stopped. Appends RECORDING_DELETED for each. One statement on PostgreSQL; locks the
    /// recordings alone and waits for nobody, so any number of sweepers share the work. By the system. Served by
    /// `ix_recordings_expiry`.
    ///
    /// Each recording is returned to one sweeper, who may purge its file at once and [confirm](Recordings::confirm_purged) it. What
    /// is not confirmed stays in the queue, see [`Recordings::claim_purges`]: nothing is lost to a crash of the sweeper's.
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] for the limit; [`Rejected::NotAllowed`](crate::Rejected::NotAllowed).
    pub async fn sweep_expired(&self, limit: u16) -> Result<Vec<SweptRecording>> {
        let limit = input::sweep_limit(limit)?;
        self.source.perform(SweepExpired { limit }).await
    }

    /// Fails recordings that run and gave no sign of life for longer than `older_than`, which is at least a second: at most
    /// `limit` (1 to [`MAX_SWEEP`](super::MAX_SWEEP)), the longest silent first; returns them in no order. They count as written until their last
    /// sign of life. Appends RECORDING_FAILED for each. Locks, sharing and authority as for [`Recordings::sweep_expired`].
    /// Served by `ix_recordings_running`.
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] for limit or time; [`Rejected::NotAllowed`](crate::Rejected::NotAllowed).
    pub async fn sweep_stuck(&self, older_than: Duration, limit: u16) -> Result<Vec<SweptRecording>> {
        let limit = input::sweep_limit(limit)?;
        let silence = input::age("older_than", older_than)?;
        self.source.perform(SweepStuck { silence, limit }).await
    }
}

/// The one row of a sweep's plan: all that it took, as JSON.
impl Answer for Vec<SweptRecording> {
    fn read(row: &QueryResult) -> Result<Self, DbErr> {
        json(row, "swept_recordings")
    }

    fn columns() -> Vec<(String, ColumnType)> {
        vec![column::<String>("swept_recordings")]
    }
}

pub(crate) struct SweepExpired {
    pub(crate) limit: u16,
}

impl Operation for SweepExpired {
    const NAME: &'static str = "recordings.sweep_expired";
    type Output = Vec<SweptRecording>;

    /// Those being written are left until they are not.
    fn plan(&self, at: &Moment<'_>) -> Plan {
        let change = Change::RecordingDeleted {
            recording: UNKNOWN_RECORDING,
            expired: true,
        };
        let due = format!(
            "deleted_at IS NULL AND expires_at <= :now AND status IN ({}) ORDER BY expires_at, id",
            enum_list(AT_REST)
        );
        sweep(
            at,
            Plan::new(at, "result"),
            self.limit,
            &due,
            "deleted_at = :now",
            &change,
        )
    }
}

pub(crate) struct SweepStuck {
    pub(crate) silence: Duration,
    pub(crate) limit: u16,
}

impl Operation for SweepStuck {
    const NAME: &'static str = "recordings.sweep_stuck";
    type Output = Vec<SweptRecording>;

    /// They count as written until their last sign of progress.
    fn plan(&self, at: &Moment<'_>) -> Plan {
        let message = format!("no progress for {} s", self.silence.as_secs());
        let change = Change::RecordingFailed {
            recording: UNKNOWN_RECORDING,
            message: message.clone(),
            stuck: true,
        };
        let due = format!(
            "status IN ({}) AND updated_at < :before AND deleted_at IS NULL ORDER BY updated_at, id",
            enum_list(RUNNING)
        );
        let rest = stop_recording_set(at.dialect, "updated_at", "duration_seconds");
        let set = format!("status = 'FAILED', error_message = :message, {rest}");
        let plan = Plan::new(at, "result")
            .bind("before", at.back(self.silence))
            .bind("message", message);
        sweep(at, plan, self.limit, &due, &set, &change)
    }
}

/// Takes up to `limit` rows that nobody else has taken, changes them, and says which: one row always.
fn sweep(at: &Moment<'_>, plan: Plan, limit: u16, due: &str, set: &str, change: &Change) -> Plan {
    let id = at.dialect.uuid_text("swept.id");
    let swept = at.dialect.json_rows(&[
        ("id", id.as_str()),
        ("room_id", &at.dialect.uuid_text("swept.room_id")),
        ("storage_bucket", "swept.storage_bucket"),
        ("storage_key", "swept.storage_key"),
    ]);
    plan.denied(at.only_the_system(Asked::ProcessRecording))
        .bind("limit", i64::from(limit))
        .lookup(
            "due",
            &["id"],
            format!(
                "SELECT id FROM recordings WHERE {due} LIMIT :limit{}",
                at.dialect.for_change_of_free()
            ),
        )
        .lookup(
            "swept",
            &["id", "room_id", "storage_bucket", "storage_key"],
            format!(
                "UPDATE recordings SET {set}, updated_at = {updated_at} WHERE {due}
                RETURNING id, room_id, storage_bucket, storage_key",
                updated_at = at.dialect.later(":now", "updated_at"),
                due = at.dialect.among("id", "SELECT id FROM due"),
            ),
        )
        .step(
            "result",
            &["swept_recordings"],
            format!("SELECT {swept} AS swept_recordings FROM swept"),
        )
        .event(
            at,
            &Event::of(change, "swept")
                .room("swept.room_id")
                .computed("recording", id)
                .for_each("swept.id"),
        )
}
