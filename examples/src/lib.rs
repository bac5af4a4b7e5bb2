//! What the example binaries share: opening the database that the user named, a [`Stage`] to play on, and printing for
//! people to read.

mod stage;
mod telemetry;
pub mod webhooks;

use std::fmt::Display;
use std::io::Write;
use std::process::ExitCode;

use chrono::{DateTime, TimeDelta, Utc};
use clap::Args;
use comfy_table::{ContentArrangement, Table, presets};
use conferencing_migration::{clean_test_database, migrate};
use conferencing_store::connect;
use conferencing_store::{Error, Store, StoreSettings};

pub use stage::Stage;
pub use telemetry::{follow, play, recorder};

/// Which database an example runs on.
#[derive(Args, Debug)]
pub struct DatabaseArgs {
    /// postgres://user:password@host/database or sqlite://file?mode=rwc; without it, an SQLite file named after the example is made in this folder
    #[arg(long, env = "DATABASE_URL", hide_env_values = true)]
    database_url: Option<String>,
    /// Apply the migrations that a database given by address lacks
    #[arg(long)]
    migrate: bool,
    /// Empty the database first; refused on one whose name does not say that it is for tests
    #[arg(long)]
    clean: bool,
}

impl DatabaseArgs {
    /// Opens the database. The embedded one is migrated; one that was named only if `--migrate` says so, because nobody
    /// expects an example to change a schema.
    ///
    /// # Errors
    /// One sentence that says what is wrong and what to do.
    pub async fn open(&self, settings: StoreSettings) -> Result<Store, Sentence> {
        let (url, is_migrated) = match &self.database_url {
            Some(url) => (url.clone(), self.migrate),
            None => (format!("sqlite://{}.sqlite?mode=rwc", program_name()), true),
        };
        let db = connect::open(&url, &settings.connect).await?;
        if self.clean {
            clean_test_database(&db).await?;
        } else if is_migrated {
            migrate(&db)
                .await
                .map_err(|error| Sentence(format!("the migrations failed: {error}")))?;
        }
        match Store::from_connection(db, settings).await {
            Err(error @ Error::Unmigrated { .. }) => Err(Sentence(format!(
                "{error} (here: `cargo run -p conferencing-migration -- up` with the same DATABASE_URL, or this command with --migrate)"
            ))),
            other => Ok(other?),
        }
    }
}

/// Each example has a file of its own.
fn program_name() -> String {
    let program = std::env::current_exe().ok();
    let stem = program.as_deref().and_then(|path| path.file_stem()?.to_str());
    stem.unwrap_or("examples").to_owned()
}

/// An error as the user of an example sees it.
#[derive(Debug)]
pub struct Sentence(String);

impl Sentence {
    /// For what the example itself finds wrong.
    pub fn new(sentence: impl Into<String>) -> Self {
        Self(sentence.into())
    }
}

impl Display for Sentence {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl<E: std::error::Error> From<E> for Sentence {
    fn from(error: E) -> Self {
        Self(error.to_string())
    }
}

/// Ends `main`: success, or the sentence on standard error and exit code 1.
pub fn exit(program: &str, result: Result<(), Sentence>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(Sentence(sentence)) => {
            eprintln!("{program}: {sentence}");
            ExitCode::FAILURE
        }
    }
}

/// Prints a line. Unlike `println!` it does not panic when the reader has gone (`| head`).
pub fn print(line: impl Display) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// A table with a heading, in the terminal's width.
pub fn table(heading: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table
        .load_preset(presets::UTF8_FULL_CONDENSED)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_header(heading);
    for row in rows {
        table.add_row(row);
    }
    table.to_string()
}

/// A time of day, UTC.
pub fn clock_time(at: DateTime<Utc>) -> String {
    at.format("%H:%M:%S").to_string()
}

/// A length of time such as `12 min 30 s`.
pub fn length(seconds: impl Into<i64>) -> String {
    let length = TimeDelta::seconds(seconds.into());
    match (length.num_minutes(), length.num_seconds() % 60) {
        (0, seconds) => format!("{seconds} s"),
        (minutes, 0) => format!("{minutes} min"),
        (minutes, seconds) => format!("{minutes} min {seconds} s"),
    }
}

#[cfg(test)]
mod tests {
    use super::length;

    #[test]
    fn lengths_read_naturally() {
        assert_eq!([length(0), length(60), length(90)], ["0 s", "1 min", "1 min 30 s"]);
    }
}
