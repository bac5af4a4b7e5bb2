//! What is told of the store's work: a `tracing` span for each operation and read, and metrics through the `metrics` facade. Where nobody
//! listens, neither costs more than a few loads and one short list. docs/TELEMETRY.md has every name, unit and label.

mod names;

use std::future::Future;
use std::pin::Pin;
use std::time::{Duration, Instant};

use tracing::{Instrument, Span, field};

use crate::error::{Error, Result};

pub use names::{METRICS, Metric, describe};

/// The target of every span and event of this crate, but for the texts of statements.
const TARGET: &str = "conferencing_store";

/// How an operation ended, as a label: none of its values.
pub(crate) fn outcome_of(error: &Error) -> &'static str {
    match error {
        Error::Invalid(_) | Error::NotFound(_) | Error::Conflict(_) | Error::Rejected(_) => "refused",
        Error::TimedOut { .. } => "timed_out",
        Error::Transient { .. } => "transient",
        Error::Indeterminate { .. } => "indeterminate",
        _ => "failed",
    }
}

/// Runs an operation or a read in a span of its own, and tells how long it took and how it ended. It is boxed, so that callers' futures are
/// no larger for what is below them.
pub(crate) fn observe<T>(
    operation: &'static str,
    work: impl Future<Output = Result<T>> + Send,
) -> impl Future<Output = Result<T>> + Send {
    watch(operation, Box::pin(work))
}

async fn watch<T>(operation: &'static str, work: Pin<Box<impl Future<Output = Result<T>> + Send>>) -> Result<T> {
    let begun = Instant::now();
    let span = tracing::info_span!(
        target: TARGET,
        "operation",
        operation,
        outcome = field::Empty,
        attempts = field::Empty,
        actor = field::Empty,
        room = field::Empty,
        user = field::Empty,
        participant = field::Empty,
        recording = field::Empty,
    );
    let result = work.instrument(span.clone()).await;
    let outcome = result.as_ref().map_or_else(outcome_of, |_| "done");
    span.record("outcome", outcome);
    ended(operation, outcome, begun.elapsed());
    result
}

/// An operation has ended.
pub(crate) fn ended(operation: &'static str, outcome: &'static str, after: Duration) {
    metrics::histogram!("store_operation_seconds", "operation" => operation, "outcome" => outcome).record(after);
}

/// Fields of the span that may hold a key.
const IDS: [&str; 4] = ["room", "user", "participant", "recording"];

/// The span of the operation that runs now, if somebody listens to it. Any other one is the caller's.
pub(crate) fn current() -> Option<Span> {
    let span = Span::current();
    let is_ours = span
        .metadata()
        .is_some_and(|known| known.target() == TARGET && known.name() == "operation");
    is_ours.then_some(span)
}

/// The operation of this span is about this.
pub(crate) fn about(span: &Span, name: &str, id: uuid::Uuid) {
    if IDS.contains(&name) {
        span.record(name, field::display(id));
    }
}

/// The operation of this span is done by this user.
pub(crate) fn by(span: &Span, actor: entity::UserId) {
    span.record("actor", field::display(actor));
}

/// The operation that runs now is tried again: `made` tries are over.
pub(crate) fn tried_again(operation: &'static str, cause: &'static str, made: u32) {
    if let Some(span) = current() {
        span.record("attempts", made + 1);
    }
    metrics::counter!("store_retries_total", "operation" => operation, "cause" => cause).increment(1);
}

/// A statement of an operation has come to its end. One that took longer than `threshold` is told of.
pub(crate) fn sent(operation: &'static str, begun: Instant, threshold: Duration) {
    let took = begun.elapsed();
    if !threshold.is_zero() && took > threshold {
        metrics::counter!("store_slow_statements_total", "operation" => operation).increment(1);
        let milliseconds = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        tracing::warn!(target: TARGET, operation, milliseconds, "a statement was slow");
    }
}

/// A connection, or on SQLite the right to write, was waited for.
pub(crate) fn acquired(begun: Instant) {
    metrics::histogram!("store_acquire_seconds").record(begun.elapsed());
}

/// A pool's connections now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct PoolUsage {
    /// Those that work.
    pub in_use: u32,
    /// Those that are open and have nothing to do.
    pub idle: u32,
    /// How many there may be.
    pub most: u32,
}

/// Sets the gauges of the pool.
pub(crate) fn pool(usage: PoolUsage) {
    metrics::gauge!("store_pool_connections", "state" => "in_use").set(f64::from(usage.in_use));
    metrics::gauge!("store_pool_connections", "state" => "idle").set(f64::from(usage.idle));
    metrics::gauge!("store_pool_connections_max").set(f64::from(usage.most));
}

/// Another server takes the writes now.
#[cfg(feature = "postgres")]
pub(crate) fn failed_over(from: &str, to: &str, searched: Duration) {
    metrics::histogram!("store_failover_seconds").record(searched);
    let milliseconds = u64::try_from(searched.as_millis()).unwrap_or(u64::MAX);
    tracing::warn!(target: TARGET, from, to, milliseconds, "another server takes the writes");
}

/// How far a replica is behind.
pub(crate) fn replica_lag(server: &str, lag: Duration) {
    metrics::gauge!("store_replica_lag_seconds", "replica" => server.to_owned()).set(lag);
}

/// A replica serves reads from now on, or does not.
pub(crate) fn replica_turned(server: &str, state: &'static str) {
    tracing::info!(target: TARGET, replica = server, state, "a replica's state has changed");
}

/// A read that tolerates lag was answered.
pub(crate) fn read_from(server: &'static str) {
    metrics::counter!("store_replica_reads_total", "served_by" => server).increment(1);
}

/// Events were handed to the feed's subscribers, the newest so long after its time.
pub(crate) fn handed_out(lag: Duration) {
    metrics::histogram!("store_feed_lag_seconds").record(lag);
}

/// A subscriber of the feed was too slow.
pub(crate) fn left_behind() {
    metrics::counter!("store_feed_slow_subscribers_total").increment(1);
}
