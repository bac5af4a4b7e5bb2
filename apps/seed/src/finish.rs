//! The platform's present: what its jobs find that run from time to time.

use std::time::Duration;

use conferencing_store::{Actor, Store};

use crate::error::SeedError;

/// How much a sweep takes at once.
const LIMIT: u16 = 500;

/// Runs each of the store's sweeps until nothing is left. They look at the whole database, so they run when all else is done, one after
/// another: what they do hangs on nobody's timing.
pub(crate) async fn sweep(store: &Store) -> Result<(), SeedError> {
    let system = store.acting(&Actor::system("sweeper"));
    while system
        .nodes()
        .sweep_silent(Duration::from_secs(60), LIMIT)
        .await?
        .remaining
    {}
    while is_full(
        system
            .recordings()
            .sweep_stuck(Duration::from_secs(30 * 60), LIMIT)
            .await?
            .len(),
    ) {}
    while is_full(system.recordings().sweep_expired(LIMIT).await?.len()) {}
    while is_full(system.rooms().sweep_empty(LIMIT).await?.len()) {}
    // Half of the files that are due were purged, the others are being purged.
    let files = system
        .recordings()
        .claim_purges(LIMIT, Duration::from_secs(600))
        .await?;
    let mut files: Vec<_> = files.iter().map(|file| file.recording).collect();
    files.sort_unstable();
    files.truncate(files.len() / 2);
    system.recordings().confirm_purged(&files).await?;
    Ok(())
}

fn is_full(taken: usize) -> bool {
    taken == usize::from(LIMIT)
}
