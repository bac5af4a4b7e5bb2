//! Finding users without knowing who they are: by the beginning of a name or an address, and in the order in which they came.

use entity::user;

use super::Users;
use crate::database::Dialect;
use crate::database::statement::Query;
use crate::error::{Invalid, Result};
use crate::input::{self, ERASED_USERNAME};
use crate::page::{ByName, NameList, Order, Page, PageRequest};
use crate::read::{self, ByHand, Fetch};
use crate::row;
use crate::scope::Visibility;
use crate::unit::Source;

/// What a search for users goes by. White space around it and case do not matter; `%` and `_` are letters like any other.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum UserSearch {
    /// What the username begins with, at most 100 characters; nothing for all.
    Username(String),
    /// What the e-mail address begins with, at most 255 characters; nothing for all who have one.
    Email(String),
}

impl UserSearch {
    /// By the beginning of the username.
    pub fn username(prefix: impl Into<String>) -> Self {
        Self::Username(prefix.into())
    }

    /// By the beginning of the e-mail address.
    pub fn email(prefix: impl Into<String>) -> Self {
        Self::Email(prefix.into())
    }

    /// The list that it is a part of, and the names of that.
    fn checked(&self) -> Result<(NameList, Names), Invalid> {
        let (list, field, prefix, most) = match self {
            Self::Username(prefix) => (NameList::Usernames, "username", prefix, 100),
            Self::Email(prefix) => (NameList::Emails, "email", prefix, 255),
        };
        let prefix = input::optional_line(field, Some(prefix), most)?.unwrap_or_default();
        Ok((list, Names::beginning(&input::login_key(&prefix))))
    }
}

/// A range of folded names, in the order of their bytes, which is that of the indexes: from the first one up to before the second, if there
/// is an end.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Names {
    from: String,
    to: Option<String>,
}

impl Names {
    /// Those that begin with this.
    fn beginning(prefix: &str) -> Self {
        let mut to = prefix.to_owned();
        while let Some(last) = to.pop() {
            // The next character that there is.
            let next = (u32::from(last) + 1..=u32::from(char::MAX)).find_map(char::from_u32);
            if let Some(next) = next {
                to.push(next);
                let (from, to) = (prefix.to_owned(), Some(to));
                return Self { from, to };
            }
        }
        let (from, to) = (prefix.to_owned(), None);
        Self { from, to }
    }

    /// Those of them that a page has yet to give.
    fn behind(mut self, page: ByName<'_>) -> Self {
        match (page.place(), page.order()) {
            (None, _) => {}
            (Some(last), Order::OldestFirst) => {
                // No name has U+0000 in it, so this is the first one behind it.
                self.from = self.from.max(format!("{last}\u{1}"));
            }
            (Some(last), Order::NewestFirst) => {
                let to = self.to.take().into_iter().chain([last.to_owned()]).min();
                self.to = to;
            }
        }
        self
    }

    /// Without those of erased users, which nobody else has: however many they are, nobody has to walk past them.
    fn without_erased(self) -> impl Iterator<Item = Self> {
        let erased = Self::beginning(ERASED_USERNAME);
        let (Self { from, to }, end) = (self, erased.to.unwrap_or_default());
        let before = Self {
            from: from.clone(),
            to: to.clone().into_iter().chain([erased.from]).min(),
        };
        let after = Self {
            from: from.max(end),
            to,
        };
        [before, after].into_iter().filter(|names| !names.is_empty())
    }

    fn is_empty(&self) -> bool {
        self.to.as_ref().is_some_and(|to| *to <= self.from)
    }
}

impl<S: Source, V: Visibility> Users<'_, S, V> {
    /// Users whose name or e-mail address begins so, by that name or address, with A-Z in small letters, in the order of its bytes:
    /// [`Order::OldestFirst`] is A to Z. One statement, a walk along `uq_users_username` or `uq_users_email`; of deleted users along
    /// `ix_users_deleted_username` or `ix_users_deleted_email`. It costs what it returns.
    ///
    /// Erased users have no address, and names that begin with `deleted-`. The cursors have names or addresses in them: see [`crate::Cursor`].
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] when what is looked for is too long or has control characters in it, and for the cursor of another list.
    pub async fn search(&self, search: &UserSearch, page: &PageRequest) -> Result<Page<user::Model>> {
        let (list, names) = search.checked()?;
        let page = page.by_name(list)?;
        let names = names.behind(page);
        let is_live = V::IS_DELETED == Some(false);
        let ranges: Vec<Names> = match list {
            NameList::Usernames if is_live => names.without_erased().collect(),
            _ => [names].into_iter().filter(|names| !names.is_empty()).collect(),
        };
        let dialect = self.source.context().dialect();
        let rows: Vec<user::Model> = match search_query::<V>(dialect, list, &ranges, page) {
            Some(query) => {
                ByHand(query.statement(dialect))
                    .fetch_all_as(self.source, "users.search")
                    .await?
            }
            None => Vec::new(),
        };
        Ok(page.page(rows, |user| match list {
            // As the databases fold it, which is not as `login_key` does: rows of others' making may have other capitals.
            NameList::Usernames => user.username.to_ascii_lowercase(),
            NameList::Emails => user.email.as_deref().unwrap_or_default().to_ascii_lowercase(),
        }))
    }

    /// Users in the order of their ids, which grow with the time of registering, to the millisecond. One statement, a walk along `pk_users`, of
    /// deleted users along `ix_users_deleted`; deleted users among the others are passed over.
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] for the cursor of a list by name.
    pub async fn list(&self, page: &PageRequest) -> Result<Page<user::Model>> {
        let (dialect, page) = (self.source.context().dialect(), page.by_time()?);
        let (comparison, direction) = page.order().in_sql();
        let beyond = page.place().map(|_| format!(" AND id {comparison} :last"));
        let query = Query::new(format!(
            "SELECT {columns} FROM users WHERE {visible}{beyond} ORDER BY id {direction} LIMIT {limit}",
            columns = dialect.columns_of::<user::Entity>(),
            visible = visible::<V>(dialect),
            beyond = beyond.unwrap_or_default(),
            limit = dialect.limit_of_walk(":limit"),
        ));
        let rows: Vec<user::Model> = ByHand(read::page_of(query, page).statement(dialect))
            .fetch_all_as(self.source, "users.list")
            .await?;
        Ok(page.page(rows, |user| (user.created_at, user.id.as_uuid())))
    }
}

