//! Reading the trail: one filter for pages, counts and streams.

use std::collections::{HashMap, HashSet, VecDeque};
use std::net::IpAddr;

use chrono::{DateTime, Utc};
use entity::{AuditAction, RoomId, UserId, audit_log, room, user};
use futures_util::stream::{self, Stream};
use sea_orm::{ColumnTrait, DatabaseExecutor, DbErr, FromQueryResult, QueryFilter};
use serde_json::Value as Json;

use super::{Audit, AuditEntry};
use crate::backend::trails as sql;
use crate::error::{Error, Invalid, Result, Rule};
use crate::input;
use crate::page::{Cursor, MAX_PAGE_SIZE, Order, Page, PageRequest};
use crate::participants::Person;
use crate::scope::{self, Any};
use crate::unit::Source;

/// Which events of the trail. What is named must all hold; [`AuditFilter::default`] names nothing and means every event.
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
    /// Who did it, if it was a user. Deleted users are told as well; erased ones are called `deleted-<id>`.
    pub actor_name: Option<Person>,
    /// To whom.
    pub target_name: Option<Person>,
    /// Where; deleted rooms too.
    pub room_name: Option<RoomName>,
}

/// As much of a room as a line of the trail shows.
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
    /// An event is told in the order of its time, which is that of its unit of work; one that commits late may appear behind a
    /// cursor that has passed it already. What was committed when the first page was read is neither lost nor doubled.
    ///
    /// # Errors
    /// [`Error::Invalid`] when `until` is not after `since`.
    pub async fn list(&self, filter: &AuditFilter, page: &PageRequest) -> Result<Page<AuditEntry>> {
        let rows = read(self.source, &filter.clone().checked()?, page, "audit.list").await?;
        Ok(rows.map(AuditEntry::from))
    }

    /// As [`Audit::list`], each event with the names of its users and its room. Three statements, however many events.
    ///
    /// # Errors
    /// As of [`Audit::list`].
    pub async fn list_with_names(&self, filter: &AuditFilter, page: &PageRequest) -> Result<Page<NamedEntry>> {
        let rows = read(self.source, &filter.clone().checked()?, page, "audit.list_with_names").await?;
        let names = Names::of(&self.source.executor(), &rows.items)
            .await
            .map_err(|error| self.source.failed(&error, "audit.list_with_names"))?;
        Ok(rows.map(|row| names.put_to(row)))
    }

    /// How many events the filter names. It counts them all: of a filter that names many it takes long.
    ///
    /// # Errors
    /// As of [`Audit::list`].
    pub async fn count(&self, filter: &AuditFilter) -> Result<u64> {
        let failed = |error: DbErr| self.source.failed(&error, "audit.count");
        let executor = self.source.executor();
        let dialect = self.source.store().dialect();
        let rows = sql::count(dialect, &filter.clone().checked()?)
            .rows(dialect, &executor)
            .await;
        let row = rows.map_err(failed)?.into_iter().next();
        let events: i64 = match row {
            Some(row) => row.try_get_by("events").map_err(failed)?,
            None => 0,
        };
        Ok(u64::try_from(events).unwrap_or(0))
    }

    /// How the database comes to a page, for the engineer who wonders what it costs: on PostgreSQL the plan with its times and
    /// buffers (the page is read for it), as EXPLAIN gives it in JSON; on SQLite the steps of the plan.
    ///
    /// # Errors
    /// As of [`Audit::list`].
    pub async fn explain(&self, filter: &AuditFilter, page: &PageRequest) -> Result<Json> {
        let dialect = self.source.store().dialect();
        sql::page(dialect, &filter.clone().checked()?, page)
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
    let failed = |error: DbErr| -> Error { source.failed(&error, during) };
    let dialect = source.store().dialect();
    let query = sql::page(dialect, filter, page);
    let found = query.rows(dialect, &source.executor()).await.map_err(failed)?;
    let mut rows = Vec::with_capacity(found.len());
    let mut looked_as_far_as = None;
    for row in &found {
        let place: i32 = row.try_get_by(sql::PLACE).map_err(failed)?;
        let is_hit: bool = row.try_get_by(sql::IS_HIT).map_err(failed)?;
        let event = audit_log::Model::from_query_result(row, "").map_err(failed)?;
        if place == i32::from(sql::SCANNED) {
            looked_as_far_as = Some(key(&event));
        }
        if is_hit {
            rows.push(event);
        }
    }
    let mut page = page.page(rows, |row| (row.timestamp, row.id.as_uuid()));
    page.next = page.next.or(looked_as_far_as);
    Ok(page)
}

fn key(row: &audit_log::Model) -> Cursor {
    Cursor {
        at: row.timestamp,
        id: row.id.as_uuid(),
    }
}

impl AuditEntry {
    /// Its place in any list of the trail: [`PageRequest::after`] and [`Audit::stream`] go on behind it.
    pub fn cursor(&self) -> Cursor {
        Cursor {
            at: self.at,
            id: self.id.as_uuid(),
        }
    }
}

/// Names of what some events speak of.
struct Names {
    people: HashMap<UserId, Person>,
    rooms: HashMap<RoomId, RoomName>,
}

impl Names {
    /// Two statements.
    async fn of(db: &DatabaseExecutor<'_>, rows: &[audit_log::Model]) -> Result<Self, DbErr> {
        let users: HashSet<_> = rows
            .iter()
            .flat_map(|row| [row.user_id, row.target_user_id])
            .flatten()
            .collect();
        let rooms: HashSet<_> = rows.iter().filter_map(|row| row.room_id).collect();
        let people = scope::find::<user::Entity, Any>().filter(user::Column::Id.is_in(users));
        let rooms = scope::find::<room::Entity, Any>().filter(room::Column::Id.is_in(rooms));
        let person = |row: user::Model| {
            let person = Person {
                id: row.id,
                username: row.username,
                display_name: row.display_name,
            };
            (row.id, person)
        };
        let room = |row: room::Model| {
            let name = RoomName {
                id: row.id,
                room_code: row.room_code,
                title: row.title,
            };
            (row.id, name)
        };
        Ok(Self {
            people: people.all(db).await?.into_iter().map(person).collect(),
            rooms: rooms.all(db).await?.into_iter().map(room).collect(),
        })
    }

    fn put_to(&self, row: audit_log::Model) -> NamedEntry {
        let person = |id: Option<UserId>| id.and_then(|id| self.people.get(&id)).cloned();
        NamedEntry {
            actor_name: person(row.user_id),
            target_name: person(row.target_user_id),
            room_name: row.room_id.and_then(|id| self.rooms.get(&id)).cloned(),
            entry: row.into(),
        }
    }
}
