//! How far somebody has followed the feed.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::database::Dialect;
use crate::error::{Invalid, Rule};

/// A place in the feed, between two events: [`crate::feed::Feed::subscribe`] and [`crate::feed::Feed::read`] go on behind it. It can
/// be kept as text (`Display`, `FromStr`), of any length.
///
/// It belongs to one database: PostgreSQL's counts that server's transactions. It survives restarts, failover to a standby and
/// `pg_upgrade`; after a restore from a dump begin anew, see docs/EVENTS.md.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeedPosition(pub(super) Place);

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// All that this snapshot sees is behind; of what `within` sees besides, also what was appended up to its sequence.
    Postgres {
        after: Arc<Snapshot>,
        within: Option<Within>,
    },
    /// All events up to this sequence.
    Sqlite(i64),
}

/// A place in the middle of what one snapshot sees and an earlier one does not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Within {
    pub(super) until: Arc<Snapshot>,
    pub(super) sequence: i64,
}

/// Which of PostgreSQL's transactions had ended, as `pg_snapshot` says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Snapshot {
    xmin: u64,
    /// The first of which none had ended.
    xmax: u64,
    /// Those before it that were open, in ascending order.
    open: Vec<u64>,
}

/// Where an event stands in the feed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    /// The transaction that appended it; 0 on SQLite.
    pub(super) transaction: u64,
    pub(super) sequence: i64,
}

impl Snapshot {
    fn sees(&self, transaction: u64) -> bool {
        transaction < self.xmin || (transaction < self.xmax && self.open.binary_search(&transaction).is_err())
    }

    /// Of two snapshots of one server, the later sees all that the earlier does.
    fn is_later_than(&self, other: &Self) -> bool {
        (self.xmax, self.xmin) > (other.xmax, other.xmin)
            || (self.xmax == other.xmax && self.open.len() < other.open.len())
    }
}

impl FeedPosition {
    /// Behind all that this snapshot sees.
    pub(super) fn after(snapshot: impl Into<Arc<Snapshot>>) -> Self {
        let after = snapshot.into();
        Self(Place::Postgres { after, within: None })
    }

    /// Whether all of it is behind one snapshot.
    pub(super) fn is_whole(&self) -> bool {
        !matches!(self.0, Place::Postgres { within: Some(_), .. })
    }

    /// Refuses that of another kind of database.
    pub(super) fn belongs_to(&self, dialect: Dialect) -> Result<(), Invalid> {
        let own = matches!(
            (&self.0, dialect),
            (Place::Postgres { .. }, Dialect::Postgres) | (Place::Sqlite(_), Dialect::Sqlite)
        );
        own.then_some(()).ok_or(NOT_A_POSITION)
    }

    /// Whether an event lies before it. Of a position that is whole.
    pub(super) fn is_behind(&self, mark: Mark) -> bool {
        match &self.0 {
            Place::Postgres { after, .. } => after.sees(mark.transaction),
            Place::Sqlite(sequence) => mark.sequence <= *sequence,
        }
    }

    /// Which of two whole positions of one database is the later.
    pub(super) fn later<'a>(&'a self, other: &'a Self) -> &'a Self {
        let other_is_later = match (&self.0, &other.0) {
            (Place::Postgres { after: own, .. }, Place::Postgres { after: others, .. }) => others.is_later_than(own),
            (Place::Sqlite(own), Place::Sqlite(others)) => others > own,
            _ => false,
        };
        if other_is_later { other } else { self }
    }

    /// The place behind one event of those between this whole position and another.
    pub(super) fn up_to(&self, until: &Self, mark: Mark) -> Self {
        match (&self.0, &until.0) {
            (Place::Postgres { after, .. }, Place::Postgres { after: until, .. }) => Self(Place::Postgres {
                after: Arc::clone(after),
                within: Some(Within {
                    until: Arc::clone(until),
                    sequence: mark.sequence,
                }),
            }),
            _ => Self(Place::Sqlite(mark.sequence)),
        }
    }
}

