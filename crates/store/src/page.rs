//! Keyset pages: a page begins where the last one ended, by (time, id) or by a name that only one has, so that its cost does not grow with
//! its depth and rows that share a time are neither lost nor doubled.

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
#[cfg_attr(feature = "schemars", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// By time, downwards. A list by name: Z to A.
    NewestFirst,
    /// By time, upwards. A list by name: A to Z.
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

    fn direction(self) -> SqlOrder {
        match self {
            Self::NewestFirst => SqlOrder::Desc,
            Self::OldestFirst => SqlOrder::Asc,
        }
    }
}

/// What part of a list is asked for.
///
/// In JSON, or as the query of an address, `{"size": 50, "order": "newest_first", "after": "…"}`. Without `size` a page has
/// [`DEFAULT_PAGE_SIZE`] rows; a size out of range is refused while it is read.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[cfg_attr(feature = "schemars", derive(schemars::JsonSchema))]
#[serde(try_from = "AsWritten")]
pub struct PageRequest {
    size: u16,
    order: Order,
    #[serde(skip_serializing_if = "Option::is_none")]
    after: Option<Cursor>,
}

#[derive(serde::Deserialize)]
#[cfg_attr(feature = "schemars", derive(schemars::JsonSchema))]
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

    /// The rows behind `cursor`, which must come from the same list in the same order.
    #[must_use]
    pub fn after(mut self, cursor: Cursor) -> Self {
        self.after = Some(cursor);
        self
    }

    /// As a request of a list by (time, id).
    ///
    /// # Errors
    /// [`Invalid`] for the cursor of a list by name.
    pub(crate) fn by_time(&self) -> Result<ByTime, Invalid> {
        Ok(ByTime {
            size: self.size,
            order: self.order,
            after: self.after.as_ref().map(Cursor::in_time).transpose()?,
        })
    }

    /// As a request of a list by name.
    ///
    /// # Errors
    /// [`Invalid`] for the cursor of another list.
    pub(crate) fn by_name(&self, list: NameList) -> Result<ByName<'_>, Invalid> {
        Ok(ByName {
            size: self.size,
            order: self.order,
            list,
            after: self.after.as_ref().map(|cursor| cursor.in_names(list)).transpose()?,
        })
    }
}

/// A request of a list by (time, id), with a cursor of such a list.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ByTime {
    size: u16,
    order: Order,
    after: Option<Place>,
}

impl ByTime {
    pub(crate) fn size(self) -> u16 {
        self.size
    }

    pub(crate) fn order(self) -> Order {
        self.order
    }

    pub(crate) fn place(self) -> Option<Place> {
        self.after
    }

    /// The condition of a statement by hand that goes on behind the cursor, beginning with AND; nothing for a first page. `read::page_of` binds
    /// what it names.
    pub(crate) fn beyond(self, time: &str, id: &str) -> String {
        let (comparison, _) = self.order.in_sql();
        match self.after {
            Some(_) => format!("AND ({time}, {id}) {comparison} (:at, :last)"),
            None => String::new(),
        }
    }

    /// Orders and limits a query. One row more than asked is fetched, to know whether there is a next page.
    pub(crate) fn apply<E: EntityTrait>(self, query: Select<E>, time: E::Column, id: E::Column) -> Select<E> {
        use sea_orm::ColumnTrait;
        let key = || Expr::tuple([Expr::col(time.as_column_ref()), Expr::col(id.as_column_ref())]);
        let query = match self.after {
            None => query,
            Some(Place { at, id }) => {
                let last = Expr::tuple([Expr::value(at), Expr::value(id)]);
                let beyond = match self.order {
                    Order::NewestFirst => key().lt(last),
                    Order::OldestFirst => key().gt(last),
                };
                sea_orm::QueryFilter::filter(query, beyond)
            }
        };
        let direction = self.order.direction();
        query
            .order_by(time, direction.clone())
            .order_by(id, direction)
            .limit(u64::from(self.size) + 1)
    }

    /// Turns the fetched rows into a page.
    pub(crate) fn page<T>(self, rows: Vec<T>, key: impl Fn(&T) -> (DateTime<Utc>, Uuid)) -> Page<T> {
        page_of(self.size, rows, |last| {
            let (at, id) = key(last);
            Cursor::at(at, id)
        })
    }

