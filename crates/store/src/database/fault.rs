//! What the driver's errors mean. Nothing of a row gets past this file: PostgreSQL puts whole rows into an error's detail,
//! which the driver's own `Debug` would print.

use sea_orm::{ConnAcquireErr, DbErr, RuntimeErr, SqlxError};

use super::Dialect;
use crate::constraint;
use crate::error::{Error, TimeLimit};

/// What stands for an answer that did not come in time.
const NO_ANSWER: &str = "no answer";

/// An answer did not come in time: see [`read`].
#[cfg(feature = "postgres")]
pub(crate) fn no_answer() -> DbErr {
    DbErr::Query(RuntimeErr::Internal(NO_ANSWER.to_owned()))
}

/// Reads an error of the statement or step named `during`. `changes` says that the statement may have changed something
/// which nobody can undo: then a lost connection leaves the outcome unknown.
pub(crate) fn read(dialect: Dialect, error: &DbErr, during: &'static str, changes: bool) -> Error {
    match read_own(dialect, error, during, changes) {
        Error::Backend { message, code, .. } if is_missing_table(dialect, code.as_deref(), &message) => {
            Error::Unmigrated {
                missing: crate::error::REQUIRED_MIGRATION,
            }
        }
        other => other,
    }
}

/// As [`read`], of a statement that is not ours: a table that it misses is not for our migrations to make.
pub(crate) fn read_own(dialect: Dialect, error: &DbErr, during: &'static str, changes: bool) -> Error {
    match error {
        DbErr::ConnectionAcquire(ConnAcquireErr::Timeout) => Error::Transient {
            reason: "no connection of the pool became free in time".to_owned(),
        },
        DbErr::ConnectionAcquire(ConnAcquireErr::ConnectionClosed) => Error::Transient {
            reason: "the connection pool is closed".to_owned(),
        },
        // What opening a connection came to: no statement had been sent over it yet.
        DbErr::Conn(RuntimeErr::SqlxError(e)) => driver_error(dialect, e, during, false),
        DbErr::Exec(RuntimeErr::SqlxError(e)) | DbErr::Query(RuntimeErr::SqlxError(e)) => {
            driver_error(dialect, e, during, changes)
        }
        DbErr::Query(RuntimeErr::Internal(what)) if what == NO_ANSWER => {
            if changes {
                return Error::Indeterminate { during };
            }
            timed_out(during, TimeLimit::Answer)
        }
        DbErr::Type(detail) | DbErr::Json(detail) => Error::Corrupt { detail: detail.clone() },
        DbErr::TryIntoErr { from, into, .. } => Error::Corrupt {
            detail: format!("{from} where {into} was expected"),
        },
        other => Error::Backend {
            message: other.to_string(),
            code: None,
            constraint: None,
        },
    }
}

fn driver_error(dialect: Dialect, error: &SqlxError, during: &'static str, changes: bool) -> Error {
    match error {
        SqlxError::Database(refusal) => {
            let code = refusal.code().map(|code| code.into_owned());
            let message = refusal.message().to_owned();
            if let Some(limit) = exceeded(dialect, code.as_deref()) {
                return timed_out(during, limit);
            }
            if is_transient(dialect, code.as_deref()) || dialect == Dialect::Postgres && is_read_only(error) {
                return Error::Transient { reason: message };
            }
            if is_connection_loss(dialect, code.as_deref()) {
                return lost(during, changes, message);
            }
            let constraint = match dialect {
                Dialect::Postgres => refusal
                    .constraint()
                    .map(|name| constraint::listed_name(name).to_owned()),
                Dialect::Sqlite => constraint::by_sqlite_message(&message).map(str::to_owned),
            };
            Error::Backend {
                message,
                code,
                constraint,
            }
        }
        SqlxError::ColumnDecode { index, .. } => Error::Corrupt {
            detail: format!("column {index}"),
        },
        SqlxError::Decode(_) => Error::Corrupt {
            detail: "a column's value".to_owned(),
        },
        SqlxError::PoolTimedOut | SqlxError::PoolClosed => Error::Transient {
            reason: error.to_string(),
        },
        SqlxError::Io(_) | SqlxError::Protocol(_) | SqlxError::WorkerCrashed => {
            lost(during, changes, error.to_string())
        }
        other => Error::Backend {
            message: other.to_string(),
            code: None,
            constraint: None,
        },
    }
}

