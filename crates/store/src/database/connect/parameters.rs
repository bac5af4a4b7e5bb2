//! The names by which connection settings are given: as parameters of an address, and, with `DATABASE_` before them and in capitals,
//! as variables of the environment. One table for both, which docs/CONFIGURATION.md shows.

use std::path::PathBuf;
use std::time::Duration;

use super::settings::{ConnectSettings, TlsMode};
use crate::error::{Error, Result};

/// What a parameter's value must be.
type Kind = &'static str;

const NUMBER: Kind = "a whole number";
const DURATION: Kind = "a time such as 500ms, 30s or 10min, or 0";
const FLAG: Kind = "true or false";
const NAME: Kind = "1 to 63 letters, digits and characters of -_.:/";
const MODE: Kind = "disable, prefer, require, verify-ca or verify-full";
const FILE: Kind = "the name of a file";

/// A connection setting, by the name that it has in an address.
#[derive(Clone, Copy, Debug)]
pub struct Parameter {
    /// Its name in an address.
    pub name: &'static str,
    /// What its value must be.
    pub kind: &'static str,
    /// Whether it says something to PostgreSQL alone; then an SQLite address with it is refused.
    pub postgres_only: bool,
    /// None if the value is not of its kind.
    set: fn(&mut ConnectSettings, &str) -> Option<()>,
}

impl Parameter {
    /// The name of its variable.
    pub fn variable(&self) -> String {
        format!("DATABASE_{}", self.name.to_ascii_uppercase())
    }

    pub(super) fn set(&self, settings: &mut ConnectSettings, value: &str) -> Option<()> {
        (self.set)(settings, value)
    }
}

const fn both(name: &'static str, kind: Kind, set: fn(&mut ConnectSettings, &str) -> Option<()>) -> Parameter {
    Parameter {
        name,
        kind,
        postgres_only: false,
        set,
    }
}

const fn postgres(name: &'static str, kind: Kind, set: fn(&mut ConnectSettings, &str) -> Option<()>) -> Parameter {
    Parameter {
        postgres_only: true,
        ..both(name, kind, set)
    }
}

/// Every setting that an address or the environment can give.
pub const PARAMETERS: &[Parameter] = &[
    both("max_connections", NUMBER, |to, value| {
        to.max_connections = Some(value.parse().ok().filter(|most| *most > 0)?);
        Some(())
    }),
    both("min_connections", NUMBER, |to, value| {
        to.min_connections = value.parse().ok()?;
        Some(())
    }),
    both("acquire_timeout", DURATION, |to, value| {
        to.acquire_timeout = duration(value).filter(|time| !time.is_zero())?;
        Some(())
    }),
    both("idle_timeout", DURATION, |to, value| {
        to.idle_timeout = duration(value)?;
        Some(())
    }),
    both("max_lifetime", DURATION, |to, value| {
        to.max_lifetime = duration(value)?;
        Some(())
    }),
    both("slow_statement", DURATION, |to, value| {
        to.slow_statement = duration(value)?;
        Some(())
    }),
    postgres("statement_timeout", DURATION, |to, value| {
        to.statement_timeout = duration(value)?;
        Some(())
    }),
    postgres("lock_timeout", DURATION, |to, value| {
        to.lock_timeout = duration(value)?;
        Some(())
    }),
    postgres("answer_grace", DURATION, |to, value| {
        to.answer_grace = duration(value)?;
        Some(())
    }),
    postgres("application_name", NAME, |to, value| {
        to.application_name = name(value)?;
        Some(())
    }),
    postgres("pgbouncer", FLAG, |to, value| {
        to.pgbouncer = value.parse().ok()?;
        Some(())
    }),
    postgres("sslmode", MODE, |to, value| {
        to.tls.mode = Some(mode(value)?);
        Some(())
    }),
    postgres("sslrootcert", FILE, |to, value| {
        to.tls.root_certificate = Some(file(value)?);
        Some(())
    }),
    postgres("sslcert", FILE, |to, value| {
        to.tls.client_certificate = Some(file(value)?);
        Some(())
    }),
    postgres("sslkey", FILE, |to, value| {
        to.tls.client_key = Some(file(value)?);
        Some(())
    }),
];

pub(super) fn from_variables(value_of: impl Fn(&str) -> Option<String>) -> Result<ConnectSettings> {
    let mut settings = ConnectSettings::default();
    for parameter in PARAMETERS {
        let name = parameter.variable();
        let Some(value) = value_of(&name).filter(|value| !value.is_empty()) else {
            continue;
        };
        if parameter.set(&mut settings, &value).is_none() {
            let expected = parameter.kind;
            return Err(Error::Setting { name, expected });
        }
    }
    Ok(settings)
}

/// The time that a variable of the environment gives, if it is set.
pub(crate) fn time_from_environment(name: &str) -> Result<Option<Duration>> {
    match std::env::var(name).ok().filter(|value| !value.is_empty()) {
        Some(value) => duration(&value).map(Some).ok_or_else(|| Error::Setting {
            name: name.to_owned(),
            expected: DURATION,
        }),
        None => Ok(None),
    }
}

/// A number and its unit; nothing has no unit but 0.
fn duration(text: &str) -> Option<Duration> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: u32 = number.parse().ok()?;
    let milliseconds = match unit {
        "ms" => 1,
        "s" => 1_000,
        "min" => 60_000,
        "" if number == 0 => 0,
        _ => return None,
    };
    Some(Duration::from_millis(u64::from(number) * milliseconds))
}

fn name(text: &str) -> Option<String> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.:/".contains(c);
    let is_sound = (1..=63).contains(&text.len()) && text.chars().all(is_plain);
    is_sound.then(|| text.to_owned())
}

fn mode(text: &str) -> Option<TlsMode> {
    Some(match text {
        "disable" => TlsMode::Disable,
        "prefer" => TlsMode::Prefer,
        "require" => TlsMode::Require,
        "verify-ca" => TlsMode::VerifyCa,
        "verify-full" => TlsMode::VerifyFull,
        _ => return None,
    })
}

fn file(text: &str) -> Option<PathBuf> {
    (!text.is_empty()).then(|| PathBuf::from(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_a_unit() {
        for (text, milliseconds) in [
            ("0", Some(0)),
            ("250ms", Some(250)),
            ("30s", Some(30_000)),
            ("10min", Some(600_000)),
            ("30", None),
            ("s", None),
            ("-1s", None),
            ("1.5s", None),
            ("1 s", None),
            ("5000000000s", None),
        ] {
            assert_eq!(duration(text), milliseconds.map(Duration::from_millis), "{text}");
        }
    }

    #[test]
    fn a_variable_that_is_wrong_is_told_by_its_name_and_not_its_value() {
        let set = |name: &str| (name == "DATABASE_LOCK_TIMEOUT").then(|| "hunter2".to_owned());
        let error = from_variables(set).unwrap_err();
        let text = format!("{error} {error:?}");
        assert!(text.contains("DATABASE_LOCK_TIMEOUT"), "{text}");
        assert!(!text.contains("hunter2"), "{text}");
        let empty = |_: &str| Some(String::new());
        assert_eq!(from_variables(empty).unwrap(), ConnectSettings::default());
    }
}
