//! What can go wrong, as values that a service can answer its client with.

mod code;
mod invalid;
mod refusal;

use std::path::PathBuf;
use std::time::Duration;

use entity::AuthProviderId;
use strum::{EnumDiscriminants, EnumIter, EnumMessage, IntoStaticStr};

pub use code::{ErrorCode, ErrorKind, codes};
pub use invalid::{Invalid, Rule};
pub use refusal::{Conflict, Rejected, Subject};

/// The newest migration that this build needs. A test holds it equal to the newest one there is.
pub const REQUIRED_MIGRATION: &str = "m20261130_000007_guests";

/// The store's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why an operation did not happen. When it is returned nothing was changed, save where [`Error::Indeterminate`] says
/// that nobody knows. No variant carries a row's content: password hashes and tokens cannot get into a log through one.
#[derive(Clone, Debug, thiserror::Error, serde::Serialize, EnumDiscriminants)]
#[serde(remote = "Self")]
#[strum_discriminants(name(ErrorName), vis(pub(crate)), derive(EnumIter, EnumMessage, IntoStaticStr))]
#[strum_discriminants(strum(serialize_all = "snake_case"), doc = "Which error.")]
#[non_exhaustive]
pub enum Error {
    /// The input breaks a rule; the database was not asked.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// What the operation is about does not exist, or is deleted.
    #[error("{0} does not exist")]
    NotFound(Subject),
    /// Something else is there already.
    #[error(transparent)]
    Conflict(#[from] Conflict),
    /// The rules of meetings say no, as things stand now.
    #[error(transparent)]
    Rejected(#[from] Rejected),
    /// It did not happen and may well work when tried again; the store has tried for a while itself.
    #[error("the database could not do it now: {reason}")]
    Transient {
        /// What stood in the way.
        reason: String,
    },
    /// It took longer than the store's `ConnectSettings` allow, was given up and changed nothing. The store does not try again by
    /// itself: what held it up may hold it up again.
    #[error("{during} was given up, and changed nothing: {limit}")]
    TimedOut {
        /// The operation, `begin` or `commit`.
        during: &'static str,
        /// What took too long.
        limit: TimeLimit,
    },
    /// A file that the store was to write or read.
    #[error("{}: {reason}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What the operating system says.
        reason: String,
    },
    /// The queue of an audit writer has no room for another event now; nothing was taken.
    #[error("the queue of {capacity} audit events is full")]
    QueueFull {
        /// How many events it holds.
        capacity: usize,
    },
    /// A subscriber of the feed was too slow, and has lost its place in the process: subscribe again from the position of the last event
    /// that was worked off. Nothing is lost.
    #[error("the subscriber was too slow: {capacity} batches of events waited for it")]
    SlowSubscriber {
        /// How many batches may wait.
        capacity: usize,
    },
    /// The connection was lost while a change was under way: it may have happened or not. Look before trying again.
    #[error("the connection was lost during {during}; whether it took effect is unknown")]
    Indeterminate {
        /// The operation, or `commit`.
        during: &'static str,
    },
    /// The unit of work had failed before, or is still in use elsewhere, and was rolled back instead of committed.
    #[error("the unit of work was rolled back: {reason}")]
    Aborted {
        /// Why.
        reason: &'static str,
    },
    /// The database has no schema of ours, or an older one. Run the migrations.
    #[error("the database lacks migration {missing}: run `migration up`")]
    Unmigrated {
        /// The newest migration that this build needs.
        missing: &'static str,
    },
    /// The database is set to forget commits in a crash. Change the setting, or ask for `Durability::AsConfigured`.
    #[error("the database may lose commits in a crash: {setting}")]
    NotDurable {
        /// The setting and its value.
        setting: String,
    },
    /// A variable of the environment has no value of its kind. Which it has is not shown.
    #[error("the variable {name} must be {expected}")]
    Setting {
        /// Its name.
        name: String,
        /// What it must be.
        expected: &'static str,
    },
    /// The address of the database is not one this build can use.
    #[error("cannot use this database address: {reason}")]
    Address {
        /// What is wrong with it; without user or password.
        reason: String,
    },
    /// The server does not answer, or refuses us.
    #[error("cannot reach the database at {server}: {reason}")]
    Unreachable {
        /// Host, port and database, or the file; without user or password.
        server: String,
        /// What the driver said.
        reason: String,
    },
    /// This store was given no key for provider tokens, so it neither stores nor opens any.
    #[error("no key for provider tokens is configured")]
    NoTokenKey,
    /// A stored token does not open. Neither the text nor the token is shown.
    #[error("{table}.{column} of row {row} cannot be opened: {reason}")]
    UnreadableToken {
        /// Its table.
        table: &'static str,
        /// Its column.
        column: &'static str,
        /// Its row.
        row: AuthProviderId,
        /// Why.
        reason: Unreadable,
    },
    /// A stored value is not what its column should hold.
    #[error("the database holds a value that cannot be read: {detail}")]
    Corrupt {
        /// Which, as far as known.
        detail: String,
    },
    /// A statement of the service's own, sent through `Sql`, was refused. Nothing that this store does fails so.
    #[error("the database refused a statement of the service: {message}")]
    OwnSql {
        /// The server's sentence, without the row.
        message: String,
        /// SQLSTATE or SQLite's extended result code.
        code: Option<String>,
        /// The violated constraint, if the server named one.
        constraint: Option<String>,
    },
    /// The database refused for a reason that this store does not expect.
    #[error("the database refused: {message}")]
    Backend {
        /// The server's sentence, without the row.
        message: String,
        /// SQLSTATE or SQLite's extended result code.
        code: Option<String>,
        /// The violated constraint or trigger, if one was named.
        constraint: Option<String>,
    },
}

impl Error {
    /// True when trying again, with nothing changed, may succeed and cannot do harm.
    pub fn is_retryable(&self) -> bool {
        self.kind() == ErrorKind::Retry
    }

    pub(crate) fn busy(what: &str, waited: Duration) -> Self {
        Self::Transient {
            reason: format!("{what} was not free within {} ms", waited.as_millis()),
        }
    }
}

/// A limit of [`crate::ConnectSettings`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error, serde::Serialize)]
#[cfg_attr(feature = "schemars", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum TimeLimit {
    /// `lock_timeout`: somebody else holds what it needs.
    #[error("it waited too long for a lock")]
    Lock,
    /// `statement_timeout`, or somebody cancelled it on the server.
    #[error("it ran too long, or was cancelled on the server")]
    Statement,
    /// `answer_grace`, or for BEGIN `acquire_timeout`: the server, the network or a pooler kept silent.
    #[error("no answer came in time")]
    Answer,
}

/// Why a stored token does not open. The text itself is never shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error, serde::Serialize)]
#[cfg_attr(feature = "schemars", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Unreadable {
    /// It does not have the form of an encrypted token.
    #[error("it is not an encrypted token")]
    NotSealed,
    /// The key ring has no key with the id that stands in it.
    #[error("its key is not on the key ring")]
    UnknownKey,
    /// It was altered, copied from another place, or sealed by another key of the same id.
    #[error("it was altered, is not from this place, or is under another key of that id")]
    NotAuthentic,
}
