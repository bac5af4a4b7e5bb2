//! Reads that tolerate lag, from servers that follow the primary.

use std::fmt;
use std::str::FromStr;

use sea_orm::{ConnectionTrait, DbErr, QueryResult, Statement};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::context::Context;
use crate::database::{Dialect, Executor, PRIMARY_POSITION, position};
use crate::error::{Error, Invalid, Result, Rule};
use crate::telemetry;
use crate::unit::{Reach, Source};

/// A moment in the order of commits: everything that was committed before the token was taken lies before it. Its text, as that in JSON,
/// is PostgreSQL's own of such a position (`16/B374D848`), so that it can travel in a header or a cookie. On SQLite, which has no
/// replicas, all tokens are equal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CommitToken(u64);

impl CommitToken {
    /// A token of [`Store::commit_token`](crate::Store::commit_token): one statement, on the primary.
    pub(crate) async fn take<S: Source>(source: &S) -> Result<Self> {
        const DURING: &str = "commit_token";
        let dialect = source.context().dialect();
        if dialect == Dialect::Sqlite {
            return Ok(Self::default());
        }
        let statement = Statement::from_string(dialect.backend(), PRIMARY_POSITION);
        let rows = source.rows(DURING, statement).await?;
        let position = rows.first().map_or(Ok(0), position);
        position.map(Self).map_err(|error| source.failed(&error, DURING))
    }
}

impl fmt::Display for CommitToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xffff_ffff)
    }
}

impl FromStr for CommitToken {
    type Err = Error;

    /// # Errors
    /// [`Error::Invalid`] for what is not two hexadecimal numbers of up to 8 digits with a `/` between them.
    fn from_str(text: &str) -> Result<Self> {
        let half = |digits: &str| {
            let is_hex = (1..=8).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
            u64::from_str_radix(digits, 16).ok().filter(|_| is_hex)
        };
        let halves = text.split_once('/');
        let read = halves.and_then(|(high, low)| Some(Self(half(high)? << 32 | half(low)?)));
        read.ok_or(Error::Invalid(Invalid {
            field: "commit_token",
            rule: Rule::OneOf("the texts of commit tokens, such as 16/B374D848"),
        }))
    }
}

impl Serialize for CommitToken {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for CommitToken {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Reads from a replica that is at most [`max_lag`](crate::ReplicaSettings::max_lag) behind, in turn; from the primary when there is none,
/// as on SQLite. A replica that fails in the middle of a read is left out, and the read goes to the next one, at last to the primary. Two
/// reads may go to different replicas, of which the second may know less than the first: give both the same [`CommitToken`] where that
/// matters. See [`Store::replica_reads`](crate::Store::replica_reads).
#[derive(Clone, Debug)]
pub struct ReplicaReads {
    context: Context,
    after: CommitToken,
}

impl ReplicaReads {
    pub(crate) fn new(context: Context) -> Self {
        Self {
            context,
            after: CommitToken::default(),
        }
    }

    /// Reads that see everything that was committed before the token was taken. A replica that is not there yet is waited for, for up to
    /// [`wait`](crate::ReplicaSettings::wait); then the primary is asked. One round trip more than without a token.
    #[must_use]
    pub fn after(&self, token: CommitToken) -> Self {
        let after = self.after.max(token);
        Self { after, ..self.clone() }
    }
}

impl Reach for ReplicaReads {
    fn executor(&self) -> Executor<'_> {
        self.context.connections().into()
    }

    fn context(&self) -> &Context {
        &self.context
    }

    async fn ask(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        let read = match self.context.replicas() {
            Some(replicas) => replicas.rows(&statement, self.after.0).await,
            None => None,
        };
        let (rows, served_by) = match read {
            Some(rows) => (rows, "replica"),
            None => (self.executor().query_all_raw(statement).await, "primary"),
        };
        telemetry::read_from(served_by);
        rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_read_back_from_its_text() {
        for (number, text) in [
            (0, "0/0"),
            (0x16_B374_D848, "16/B374D848"),
            (u64::MAX, "FFFFFFFF/FFFFFFFF"),
        ] {
            assert_eq!(CommitToken(number).to_string(), text);
            assert_eq!(text.parse::<CommitToken>().unwrap(), CommitToken(number));
            let json = serde_json::to_string(&CommitToken(number)).unwrap();
            assert_eq!(serde_json::from_str::<CommitToken>(&json).unwrap(), CommitToken(number));
        }
        for wrong in ["", "/", "1", "1/", "/1", "+1/2", "1/2/3", "100000000/0", "g/0", " 1/2"] {
            assert!(
                matches!(wrong.parse::<CommitToken>(), Err(Error::Invalid(_))),
                "{wrong}"
            );
        }
    }
}
