//! Pools of SQLite.

use sea_orm::sqlx::ConnectOptions as _;
use sea_orm::sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sea_orm::{DatabaseConnection, SqlxError, SqlxSqliteConnector};
use url::form_urlencoded::Serializer;

use super::address::{Address, Kind, unusable};
use super::pool_options;
use crate::error::Result;

/// How many connections a pool may have to a file.
const CONNECTIONS: u32 = 5;

pub(super) async fn open(url: &str, address: &Address) -> Result<Result<DatabaseConnection, SqlxError>> {
    let settings = &address.settings;
    let file = url.split('?').next().unwrap_or_default();
    let place = Serializer::new(String::new()).extend_pairs(&address.place).finish();
    let options: Result<SqliteConnectOptions, _> = format!("{file}?{place}").parse();
    let options = options
        .map_err(|_| unusable("the driver cannot read it"))?
        .foreign_keys(true)
        .disable_statement_logging();
    let mut pool = pool_options(settings, CONNECTIONS);
    let options = if address.kind == Kind::SqliteMemory {
        // The database goes with its only connection, which must therefore never be let go.
        pool = pool
            .max_connections(1)
            .min_connections(1)
            .idle_timeout(None)
            .max_lifetime(None);
        options
    } else {
        options
            .busy_timeout(settings.acquire_timeout)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
    };
    let pool = pool.connect_with(options).await;
    Ok(pool.map(SqlxSqliteConnector::from_sqlx_sqlite_pool))
}
