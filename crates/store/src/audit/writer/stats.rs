//! What a writer counts.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Numbers of a writer since it was made. `accepted` is the sum of `written`, `refused`, `abandoned` and what is still on its way.
///
/// The `metrics` facade gets the same as it happens, see [`crate::telemetry::METRICS`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[cfg_attr(feature = "schemars", derive(schemars::JsonSchema))]
pub struct WriterStats {
    /// Events that were taken.
    pub accepted: u64,
    /// Events that are durable.
    pub written: u64,
    /// Events that point at what does not exist, or that the database refused.
    pub refused: u64,
    /// Events that the queue had no room for.
    pub rejected: u64,
    /// Events that were taken and not written when the runtime ended before the writer; whoever waited for one got an error.
    pub abandoned: u64,
    /// Statements that appended something.
    pub batches: u64,
    /// The most events that one of them appended.
    pub largest_batch: u64,
    /// Times that a batch was tried again: it had failed for no fault of its events, or its outcome was unknown.
    pub retries: u64,
}

impl WriterStats {
    /// Events that were taken and are neither written nor given up: in the queue, or in a batch under way.
    pub fn on_their_way(&self) -> u64 {
        self.accepted
            .saturating_sub(self.written)
            .saturating_sub(self.refused)
            .saturating_sub(self.abandoned)
    }
}

#[derive(Debug, Default)]
pub(super) struct Tally {
    accepted: AtomicU64,
    written: AtomicU64,
    refused: AtomicU64,
    rejected: AtomicU64,
    abandoned: AtomicU64,
    batches: AtomicU64,
    largest_batch: AtomicU64,
    retries: AtomicU64,
}

impl Tally {
    pub(super) fn stats(&self) -> WriterStats {
        // What ends an event is read before what begins it, so that no event seems to have ended that never began.
        let (written, refused) = (self.written.load(Relaxed), self.refused.load(Relaxed));
        WriterStats {
            written,
            refused,
            abandoned: self.abandoned.load(Relaxed),
            rejected: self.rejected.load(Relaxed),
            batches: self.batches.load(Relaxed),
            largest_batch: self.largest_batch.load(Relaxed),
            retries: self.retries.load(Relaxed),
            accepted: self.accepted.load(Relaxed),
        }
    }

    fn tell_depth(&self) {
        #[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
        metrics::gauge!("audit_writer_queue_depth").set(self.stats().on_their_way() as f64);
    }

    pub(super) fn accept(&self) {
        self.accepted.fetch_add(1, Relaxed);
        metrics::counter!("audit_writer_accepted_total").increment(1);
        self.tell_depth();
    }

    pub(super) fn turn_away(&self) {
        self.rejected.fetch_add(1, Relaxed);
        metrics::counter!("audit_writer_rejected_total").increment(1);
    }

    pub(super) fn write(&self, after: Duration) {
        self.written.fetch_add(1, Relaxed);
        metrics::counter!("audit_writer_written_total").increment(1);
        metrics::histogram!("audit_writer_append_seconds").record(after);
    }

    pub(super) fn refuse(&self) {
        self.refused.fetch_add(1, Relaxed);
        metrics::counter!("audit_writer_refused_total").increment(1);
    }

    pub(super) fn batch(&self, events: usize) {
        let events = u32::try_from(events).unwrap_or(u32::MAX);
        self.batches.fetch_add(1, Relaxed);
        self.largest_batch.fetch_max(events.into(), Relaxed);
        metrics::histogram!("audit_writer_batch_events").record(f64::from(events));
        self.tell_depth();
    }

    pub(super) fn retry(&self) {
        self.retries.fetch_add(1, Relaxed);
        metrics::counter!("audit_writer_retries_total").increment(1);
    }

    /// Gives up what is on its way, and says how much that is.
    pub(super) fn abandon(&self) -> u64 {
        let left = self.stats().on_their_way();
        self.abandoned.fetch_add(left, Relaxed);
        left
    }
}
