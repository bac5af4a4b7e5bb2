//! Reading the audit log: one filter for pages, counts and streams.

use std::collections::VecDeque;
use std::net::IpAddr;

use chrono::{DateTime, Utc};
use entity::{AuditAction, RoomId, UserId, audit_log};
use futures_util::stream::{self, Stream};
use sea_orm::{DbErr, FromQueryResult, QueryResult};
use serde_json::Value as Json;

use super::search as sql;
use super::{Audit, AuditEntry};
use crate::error::{Invalid, Result, Rule};
use crate::input;
use crate::page::{Cursor, MAX_PAGE_SIZE, Order, Page, PageRequest};
use crate::person::Person;
use crate::read::{ByHand, Fetch};
use crate::unit::Source;

/// Which events of the audit log. What is named must all hold; [`AuditFilter::default`] names nothing and means every event.
///
/// ```
/// # use conferencing_store::{AuditFilter, entity::{AuditAction, RoomId}};
/// # fn example(room: RoomId, month_ago: chrono::DateTime<chrono::Utc>) -> AuditFilter {
/// AuditFilter {
///     actions: vec![AuditAction::UserKicked, AuditAction::UserBanned],
///     since: Some(month_ago),
///     ..AuditFilter::of_room(room)
/// }
/// # }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditFilter {
    /// In this room.
    pub room: Option<RoomId>,
    /// Done by this user.
    pub actor: Option<UserId>,
    /// Done to this user.
    pub target: Option<UserId>,
    /// One of these; none means any.
    pub actions: Vec<AuditAction>,
    /// At this time or later.
    pub since: Option<DateTime<Utc>>,
    /// Before this time.
    pub until: Option<DateTime<Utc>>,
    /// Asked for from this network address.
    pub address: Option<IpAddr>,
}

impl AuditFilter {
    /// What happened in a room.
    pub fn of_room(room: RoomId) -> Self {
        Self {
            room: Some(room),
            ..Self::default()
        }
    }

    /// What a user did.
    pub fn by(actor: UserId) -> Self {
        Self {
            actor: Some(actor),
            ..Self::default()
        }
    }

    /// What was done to a user.
    pub fn about(target: UserId) -> Self {
        Self {
            target: Some(target),
            ..Self::default()
        }
    }

    /// Events of certain kinds, wherever they happened.
    pub fn of_actions(actions: impl Into<Vec<AuditAction>>) -> Self {
        Self {
            actions: actions.into(),
            ..Self::default()
        }
    }

    /// With times that can be bound: cut to what both databases keep.
    pub(crate) fn checked(self) -> Result<Self> {
        let time = |field, at: Option<DateTime<Utc>>| at.map(|at| input::time(field, at)).transpose();
        let (since, until) = (time("since", self.since)?, time("until", self.until)?);
        if let (Some(since), Some(until)) = (since, until)
            && until <= since
        {
            return Err(Invalid {
                field: "until",
                rule: Rule::After("since"),
            }
            .into());
        }
        Ok(Self { since, until, ..self })
    }
}

/// An event with the names of what it speaks of.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct NamedEntry {
    /// The event.
    #[serde(flatten)]
    pub entry: AuditEntry,
    /// Who did it, if it was a user. Deleted users are named as well; erased ones are called `deleted-<id>`.
    pub actor_name: Option<Person>,
    /// To whom.
    pub target_name: Option<Person>,
    /// Where; deleted rooms too.
    pub room_name: Option<RoomName>,
}

/// As much of a room as a line of the audit log shows.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct RoomName {
    /// The room's id.
    pub id: RoomId,
    /// Its code.
    pub room_code: String,
    /// Its title.
    pub title: String,
}