fn timed_out(during: &'static str, limit: TimeLimit) -> Error {
    Error::TimedOut { during, limit }
}

/// Which of the server's limits was met. The statement did nothing.
fn exceeded(dialect: Dialect, code: Option<&str>) -> Option<TimeLimit> {
    match (dialect, code) {
        (Dialect::Postgres, Some("55P03")) => Some(TimeLimit::Lock),
        (Dialect::Postgres, Some("57014")) => Some(TimeLimit::Statement),
        // SQLITE_INTERRUPT, by `Bounded`.
        (Dialect::Sqlite, Some("9")) => Some(TimeLimit::Statement),
        _ => None,
    }
}

fn lost(during: &'static str, changes: bool, reason: String) -> Error {
    if changes {
        Error::Indeterminate { during }
    } else {
        Error::Transient { reason }
    }
}

/// Serialization failure and deadlock; SQLITE_BUSY, its snapshot form and SQLITE_LOCKED. The statement did nothing.
fn is_transient(dialect: Dialect, code: Option<&str>) -> bool {
    match dialect {
        Dialect::Postgres => matches!(code, Some("40001" | "40P01")),
        Dialect::Sqlite => code
            .and_then(|code| code.parse::<i32>().ok())
            .is_some_and(|code| matches!(code & 0xff, 5 | 6)),
    }
}

/// The server takes no writes: a standby, or a primary that has become one. The statement did nothing.
pub(crate) fn is_read_only(error: &SqlxError) -> bool {
    let SqlxError::Database(refusal) = error else {
        return false;
    };
    refusal.code().as_deref() == Some("25006")
}

/// The database took offence at the rows themselves (data exceptions, constraints, what a trigger raises), and would do so again. All else
/// is the server's state: no rights, no space, a schema that is being changed.
pub(crate) fn blames_the_rows(dialect: Dialect, error: &Error) -> bool {
    let Error::Backend { code, .. } = error else {
        return matches!(error, Error::Corrupt { .. });
    };
    let code = code.as_deref().unwrap_or_default();
    match dialect {
        Dialect::Postgres => ["22", "23", "P0"].iter().any(|class| code.starts_with(class)),
        // SQLITE_TOOBIG, SQLITE_CONSTRAINT, SQLITE_MISMATCH, each with its extended forms.
        Dialect::Sqlite => code.parse::<i32>().is_ok_and(|code| matches!(code & 0xff, 18..=20)),
    }
}

/// The server is going down or taking the connection away, or a pooler has none to give (08P01).
fn is_connection_loss(dialect: Dialect, code: Option<&str>) -> bool {
    dialect == Dialect::Postgres && matches!(code, Some("08P01" | "57P01" | "57P02" | "57P03"))
}

fn is_missing_table(dialect: Dialect, code: Option<&str>, message: &str) -> bool {
    match dialect {
        Dialect::Postgres => code == Some("42P01"),
        Dialect::Sqlite => message.starts_with("no such table"),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, ErrorKind};
    use std::sync::Arc;

    use super::*;

    #[test]
    fn a_connection_that_breaks_leaves_a_doubt_only_when_a_change_was_sent_over_it() {
        type Made = fn(RuntimeErr) -> DbErr;
        for (made, changes, doubt) in [
            (DbErr::Conn as Made, true, false),
            (DbErr::Query, true, true),
            (DbErr::Exec, true, true),
            (DbErr::Query, false, false),
        ] {
            let broken = SqlxError::Io(io::Error::from(ErrorKind::ConnectionReset));
            let error = made(RuntimeErr::SqlxError(Arc::new(broken)));
            let kind = read(Dialect::Postgres, &error, "test", changes);
            assert_eq!(
                matches!(kind, Error::Indeterminate { .. }),
                doubt,
                "{error:?}: {kind:?}"
            );
            assert_eq!(matches!(kind, Error::Transient { .. }), !doubt, "{error:?}: {kind:?}");
        }
    }
}
