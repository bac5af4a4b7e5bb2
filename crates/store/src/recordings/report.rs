//! `report_egress`: what a media server says of a recorder of its own, in whatever order it comes.

use chrono::{DateTime, Utc};
use entity::{RoomId, UserId, recording, room, user};
use uuid::Uuid;

use super::change::{RUNNING, bind_measures};
use super::start::{CheckedFile, egress_id_taken};
use super::{CheckedMeasures, RecordingMeasures, Recordings};
use crate::authority::Operation as Asked;
use crate::database::statement::enum_list;
use crate::error::{Conflict, Error, Invalid, Rejected, Result, Subject};
use crate::event::{Change, EgressPhase, UNKNOWN_RECORDING};
use crate::input::{self, ERASED_FILENAME};
use crate::operation::{Columns, Event, Lock, Moment, Operation, Plan, Refusal};
use crate::unit::Sink;

/// What a media server reports of an egress: a recorder of its own that writes one file.
#[derive(Clone, Copy, Debug)]
pub struct EgressReport<'a> {
    /// The egress's id there: 1 to 255 characters, kept as they are; unique, for ever.
    pub egress_id: &'a str,
    /// What it records.
    pub room: RoomId,
    /// Whose the recording is to be, if it is not known yet; none means the room's owner.
    pub owner: Option<UserId>,
    /// As of [`NewRecording`](super::NewRecording).
    pub storage_bucket: &'a str,
    /// As of [`NewRecording`](super::NewRecording).
    pub storage_key: &'a str,
    /// As of [`NewRecording`](super::NewRecording).
    pub filename: &'a str,
    /// When it began.
    pub started_at: DateTime<Utc>,
    /// How it stands.
    pub state: EgressState<'a>,
}

/// How an egress stands.
#[derive(Clone, Copy, Debug)]
pub enum EgressState<'a> {
    /// It was asked for.
    Starting,
    /// It writes.
    Active,
    /// The file is complete.
    Complete {
        /// Since when.
        at: DateTime<Utc>,
        /// What is known of the file.
        measures: RecordingMeasures<'a>,
    },
    /// It went wrong, or was broken off.
    Failed {
        /// When.
        at: DateTime<Utc>,
        /// Why: 1 to 2,000 characters.
        message: &'a str,
    },
}

impl<S: Sink> Recordings<'_, S> {
    /// Takes in what a media server reports of an egress. Reports may come late, twice, and in any order: what they leave is what they would
    /// leave in the right one. So a state that others have gone beyond changes nothing, and an end that is reported replaces one that was
    /// only inferred, such as that of the room.
    ///
    /// - The recording is the one with this egress id. If there is none, the one of this room that was begun with this storage key and has no
    ///   egress id yet: it gets it. If there is none either, it is recorded now, STARTED; where the room has ended meanwhile, STOPPED with it.
    ///   One whose owner is erased or deleted is recorded as deleted at once, so that its file is [purged](Recordings::claim_purges).
    /// - `Active`: STARTED to IN_PROGRESS, and a sign of life as of [`Recordings::progress`].
    /// - `Complete`: to STOPPED, with `at` as its end and the measures. Where it has gone on (PROCESSING, READY, FAILED), of the measures only
    ///   what is not known yet is taken.
    /// - `Failed`: to FAILED, unless it has gone on.
    /// - A deleted recording stays as it is.
    ///
    /// Times that lie ahead of the store's clock count as now: another machine's clock may be a little fast, and no report is lost for it.
    ///
    /// Appends RECORDING_STARTED, RECORDING_PROGRESSED, RECORDING_STOPPED, RECORDING_FAILED, RECORDING_DELETED as the status changes, and
    /// RECORDING_REPORTED for what else changed; nothing where nothing did. Takes the owner's row (FOR SHARE), the room's lock, the recording's;
    /// three statements in a transaction. By the system.
    ///
    /// # Errors
    /// [`Error::Invalid`]; [`Error::NotFound`] for the room, or the owner who is named; [`Rejected::RoomStatus`] when the room never began;
    /// [`Conflict::EgressIdTaken`] by a recording of another room; [`Conflict::StorageKeyTaken`] by a recording with another egress id, or of
    /// another room; [`Rejected::NotAllowed`].
    pub async fn report_egress(&self, report: EgressReport<'_>) -> Result<recording::Model> {
        let report = CheckedReport::try_from(report)?;
        self.source.perform(Report(report)).await
    }
}

