//! How long others are waited for.

use std::time::Duration;

use sea_orm_migration::DbErr;
use sea_orm_migration::sea_orm::DatabaseConnection;
use tokio::time::Instant;

use crate::error::{Listed, MigrateError};
use crate::run::LOG_TARGET;
use crate::{MigrateSettings, lock};

/// How often to look whether another process is done.
const POLL: Duration = Duration::from_millis(50);
/// Those who queued behind a lock are let pass for at least so long.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

pub(crate) fn failed(what: &str, error: &DbErr) -> MigrateError {
    MigrateError::Failed {
        migration: what.to_owned(),
        reason: error.to_string(),
    }
}

/// How long others have been waited for.
pub(crate) struct Waiting<'s> {
    settings: &'s MigrateSettings,
    locked_since: Option<Instant>,
    busy_since: Option<Instant>,
    pause: Duration,
}

impl<'s> Waiting<'s> {
    pub(crate) fn new(settings: &'s MigrateSettings) -> Self {
        Self {
            settings,
            locked_since: None,
            busy_since: None,
            pause: FIRST_PAUSE,
        }
    }

    /// Returns when it is time to try again; fails when it is not worth trying, or was too long ago.
    pub(crate) async fn after(
        &mut self,
        db: &DatabaseConnection,
        what: &str,
        error: &DbErr,
    ) -> Result<(), MigrateError> {
        if lock::is_locked(error) {
            let waited = self.locked_since.get_or_insert_with(Instant::now).elapsed();
            if waited >= self.settings.wait_for_others {
                return Err(MigrateError::Locked { waited });
            }
            tokio::time::sleep(POLL).await;
            return Ok(());
        }
        if !lock::is_busy(error) {
            return Err(failed(what, error));
        }
        self.locked_since = None;
        let waited = self.busy_since.get_or_insert_with(Instant::now).elapsed();
        let holders = lock::holders(db).await.unwrap_or_default();
        if waited >= self.settings.retry_for {
            return Err(MigrateError::Busy {
                migration: what.to_owned(),
                waited,
                holders,
            });
        }
        tracing::info!(target: LOG_TARGET, "'{what}' waits for locks: {}", Listed(&holders));
        tokio::time::sleep(self.pause).await;
        self.pause = Ord::min(self.pause * 2, LONGEST_PAUSE);
        Ok(())
    }
}