impl fmt::Display for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:", self.xmin, self.xmax)?;
        for (place, open) in self.open.iter().enumerate() {
            write!(f, "{}{open}", if place == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

impl FromStr for Snapshot {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let number = |text: &str| match text.as_bytes() {
            [b'0'..=b'9', ..] => text.parse::<u64>().map_err(drop),
            _ => Err(()),
        };
        let (xmin, rest) = text.split_once(':').ok_or(())?;
        let (xmax, open) = rest.split_once(':').ok_or(())?;
        let (xmin, xmax) = (number(xmin)?, number(xmax)?);
        let open: Vec<u64> = match open {
            "" => Vec::new(),
            open => open.split(',').map(number).collect::<Result<_, ()>>()?,
        };
        let is_sound = 0 < xmin
            && xmin <= xmax
            && open.is_sorted_by(|a, b| a < b)
            && open.iter().all(|open| (xmin..xmax).contains(open));
        is_sound.then_some(Self { xmin, xmax, open }).ok_or(())
    }
}

const POSTGRES: &str = "postgres";
const SQLITE: &str = "sqlite";

impl fmt::Display for FeedPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Place::Postgres { after, within: None } => write!(f, "{POSTGRES};{after}"),
            Place::Postgres {
                after,
                within: Some(Within { until, sequence }),
            } => write!(f, "{POSTGRES};{after};{until};{sequence}"),
            Place::Sqlite(sequence) => write!(f, "{SQLITE};{sequence}"),
        }
    }
}

impl FromStr for FeedPosition {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        parse(text).ok_or(NOT_A_POSITION)
    }
}

/// What is said of a text that is none, and of another database's.
pub(super) const NOT_A_POSITION: Invalid = Invalid {
    field: "position",
    rule: Rule::FeedPosition,
};

fn parse(text: &str) -> Option<FeedPosition> {
    let snapshot = |text: &str| text.parse::<Snapshot>().ok().map(Arc::new);
    let sequence = |text: &str| text.parse::<i64>().ok().filter(|sequence| *sequence >= 0);
    let parts: Vec<&str> = text.split(';').collect();
    let place = match parts.as_slice() {
        [POSTGRES, after] => Place::Postgres {
            after: snapshot(after)?,
            within: None,
        },
        [POSTGRES, after, until, last] => Place::Postgres {
            after: snapshot(after)?,
            within: Some(Within {
                until: snapshot(until)?,
                sequence: sequence(last)?,
            }),
        },
        [SQLITE, last] => Place::Sqlite(sequence(last)?),
        _ => return None,
    };
    Some(FeedPosition(place))
}

impl serde::Serialize for FeedPosition {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(feature = "schemars")]
entity::text_in_json!(FeedPosition, "FeedPosition");

impl<'de> serde::Deserialize<'de> for FeedPosition {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_reads_back_and_rubbish_does_not() {
        for text in [
            "postgres;725:725:",
            "postgres;725:730:725,727",
            "postgres;725:730:725,727;726:731:727;1842",
            "sqlite;0",
            "sqlite;17",
        ] {
            assert_eq!(text.parse::<FeedPosition>().unwrap().to_string(), text);
        }
        for text in [
            "",
            "postgres",
            "postgres;",
            "postgres;0:1:",
            "postgres;+7:8:",
            "postgres;730:725:",
            "postgres;725:730:730",
            "postgres;725:730:727,725",
            "postgres;725:730:727,727",
            "postgres;725:730:;726:731:",
            "postgres;725:730:;726:731:;-1",
            "sqlite;-1",
            "sqlite;1;2",
            "725:730:",
        ] {
            assert_eq!(text.parse::<FeedPosition>(), Err(NOT_A_POSITION), "{text}");
        }
    }

    #[test]
    fn a_snapshot_sees_what_had_ended() {
        let snapshot: Snapshot = "10:20:10,15".parse().unwrap();
        let seen: Vec<u64> = (8..22).filter(|transaction| snapshot.sees(*transaction)).collect();
        assert_eq!(seen, [8, 9, 11, 12, 13, 14, 16, 17, 18, 19]);
        for (earlier, later) in [
            ("10:20:10,15", "10:20:10"),
            ("10:20:10,15", "15:20:15"),
            ("10:20:10,15", "10:21:10,15,20"),
            ("10:20:10", "20:20:"),
        ] {
            let [earlier, later] = [earlier, later].map(|text| text.parse::<Snapshot>().unwrap());
            assert!(
                later.is_later_than(&earlier) && !earlier.is_later_than(&later),
                "{later}"
            );
            assert!(!later.is_later_than(&later));
        }
    }
}