pub(crate) struct CheckedReport {
    egress_id: String,
    room: RoomId,
    owner: Option<UserId>,
    file: CheckedFile,
    started_at: DateTime<Utc>,
    state: CheckedState,
}

enum CheckedState {
    Starting,
    Active,
    Complete(DateTime<Utc>, CheckedMeasures),
    Failed(DateTime<Utc>, String),
}

impl TryFrom<EgressReport<'_>> for CheckedReport {
    type Error = Invalid;

    fn try_from(report: EgressReport<'_>) -> Result<Self, Invalid> {
        input::opaque("egress_id", report.egress_id, 255)?;
        let state = match report.state {
            EgressState::Starting => CheckedState::Starting,
            EgressState::Active => CheckedState::Active,
            EgressState::Complete { at, measures } => {
                CheckedState::Complete(input::time("at", at)?, measures.try_into()?)
            }
            EgressState::Failed { at, message } => {
                CheckedState::Failed(input::time("at", at)?, input::text("error_message", message, 2000)?)
            }
        };
        Ok(Self {
            egress_id: report.egress_id.to_owned(),
            room: report.room,
            owner: report.owner,
            file: CheckedFile::new(report.storage_bucket, report.storage_key, report.filename)?,
            started_at: input::time("started_at", report.started_at)?,
            state,
        })
    }
}

impl CheckedReport {
    fn phase(&self) -> EgressPhase {
        match self.state {
            CheckedState::Starting => EgressPhase::Starting,
            CheckedState::Active => EgressPhase::Active,
            CheckedState::Complete(..) => EgressPhase::Complete,
            CheckedState::Failed(..) => EgressPhase::Failed,
        }
    }
}

pub(crate) struct Report(pub(crate) CheckedReport);

impl Operation for Report {
    const NAME: &'static str = "recordings.report_egress";
    type Output = recording::Model;

    /// Three plans: the recording is there; the report is taken in; it is read.
    fn plan(&self, at: &Moment<'_>) -> Plan {
        let answer = Plan::new(at, "answer")
            .bind("egress_id", self.0.egress_id.clone())
            .lock::<recording::Entity>("answer", Lock::None, Columns::All, "egress_id = :egress_id");
        self.find_or_record(at).then(self.take_in(at)).then(answer)
    }
}

impl Report {
    /// The change that is none of the status.
    fn reported(&self) -> Change {
        Change::RecordingReported {
            recording: UNKNOWN_RECORDING,
            egress_id: self.0.egress_id.clone(),
            phase: self.0.phase(),
        }
    }

