//! Addresses: taken apart here and not by the driver, which writes parameters that it does not know into its log, values included.

use super::parameters::PARAMETERS;
use super::settings::ConnectSettings;
use crate::error::{Error, Result};

/// Which kind of database an address is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Postgres,
    SqliteFile,
    SqliteMemory,
}

/// An address that this build can use. It has the password in it: it is not printed.
pub(super) struct Address {
    pub(super) kind: Kind,
    /// What was given, with what the address says.
    pub(super) settings: ConnectSettings,
    /// Parameters that say where the database is, or how its file is opened.
    pub(super) place: Vec<(String, String)>,
}

/// Parameters of a PostgreSQL address that may stand for its parts.
const POSTGRES_PLACE: &[&str] = &["host", "port", "user", "password", "dbname"];
/// Parameters of SQLite's own.
const SQLITE_PLACE: &[&str] = &["mode", "cache", "immutable", "vfs"];

pub(super) fn unusable(reason: impl Into<String>) -> Error {
    Error::Address { reason: reason.into() }
}

impl Address {
    pub(super) fn read(url: &str, mut settings: ConnectSettings) -> Result<Self> {
        let kind = Kind::of(url)?;
        let (_, query) = url.split_once('?').unwrap_or((url, ""));
        if kind == Kind::Postgres && query.contains('@') {
            // The rest of a password would be taken for parameters, and their names are told.
            return Err(unusable(
                "an `@` stands behind its `?`: write %3F for a `?` in a password, and %40 for an `@`",
            ));
        }
        let mut place = Vec::new();
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            let places = if kind == Kind::Postgres {
                POSTGRES_PLACE
            } else {
                SQLITE_PLACE
            };
            if places.contains(&&*name) {
                place.push((name.into_owned(), value.into_owned()));
                continue;
            }
            let known = PARAMETERS.iter().find(|known| known.name == name);
            let Some(known) = known.filter(|known| kind == Kind::Postgres || !known.postgres_only) else {
                return Err(unusable(unknown(&name)));
            };
            if known.set(&mut settings, &value).is_none() {
                return Err(unusable(format!("its parameter {} must be {}", known.name, known.kind)));
            }
        }
        Ok(Self {
            kind,
            settings: settings.checked()?,
            place,
        })
    }
}

/// A name that looks like one is told.
fn unknown(name: &str) -> String {
    let is_name = name.len() <= 40 && name.chars().all(|c| c.is_ascii_alphanumeric() || "_-[]".contains(c));
    if is_name {
        format!("it has the parameter {name}, which is not known")
    } else {
        "it has a parameter that is not known, and whose name is none".to_owned()
    }
}

impl Kind {
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
            "postgres" | "postgresql" | "sqlite" => Err(unusable(format!("this build has no support for {scheme}"))),
            _ => Err(unusable("it must begin with postgres:// or sqlite:")),
        }
    }
}

/// The address once for each of its hosts, which commas part.
#[cfg(feature = "postgres")]
pub(super) fn of_each_host(url: &str) -> Vec<String> {
    let Some((scheme, rest)) = url.split_once("://") else {
        return vec![url.to_owned()];
    };
    let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let (user, hosts) = authority.split_at(authority.rfind('@').map_or(0, |at| at + 1));
    hosts
        .split(',')
        .map(|host| format!("{scheme}://{user}{host}{path}"))
        .collect()
}

/// The address without user, password and parameters.
pub(super) fn without_credentials(url: &str) -> String {
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

    #[cfg(feature = "postgres")]
    #[test]
    fn hosts_are_parted_by_commas() {
        let both = [
            "postgres://ada:p%40s@a:1/meet?sslmode=disable",
            "postgres://ada:p%40s@b:2/meet?sslmode=disable",
        ];
        assert_eq!(of_each_host("postgres://ada:p%40s@a:1,b:2/meet?sslmode=disable"), both);
        for one in [
            "postgres://db.example/meet",
            "postgres:///meet?host=/run/a,b",
            "sqlite::memory:",
        ] {
            assert_eq!(of_each_host(one), [one]);
        }
    }
}
