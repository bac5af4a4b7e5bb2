//! The queue of files to purge: the file of every deleted recording is in it until it is confirmed to be gone.
//!
//! Neither method appends an event. A claim changes nothing but who is at it, and is made again for as long as the object store
//! fails. No action of the audit log says what a confirmation does, and RECORDING_DELETED a second time would count the
//! recording twice; when it was is kept in the row instead, where nothing changes it any more (`tr_recordings_purged`).

use std::time::Duration;

use chrono::TimeDelta;
use entity::RecordingId;
use sea_orm::{ColumnType, DbErr, QueryResult};

use super::{MAX_SWEEP, Recordings};
use crate::authority::Operation as Asked;
use crate::clock::to_microseconds;
use crate::database::Dialect;
use crate::database::statement::Bind;
use crate::error::{Invalid, Result, Rule};
use crate::input::{self, ERASED_USERNAME, PURGED_KEY};
use crate::operation::{Answer, Moment, Operation, Plan, column, json};
use crate::unit::Sink;

/// The longest claim: a file that takes longer to purge is not being purged.
pub const MAX_PURGE_LEASE: Duration = Duration::from_secs(24 * 60 * 60);

/// A file in the object store.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[cfg_attr(feature = "schemars", derive(schemars::JsonSchema))]
pub struct StoredFile {
    /// What it is a recording of.
    pub recording: RecordingId,
    /// Its bucket.
    pub storage_bucket: String,
    /// Its key there.
    pub storage_key: String,
}

impl<S: Sink> Recordings<'_, S> {
    /// Hands out files of deleted recordings that are to be purged, at most `limit` (1 to [`MAX_SWEEP`]), the longest deleted first,
    /// in no order. Nobody else gets them before `lease` is over (a second to [`MAX_PURGE_LEASE`]); then they are due again, until
    /// they are [confirmed](Recordings::confirm_purged). Fewer than `limit` means that nothing else is due, or that others are at it.
    ///
    /// A file is due when its recording has been deleted for [`StoreSettings::purge_grace`](crate::StoreSettings::purge_grace),
    /// whatever deleted it. Once handed out, the recording is [not restored](Recordings::restore) any more. A file may be handed out
    /// twice, where somebody is slower than their lease: purging must not mind that it is gone already.
    ///
    /// Appends nothing. One statement on PostgreSQL; locks the recordings alone and waits for nobody, so any number of workers share
    /// the work. By the system. Served by `ix_recordings_purge`.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use conferencing_store::{Actor, Error, Store, StoredFile};
    /// # async fn purge(_: &StoredFile) -> bool { true }
    /// # async fn example(store: Store) -> Result<(), Error> {
    /// let system = store.acting(&Actor::system("purger"));
    /// loop {
    ///     let files = system.recordings().claim_purges(100, Duration::from_secs(600)).await?;
    ///     if files.is_empty() {
    ///         break;
    ///     }
    ///     let mut gone = Vec::new();
    ///     for file in &files {
    ///         // What could not be purged is handed out again when the ten minutes are over.
    ///         if purge(file).await {
    ///             gone.push(file.recording);
    ///         }
    ///     }
    ///     system.recordings().confirm_purged(&gone).await?;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] for limit or lease; [`Rejected::NotAllowed`](crate::Rejected::NotAllowed).
    pub async fn claim_purges(&self, limit: u16, lease: Duration) -> Result<Vec<StoredFile>> {
        let claim = ClaimPurges {
            limit: input::sweep_limit(limit)?,
            lease: input::duration("lease", lease, Duration::from_secs(1)..=MAX_PURGE_LEASE)?,
            grace: self.source.context().purge_grace(),
        };
        self.source.perform(claim).await
    }

    /// Says that files are gone from the object store, at most [`MAX_SWEEP`] of them: they are due no more, for good. Returns those
    /// of which this was not known, in no order. The rest was confirmed before, or its recording is not deleted, or there is none: of
    /// these nothing is changed, so it can be said again. A file need not have been claimed: those that a
    /// [sweep](Recordings::sweep_expired) or an [erasure](crate::users::Users::erase) handed out are confirmed likewise.
    ///
    /// Where the file lay is forgotten if its owner is erased: `storage_key` is `purged:` and the id then, `storage_bucket` is `purged`.
    ///
    /// Appends nothing; `purged_at` says when, and nothing changes it any more. Takes the recordings' locks, by ascending id; two
    /// statements in one transaction. By the system.
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] for more than [`MAX_SWEEP`]; [`Rejected::NotAllowed`](crate::Rejected::NotAllowed).
    pub async fn confirm_purged(&self, recordings: &[RecordingId]) -> Result<Vec<RecordingId>> {
        if recordings.len() > usize::from(MAX_SWEEP) {
            let (field, rule) = ("recordings", Rule::AtMost(MAX_SWEEP.into()));
            return Err(Invalid { field, rule }.into());
        }
        self.source.perform(ConfirmPurged(recordings.to_vec())).await
    }
}

/// The one row of a claim's plan: all files, as JSON.
impl Answer for Vec<StoredFile> {
    fn read(row: &QueryResult) -> Result<Self, DbErr> {
        json(row, "files")
    }

    fn columns() -> Vec<(String, ColumnType)> {
        vec![column::<String>("files")]
    }
}

/// SQL that forgets where a purged file lay. The key stays unique.
pub(crate) fn forget_place_set(dialect: Dialect) -> String {
    format!(
        "storage_key = '{PURGED_KEY}' || {}, storage_bucket = 'purged', storage_url = NULL,
        egress_id = NULL",
        dialect.uuid_text("id")
    )
}

