//! `cargo run -p conferencing-migration -- up|down|status|fresh|refresh|reset`, and what `sea-orm-cli migrate -d migration` runs.
//! The database is `DATABASE_URL`, for either backend, with the parameters and variables of docs/CONFIGURATION.md.

use std::process::exit;

use conferencing_migration::Migrator;
use conferencing_store::connect::{self, ConnectSettings};
use conferencing_store::{Error, Result};
use sea_orm_migration::sea_orm::{ConnectOptions, DatabaseConnection};

#[tokio::main]
async fn main() {
    let is_named = |argument: String| argument == "-u" || argument.starts_with("--database-url");
    if std::env::var_os("DATABASE_URL").is_none() && !std::env::args().any(is_named) && !asks_for_help() {
        fail("DATABASE_URL is not set, and there is no --database-url");
    }
    if names_schema() {
        fail(
            "the schema is that of the role: ALTER ROLE … SET search_path, instead of --database-schema and DATABASE_SCHEMA",
        );
    }
    sea_orm_migration::cli::run_cli_with_connection(Migrator, |options| async move {
        match open(&options).await {
            Ok(db) => Ok(db),
            // SeaORM's own way with this is a panic.
            Err(Error::Unreachable { reason, .. }) => fail(&format!("cannot open the database: {reason}")),
            Err(error) => fail(&format!("cannot open the database: {error}")),
        }
    })
    .await;
}

/// As services open it: through a pooler where the address says so, and with no word of the address in any log. One connection is enough.
async fn open(options: &ConnectOptions) -> Result<DatabaseConnection> {
    let url = options.get_url();
    let settings = ConnectSettings {
        max_connections: Some(1),
        application_name: "conferencing-migration".to_owned(),
        ..ConnectSettings::from_environment()?
    };
    connect::open(url, &settings.without_limits()).await
}

fn asks_for_help() -> bool {
    std::env::args().any(|argument| matches!(argument.as_str(), "-h" | "--help" | "help" | "-V" | "--version"))
}

/// A session's search path would be lost behind a pooler, and services do not know of it.
fn names_schema() -> bool {
    let is_named = |argument: String| argument.starts_with("-s") || argument.starts_with("--database-schema");
    std::env::var_os("DATABASE_SCHEMA").is_some_and(|schema| !schema.is_empty() && schema != "public")
        || std::env::args().any(is_named)
}

fn fail(reason: &str) -> ! {
    eprintln!("Migration Error: {reason}");
    exit(1)
}
