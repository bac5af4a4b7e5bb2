//! Why there is no database.

use conferencing_migration::MigrateError;
use conferencing_store::Error;

/// Why a [`TestStore`](crate::TestStore) could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SetUpError {
    /// There is no PostgreSQL here to be started, and TEST_DATABASE_URL names none.
    #[error(
        "no PostgreSQL for tests: {reason}; install its server, name the folder of its programs in TEST_POSTGRES_BIN, or a server in TEST_DATABASE_URL"
    )]
    NoServer {
        /// What was looked for.
        reason: String,
    },
    /// The kit's own server did not start.
    #[error("the PostgreSQL server of these tests did not start: {reason}")]
    Start {
        /// What its programs say.
        reason: String,
    },
    /// A database could not be made, looked at or prepared.
    #[error("a test's database could not be made: {reason}")]
    Database {
        /// What the server says.
        reason: String,
    },
    /// The store refused it.
    #[error(transparent)]
    Store(#[from] Error),
    /// The migrations failed.
    #[error("the migrations of a test's database failed: {0}")]
    Migrate(#[from] MigrateError),
    /// A folder or a file.
    #[error("a test's folder: {0}")]
    File(#[from] std::io::Error),
}

impl From<sea_orm::DbErr> for SetUpError {
    fn from(error: sea_orm::DbErr) -> Self {
        Self::Database {
            reason: error.to_string(),
        }
    }
}