    /// Sees to it that there is a recording of this room with this egress id. The unique indexes see what others insert meanwhile.
    fn find_or_record(&self, at: &Moment<'_>) -> Plan {
        let dialect = at.dialect;
        let Report(report) = self;
        let room = report.room;
        let over = "(room.status <> 'LIVE' OR member.deleted_at IS NOT NULL)";
        let ended_at = dialect.later("COALESCE(room.ended_at, :now)", ":started_at");
        let seconds = dialect.seconds_between(":started_at", &ended_at);
        let member = Error::NotFound(Subject::User(report.owner.unwrap_or(UserId::from_uuid(Uuid::nil()))));
        let columns = ["id", "room_id", "status", "deleted_at"];
        let recording = UNKNOWN_RECORDING;
        let stopped = Change::RecordingStopped {
            recording,
            with_room: true,
        };
        let deleted = Change::RecordingDeleted {
            recording,
            expired: false,
        };
        let plan = Plan::without_answer(at, "there")
            .denied(at.only_the_system(Asked::ProcessRecording))
            .bind("room", room)
            .bind("owner", report.owner)
            .bind("recording", at.id())
            .bind("egress_id", report.egress_id.clone())
            .bind("storage_bucket", report.file.storage_bucket.clone())
            .bind("storage_key", report.file.storage_key.clone())
            .bind("filename", report.file.filename.clone())
            .bind("erased_filename", ERASED_FILENAME)
            .bind("started_at", report.started_at.min(at.now))
            .view::<room::Entity>("venue", "id = :room")
            // Users before rooms. An owner who is deleted later finds the recording.
            .lock::<user::Entity>(
                "member",
                Lock::Share,
                &["id", "deleted_at"],
                "id = COALESCE(:owner, (SELECT owner_id FROM rooms WHERE id = :room))",
            )
            .lock::<room::Entity>("room", Lock::Change, &["id", "status", "ended_at"], "id = :room")
            .view::<recording::Entity>("same_egress", "egress_id = :egress_id AND room_id <> :room")
            .view::<recording::Entity>(
                "same_key",
                "storage_key = :storage_key AND (room_id <> :room OR egress_id <> :egress_id)",
            )
            .found("venue", Error::NotFound(Subject::Room(room)))
            .found("member", member)
            .guard(
                "room",
                "status IN ('LIVE', 'ENDED')",
                Refusal::with("status", move |status| Rejected::RoomStatus { room, status }),
            )
            .absent_by("uq_recordings_egress", "same_egress", egress_id_taken())
            .absent_by("uq_recordings_storage_key", "same_key", Conflict::StorageKeyTaken);
        plan.gate("venue_found", "room")
            .lookup(
                "known",
                &["id"],
                "SELECT recordings.id FROM recordings, venue_found WHERE egress_id = :egress_id AND room_id = venue_found.id",
            )
            .lookup(
                "adopted",
                &["id", "room_id"],
                "UPDATE recordings SET egress_id = :egress_id WHERE storage_key = :storage_key AND room_id = (SELECT id FROM venue_found)
                    AND egress_id IS NULL AND NOT EXISTS (SELECT 1 FROM known) RETURNING id, room_id",
            )
            .lookup(
                "recorded",
                &["id", "room_id", "status", "deleted_at"],
                format!(
                    "INSERT INTO recordings (id, room_id, owner_id, storage_key, storage_bucket, egress_id, filename, status, started_at,
                        stopped_at, duration_seconds, retry_count, is_public, deleted_at, created_at, updated_at)
                    SELECT :recording, room.id, member.id, :storage_key, :storage_bucket, :egress_id,
                        CASE WHEN member.deleted_at IS NULL THEN :filename ELSE :erased_filename END, {status}, :started_at,
                        CASE WHEN {over} THEN {ended_at} END, CASE WHEN {over} THEN {seconds} END, 0, FALSE,
                        CASE WHEN member.deleted_at IS NOT NULL THEN :now END, :now, :now
                    FROM venue_found, room, member
                    WHERE NOT EXISTS (SELECT 1 FROM known) AND NOT EXISTS (SELECT 1 FROM adopted)
                    ON CONFLICT DO NOTHING RETURNING {columns}",
                    status = dialect.as_enum(&format!("CASE WHEN {over} THEN 'STOPPED' ELSE 'STARTED' END"), "recording_status"),
                    columns = dialect.some_columns_of::<recording::Entity>(&columns),
                ),
            )
            .step(
                "there",
                &["id"],
                "SELECT id FROM known UNION ALL SELECT id FROM adopted UNION ALL SELECT id FROM recorded",
            )
            .event(at, &of(at, &self.reported(), "adopted", "TRUE"))
            .event(at, &of(at, &Change::RecordingStarted { recording }, "recorded", "TRUE"))
            .event(at, &of(at, &stopped, "recorded", "one.status = 'STOPPED'"))
            .event(at, &of(at, &deleted, "recorded", "one.deleted_at IS NOT NULL"))
    }

    /// Changes the recording as far as it has not gone beyond the report. The room's lock is held since the plan before.
    fn take_in(&self, at: &Moment<'_>) -> Plan {
        let plan = Plan::without_answer(at, "taken_in")
            .bind("egress_id", self.0.egress_id.clone())
            .look::<recording::Entity>(
                "before",
                Lock::Change,
                &["id", "status"],
                "egress_id = :egress_id AND deleted_at IS NULL",
            );
        let plan = match &self.0.state {
            CheckedState::Starting => plan,
            CheckedState::Active => {
                let change = Change::RecordingProgressed {
                    recording: UNKNOWN_RECORDING,
                };
                let plan = update(at, plan, "status = 'IN_PROGRESS'", &running("status"));
                plan.event(at, &of(at, &change, "changed", "TRUE"))
            }
            CheckedState::Complete(ended_at, measures) => {
                let stopped = Change::RecordingStopped {
                    recording: UNKNOWN_RECORDING,
                    with_room: false,
                };
                let (set, concerned) = complete(at);
                let plan = bind_measures(plan.bind("ended_at", (*ended_at).min(at.now)), measures);
                let had_run = format!("EXISTS (SELECT 1 FROM before WHERE {})", running("before.status"));
                update(at, plan, &set, &concerned)
                    .event(at, &of(at, &stopped, "changed", &had_run))
                    .event(at, &of(at, &self.reported(), "changed", &format!("NOT {had_run}")))
            }
            CheckedState::Failed(ended_at, message) => {
                let failed = Change::RecordingFailed {
                    recording: UNKNOWN_RECORDING,
                    message: message.clone(),
                    stuck: false,
                };
                let (end, seconds) = reported_end(at);
                let set = format!(
                    "status = 'FAILED', error_message = :message, stopped_at = {end}, duration_seconds = {seconds}"
                );
                let plan = plan
                    .bind("ended_at", (*ended_at).min(at.now))
                    .bind("message", message.clone());
                update(at, plan, &set, OPEN).event(at, &of(at, &failed, "changed", "TRUE"))
            }
        };
        plan.step("taken_in", &["rows"], "SELECT count(*) AS rows FROM before")
    }
}

