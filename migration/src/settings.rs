//! How patient a migration is.

use std::time::Duration;

/// How long a migration waits for others, and how long others wait behind it. Made from its default, changed field by field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MigrateSettings {
    /// How long one statement waits for one lock on PostgreSQL: 2 s. Whoever wants the same table meanwhile queues behind it for as
    /// long. Less than the server's `deadlock_timeout` (1 s unless set otherwise) and an autovacuum of the table is waited
    /// for instead of cancelled.
    pub lock_timeout: Duration,
    /// For how long a migration that could not have its locks in time is tried again, with pauses between, before it fails with
    /// [`crate::MigrateError::Busy`]: 2 min.
    pub retry_for: Duration,
    /// How long another process that is migrating this database is waited for before [`crate::MigrateError::Locked`]: 2 min.
    pub wait_for_others: Duration,
}

impl Default for MigrateSettings {
    fn default() -> Self {
        Self {
            lock_timeout: Duration::from_secs(2),
            retry_for: Duration::from_secs(120),
            wait_for_others: Duration::from_secs(120),
        }
    }
}
