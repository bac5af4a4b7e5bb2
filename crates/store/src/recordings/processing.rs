//! `process`, `ready`, `retry`: what becomes of the file once it is written.

use entity::{RecordingId, RecordingStatus, recording};

use super::change::{MEASURES, bind_measures, changed, changing, in_status};
use super::{CheckedMeasures, RecordingMeasures, Recordings};
use crate::authority::Operation as Asked;
use crate::error::{Rejected, Result};
use crate::event::Change;
use crate::input;
use crate::operation::{Event, Moment, Operation, Plan, Refusal};
use crate::rules::stop_recording_set;
use crate::unit::Sink;

impl<S: Sink> Recordings<'_, S> {
    /// Begins the work on the file: STOPPED to PROCESSING. Appends RECORDING_PROCESSING. Takes the room's lock; one statement on
    /// PostgreSQL. By the system.
    ///
    /// # Errors
    /// [`crate::Error::NotFound`]; [`Rejected::RecordingStatus`] when it is not STOPPED;
    /// [`Rejected::NotAllowed`].
    pub async fn process(&self, id: RecordingId) -> Result<recording::Model> {
        self.source.perform(Process(id)).await
    }

    /// Says where it can be watched: PROCESSING to READY, for good. `url` has at most 2,048 characters. The measures are those
    /// of the finished file; none of them is needed, and they are the only way to give any to a recording that stopped with
    /// its room. Appends RECORDING_READY. Takes the room's lock; one statement on PostgreSQL. By the system.
    ///
    /// # Errors
    /// [`crate::Error::Invalid`]; [`crate::Error::NotFound`]; [`Rejected::RecordingStatus`] when it is not
    /// PROCESSING; [`Rejected::NotAllowed`].
    pub async fn ready(&self, id: RecordingId, url: &str, measures: RecordingMeasures<'_>) -> Result<recording::Model> {
        let url = input::line("storage_url", url, 2048)?;
        let measures = measures.try_into()?;
        self.source.perform(MarkReady { id, url, measures }).await
    }

    /// Has another try: FAILED to PROCESSING, with `retry_count` raised and the message gone, which the audit log keeps. As often
    /// as [`StoreSettings::max_recording_retries`](crate::StoreSettings) says. Appends RECORDING_RETRIED. Takes the room's lock;
    /// one statement on PostgreSQL. By the system.
    ///
    /// # Errors
    /// [`crate::Error::NotFound`]; [`Rejected::RecordingStatus`] when it is not FAILED;
    /// [`Rejected::RetriesExhausted`]; [`Rejected::NotAllowed`].
    pub async fn retry(&self, id: RecordingId) -> Result<recording::Model> {
        let max_retries = self.source.context().max_recording_retries();
        self.source.perform(Retry { id, max_retries }).await
    }
}

pub(crate) struct Process(pub(crate) RecordingId);

impl Operation for Process {
    const NAME: &'static str = "recordings.process";
    type Output = recording::Model;

    fn plan(&self, at: &Moment<'_>) -> Plan {
        let recording = self.0;
        let plan = changing(at, recording, Asked::ProcessRecording, "status = 'PROCESSING'");
        let plan = in_status(plan, recording, &[RecordingStatus::Stopped]);
        changed(at, plan, &Change::RecordingProcessing { recording })
    }
}

pub(crate) struct MarkReady {
    pub(crate) id: RecordingId,
    pub(crate) url: String,
    pub(crate) measures: CheckedMeasures,
}

impl Operation for MarkReady {
    const NAME: &'static str = "recordings.ready";
    type Output = recording::Model;

    fn plan(&self, at: &Moment<'_>) -> Plan {
        let recording = self.id;
        let set = format!(
            "status = 'READY', storage_url = :url, duration_seconds = COALESCE(:duration_seconds, duration_seconds), {MEASURES}"
        );
        let plan = changing(at, recording, Asked::ProcessRecording, &set).bind("url", self.url.clone());
        let plan = bind_measures(plan, &self.measures);
        let plan = in_status(plan, recording, &[RecordingStatus::Processing]);
        changed(at, plan, &Change::RecordingReady { recording })
    }
}

pub(crate) struct Retry {
    pub(crate) id: RecordingId,
    pub(crate) max_retries: i32,
}

impl Operation for Retry {
    const NAME: &'static str = "recordings.retry";
    type Output = recording::Model;

    fn plan(&self, at: &Moment<'_>) -> Plan {
        let recording = self.id;
        let change = Change::RecordingRetried {
            recording,
            retry_count: 0,
        };
        // A failure that was written past this store may lack the end.
        let rest = stop_recording_set(at.dialect, ":now", "duration_seconds");
        let set = format!("status = 'PROCESSING', retry_count = retry_count + 1, error_message = NULL, {rest}");
        let plan = changing(at, recording, Asked::ProcessRecording, &set)
            .bind("max_retries", self.max_retries)
            .guard(
                "changed",
                "status <> 'FAILED' OR retry_count < :max_retries",
                Refusal::with("retry_count", move |retries| Rejected::RetriesExhausted {
                    recording,
                    retries,
                }),
            );
        in_status(plan, recording, &[RecordingStatus::Failed]).event(
            at,
            &Event::of(&change, "changed")
                .room("changed.room_id")
                .computed("retry_count", "changed.retry_count"),
        )
    }
}
