//! `progress`, `stop`, `fail`: while a recording is written, and how that ends.

use entity::{RecordingId, RecordingStatus, recording};

use super::change::{MEASURES, RUNNING, bind_measures, changed, changing, in_status, not_allowed_to_change};
use super::{CheckedMeasures, RecordingMeasures, Recordings};
use crate::authority::Operation as Asked;
use crate::error::Result;
use crate::event::Change;
use crate::input;
use crate::operation::{Moment, Operation, Plan};
use crate::rules::stop_recording_set;
use crate::unit::Sink;

impl<S: Sink> Recordings<'_, S> {
    /// Says that media is being written: STARTED to IN_PROGRESS. Said again it is a sign of life, which moves `updated_at`: a
    /// recording that gives none for long is taken by [`Recordings::sweep_stuck`]. Appends RECORDING_PROGRESSED each time, so
    /// say it once a minute rather than once a second. Takes the room's lock; one statement on PostgreSQL. By the recording's
    /// or the room's owner, the host, or the system.
    ///
    /// # Errors
    /// [`crate::Error::NotFound`]; [`Rejected::RecordingStatus`](crate::Rejected::RecordingStatus) when it does not run;
    /// [`Rejected::NotAllowed`](crate::Rejected::NotAllowed).
    pub async fn progress(&self, id: RecordingId) -> Result<recording::Model> {
        self.source.perform(Progress(id)).await
    }

    /// Ends the writing: to STOPPED, with what is known of the file. Without a duration it is the time since the start, in
    /// whole seconds. `stopped_at` is never before `started_at`, whatever the clocks say. Appends RECORDING_STOPPED. The end of
    /// the room does the same to what still runs. Takes the room's lock; one statement on PostgreSQL. By the recording's or the
    /// room's owner, the host, or the system.
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] for the measures; [`crate::Error::NotFound`];
    /// [`Rejected::RecordingStatus`](crate::Rejected::RecordingStatus) when it does not run;
    /// [`Rejected::NotAllowed`](crate::Rejected::NotAllowed).
    pub async fn stop(&self, id: RecordingId, measures: RecordingMeasures<'_>) -> Result<recording::Model> {
        let measures = measures.try_into()?;
        self.source.perform(Stop(id, measures)).await
    }

    /// Says what went wrong, in 1 to 2,000 characters: to FAILED, and the writing has ended if it had not. Appends
    /// RECORDING_FAILED. Takes the room's lock; one statement on PostgreSQL. A running one by the recording's or the room's
    /// owner, the host, or the system; a STOPPED or PROCESSING one by the system.
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] for the message; [`crate::Error::NotFound`];
    /// [`Rejected::RecordingStatus`](crate::Rejected::RecordingStatus) when it is FAILED or READY;
    /// [`Rejected::NotAllowed`](crate::Rejected::NotAllowed).
    pub async fn fail(&self, id: RecordingId, message: &str) -> Result<recording::Model> {
        let message = input::text("error_message", message, 2000)?;
        self.source.perform(Fail(id, message)).await
    }
}

pub(crate) struct Progress(pub(crate) RecordingId);

impl Operation for Progress {
    const NAME: &'static str = "recordings.progress";
    type Output = recording::Model;

    fn plan(&self, at: &Moment<'_>) -> Plan {
        let recording = self.0;
        let plan = changing(at, recording, Asked::Record, "status = 'IN_PROGRESS'");
        let plan = in_status(plan, recording, RUNNING);
        changed(at, plan, &Change::RecordingProgressed { recording })
    }
}

pub(crate) struct Stop(pub(crate) RecordingId, pub(crate) CheckedMeasures);

impl Operation for Stop {
    const NAME: &'static str = "recordings.stop";
    type Output = recording::Model;

    fn plan(&self, at: &Moment<'_>) -> Plan {
        let Self(recording, measures) = self;
        let (recording, with_room) = (*recording, false);
        let rest = stop_recording_set(at.dialect, ":now", ":duration_seconds");
        let set = format!("status = 'STOPPED', {rest}, {MEASURES}");
        let plan = bind_measures(changing(at, recording, Asked::Record, &set), measures);
        let plan = in_status(plan, recording, RUNNING);
        changed(at, plan, &Change::RecordingStopped { recording, with_room })
    }
}

pub(crate) struct Fail(pub(crate) RecordingId, pub(crate) String);

impl Operation for Fail {
    const NAME: &'static str = "recordings.fail";
    type Output = recording::Model;

    /// From a running one by whoever may record; from a later status it is the processing that failed, and the system's to say.
    fn plan(&self, at: &Moment<'_>) -> Plan {
        use RecordingStatus::{InProgress, Processing, Started, Stopped};
        let Self(recording, message) = self;
        let recording = *recording;
        let change = Change::RecordingFailed {
            recording,
            message: message.clone(),
            stuck: false,
        };
        let rest = stop_recording_set(at.dialect, ":now", "duration_seconds");
        let set = format!("status = 'FAILED', error_message = :message, {rest}");
        let plan = changing(at, recording, Asked::Record, &set).bind("message", message.clone());
        let plan = if at.actor.is_system() {
            in_status(plan, recording, &[Started, InProgress, Stopped, Processing])
        } else {
            let refusal = not_allowed_to_change(Asked::ProcessRecording);
            let plan = plan.guard("changed", "status NOT IN ('STOPPED', 'PROCESSING')", refusal);
            in_status(plan, recording, RUNNING)
        };
        changed(at, plan, &change)
    }
}
