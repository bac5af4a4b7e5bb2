//! Opening a database by its address, with the settings that this store relies on.
//!
//! Pools are opened through the driver itself: SeaORM's way puts the whole address, password included, into a span of its own.

mod address;
#[cfg(feature = "postgres")]
mod failover;
mod parameters;
#[cfg(feature = "postgres")]
mod postgres;
mod settings;
#[cfg(feature = "sqlite")]
mod sqlite;

use std::time::Duration;

use sea_orm::sqlx::pool::{PoolConnectionMetadata, PoolOptions};
use sea_orm::sqlx::{Connection, Database};
use sea_orm::{DatabaseConnection, SqlxError};

use crate::error::{Error, Result};
use address::{Address, Kind, unusable, without_credentials};

pub(crate) use parameters::time_from_environment;
pub use parameters::{PARAMETERS, Parameter};
pub use settings::{ConnectSettings, TlsMode, TlsSettings};

/// A connection that was idle for longer is asked for a sign of life before it is used.
const TRUSTED_FOR: Duration = Duration::from_secs(30);

/// Opens a pool with the store's settings. `Store::connect` does this; by itself it is for migrating before a store is made (with
/// [`ConnectSettings::without_limits`]).
///
/// The address is `postgres://user:password@host:port/database` or `sqlite://path?mode=rwc` (`sqlite::memory:` for one that
/// lives as long as its pool); docs/CONFIGURATION.md has its parameters, which count before `settings`. An SQLite file is put into WAL
/// mode with foreign keys on and `synchronous=FULL`, so that a commit survives a power failure.
///
/// Several hosts, `postgres://user:password@first:5432,second:5432/database`, are servers of which one takes writes at a time: the pool is
/// opened on that one. Only `Store::connect` follows it through a failover; a pool that was opened here stays where it is.
///
/// # Errors
/// [`Error::Address`] when the address is none that this build can use, which names a parameter that is not known;
/// [`Error::Invalid`] for settings that make no sense; [`Error::Unreachable`] when nobody answers there.
pub async fn open(url: &str, settings: &ConnectSettings) -> Result<DatabaseConnection> {
    open_supervised(url, settings).await.map(|(db, _)| db)
}

/// As [`open`], with the task that follows a failover, where there are several servers. It ends when it is dropped.
pub(crate) async fn open_supervised(
    url: &str,
    settings: &ConnectSettings,
) -> Result<(DatabaseConnection, Option<Background>)> {
    let address = Address::read(url, settings.clone())?;
    let opened = match address.kind {
        #[cfg(feature = "postgres")]
        Kind::Postgres => postgres::open(url, &address).await?,
        #[cfg(feature = "sqlite")]
        Kind::SqliteFile | Kind::SqliteMemory => sqlite::open(url, &address).await?.map(|db| (db, None)),
        // `read` gives no kind that is switched off.
        #[cfg(not(all(feature = "postgres", feature = "sqlite")))]
        _ => return Err(unusable("this build has no support for it")),
    };
    opened.map_err(|error| connect_error(url, &address.settings, &error))
}

/// A pool of PostgreSQL that is opened when it is first asked for a connection: its server need not be there now. With the server's
/// name, without credentials.
pub(crate) fn open_lazily(url: &str, settings: &ConnectSettings) -> Result<(DatabaseConnection, String)> {
    let address = Address::read(url, settings.clone())?;
    match address.kind {
        #[cfg(feature = "postgres")]
        Kind::Postgres => postgres::open_lazily(url, &address),
        _ => Err(unusable("a replica is a server of PostgreSQL")),
    }
}

/// A task that ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Background(tokio::task::JoinHandle<()>);

impl Background {
    pub(crate) fn run(work: impl Future<Output = ()> + Send + 'static) -> Self {
        Self(tokio::spawn(work))
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// What pools of both kinds have in common.
fn pool_options<DB: Database>(settings: &ConnectSettings, connections: u32) -> PoolOptions<DB> {
    let unless_zero = |time: Duration| (!time.is_zero()).then_some(time);
    PoolOptions::new()
        .max_connections(settings.max_connections.unwrap_or(connections))
        .min_connections(settings.min_connections)
        .acquire_timeout(settings.acquire_timeout)
        .idle_timeout(unless_zero(settings.idle_timeout))
        .max_lifetime(unless_zero(settings.max_lifetime))
        .test_before_acquire(false)
        .before_acquire(|connection: &mut DB::Connection, known| Box::pin(is_alive(connection, known)))
}

/// Asks a connection that was idle for long.
async fn is_alive<C: Connection>(connection: &mut C, known: PoolConnectionMetadata) -> Result<bool, SqlxError>
where
    C::Database: Database<Connection = C>,
{
    if known.idle_for > TRUSTED_FOR {
        connection.ping().await?;
    }
    Ok(true)
}

fn connect_error(url: &str, settings: &ConnectSettings, error: &SqlxError) -> Error {
    let reason = match error {
        SqlxError::Configuration(_) => return unusable("the driver cannot read it"),
        SqlxError::Database(refusal) if refusal.message().starts_with("unable to open") => {
            "the file cannot be opened (add ?mode=rwc to have it made)".to_owned()
        }
        SqlxError::Database(refusal) if refusal.message().starts_with("unsupported startup parameter") => {
            "a pooler stands before it, which has no session to give (add pgbouncer=true to the address)".to_owned()
        }
        SqlxError::Database(refusal) => refusal.message().to_owned(),
        SqlxError::PoolTimedOut => format!("no connection within {} ms", settings.acquire_timeout.as_millis()),
        other => other.to_string(),
    };
    Error::Unreachable {
        server: without_credentials(url),
        reason,
    }
}