/// Which rows are seen; deleted ones alone are found along an index of them.
fn visible<V: Visibility>(dialect: Dialect) -> String {
    match V::IS_DELETED {
        Some(true) => format!("{}{}", V::CONDITION, dialect.only_by_index(V::CONDITION, "id")),
        _ => V::CONDITION.to_owned(),
    }
}

/// A walk for each range, and the first of what they yield.
fn search_query<V: Visibility>(dialect: Dialect, list: NameList, ranges: &[Names], page: ByName<'_>) -> Option<Query> {
    const BOUNDS: [(&str, &str); 2] = [("from_1", "to_1"), ("from_2", "to_2")];
    let (column, has_one) = match list {
        NameList::Usernames => ("username", ""),
        NameList::Emails => ("email", " AND email IS NOT NULL"),
    };
    let (_, direction) = page.order().in_sql();
    let key = |column: &str| dialect.folded(column);
    let walks: Vec<String> = ranges
        .iter()
        .zip(BOUNDS)
        .map(|(names, (from, to))| {
            let to = names.to.as_ref().map(|_| format!(" AND {} < :{to}", key(column)));
            format!(
                "SELECT * FROM (SELECT * FROM users WHERE {visible}{has_one} AND {key} >= :{from}{to}
                ORDER BY {key} {direction} LIMIT {limit}) AS {from}",
                visible = visible::<V>(dialect),
                key = key(column),
                to = to.unwrap_or_default(),
                limit = dialect.limit_of_walk(":limit"),
            )
        })
        .collect();
    if walks.is_empty() {
        return None;
    }
    let query = Query::new(format!(
        "SELECT {columns} FROM ({walks}) AS users ORDER BY {key} {direction} LIMIT :limit",
        columns = row::columns_of::<user::Entity>(Some("users")),
        walks = walks.join(" UNION ALL "),
        key = key(&format!("users.{column}")),
    ));
    let query = ranges.iter().zip(BOUNDS).fold(query, |query, (names, (from, to))| {
        let query = query.bind(from, names.from.clone());
        match &names.to {
            Some(end) => query.bind(to, end.clone()),
            None => query,
        }
    });
    Some(query.bind("limit", i64::from(page.size()) + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(from: &str, to: Option<&str>) -> Names {
        let (from, to) = (from.to_owned(), to.map(str::to_owned));
        Names { from, to }
    }

    #[test]
    fn a_beginning_ends_before_the_next_one() {
        assert_eq!(Names::beginning(""), names("", None));
        assert_eq!(Names::beginning("ad"), names("ad", Some("ae")));
        assert_eq!(Names::beginning("a%"), names("a%", Some("a&")));
        // Between them are the surrogates, which are no characters.
        assert_eq!(Names::beginning("\u{d7ff}"), names("\u{d7ff}", Some("\u{e000}")));
        assert_eq!(Names::beginning("a\u{10ffff}"), names("a\u{10ffff}", Some("b")));
        assert_eq!(Names::beginning("\u{10ffff}"), names("\u{10ffff}", None));
    }

    #[test]
    fn names_of_erased_users_are_left_out_of_the_middle() {
        let split = |names: Names| names.without_erased().collect::<Vec<_>>();
        assert_eq!(
            split(names("", None)),
            [names("", Some("deleted-")), names("deleted.", None)]
        );
        assert_eq!(split(names("a", Some("b"))), [names("a", Some("b"))]);
        assert_eq!(split(names("deleted-1", Some("deleted-2"))), []);
        assert_eq!(split(names("deleted-7", None)), [names("deleted.", None)]);
        assert_eq!(split(names("d", Some("deleted-7"))), [names("d", Some("deleted-"))]);
    }
}