/// SQL: the report may still change the status, or the end that was inferred.
const OPEN: &str = "status IN ('STARTED', 'IN_PROGRESS', 'STOPPED')";

fn running(status: &str) -> String {
    format!("{status} IN ({})", enum_list(RUNNING))
}

/// Changes the recording `before` where it is concerned: step `changed`.
fn update(at: &Moment<'_>, plan: Plan, set: &str, concerned: &str) -> Plan {
    plan.update_if_there::<recording::Entity>(
        "changed",
        &["id", "room_id"],
        format!("{set}, updated_at = {}", at.dialect.later(":now", "updated_at")),
        format!("id = (SELECT id FROM before) AND {concerned}"),
    )
}

/// An event of the recording that a step, which is called `one` here, yields with its room.
fn of(at: &Moment<'_>, change: &Change, step: &str, condition: &str) -> Event {
    Event::of(change, format!("{step} AS one WHERE {condition}"))
        .room("one.room_id")
        .computed("recording", at.dialect.uuid_text("one.id"))
}

/// SQL for the end that was reported, and for the whole seconds until then.
fn reported_end(at: &Moment<'_>) -> (String, String) {
    let ended_at = at.dialect.later(":ended_at", "started_at");
    let seconds = at.dialect.seconds_between("started_at", &ended_at);
    (ended_at, seconds)
}

/// SQL for a complete file: what it sets, and where that changes anything. While the end may be replaced, so may what was measured; then
/// what somebody else has found out about the finished file is better than what the egress says.
fn complete(at: &Moment<'_>) -> (String, String) {
    const MEASURES: [&str; 5] = ["size_bytes", "codec", "resolution", "fps", "bitrate"];
    let (ended_at, seconds) = reported_end(at);
    let duration = format!("COALESCE(:duration_seconds, {seconds})");
    let mut set = vec![
        format!(
            "status = CASE WHEN {} THEN 'STOPPED' ELSE status END",
            running("status")
        ),
        format!("stopped_at = CASE WHEN {OPEN} THEN {ended_at} ELSE stopped_at END"),
        format!(
            "duration_seconds = CASE WHEN {OPEN} THEN {duration} ELSE COALESCE(duration_seconds, :duration_seconds) END"
        ),
    ];
    let mut differs = vec![
        running("status"),
        format!("({OPEN} AND (stopped_at <> {ended_at} OR duration_seconds <> {duration}))"),
        "(duration_seconds IS NULL AND :duration_seconds IS NOT NULL)".to_owned(),
    ];
    for measure in MEASURES {
        set.push(format!(
            "{measure} = CASE WHEN {OPEN} THEN COALESCE(:{measure}, {measure}) ELSE COALESCE({measure}, :{measure}) END"
        ));
        differs.push(format!(
            "(:{measure} IS NOT NULL AND ({measure} IS NULL OR ({OPEN} AND {measure} <> :{measure})))"
        ));
    }
    (set.join(", "), format!("({})", differs.join(" OR ")))
}
