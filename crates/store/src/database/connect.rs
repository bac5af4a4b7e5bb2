//! Opening a database by its address, with the settings that this store relies on.

use std::time::Duration;

use sea_orm::{ConnectOptions, Database, DatabaseConnection, DbErr, RuntimeErr, SqlxError};

use crate::error::{Error, Result};

/// How many connections a pool may have.
#[cfg(feature = "postgres")]
const POSTGRES_CONNECTIONS: u32 = 10;
#[cfg(feature = "sqlite")]
const SQLITE_FILE_CONNECTIONS: u32 = 5;

/// How to reach a database, and how patient to be with it.
#[derive(Clone, Debug)]
pub struct ConnectSettings {
    /// The most connections that the pool opens. By default 10 on PostgreSQL and 5 on an SQLite file; an SQLite database in
    /// memory always has one: while a [`crate::Unit`] is open on it, read through
    /// the unit, because a read through the store waits until the unit ends, or for `acquire_timeout`.
    pub max_connections: Option<u32>,
    /// How long a call waits for a connection, on SQLite also for the right to write, before it fails as transient.
    pub acquire_timeout: Duration,
}

impl Default for ConnectSettings {
    fn default() -> Self {
        Self {
            max_connections: None,
            acquire_timeout: Duration::from_secs(10),
        }
    }
}

/// Opens a pool with the store's settings. `Store::connect` does this; by itself it is for migrating before a store is made.
///
/// The address is `postgres://user:password@host:port/database` or `sqlite://path?mode=rwc` (`sqlite::memory:` for one that
/// lives as long as its pool). An SQLite file is put into WAL mode with foreign keys on and `synchronous=FULL`, so that
/// a commit survives a power failure.
///
/// # Errors
/// [`Error::Address`] when the address is none that this build can use, [`Error::Unreachable`] when nobody answers there.
pub async fn open(url: &str, settings: &ConnectSettings) -> Result<DatabaseConnection> {
    let profile = Profile::of(url)?;
    let mut options = ConnectOptions::new(url);
    options
        .sqlx_logging(false)
        .record_stmt_in_spans(false)
        .acquire_timeout(settings.acquire_timeout)
        .connect_timeout(settings.acquire_timeout)
        .test_before_acquire_if_idle_for(Duration::from_secs(30));
    profile.configure(&mut options, settings);
    Database::connect(options)
        .await
        .map_err(|error| connect_error(url, settings, &error))
}

#[derive(Clone, Copy)]
enum Profile {
    Postgres,
    SqliteFile,
    SqliteMemory,
}

impl Profile {
    fn of(url: &str) -> Result<Self> {
        let scheme = url.split(':').next().unwrap_or_default();
        match scheme {
            "postgres" | "postgresql" if cfg!(feature = "postgres") => Ok(Self::Postgres),
            "sqlite" if cfg!(feature = "sqlite") => {
                let in_memory = url.contains(":memory:") || url.contains("mode=memory");
                Ok(if in_memory {
                    Self::SqliteMemory
                } else {
                    Self::SqliteFile
                })
            }
            "postgres" | "postgresql" | "sqlite" => Err(Error::Address {
                reason: format!("this build has no support for {scheme}"),
            }),
            _ => Err(Error::Address {
                reason: "it must begin with postgres:// or sqlite:".to_owned(),
            }),
        }
    }

    fn configure(self, options: &mut ConnectOptions, settings: &ConnectSettings) {
        match self {
            #[cfg(feature = "postgres")]
            Self::Postgres => {
                options
                    .max_connections(settings.max_connections.unwrap_or(POSTGRES_CONNECTIONS))
                    // PgBouncer refuses this start-up parameter unless told otherwise, and nothing here reads floats.
                    .map_sqlx_postgres_opts(|connect| connect.extra_float_digits(None));
            }
            #[cfg(feature = "sqlite")]
            Self::SqliteFile => {
                let patience = settings.acquire_timeout;
                options
                    .max_connections(settings.max_connections.unwrap_or(SQLITE_FILE_CONNECTIONS))
                    .map_sqlx_sqlite_opts(move |connect| {
                        use sea_orm::sqlx::sqlite::{SqliteJournalMode, SqliteSynchronous};
                        connect
                            .foreign_keys(true)
                            .busy_timeout(patience)
                            .journal_mode(SqliteJournalMode::Wal)
                            .synchronous(SqliteSynchronous::Full)
                    });
            }
            #[cfg(feature = "sqlite")]
            Self::SqliteMemory => {
                // The database goes with its only connection, which must therefore never be let go.
                options
                    .max_connections(1)
                    .min_connections(1)
                    .idle_timeout(None)
                    .max_lifetime(None)
                    .map_sqlx_sqlite_opts(|connect| connect.foreign_keys(true));
            }
            // `of` gives no profile of a backend that is switched off.
            #[cfg(not(all(feature = "postgres", feature = "sqlite")))]
            _ => {}
        }
    }
}

fn connect_error(url: &str, settings: &ConnectSettings, error: &DbErr) -> Error {
    let no_answer = || format!("no connection within {} s", settings.acquire_timeout.as_secs());
    let reason = match error {
        DbErr::Conn(RuntimeErr::SqlxError(error)) => match &**error {
            SqlxError::Configuration(_) => {
                return Error::Address {
                    reason: "the driver cannot read it".to_owned(),
                };
            }
            SqlxError::Database(refusal) if refusal.message().starts_with("unable to open") => {
                "the file cannot be opened (add ?mode=rwc to have it made)".to_owned()
            }
            SqlxError::Database(refusal) => refusal.message().to_owned(),
            SqlxError::PoolTimedOut => no_answer(),
            other => other.to_string(),
        },
        DbErr::ConnectionAcquire(_) => no_answer(),
        // The text of the rest may quote the whole address.
        _ => {
            return Error::Address {
                reason: "the driver cannot read it".to_owned(),
            };
        }
    };
    Error::Unreachable {
        server: without_credentials(url),
        reason,
    }
}

/// The address without user, password and parameters.
fn without_credentials(url: &str) -> String {
    let url = url.split('?').next().unwrap_or_default();
    match url.split_once("://") {
        Some((scheme, rest)) => {
            let place = rest.rsplit_once('@').map_or(rest, |(_, place)| place);
            format!("{scheme}://{place}")
        }
        None => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_do_not_get_into_errors() {
        for (url, shown) in [
            (
                "postgres://ada:p@ss@db.example:5432/meet?sslmode=require",
                "postgres://db.example:5432/meet",
            ),
            ("sqlite://meeting.sqlite?mode=rwc", "sqlite://meeting.sqlite"),
            ("sqlite::memory:", "sqlite::memory:"),
        ] {
            assert_eq!(without_credentials(url), shown);
        }
    }
}
