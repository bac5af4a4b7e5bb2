//! Whether the database is there, for a service's probe.

use std::time::{Duration, Instant};

use crate::error::{Error, REQUIRED_MIGRATION, Result};
use crate::store::{Store, applied_migration};
use crate::telemetry;
use crate::unit::Reach;

/// The longest that [`Store::health`] waits, for a connection and for its answer together.
pub const HEALTH_LIMIT: Duration = Duration::from_secs(1);

/// What [`Store::health`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Health {
    /// Which database it is.
    pub database: &'static str,
    /// The newest migration that this build needs, and that is there.
    pub migration: &'static str,
    /// How long the answer took, the wait for a connection included.
    pub round_trip: Duration,
}

impl Store {
    /// Asks the database whether it is there and has the schema; one round trip, by one of the pool's connections. It answers within
    /// [`HEALTH_LIMIT`], whatever the settings are and however busy the pool is, and tries nothing again: for a readiness probe, which asks
    /// again by itself. [`Store::doctor`] is what looks closer.
    ///
    /// # Errors
    /// [`Error::Transient`] when no connection was free or could be opened in time, or the server refuses; [`Error::TimedOut`] when the
    /// server keeps silent: its connection is closed; [`Error::Unmigrated`] when the schema is not there.
    pub async fn health(&self) -> Result<Health> {
        let (context, asked) = (self.context(), Instant::now());
        telemetry::observe("health", async move {
            let statement = context.dialect().backend().build(&applied_migration());
            let found = context.connections().query_one_within(HEALTH_LIMIT, statement).await;
            context.sent("health", asked);
            match found.map_err(|error| self.failed(&error, "health"))? {
                Some(_) => Ok(Health {
                    database: context.dialect().name(),
                    migration: REQUIRED_MIGRATION,
                    round_trip: asked.elapsed(),
                }),
                None => Err(Error::Unmigrated {
                    missing: REQUIRED_MIGRATION,
                }),
            }
        })
        .await
    }
}
