//! `cargo run -p conferencing-migration -- up|down|status|fresh|refresh|reset`, and what `sea-orm-cli migrate -d migration` runs.
//! The database is `DATABASE_URL`, for either backend.

use std::process::exit;
use std::time::Duration;

use conferencing_migration::Migrator;
use sea_orm_migration::sea_orm::{Database, DbErr, RuntimeErr, SqlxError};

/// How long a server may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

#[tokio::main]
async fn main() {
    let is_named = |argument: String| argument == "-u" || argument.starts_with("--database-url");
    if std::env::var_os("DATABASE_URL").is_none() && !std::env::args().any(is_named) && !asks_for_help() {
        fail("DATABASE_URL is not set, and there is no --database-url");
    }
    sea_orm_migration::cli::run_cli_with_connection(Migrator, |mut options| async move {
        // One connection holds the lock, the other works.
        options.max_connections(2).acquire_timeout(PATIENCE).sqlx_logging(false);
        match Database::connect(options).await {
            Ok(db) => Ok(db),
            // SeaORM's own way with this is a panic.
            Err(error) => fail(&format!("cannot open the database: {}", reason(&error))),
        }
    })
    .await;
}

fn asks_for_help() -> bool {
    std::env::args().any(|argument| matches!(argument.as_str(), "-h" | "--help" | "help" | "-V" | "--version"))
}

/// What the driver says, without the address, in which a password may stand.
fn reason(error: &DbErr) -> String {
    match error {
        DbErr::Conn(RuntimeErr::SqlxError(error)) => match &**error {
            SqlxError::PoolTimedOut => "it did not answer in time".to_owned(),
            SqlxError::Configuration(_) => "its address is not one that can be used".to_owned(),
            error => error.to_string(),
        },
        DbErr::Conn(RuntimeErr::Internal(_)) => "its address is not one that can be used".to_owned(),
        DbErr::ConnectionAcquire(_) => "it did not answer in time".to_owned(),
        other => other.to_string(),
    }
}

fn fail(reason: &str) -> ! {
    eprintln!("Migration Error: {reason}");
    exit(1)
}