impl<'a, S: Source> Audit<'a, S> {
    /// Events that the filter names, page by page, by (time, id).
    ///
    /// A filter of one room, actor, target or address, of actions, or of a room's or an actor's actions, is served by an index;
    /// such a page costs as much as it returns, whatever comes before it. Any other combination walks the index of one of its
    /// parts and looks at no more than 5,000 events a page: **such a page may come back short, even empty, with a `next`**; it is
    /// the last only when `next` is none.
    ///
    /// Events are in the order of their time, which is that of its unit of work; one that commits late may appear behind a
    /// cursor that has passed it already. What was committed when the first page was read is neither lost nor doubled.
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] when `until` is not after `since`.
    pub async fn list(&self, filter: &AuditFilter, page: &PageRequest) -> Result<Page<AuditEntry>> {
        let rows = read(self.source, &filter.clone().checked()?, page, "audit.list").await?;
        Ok(rows.map(AuditEntry::from))
    }

    /// As [`Audit::list`], each event with the names of its users and its room; also one statement.
    ///
    /// # Errors
    /// As of [`Audit::list`].
    pub async fn list_with_names(&self, filter: &AuditFilter, page: &PageRequest) -> Result<Page<NamedEntry>> {
        let during = "audit.list_with_names";
        read_page(self.source, &filter.clone().checked()?, page, during, true, |row| {
            let entry = AuditEntry::from(audit_log::Model::from_query_result(row, "")?);
            let person = |id: Option<UserId>, prefix: &str| -> Result<Option<Person>, DbErr> {
                let username: Option<String> = row.try_get_by(format!("{prefix}_username").as_str())?;
                let Some((id, username)) = id.zip(username) else {
                    return Ok(None);
                };
                let display_name = row.try_get_by(format!("{prefix}_display_name").as_str())?;
                Ok(Some(Person {
                    id,
                    username,
                    display_name,
                }))
            };
            let room_code: Option<String> = row.try_get_by("room_code")?;
            let room_name = match entry.room.zip(room_code) {
                Some((id, room_code)) => Some(RoomName {
                    id,
                    room_code,
                    title: row.try_get_by("room_title")?,
                }),
                None => None,
            };
            Ok(NamedEntry {
                actor_name: person(entry.actor, "actor")?,
                target_name: person(row.try_get_by("target_user_id")?, "target")?,
                room_name,
                entry,
            })
        })
        .await
    }

    /// How many events the filter names. It counts them all: of a filter that names many it takes long.
    ///
    /// # Errors
    /// As of [`Audit::list`].
    pub async fn count(&self, filter: &AuditFilter) -> Result<u64> {
        let dialect = self.source.context().dialect();
        let count = ByHand(sql::count(dialect, &filter.clone().checked()?).statement(dialect));
        let counts = count
            .fetch_with(self.source, "audit.count", |row| row.try_get_by::<i64, _>("events"))
            .await?;
        Ok(counts.first().map_or(0, |events| u64::try_from(*events).unwrap_or(0)))
    }

    /// How the database comes to a page, for the engineer who wonders what it costs: on PostgreSQL the plan with its times and
    /// buffers (the page is read for it), as EXPLAIN gives it in JSON; on SQLite the steps of the plan.
    ///
    /// # Errors
    /// As of [`Audit::list`].
    pub async fn explain(&self, filter: &AuditFilter, page: &PageRequest) -> Result<Json> {
        let dialect = self.source.context().dialect();
        sql::page(dialect, &filter.clone().checked()?, page, false)
            .explain(dialect, &self.source.executor())
            .await
            .map_err(|error| self.source.failed(&error, "audit.explain"))
    }

    /// All events that the filter names, from behind `after` on, as a stream. A few hundred are in memory at once, and no
    /// connection is held between them. The stream ends with the first error; a new one with the cursor of [`AuditEntry::cursor`]
    /// goes on from there. Of what is appended meanwhile, see [`Audit::list`].
    ///
    /// # Errors
    /// As of [`Audit::list`], when it begins.
    pub fn stream(
        &self,
        filter: AuditFilter,
        order: Order,
        after: Option<Cursor>,
    ) -> Result<impl Stream<Item = Result<AuditEntry>> + Send + use<'a, S>> {
        use futures_util::TryStreamExt;
        let filter = filter.checked()?;
        Ok(rows(self.source, filter, order, after, "audit.stream").map_ok(AuditEntry::from))
    }
}

/// The rows of a filter that is known to be sound, in pages.
pub(super) fn rows<'a, S: Source>(
    source: &'a S,
    filter: AuditFilter,
    order: Order,
    after: Option<Cursor>,
    during: &'static str,
) -> impl Stream<Item = Result<audit_log::Model>> + Send + use<'a, S> {
    struct Walk<'a, S> {
        source: &'a S,
        filter: AuditFilter,
        buffer: VecDeque<audit_log::Model>,
        next: Option<PageRequest>,
    }
    let walk = Walk {
        source,
        filter,
        buffer: VecDeque::new(),
        next: Some(PageRequest::of(MAX_PAGE_SIZE, order, after)),
    };
    stream::try_unfold(walk, move |mut walk| async move {
        loop {
            if let Some(row) = walk.buffer.pop_front() {
                return Ok(Some((row, walk)));
            }
            let Some(page) = walk.next.take() else {
                return Ok(None);
            };
            let found = read(walk.source, &walk.filter, &page, during).await?;
            walk.buffer.extend(found.items);
            walk.next = found.next.map(|next| page.after(next));
        }
    })
}

async fn read<S: Source>(
    source: &S,
    filter: &AuditFilter,
    page: &PageRequest,
    during: &'static str,
) -> Result<Page<audit_log::Model>> {
    let read = |row: &QueryResult| audit_log::Model::from_query_result(row, "");
    read_page(source, filter, page, during, false, read).await
}

async fn read_page<S: Source, T: Send>(
    source: &S,
    filter: &AuditFilter,
    page: &PageRequest,
    during: &'static str,
    with_names: bool,
    read: impl Fn(&QueryResult) -> Result<T, DbErr> + Send + Sync,
) -> Result<Page<T>> {
    let dialect = source.context().dialect();
    let query = ByHand(sql::page(dialect, filter, page, with_names).statement(dialect));
    let found = query
        .fetch_with(source, during, |row| {
            let place: i32 = row.try_get_by(sql::PLACE)?;
            let is_hit: bool = row.try_get_by(sql::IS_HIT)?;
            let cursor = Cursor {
                at: row.try_get_by("timestamp")?,
                id: row.try_get_by("id")?,
            };
            let hit = if is_hit { Some(read(row)?) } else { None };
            Ok((place, cursor, hit))
        })
        .await?;
    let looked_as_far_as = found.iter().find(|(place, ..)| *place == i32::from(sql::SCANNED));
    let looked_as_far_as = looked_as_far_as.map(|(_, cursor, _)| *cursor);
    let hits = found
        .into_iter()
        .filter_map(|(_, cursor, hit)| hit.map(|hit| (cursor, hit)));
    let mut page = page.page(hits.collect(), |(cursor, _)| (cursor.at, cursor.id));
    page.next = page.next.or(looked_as_far_as);
    Ok(page.map(|(_, hit)| hit))
}

impl AuditEntry {
    /// Its place in any list of the audit log: [`PageRequest::after`] and [`Audit::stream`] go on behind it.
    pub fn cursor(&self) -> Cursor {
        Cursor {
            at: self.at,
            id: self.id.as_uuid(),
        }
    }
}
