//! Reading the audit log: one filter for pages, counts and streams.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;

use chrono::{DateTime, Utc};
use entity::{AuditAction, RoomId, UserId, audit_log};
use futures_util::stream::{self, Stream};
use sea_orm::DbErr;
use serde_json::Value as Json;
use uuid::Uuid;

use super::search as sql;
use super::{Audit, AuditEntry};
use crate::error::{Invalid, Result, Rule};
use crate::input;
use crate::page::{Cursor, MAX_PAGE_SIZE, Order, Page, PageRequest, Scanned};
use crate::person::{Person, RoomName};
use crate::read::{ByHand, Fetch};
use crate::row::Cells;
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
    /// [`crate::Error::Invalid`] when `until` is not after `since`, and for the cursor of a list by name.
    pub async fn list(&self, filter: &AuditFilter, page: &PageRequest) -> Result<Page<AuditEntry>> {
        let rows = read(self.source, &filter.clone().checked()?, page, "audit.list").await?;
        Ok(rows.map(AuditEntry::from))
    }

    /// As [`Audit::list`], each event with the names of its users and its room; also one statement.
    ///
    /// # Errors
    /// As of [`Audit::list`].
    pub async fn list_with_names(&self, filter: &AuditFilter, page: &PageRequest) -> Result<Page<NamedEntry>> {
        let (filter, page) = (filter.clone().checked()?, page.by_time()?);
        let dialect = self.source.context().dialect();
        let sql::PageQuery { query, scans } = sql::page(dialect, &filter, page, true);
        let rows = ByHand(query.statement(dialect))
            .fetch_with(self.source, "audit.list_with_names", |cells| {
                NamedRow::read(cells, scans)
            })
            .await?;
        let (mut events, mut people, mut rooms) = (Vec::with_capacity(rows.len()), HashMap::new(), HashMap::new());
        for row in rows {
            match row {
                NamedRow::Event(event) => events.push(*event),
                NamedRow::User(person) => drop(people.insert(person.id, person)),
                NamedRow::Room(room) => drop(rooms.insert(room.id, room)),
            }
        }
        // In the order of the page: nobody promises it of a UNION.
        events.sort_by_key(|event| place_of(&event.row));
        if page.order() == Order::NewestFirst {
            events.reverse();
        }
        let person = |id: Option<UserId>| id.and_then(|id| people.get(&id)).cloned();
        let named = |row: audit_log::Model| {
            let target_name = person(row.target_user_id);
            let entry = AuditEntry::from(row);
            NamedEntry {
                actor_name: person(entry.actor),
                target_name,
                room_name: entry.room.and_then(|id| rooms.get(&id)).cloned(),
                entry,
            }
        };
        Ok(page.page_of_scan(events, place_of).map(named))
    }

    /// How many events the filter names. It counts them all: of a filter that names many it takes long.
    ///
    /// # Errors
    /// As of [`Audit::list`].
    pub async fn count(&self, filter: &AuditFilter) -> Result<u64> {
        let dialect = self.source.context().dialect();
        let count = ByHand(sql::count(dialect, &filter.clone().checked()?).statement(dialect));
        let counts = count
            .fetch_with(self.source, "audit.count", |cells| cells.next::<i64>("events"))
            .await?;
        Ok(counts.first().map_or(0, |events| u64::try_from(*events).unwrap_or(0)))
    }

    /// How the database comes to a page, for the engineer who wonders what it costs: on PostgreSQL the plan with its times and
    /// buffers (the page is read for it), as EXPLAIN gives it in JSON; on SQLite the steps of the plan.
    ///
    /// # Errors
    /// As of [`Audit::list`].
    pub async fn explain(&self, filter: &AuditFilter, page: &PageRequest) -> Result<Json> {
        let (filter, page) = (filter.clone().checked()?, page.by_time()?);
        let dialect = self.source.context().dialect();
        sql::page(dialect, &filter, page, false)
            .query
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
        after.as_ref().map(Cursor::in_time).transpose()?;
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

/// A page of a filter that is known to be sound.
pub(crate) async fn read<S: Source>(
    source: &S,
    filter: &AuditFilter,
    page: &PageRequest,
    during: &'static str,
) -> Result<Page<audit_log::Model>> {
    let (dialect, page) = (source.context().dialect(), page.by_time()?);
    let sql::PageQuery { query, scans } = sql::page(dialect, filter, page, false);
    let events = ByHand(query.statement(dialect))
        .fetch_with(source, during, |cells| read_event(cells, scans))
        .await?;
    Ok(page.page_of_scan(events, place_of))
}

/// A row of a page.
type Event = Scanned<audit_log::Model>;

fn read_event(cells: &mut Cells<'_>, scans: bool) -> Result<Event, DbErr> {
    let (place, is_hit) = if scans {
        (cells.next(sql::PLACE)?, cells.next(sql::IS_HIT)?)
    } else {
        (0, true)
    };
    Ok(Scanned {
        row: cells.read()?,
        is_hit,
        is_last: place == i32::from(sql::SCANNED),
    })
}

fn place_of(row: &audit_log::Model) -> (DateTime<Utc>, Uuid) {
    (row.timestamp, row.id.as_uuid())
}

/// A row of a page with names.
enum NamedRow {
    Event(Box<Event>),
    User(Person),
    Room(RoomName),
}

impl NamedRow {
    fn read(cells: &mut Cells<'_>, scans: bool) -> Result<Self, DbErr> {
        let kind: i32 = cells.next(sql::KIND)?;
        if kind == sql::EVENT {
            cells.skip([sql::NAME, sql::TITLE].len());
            return read_event(cells, scans).map(|event| Self::Event(Box::new(event)));
        }
        let (name, title) = (cells.next(sql::NAME)?, cells.next(sql::TITLE)?);
        if scans {
            cells.skip([sql::PLACE, sql::IS_HIT].len());
        }
        cells.skip(sql::columns_before_id());
        Ok(match kind {
            sql::USER => Self::User(Person {
                id: cells.next("id")?,
                username: name,
                display_name: title,
            }),
            _ => Self::Room(RoomName {
                id: cells.next("id")?,
                room_code: name,
                title,
            }),
        })
    }
}

impl AuditEntry {
    /// Its place in any list of the audit log: [`PageRequest::after`] and [`Audit::stream`] go on behind it.
    pub fn cursor(&self) -> Cursor {
        Cursor::at(self.at, self.id.as_uuid())
    }
}
