//! Errors as the drivers make them.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::io;
use std::sync::Arc;

use sea_orm::sqlx::error::{DatabaseError, ErrorKind};
use sea_orm::{DbErr, RuntimeErr, SqlxError};

use crate::database::Dialect;

/// How the database fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// For a passing reason: a serialization failure (40001) on PostgreSQL, SQLITE_BUSY on SQLite.
    Passing,
    /// By a limit of its own on statements: 57014 on PostgreSQL, SQLITE_INTERRUPT on SQLite.
    Limit,
    /// The connection breaks.
    ConnectionLost,
}

impl Failure {
    pub(super) fn as_error(self, dialect: Dialect) -> DbErr {
        let refused = |code, message| SqlxError::Database(Box::new(Refused { code, message }));
        let error = match (self, dialect) {
            (Self::Passing, Dialect::Postgres) => {
                refused("40001", "could not serialize access, as a test has asked for")
            }
            (Self::Passing, Dialect::Sqlite) => refused("5", "database is locked, as a test has asked for"),
            (Self::Limit, Dialect::Postgres) => refused("57014", "canceling statement, as a test has asked for"),
            (Self::Limit, Dialect::Sqlite) => refused("9", "interrupted, as a test has asked for"),
            (Self::ConnectionLost, _) => SqlxError::Io(io::Error::new(
                io::ErrorKind::ConnectionReset,
                "the connection was lost, as a test has asked for",
            )),
        };
        DbErr::Query(RuntimeErr::SqlxError(Arc::new(error)))
    }
}

/// A refusal of the database that it never made.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
struct Refused {
    code: &'static str,
    message: &'static str,
}

impl DatabaseError for Refused {
    fn message(&self) -> &str {
        self.message
    }

    fn code(&self) -> Option<Cow<'_, str>> {
        Some(Cow::Borrowed(self.code))
    }

    fn as_error(&self) -> &(dyn StdError + Send + Sync + 'static) {
        self
    }

    fn as_error_mut(&mut self) -> &mut (dyn StdError + Send + Sync + 'static) {
        self
    }

    fn into_error(self: Box<Self>) -> Box<dyn StdError + Send + Sync + 'static> {
        self
    }

    fn kind(&self) -> ErrorKind {
        ErrorKind::Other
    }
}
