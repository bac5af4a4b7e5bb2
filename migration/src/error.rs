//! Why a database was not migrated.

use std::fmt::{Display, Formatter, Result as FmtResult};
use std::time::Duration;

use sea_orm_migration::DbErr;

/// Why a database is not up to date. What was applied before stays applied; run it again to go on. No variant has a row's content.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MigrateError {
    /// Another process was migrating this database for all of [`crate::MigrateSettings::wait_for_others`].
    #[error("another process has been migrating this database for {} s; gave up waiting", waited.as_secs())]
    Locked {
        /// How long it was waited for.
        waited: Duration,
    },
    /// A migration could not have its locks in time for all of [`crate::MigrateSettings::retry_for`]; it changed nothing, or on a big
    /// table what it does not do twice.
    #[error("{migration} could not lock what it changes in {} s: {}", waited.as_secs(), Listed(holders))]
    Busy {
        /// Which.
        migration: String,
        /// For how long it was tried.
        waited: Duration,
        /// Who held locks on tables when the last try failed, the oldest transaction first, at most five.
        holders: Vec<LockHolder>,
    },
    /// The database has migrations that this build does not know, so it cannot revert what lies below them.
    #[error("the database has migrations of a newer build, which must revert them first: {}", unknown.join(", "))]
    Newer {
        /// Their names.
        unknown: Vec<String>,
    },
    /// A migration failed, and would again.
    #[error("{migration}: {reason}")]
    Failed {
        /// Which.
        migration: String,
        /// What the database says.
        reason: String,
    },
    /// The database failed before a migration began.
    #[error("{reason}")]
    Database {
        /// What it says.
        reason: String,
    },
}

/// A transaction that held a lock on a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockHolder {
    /// The server's process, for `pg_stat_activity` and `pg_terminate_backend`.
    pub process: i32,
    /// Its `application_name`.
    pub application: String,
    /// The table.
    pub table: String,
    /// The strongest lock, in the server's words.
    pub mode: String,
    /// How long its transaction has been open; none where the server does not show it to this role.
    pub open_for: Option<Duration>,
}

impl Display for LockHolder {
    fn fmt(&self, f: &mut Formatter<'_>) -> FmtResult {
        let Self {
            process,
            application,
            table,
            mode,
            ..
        } = self;
        write!(f, "process {process} ({application}) has {mode} on {table}")?;
        match self.open_for {
            Some(open_for) => write!(f, ", its transaction open for {} s", open_for.as_secs()),
            None => Ok(()),
        }
    }
}

pub(crate) struct Listed<'h>(pub(crate) &'h [LockHolder]);

impl Display for Listed<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> FmtResult {
        if self.0.is_empty() {
            return f.write_str("nobody held a lock on a table by then");
        }
        for (number, holder) in self.0.iter().enumerate() {
            let separator = if number == 0 { "" } else { "; " };
            write!(f, "{separator}{holder}")?;
        }
        Ok(())
    }
}

impl MigrateError {
    pub(crate) fn database(error: &DbErr) -> Self {
        Self::Database {
            reason: error.to_string(),
        }
    }
}

/// For SeaORM's interfaces, which know only its own error.
impl From<MigrateError> for DbErr {
    fn from(error: MigrateError) -> Self {
        Self::Migration(error.to_string())
    }
}