/// SQL for rows of `recordings` made into the JSON that [`StoredFile`]s are read from.
pub(crate) fn stored_files(dialect: Dialect) -> String {
    dialect.json_rows(&[
        ("recording", &dialect.readable_uuid("id")),
        ("storage_bucket", "storage_bucket"),
        ("storage_key", "storage_key"),
    ])
}

pub(crate) struct ClaimPurges {
    pub(crate) limit: u16,
    pub(crate) lease: Duration,
    pub(crate) grace: Duration,
}

impl Operation for ClaimPurges {
    const NAME: &'static str = "recordings.claim_purges";
    type Output = Vec<StoredFile>;

    /// A claim leaves `updated_at` alone, and so every column that an index has: on PostgreSQL its rows change in place.
    fn plan(&self, at: &Moment<'_>) -> Plan {
        let dialect = at.dialect;
        let lease = TimeDelta::from_std(self.lease).ok();
        let claimed_until = lease.and_then(|lease| at.now.checked_add_signed(lease));
        Plan::new(at, "result")
            .denied(at.only_the_system(Asked::ProcessRecording))
            .bind("limit", i64::from(self.limit))
            .bind("deleted_by", at.back(self.grace))
            .bind("claimed_until", to_microseconds(claimed_until.unwrap_or(at.now)))
            .lookup(
                "due",
                &["id"],
                format!(
                    "SELECT id FROM recordings WHERE deleted_at IS NOT NULL AND deleted_at <= :deleted_by AND purged_at IS NULL
                        AND (purge_claimed_until IS NULL OR purge_claimed_until <= :now)
                    ORDER BY deleted_at, id LIMIT :limit{}",
                    dialect.for_change_of_free()
                ),
            )
            .lookup(
                "claimed",
                &["id", "storage_bucket", "storage_key"],
                format!(
                    "UPDATE recordings SET purge_claimed_until = :claimed_until WHERE {}
                    RETURNING id, storage_bucket, storage_key",
                    dialect.among("id", "SELECT id FROM due")
                ),
            )
            .step(
                "result",
                &["files"],
                format!("SELECT {} AS files FROM claimed", stored_files(dialect)),
            )
    }
}

/// The one row of a confirmation's plan: the ids, as JSON.
impl Answer for Vec<RecordingId> {
    fn read(row: &QueryResult) -> Result<Self, DbErr> {
        #[derive(serde::Deserialize)]
        struct Purged {
            recording: RecordingId,
        }
        let purged: Vec<Purged> = json(row, "purged_recordings")?;
        Ok(purged.into_iter().map(|purged| purged.recording).collect())
    }

    fn columns() -> Vec<(String, ColumnType)> {
        vec![column::<String>("purged_recordings")]
    }
}

pub(crate) struct ConfirmPurged(pub(crate) Vec<RecordingId>);

impl Operation for ConfirmPurged {
    const NAME: &'static str = "recordings.confirm_purged";
    type Output = Vec<RecordingId>;

    /// Two plans: an erasure that the first waited for is seen by the second.
    fn plan(&self, at: &Moment<'_>) -> Plan {
        let asked = serde_json::json!(self.0).to_string();
        let asked = || Bind::text_as("jsonb", Some(asked.clone()));
        // What was restored meanwhile is left out: the lock shows the row as it is then.
        let which = format!(
            "{} AND deleted_at IS NOT NULL AND purged_at IS NULL",
            at.dialect.among("id", &at.dialect.listed_uuids(":asked"))
        );
        Plan::without_answer(at, "counted")
            .denied(at.only_the_system(Asked::ProcessRecording))
            .bind("asked", asked())
            .lookup(
                "locked",
                &["id"],
                format!(
                    "SELECT id FROM recordings WHERE {which} ORDER BY id{}",
                    at.dialect.for_change()
                ),
            )
            .step("counted", &["rows"], "SELECT count(*) AS rows FROM locked")
            .then(confirm(at, &which).bind("asked", asked()))
    }
}

/// Confirms what is locked.
fn confirm(at: &Moment<'_>, which: &str) -> Plan {
    let dialect = at.dialect;
    let purged = dialect.json_rows(&[("recording", &dialect.readable_uuid("id"))]);
    let set = format!(
        "purged_at = {}, updated_at = {}",
        dialect.later(":now", "deleted_at"),
        dialect.later(":now", "updated_at")
    );
    let owners = format!("SELECT owner_id FROM recordings WHERE {which}");
    Plan::new(at, "result")
        .lookup(
            "erased",
            &["id"],
            format!(
                "SELECT id FROM users WHERE {} AND username LIKE '{ERASED_USERNAME}%'",
                dialect.among("id", &owners)
            ),
        )
        .lookup(
            "purged",
            &["id"],
            format!("UPDATE recordings SET {set} WHERE {which} AND owner_id NOT IN (SELECT id FROM erased) RETURNING id"),
        )
        .lookup(
            "forgotten",
            &["id"],
            format!(
                "UPDATE recordings SET {set}, {} WHERE {which} AND owner_id IN (SELECT id FROM erased) RETURNING id",
                forget_place_set(dialect)
            ),
        )
        .step(
            "result",
            &["purged_recordings"],
            format!(
                "SELECT {purged} AS purged_recordings FROM (SELECT id FROM purged UNION ALL SELECT id FROM forgotten) AS gone"
            ),
        )
}
