//! `cargo run -p migration -- up|down|status|fresh|refresh|reset`, and what `sea-orm-cli migrate` runs. Ours come first:
//! `cargo run -p conferencing-migration -- up`.

use conferencing_store::connect::{self, ConnectSettings};
use sea_orm_migration::sea_orm::DbErr;

#[tokio::main]
async fn main() {
    // Not by SeaORM's own way, which puts the address with its password into a span of the log.
    sea_orm_migration::cli::run_cli_with_connection(migration::Migrator, |options| async move {
        let settings = ConnectSettings::default().without_limits();
        let opened = connect::open(options.get_url(), &settings).await;
        opened.map_err(|error| DbErr::Migration(error.to_string()))
    })
    .await;
}
