//! How a database is reached, and how patient the store is with it.

use std::path::PathBuf;
use std::time::Duration;

use super::{address, parameters};
use crate::error::{Error, Invalid, Result, Rule};

/// How to reach a database, and how patient to be with it. Made from its default, changed field by field; from the environment by
/// [`ConnectSettings::from_environment`]; and by parameters of the address, which count before both. docs/CONFIGURATION.md has
/// all names, units and defaults in one table.
///
/// ```
/// # use std::time::Duration;
/// # use conferencing_store::{ConnectSettings, Error};
/// let settings = ConnectSettings {
///     max_connections: Some(20),
///     lock_timeout: Duration::from_secs(2),
///     ..ConnectSettings::from_environment()?
/// };
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectSettings {
    /// The most connections that the pool opens, at least 1. By default 10 on PostgreSQL and 5 on an SQLite file; an SQLite
    /// database in memory always has one: while a [`crate::Unit`] is open on it, read through
    /// the unit, because a read through the store waits until the unit ends, or for `acquire_timeout`.
    pub max_connections: Option<u32>,
    /// How many connections the pool keeps open when nobody needs them: 0. An SQLite database in memory keeps its one.
    pub min_connections: u32,
    /// How long a call waits for a connection before it fails as transient: 10 s, never zero. Also for the right to write on
    /// SQLite, and for the answer to BEGIN, which behind a pooler is a wait for a connection as well.
    pub acquire_timeout: Duration,
    /// When a connection that nobody needs is closed: after 10 min. Zero: never.
    pub idle_timeout: Duration,
    /// How old a connection gets before it is replaced: 30 min. Zero: as old as it likes.
    pub max_lifetime: Duration,
    /// How long PostgreSQL works on one statement before it gives it up ([`Error::TimedOut`]), waits for locks included: 30 s. Zero:
    /// as long as it takes. SQLite knows none.
    pub statement_timeout: Duration,
    /// How long one statement waits for one lock on PostgreSQL before it is given up ([`Error::TimedOut`]): 5 s. Zero: for ever.
    pub lock_timeout: Duration,
    /// How much longer than `statement_timeout` the store waits for PostgreSQL's answer before it closes the connection: 5 s. It
    /// ends what the server's own limits cannot: a silent network, a pooler that has no connection to give. Without a
    /// `statement_timeout` there is no such end.
    pub answer_grace: Duration,
    /// A statement that takes longer is told of as slow, by a warning and a metric with its operation's name: 1 s. Zero: none is.
    pub slow_statement: Duration,
    /// What PostgreSQL shows of this process in `pg_stat_activity`: `conferencing-store`.
    pub application_name: String,
    /// A pooler in transaction mode stands before PostgreSQL. No session of its own is asked for then, see
    /// docs/CONFIGURATION.md.
    pub pgbouncer: bool,
    /// Encryption of the way to PostgreSQL.
    pub tls: TlsSettings,
}

/// Encryption of the way to PostgreSQL.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsSettings {
    /// Whether, and what is verified. None: what PGSSLMODE says, else [`TlsMode::Prefer`].
    pub mode: Option<TlsMode>,
    /// A PEM file of the authorities that are trusted; by default those of the system.
    pub root_certificate: Option<PathBuf>,
    /// A PEM file of this client's own certificate.
    pub client_certificate: Option<PathBuf>,
    /// A PEM file of its key.
    pub client_key: Option<PathBuf>,
}

/// What is asked of the way to PostgreSQL. `allow`, which the driver takes for `disable`, is not among them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsMode {
    /// Never encrypted.
    Disable,
    /// Encrypted if the server can; not verified.
    Prefer,
    /// Encrypted; not verified.
    Require,
    /// Encrypted, with a certificate of a trusted authority.
    VerifyCa,
    /// Encrypted, with a certificate of a trusted authority for this very host.
    VerifyFull,
}

impl Default for ConnectSettings {
    fn default() -> Self {
        Self {
            max_connections: None,
            min_connections: 0,
            acquire_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(10 * 60),
            max_lifetime: Duration::from_secs(30 * 60),
            statement_timeout: Duration::from_secs(30),
            lock_timeout: Duration::from_secs(5),
            answer_grace: Duration::from_secs(5),
            slow_statement: Duration::from_secs(1),
            application_name: "conferencing-store".to_owned(),
            pgbouncer: false,
            tls: TlsSettings::default(),
        }
    }
}

impl ConnectSettings {
    /// The default, with what the environment says: a variable for each parameter of an address, `DATABASE_LOCK_TIMEOUT` for
    /// `lock_timeout`. What is empty counts as not set.
    ///
    /// # Errors
    /// [`Error::Setting`] for a variable that does not have a value of its kind.
    pub fn from_environment() -> Result<Self> {
        parameters::from_variables(|name| std::env::var(name).ok())
    }

    /// For migrations: without limits on statements and locks, which an index over a big table would not keep.
    #[must_use]
    pub fn without_limits(self) -> Self {
        Self {
            statement_timeout: Duration::ZERO,
            lock_timeout: Duration::ZERO,
            ..self
        }
    }

    /// With what the address says beyond where the database is.
    ///
    /// # Errors
    /// [`Error::Address`] for an address that cannot be used, which names an unknown parameter.
    pub fn with_address(self, url: &str) -> Result<Self> {
        address::Address::read(url, self).map(|address| address.settings)
    }

    pub(crate) fn checked(self) -> Result<Self> {
        for (field, too_little) in [
            ("max_connections", self.max_connections == Some(0)),
            ("acquire_timeout", self.acquire_timeout.is_zero()),
        ] {
            if too_little {
                let rule = Rule::AtLeast(1);
                return Err(Error::Invalid(Invalid { field, rule }));
            }
        }
        Ok(self)
    }

    /// How long to wait for the answer to a statement.
    pub(crate) fn patience(&self) -> Option<Duration> {
        (!self.statement_timeout.is_zero()).then(|| self.statement_timeout + self.answer_grace)
    }
}
