//! A private, migrated database for each test.

mod migrations;
#[cfg(unix)]
mod own_server;
mod server;
mod sqlite;
mod templates;

use std::sync::Arc;

use conferencing_store::connect::{self, ConnectSettings};
use sea_orm::DatabaseConnection;
use tempfile::TempDir;

use crate::error::SetUpError;
pub(crate) use migrations::Migrations;
use server::Server;

/// Which kind of database a test runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Backend {
    /// SQLite, in memory or in a file.
    Sqlite,
    /// PostgreSQL.
    Postgres,
}

/// Where a test's database is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    SqliteMemory,
    SqliteFile,
    Postgres(ServerChoice),
}

/// Which server of PostgreSQL.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum ServerChoice {
    At(String),
    Own,
}

/// The variable that names a server.
const SERVER: &str = "TEST_DATABASE_URL";

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn is_sqlite(url: &str) -> bool {
    url.starts_with("sqlite:")
}

impl Place {
    /// The server of TEST_DATABASE_URL, or one of the kit's own.
    pub(crate) fn postgres() -> Self {
        let server = variable(SERVER).filter(|url| !is_sqlite(url));
        Self::Postgres(server.map_or(ServerChoice::Own, ServerChoice::At))
    }

    pub(crate) fn from_env() -> Self {
        Self::of(variable(SERVER), variable("REQUIRE_POSTGRES").is_some())
    }

    fn of(server: Option<String>, requires_postgres: bool) -> Self {
        match server {
            Some(url) if !is_sqlite(&url) => Self::Postgres(ServerChoice::At(url)),
            _ if requires_postgres => Self::Postgres(ServerChoice::Own),
            Some(url) if !url.starts_with("sqlite::memory:") => Self::SqliteFile,
            _ => Self::SqliteMemory,
        }
    }
}

/// A test's database, which goes with the value.
pub(crate) struct Private {
    pub(crate) backend: Backend,
    pub(crate) url: String,
    held: Held,
}

enum Held {
    Memory,
    Folder { _folder: TempDir },
    Database { server: Arc<Server>, name: String },
}

impl Private {
    pub(crate) async fn make(
        place: &Place,
        migrations: &Migrations,
        settings: &ConnectSettings,
    ) -> Result<(Self, DatabaseConnection), SetUpError> {
        let made = match place {
            Place::SqliteMemory => {
                let db = sqlite::in_memory(migrations, settings).await?;
                let private = Self {
                    backend: Backend::Sqlite,
                    url: "sqlite::memory:".to_owned(),
                    held: Held::Memory,
                };
                return Ok((private, db));
            }
            Place::SqliteFile => {
                let (folder, url) = sqlite::file(migrations).await?;
                Self {
                    backend: Backend::Sqlite,
                    url,
                    held: Held::Folder { _folder: folder },
                }
            }
            Place::Postgres(choice) => {
                let server = Server::of(choice);
                let made = server.make(migrations.clone()).await?;
                Self {
                    backend: Backend::Postgres,
                    url: made.url,
                    held: Held::Database {
                        server,
                        name: made.name,
                    },
                }
            }
        };
        // If this fails, what was made goes again.
        let db = connect::open(&made.url, settings).await?;
        Ok((made, db))
    }

    /// A file's or a server's can be opened once more; one in memory is its pool's alone.
    pub(crate) fn is_in_memory(&self) -> bool {
        matches!(self.held, Held::Memory)
    }
}

impl Drop for Private {
    fn drop(&mut self) {
        if let Held::Database { server, name } = &self.held {
            server.drop_database(name.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_chooses() {
        let server = "postgres://a@b/c".to_owned();
        let at = Place::Postgres(ServerChoice::At(server.clone()));
        for (url, requires, place) in [
            (None, false, Place::SqliteMemory),
            (None, true, Place::Postgres(ServerChoice::Own)),
            (Some(server.clone()), false, at.clone()),
            (Some(server), true, at),
            (Some("sqlite::memory:".to_owned()), false, Place::SqliteMemory),
            (Some("sqlite://x.sqlite".to_owned()), false, Place::SqliteFile),
            (
                Some("sqlite://x.sqlite".to_owned()),
                true,
                Place::Postgres(ServerChoice::Own),
            ),
        ] {
            assert_eq!(Place::of(url, requires), place);
        }
    }
}
