//! The metrics by name. A test holds docs/TELEMETRY.md to this table, and what the suite emits as well.

/// A metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metric {
    /// Its name.
    pub name: &'static str,
    /// `counter`, `gauge` or `histogram`.
    pub kind: &'static str,
    /// What it counts in.
    pub unit: &'static str,
    /// Its labels.
    pub labels: &'static [&'static str],
    /// What it tells.
    pub what: &'static str,
}

const fn metric(
    name: &'static str,
    kind: &'static str,
    unit: &'static str,
    labels: &'static [&'static str],
    what: &'static str,
) -> Metric {
    Metric {
        name,
        kind,
        unit,
        labels,
        what,
    }
}

/// Every metric that this crate emits.
pub const METRICS: &[Metric] = &[
    metric(
        "store_operation_seconds",
        "histogram",
        "seconds",
        &["operation", "outcome"],
        "how long an operation, a read or a unit took, waits and retries included",
    ),
    metric(
        "store_retries_total",
        "counter",
        "tries",
        &["operation", "cause"],
        "how often one was tried again",
    ),
    metric(
        "store_slow_statements_total",
        "counter",
        "statements",
        &["operation"],
        "statements that took longer than `slow_statement`",
    ),
    metric(
        "store_acquire_seconds",
        "histogram",
        "seconds",
        &[],
        "waits for a connection of the pool (PostgreSQL) or for the right to write (SQLite)",
    ),
    metric(
        "store_pool_connections",
        "gauge",
        "connections",
        &["state"],
        "open connections, `in_use` or `idle`",
    ),
    metric(
        "store_pool_connections_max",
        "gauge",
        "connections",
        &[],
        "how many there may be",
    ),
    metric(
        "store_failover_seconds",
        "histogram",
        "seconds",
        &[],
        "from the loss of the server that took the writes being noticed to another one being found",
    ),
    metric(
        "store_replica_lag_seconds",
        "gauge",
        "seconds",
        &["replica"],
        "how far a replica is behind at most, by its host and port",
    ),
    metric(
        "store_replica_reads_total",
        "counter",
        "reads",
        &["served_by"],
        "reads that tolerate lag, by who answered: `replica` or `primary`",
    ),
    metric(
        "store_feed_lag_seconds",
        "histogram",
        "seconds",
        &[],
        "from the time of the newest event of a batch to its being handed out in this process",
    ),
    metric(
        "store_feed_slow_subscribers_total",
        "counter",
        "subscribers",
        &[],
        "subscribers that were too slow and lost their place",
    ),
    metric(
        "audit_writer_accepted_total",
        "counter",
        "events",
        &[],
        "events that writers took",
    ),
    metric(
        "audit_writer_written_total",
        "counter",
        "events",
        &[],
        "events that are durable",
    ),
    metric(
        "audit_writer_refused_total",
        "counter",
        "events",
        &[],
        "events that point at nothing, or that the database refused",
    ),
    metric(
        "audit_writer_rejected_total",
        "counter",
        "events",
        &[],
        "events for which the queue had no room",
    ),
    metric(
        "audit_writer_retries_total",
        "counter",
        "batches",
        &[],
        "batches that were tried again",
    ),
    metric(
        "audit_writer_queue_depth",
        "gauge",
        "events",
        &[],
        "events on their way: in the queue, or in a batch",
    ),
    metric(
        "audit_writer_batch_events",
        "histogram",
        "events",
        &[],
        "events that one statement appended",
    ),
    metric(
        "audit_writer_append_seconds",
        "histogram",
        "seconds",
        &[],
        "from being taken to being durable",
    ),
];

/// Tells the recorder that is installed what each metric is. Call it once, after installing one.
pub fn describe() {
    for metric in METRICS {
        match metric.kind {
            "counter" => metrics::describe_counter!(metric.name, metric.what),
            "gauge" => metrics::describe_gauge!(metric.name, metric.what),
            _ => metrics::describe_histogram!(metric.name, metric.what),
        }
    }
}