    /// Turns what a walk has looked at, in its order, into a page: the hits, and where to go on behind the last row that it looked at
    /// if that was the end of its tether.
    pub(crate) fn page_of_scan<T>(
        self,
        rows: impl IntoIterator<Item = Scanned<T>>,
        key: impl Fn(&T) -> (DateTime<Utc>, Uuid),
    ) -> Page<T> {
        let (mut hits, mut looked_as_far_as) = (Vec::new(), None);
        for Scanned { row, is_hit, is_last } in rows {
            if is_last {
                let (at, id) = key(&row);
                looked_as_far_as = Some(Cursor::at(at, id));
            }
            if is_hit {
                hits.push(row);
            }
        }
        let mut page = self.page(hits, key);
        page.next = page.next.or(looked_as_far_as);
        page
    }
}

/// How many rows one page looks at where no index has just those that are asked for. A bound on the cost of a page; a few hundredths of a
/// second at worst.
pub(crate) const SCANNED: u16 = 5_000;

/// A row that a walk of at most [`SCANNED`] rows has looked at.
pub(crate) struct Scanned<T> {
    pub(crate) row: T,
    /// False where it only tells how far the walk has come.
    pub(crate) is_hit: bool,
    /// It is the last one that the page looks at, and there may be more.
    pub(crate) is_last: bool,
}

/// A request of a list by name, with a cursor of that list.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ByName<'a> {
    size: u16,
    order: Order,
    list: NameList,
    after: Option<&'a str>,
}

impl<'a> ByName<'a> {
    pub(crate) fn size(self) -> u16 {
        self.size
    }

    pub(crate) fn order(self) -> Order {
        self.order
    }

    pub(crate) fn place(self) -> Option<&'a str> {
        self.after
    }

    /// Turns the fetched rows into a page. `key` is what the list compares.
    pub(crate) fn page<T>(self, rows: Vec<T>, key: impl Fn(&T) -> String) -> Page<T> {
        page_of(self.size, rows, |last| {
            Cursor(AnyPlace::Name {
                list: self.list,
                key: key(last),
            })
        })
    }
}

fn page_of<T>(size: u16, mut rows: Vec<T>, cursor: impl Fn(&T) -> Cursor) -> Page<T> {
    let more = rows.len() > usize::from(size);
    rows.truncate(size.into());
    let next = rows.last().filter(|_| more).map(cursor);
    Page { items: rows, next }
}

/// Rows, and where the next ones begin.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[cfg_attr(feature = "schemars", derive(schemars::JsonSchema))]
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
///
/// One of a list by time says a time and an id; one of [`crate::users::Users::search`] the name or e-mail address of the last user
/// on the page, for whoever decodes it: treat its text as you treat the page. A list by name refuses the cursor of any other list, and
/// a list by time that of a list by name, as [`Rule::Cursor`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor(AnyPlace);

#[derive(Clone, Debug, PartialEq, Eq)]
enum AnyPlace {
    Time(Place),
    Name { list: NameList, key: String },
}

/// A place in a list by (time, id).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) at: DateTime<Utc>,
    pub(crate) id: Uuid,
}

/// Lists by name, each with keys of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NameList {
    Usernames,
    Emails,
}

impl NameList {
    /// In a cursor.
    fn byte(self) -> u8 {
        match self {
            Self::Usernames => 1,
            Self::Emails => 2,
        }
    }

    fn of_byte(byte: u8) -> Option<Self> {
        [Self::Usernames, Self::Emails]
            .into_iter()
            .find(|list| list.byte() == byte)
    }
}

const TIME_VERSION: u8 = 1;
const NAME_VERSION: u8 = 2;
/// The most characters that a name in a cursor has: those of the longest column.
const MAX_NAME: usize = 255;

fn no_cursor() -> Invalid {
    Invalid {
        field: "cursor",
        rule: Rule::Cursor,
    }
}

impl Cursor {
    pub(crate) fn at(at: DateTime<Utc>, id: Uuid) -> Self {
        Self(AnyPlace::Time(Place { at, id }))
    }

    pub(crate) fn in_time(&self) -> Result<Place, Invalid> {
        match self.0 {
            AnyPlace::Time(place) => Ok(place),
            AnyPlace::Name { .. } => Err(no_cursor()),
        }
    }

    fn in_names(&self, wanted: NameList) -> Result<&str, Invalid> {
        match &self.0 {
            AnyPlace::Name { list, key } if *list == wanted => Ok(key),
            _ => Err(no_cursor()),
        }
    }

