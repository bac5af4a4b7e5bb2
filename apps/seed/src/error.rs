//! What can go wrong.

/// Why a database was not filled, or only in part.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SeedError {
    /// There are events in it already, and nobody said that more may be added.
    #[error("the database is not empty: its audit log has events. Name an empty one, or say --append to add to it")]
    NotEmpty,
    /// Added to once before with the same seed: its names are there.
    #[error("the database has the people of seed {seed} already: add to it with another seed")]
    SeedUsed {
        /// Which.
        seed: u64,
    },
    /// The settings contradict each other or leave a limit.
    #[error("{0}")]
    Settings(String),
    /// The database could not be migrated.
    #[error(transparent)]
    Migrate(#[from] conferencing_migration::MigrateError),
    /// The store refused or failed. What was written until then stays.
    #[error(transparent)]
    Store(#[from] conferencing_store::Error),
}

/// For what the settings' own rules refuse.
pub(crate) fn refused(reason: impl Into<String>) -> SeedError {
    SeedError::Settings(reason.into())
}
