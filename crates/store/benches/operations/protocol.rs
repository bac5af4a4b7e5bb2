//! What the driver asks of a worker, one line of JSON each way.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::operation::Operation;

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Command {
    /// Brings the database to the worker's own schema.
    Migrate {},
    Run(Run),
    Capture(Capture),
}

/// Clients that do one operation after another.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Run {
    pub operation: Operation,
    pub clients: usize,
    pub connections: u32,
    pub millis: u64,
    /// The number of the first, and how many there may be.
    pub from: u64,
    pub limit: u64,
    /// Which page of the audit log is the far one.
    pub depth: u64,
}

#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Done {
    pub operations: u64,
    pub seconds: f64,
    /// Microseconds; zero when a single operation has no time of its own.
    pub p50: f64,
    pub p99: f64,
}

impl Done {
    pub fn rate(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "for show")]
        let operations = self.operations as f64;
        operations / self.seconds
    }
}

/// Does an operation twice over one connection, the second time between two statements that can be found in the server's log.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Capture {
    pub operation: Operation,
    pub from: u64,
    pub depth: u64,
}

/// The connection's prepared statements by name.
pub type Prepared = BTreeMap<String, Statement>;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Statement {
    pub text: String,
    pub types: Vec<String>,
}

pub const BEGINS: &str = "SELECT 'bench begins'";
pub const ENDS: &str = "SELECT 'bench ends'";

/// Of the times of single operations, in microseconds.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "for show"
)]
pub fn percentile(sorted: &[u32], part: f64) -> f64 {
    let place = (part * sorted.len() as f64) as usize;
    sorted
        .get(place.min(sorted.len().saturating_sub(1)))
        .map_or(0.0, |micros| f64::from(*micros))
}
