//! When a pool was turned to another server.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use tokio::sync::Notify;

/// When the pool last turned to another server: what was opened before leads to the one before.
#[derive(Debug, Default)]
pub(crate) struct Turn {
    at: Mutex<Option<Instant>>,
    /// Told by who met a server that takes no writes.
    pub(super) doubted: Notify,
}

impl Turn {
    pub(super) fn happens(&self) {
        *self.at.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// Whether it came after that.
    pub(crate) fn came_after(&self, then: Instant) -> bool {
        let at = *self.at.lock().unwrap_or_else(PoisonError::into_inner);
        at.is_some_and(|at| then <= at)
    }
}

/// Follows failovers for as long as it is there.
#[derive(Debug)]
pub(crate) struct Failover {
    pub(crate) turn: std::sync::Arc<Turn>,
    pub(crate) task: super::Background,
}
