//! How long a test waits for its database: `cargo run --release -p conferencing-testing --example timings`. On PostgreSQL the server of
//! TEST_DATABASE_URL, else one that is started.

use std::time::{Duration, Instant};

use conferencing_testing::{Builder, SetUpError, TestStore};

/// How many databases of each kind.
const MANY: u32 = 50;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), SetUpError> {
    println!("milliseconds, each until the store can be used");
    println!(
        "{:20} {:>8} {:>8} {:>8} {:>8}",
        "", "first", "median", "slowest", "drop"
    );
    measure("SQLite in memory", || TestStore::builder().sqlite()).await?;
    measure("SQLite in a file", || TestStore::builder().sqlite_file()).await?;
    measure("PostgreSQL", || TestStore::builder().postgres()).await
}

async fn measure(what: &str, builder: fn() -> Builder) -> Result<(), SetUpError> {
    let (first, _) = open_and_drop(builder()).await?;
    let (mut opened, mut dropped) = (Vec::new(), Duration::ZERO);
    for _ in 0..MANY {
        let (opening, dropping) = open_and_drop(builder()).await?;
        opened.push(opening);
        dropped += dropping;
    }
    opened.sort();
    let millis = |time: Duration| time.as_secs_f64() * 1_000.0;
    let (median, slowest) = (opened[opened.len() / 2], opened[opened.len() - 1]);
    println!(
        "{what:20} {:8.1} {:8.1} {:8.1} {:8.1}",
        millis(first),
        millis(median),
        millis(slowest),
        millis(dropped / MANY)
    );
    Ok(())
}

async fn open_and_drop(builder: Builder) -> Result<(Duration, Duration), SetUpError> {
    let begun = Instant::now();
    let kit = builder.open().await?;
    let opened = begun.elapsed();
    let begun = Instant::now();
    drop(kit);
    Ok((opened, begun.elapsed()))
}
