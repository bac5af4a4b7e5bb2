//! `cargo run -p conferencing-migration -- up|down|status|fresh|refresh|reset`, and what `sea-orm-cli migrate -d migration` runs.
//! The database is `DATABASE_URL`, for either backend.

use conferencing_migration::Migrator;
use sea_orm_migration::sea_orm::Database;

#[tokio::main]
async fn main() {
    sea_orm_migration::cli::run_cli_with_connection(Migrator, |mut options| async move {
        options.max_connections(2).sqlx_logging(false);
        Database::connect(options).await
    })
    .await;
}