    fn parse_time(bytes: &[u8]) -> Option<AnyPlace> {
        let (at, id) = bytes.split_first_chunk()?;
        Some(AnyPlace::Time(Place {
            at: DateTime::from_timestamp_micros(i64::from_be_bytes(*at)).filter(|at| input::in_range(*at))?,
            id: Uuid::from_slice(id).ok()?,
        }))
    }

    /// What no name can be is no cursor: the databases compare names with A-Z folded, and PostgreSQL cannot be asked about U+0000.
    fn parse_name(bytes: &[u8]) -> Option<AnyPlace> {
        let (list, key) = bytes.split_first()?;
        let key = std::str::from_utf8(key).ok()?;
        let sound = !key.is_empty() && !key.contains(|c: char| c == '\0' || c.is_ascii_uppercase());
        (sound && key.chars().count() <= MAX_NAME).then_some(())?;
        Some(AnyPlace::Name {
            list: NameList::of_byte(*list)?,
            key: key.to_owned(),
        })
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = match &self.0 {
            AnyPlace::Time(Place { at, id }) => {
                let at = at.timestamp_micros().to_be_bytes();
                [&[TIME_VERSION][..], &at, id.as_bytes()].concat()
            }
            AnyPlace::Name { list, key } => [&[NAME_VERSION, list.byte()][..], key.as_bytes()].concat(),
        };
        f.write_str(&URL_SAFE_NO_PAD.encode(bytes))
    }
}

impl FromStr for Cursor {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let parse = || {
            let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
            match bytes.split_first()? {
                (&TIME_VERSION, rest) => Self::parse_time(rest),
                (&NAME_VERSION, rest) => Self::parse_name(rest),
                _ => None,
            }
        };
        parse().map(Self).ok_or_else(no_cursor)
    }
}

impl serde::Serialize for Cursor {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(feature = "schemars")]
entity::text_in_json!(Cursor, "Cursor");

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
        let cursor = Cursor::at(
            DateTime::from_timestamp_micros(1_700_000_000_123_456).unwrap(),
            Uuid::from_u128(42),
        );
        let request = PageRequest::first(20, Order::NewestFirst)
            .unwrap()
            .after(cursor.clone());
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
        let cursor = Cursor::at(
            DateTime::from_timestamp_micros(1_700_000_000_123_456).unwrap(),
            Uuid::from_u128(42),
        );
        assert_eq!(cursor.to_string().parse::<Cursor>(), Ok(cursor.clone()));
        for text in ["", "rubbish", "AAAA", &format!("{cursor}A"), &cursor.to_string()[1..]] {
            assert!(text.parse::<Cursor>().is_err(), "{text}");
        }
    }

    fn name(list: NameList, key: &str) -> Cursor {
        let key = key.to_owned();
        Cursor(AnyPlace::Name { list, key })
    }

    #[test]
    fn a_cursor_by_name_reads_back_and_what_no_name_can_be_does_not() {
        for list in [NameList::Usernames, NameList::Emails] {
            for key in ["a", "zoë_%\\", &"é".repeat(255)] {
                let cursor = name(list, key);
                assert_eq!(cursor.to_string().parse::<Cursor>(), Ok(cursor));
            }
        }
        for key in ["", "Ada", "a\0", &"é".repeat(256)] {
            let text = name(NameList::Usernames, key).to_string();
            assert!(text.parse::<Cursor>().is_err(), "{key:?}");
        }
        for bytes in [&[2][..], &[2, 0, b'a'], &[2, 3, b'a'], &[2, 1, 0xff], &[3, 1, b'a']] {
            assert!(URL_SAFE_NO_PAD.encode(bytes).parse::<Cursor>().is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn a_list_takes_no_cursor_of_a_list_of_another_kind() {
        let in_time = Cursor::at(DateTime::UNIX_EPOCH, Uuid::nil());
        let refused = |cursor: &Cursor| {
            let page = PageRequest::of(1, Order::OldestFirst, Some(cursor.clone()));
            [
                page.by_time().is_err(),
                page.by_name(NameList::Usernames).is_err(),
                page.by_name(NameList::Emails).is_err(),
            ]
        };
        assert_eq!(refused(&in_time), [false, true, true]);
        assert_eq!(refused(&name(NameList::Usernames, "a")), [true, false, true]);
        assert_eq!(refused(&name(NameList::Emails, "a")), [true, true, false]);
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
