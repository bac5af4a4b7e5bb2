//! Keyset pages: a page begins where the last one ended, by (time, id), so that its cost does not grow with its depth and
//! rows that share a time are neither lost nor doubled.

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, Utc};
use sea_orm::sea_query::{Expr, ExprTrait, Order as SqlOrder};
use sea_orm::{EntityTrait, QueryOrder, QuerySelect, Select};
use uuid::Uuid;

use crate::error::{Invalid, Rule};
use crate::input;

/// The most rows that one page may have.
pub const MAX_PAGE_SIZE: u16 = 500;

/// The rows that a page has of which nobody said the size.
pub const DEFAULT_PAGE_SIZE: u16 = 50;

/// Which way a list runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// By time, downwards.
    NewestFirst,
    /// By time, upwards.
    #[default]
    OldestFirst,
}

impl Order {
    /// By what a row that comes after another compares to it, and the direction after ORDER BY.
    pub(crate) fn in_sql(self) -> (&'static str, &'static str) {
        match self {
            Self::NewestFirst => ("<", "DESC"),
            Self::OldestFirst => (">", "ASC"),
        }
    }
}

/// What part of a list is asked for.
///
/// In JSON, or as the query of an address, `{"size": 50, "order": "newest_first", "after": "…"}`. Without `size` a page has
/// [`DEFAULT_PAGE_SIZE`] rows; a size out of range is refused while it is read.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "AsWritten")]
pub struct PageRequest {
    size: u16,
    order: Order,
    #[serde(skip_serializing_if = "Option::is_none")]
    after: Option<Cursor>,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct AsWritten {
    size: Option<u16>,
    #[serde(default)]
    order: Order,
    after: Option<Cursor>,
}

impl TryFrom<AsWritten> for PageRequest {
    type Error = Invalid;

    fn try_from(written: AsWritten) -> Result<Self, Invalid> {
        let first = Self::first(written.size.unwrap_or(DEFAULT_PAGE_SIZE), written.order)?;
        Ok(Self {
            after: written.after,
            ..first
        })
    }
}

impl Default for PageRequest {
    /// The first [`DEFAULT_PAGE_SIZE`] rows, oldest first.
    fn default() -> Self {
        Self::of(DEFAULT_PAGE_SIZE, Order::default(), None)
    }
}

impl PageRequest {
    /// The first `size` rows.
    ///
    /// # Errors
    /// [`Invalid`] when `size` is 0 or above [`MAX_PAGE_SIZE`].
    pub fn first(size: u16, order: Order) -> Result<Self, Invalid> {
        input::number("size", size.into(), 1, MAX_PAGE_SIZE.into())?;
        Ok(Self::of(size, order, None))
    }

    pub(crate) fn of(size: u16, order: Order, after: Option<Cursor>) -> Self {
        Self { size, order, after }
    }

    pub(crate) fn size(&self) -> u16 {
        self.size
    }

    pub(crate) fn order(&self) -> Order {
        self.order
    }

    pub(crate) fn cursor(&self) -> Option<Cursor> {
        self.after
    }

    /// The rows behind `cursor`, which must come from the same list in the same order.
    #[must_use]
    pub fn after(mut self, cursor: Cursor) -> Self {
        self.after = Some(cursor);
        self
    }

    /// Orders and limits a query. One row more than asked is fetched, to know whether there is a next page.
    pub(crate) fn apply<E: EntityTrait>(&self, query: Select<E>, time: E::Column, id: E::Column) -> Select<E> {
        use sea_orm::ColumnTrait;
        let key = || Expr::tuple([Expr::col(time.as_column_ref()), Expr::col(id.as_column_ref())]);
        let query = match self.after {
            None => query,
            Some(Cursor { at, id }) => {
                let last = Expr::tuple([Expr::value(at), Expr::value(id)]);
                let beyond = match self.order {
                    Order::NewestFirst => key().lt(last),
                    Order::OldestFirst => key().gt(last),
                };
                sea_orm::QueryFilter::filter(query, beyond)
            }
        };
        let direction = match self.order {
            Order::NewestFirst => SqlOrder::Desc,
            Order::OldestFirst => SqlOrder::Asc,
        };
        query
            .order_by(time, direction.clone())
            .order_by(id, direction)
            .limit(u64::from(self.size) + 1)
    }

