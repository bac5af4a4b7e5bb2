//! The form of a search of the audit log, and the filter that it means.

use chrono::{DateTime, NaiveDate, NaiveDateTime, NaiveTime, Utc};
use conferencing_store::entity::{AuditAction, RoomId, UserId, user};
use conferencing_store::{AuditFilter, Error, Order, PageRequest, Store, UserSearch};

use crate::error::Failure;

/// What was typed, by the names of the form's fields.
#[derive(Clone, Debug, Default)]
pub(crate) struct Typed(pub(crate) Vec<(String, String)>);

impl Typed {
    /// The trimmed value of a field; none if it is empty.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let value = self
            .0
            .iter()
            .find(|(field, _)| field == name)
            .map(|(_, value)| value.trim());
        value.filter(|value| !value.is_empty())
    }

    /// All values of a field.
    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        let values = self
            .0
            .iter()
            .filter(move |(field, _)| field == name)
            .map(|(_, value)| value.trim());
        values.filter(|value| !value.is_empty())
    }

    /// A page of so many, behind the cursor that was given.
    pub(crate) fn page(&self, size: u16, order: Order) -> Result<PageRequest, Failure> {
        let page = PageRequest::first(size, order)?;
        match self.get("after") {
            Some(cursor) => Ok(page.after(cursor.parse()?)),
            None => Ok(page),
        }
    }

    pub(crate) fn order(&self) -> Order {
        match self.get("order") {
            Some("oldest") => Order::OldestFirst,
            _ => Order::NewestFirst,
        }
    }

    /// The search of the audit log that it means. What makes no sense is told before anything is looked up.
    pub(crate) async fn search(&self, store: &Store) -> Result<Search, Failure> {
        let mut filter = self.without_names()?;
        let mut unknown = None;
        if let Some(text) = self.get("room") {
            filter.room = room(store, text).await?;
            if filter.room.is_none() {
                unknown = Some(no_room(text));
            }
        }
        for (field, of_filter) in [("actor", &mut filter.actor), ("target", &mut filter.target)] {
            let Some(text) = self.get(field) else {
                continue;
            };
            *of_filter = user(store, text).await?.map(|user| user.id);
            if of_filter.is_none() {
                unknown = Some(Failure::Input(format!("there is no user called {text}")));
            }
        }
        Ok(Search { filter, unknown })
    }

    /// All of the filter that is in the form itself.
    fn without_names(&self) -> Result<AuditFilter, Failure> {
        let actions: Result<Vec<AuditAction>, Failure> = self
            .all("action")
            .map(|name| AuditAction::try_from(name).map_err(|_| Failure::Input(format!("there is no action {name}"))))
            .collect();
        let address = self.get("address").map(|text| {
            text.parse().map_err(|_| {
                Failure::Input(format!(
                    "{text} is no network address such as 203.0.113.7 or 2001:db8::1"
                ))
            })
        });
        Ok(AuditFilter {
            actions: actions?,
            since: self.get("since").map(time).transpose()?,
            until: self.get("until").map(time).transpose()?,
            address: address.transpose()?,
            ..AuditFilter::default()
        })
    }
}

/// A search of the audit log. That somebody or a room is not there is an answer too, for after the look is recorded.
pub(crate) struct Search {
    filter: AuditFilter,
    unknown: Option<Failure>,
}

impl Search {
    /// Whom it is about: by whom and to whom, nobody where it names none or one whom there is not.
    pub(crate) fn whose(&self) -> Vec<Option<UserId>> {
        let named = [self.filter.actor, self.filter.target].into_iter().flatten();
        let mut whose: Vec<_> = named.map(Some).collect();
        whose.dedup();
        if whose.is_empty() || self.unknown.is_some() {
            whose.push(None);
        }
        whose
    }

    pub(crate) fn room(&self) -> Option<RoomId> {
        self.filter.room
    }

    /// The filter, where all that it names is there.
    pub(crate) fn filter(self) -> Result<AuditFilter, Failure> {
        match self.unknown {
            Some(failure) => Err(failure),
            None => Ok(self.filter),
        }
    }
}

/// A room by its id or its code; deleted ones too by their id.
pub(crate) async fn room(store: &Store, text: &str) -> Result<Option<RoomId>, Error> {
    if let Ok(id) = text.parse::<RoomId>() {
        return Ok(Some(id));
    }
    let found = store.rooms().find_by_code(text).await?;
    Ok(found.map(|room| room.id))
}

pub(crate) fn no_room(code: &str) -> Failure {
    Failure::Input(format!("there is no room with the code {code}"))
}

/// A user by their id or their whole username; deleted ones too.
pub(crate) async fn user(store: &Store, text: &str) -> Result<Option<user::Model>, Error> {
    let users = store.users().any();
    if let Ok(id) = text.parse::<UserId>() {
        return users.find(id).await;
    }
    let first = PageRequest::first(1, Order::OldestFirst)?;
    let found = users.search(&UserSearch::username(text), &first).await?;
    let mut named = found.items.into_iter();
    Ok(named.find(|user| user.username.to_lowercase() == text.to_lowercase()))
}

/// A day, or a minute of it, UTC.
fn time(text: &str) -> Result<DateTime<Utc>, Failure> {
    let day = |text: &str| text.parse::<NaiveDate>().ok().map(|day| day.and_time(NaiveTime::MIN));
    let minute = |format: &str| NaiveDateTime::parse_from_str(text, format).ok();
    let at = day(text)
        .or_else(|| minute("%Y-%m-%dT%H:%M"))
        .or_else(|| minute("%Y-%m-%d %H:%M"))
        .or_else(|| minute("%Y-%m-%dT%H:%M:%S"))
        .or_else(|| minute("%Y-%m-%d %H:%M:%S"));
    at.map(|at| at.and_utc())
        .ok_or_else(|| Failure::Input(format!("{text} is no time such as 2026-06-30 or 2026-06-30 15:00")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_days_or_minutes() {
        let read = |text: &str| time(text).map(|at| at.to_rfc3339()).unwrap();
        assert_eq!(read("2026-06-30"), "2026-06-30T00:00:00+00:00");
        assert_eq!(read("2026-06-30T15:04"), "2026-06-30T15:04:00+00:00");
        assert_eq!(read("2026-06-30 15:04:05"), "2026-06-30T15:04:05+00:00");
        for text in ["", "yesterday", "2026-13-01", "15:04"] {
            assert!(time(text).is_err(), "{text}");
        }
    }
}