    /// Turns the fetched rows into a page.
    pub(crate) fn page<T>(&self, mut rows: Vec<T>, key: impl Fn(&T) -> (DateTime<Utc>, Uuid)) -> Page<T> {
        let more = rows.len() > usize::from(self.size);
        rows.truncate(self.size.into());
        let next = rows.last().filter(|_| more).map(|last| {
            let (at, id) = key(last);
            Cursor { at, id }
        });
        Page { items: rows, next }
    }
}

/// Rows, and where the next ones begin.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Page<T> {
    /// At most as many as asked for; a list says so where there may be fewer although more follow.
    pub items: Vec<T>,
    /// For [`PageRequest::after`]; none when this page was the last.
    pub next: Option<Cursor>,
}

impl<T> Page<T> {
    /// The same page of something made from its rows.
    pub(crate) fn map<U>(self, each: impl FnMut(T) -> U) -> Page<U> {
        Page {
            items: self.items.into_iter().map(each).collect(),
            next: self.next,
        }
    }
}

/// A place in a list, opaque to clients: its text may be handed out and taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    pub(crate) at: DateTime<Utc>,
    pub(crate) id: Uuid,
}

const CURSOR_VERSION: u8 = 1;

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = [CURSOR_VERSION; 25];
        bytes[1..9].copy_from_slice(&self.at.timestamp_micros().to_be_bytes());
        bytes[9..].copy_from_slice(self.id.as_bytes());
        f.write_str(&URL_SAFE_NO_PAD.encode(bytes))
    }
}

impl FromStr for Cursor {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let parse = || {
            let bytes: [u8; 25] = URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok()?;
            let (version, rest) = bytes.split_first()?;
            let (at, id) = rest.split_first_chunk()?;
            (*version == CURSOR_VERSION).then_some(())?;
            Some(Self {
                at: DateTime::from_timestamp_micros(i64::from_be_bytes(*at)).filter(|at| input::in_range(*at))?,
                id: Uuid::from_slice(id).ok()?,
            })
        };
        parse().ok_or(Invalid {
            field: "cursor",
            rule: Rule::Cursor,
        })
    }
}

impl serde::Serialize for Cursor {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Cursor {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_read_from_json_and_refused_there() {
        let cursor = Cursor {
            at: DateTime::from_timestamp_micros(1_700_000_000_123_456).unwrap(),
            id: Uuid::from_u128(42),
        };
        let request = PageRequest::first(20, Order::NewestFirst).unwrap().after(cursor);
        let json = serde_json::to_string(&request).unwrap();
        assert_eq!(
            json,
            format!(r#"{{"size":20,"order":"newest_first","after":"{cursor}"}}"#)
        );
        assert_eq!(serde_json::from_str::<PageRequest>(&json).unwrap(), request);
        assert_eq!(
            serde_json::from_str::<PageRequest>("{}").unwrap(),
            PageRequest::default()
        );
        for wrong in [
            r#"{"size":0}"#,
            r#"{"size":501}"#,
            r#"{"after":"x"}"#,
            r#"{"offset":3}"#,
        ] {
            assert!(serde_json::from_str::<PageRequest>(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_cursor_reads_back_and_rubbish_does_not() {
        let cursor = Cursor {
            at: DateTime::from_timestamp_micros(1_700_000_000_123_456).unwrap(),
            id: Uuid::from_u128(42),
        };
        assert_eq!(cursor.to_string().parse::<Cursor>(), Ok(cursor));
        for text in ["", "rubbish", "AAAA", &format!("{cursor}A"), &cursor.to_string()[1..]] {
            assert!(text.parse::<Cursor>().is_err(), "{text}");
        }
    }

    #[test]
    fn page_sizes_have_limits() {
        assert_eq!(
            PageRequest::first(0, Order::default()).unwrap_err().rule,
            Rule::AtLeast(1)
        );
        assert_eq!(
            PageRequest::first(501, Order::default()).unwrap_err().rule,
            Rule::AtMost(500)
        );
    }
}
