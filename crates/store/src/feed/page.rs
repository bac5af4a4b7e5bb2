//! What was committed behind a position: the statements, and what they yield.
//!
//! On PostgreSQL an event belongs to the feed when its transaction has ended, and transactions end in another order than the one in
//! which they begin or append. So a position is a snapshot: which transactions had ended. What a later snapshot sees and it does not is
//! new; the database itself shows nothing else. That is found along `ix_audit_logs_feed`: transactions behind the snapshot, and those
//! that were open in it. It is handed out in the order of `sequence`, which is counted up when an event is appended; two changes of one
//! room append under its lock, so a room's events come in the order in which they happened, within a page and from page to page.
//!
//! SQLite has one writer at a time, so the order in which events were appended is the order in which they were committed.

use std::sync::Arc;

use entity::{RecordedAction, audit_log};
use sea_orm::DbErr;

use super::position::{FeedPosition, Mark, NOT_A_POSITION, Place, Snapshot, Within};
use super::{FeedEvent, FeedFilter};
use crate::audit::{AuditEntry, search};
use crate::database::Dialect;
use crate::database::statement::{Bind, Query};
use crate::error::Result;
use crate::read::{ByHand, Fetch};
use crate::row::Cells;
use crate::unit::Source;

/// How many events are looked at along the index, in whatever order it has them, before the rest is sorted instead.
const WALKED: i64 = 2_000;

/// Events behind a position, and how far they reach.
pub(super) struct FeedPage {
    pub(super) events: Vec<(Mark, audit_log::Model)>,
    /// Where they begin: a whole position.
    pub(super) after: FeedPosition,
    /// Where they end if they are all there are: a whole position.
    pub(super) until: FeedPosition,
    /// Whether there are more before `until`.
    pub(super) goes_on: bool,
    /// Whether `until` was the end of the feed when they were read.
    pub(super) reaches_now: bool,
}

impl FeedPage {
    /// The position behind them.
    pub(super) fn next(&self) -> FeedPosition {
        match self.events.last() {
            Some((mark, _)) if self.goes_on => self.after.up_to(&self.until, *mark),
            _ => self.until.clone(),
        }
    }

    /// Some of them, by their places in ascending order, each with the position behind it. Those that lie before `since` are left out.
    pub(super) fn events(&self, which: impl Iterator<Item = usize>, since: &FeedPosition) -> Vec<FeedEvent> {
        let after = since.later(&self.after);
        let wanted = which.filter_map(|place| self.events.get(place));
        let mut events: Vec<_> = wanted
            .filter(|(mark, _)| !since.is_behind(*mark))
            .map(|(mark, row)| FeedEvent {
                position: after.up_to(&self.until, *mark),
                entry: AuditEntry::from(row.clone()),
            })
            .collect();
        if let (Some(last), false) = (events.last_mut(), self.goes_on) {
            last.position = self.until.clone();
        }
        events
    }
}

/// Reads up to `limit` events.
pub(super) async fn read<S: Source>(
    source: &S,
    filter: &FeedFilter,
    position: &FeedPosition,
    limit: u16,
) -> Result<FeedPage> {
    match (source.context().dialect(), &position.0) {
        (Dialect::Postgres, Place::Postgres { after, within }) => {
            if within.is_none()
                && let Some(page) = on_postgres(source, filter, after, Scope::Walk, limit).await?
            {
                return Ok(page);
            }
            let scope = within.as_ref().map_or(Scope::Sorted, Scope::Rest);
            let page = on_postgres(source, filter, after, scope, limit).await?;
            // Only a walk may look at too few.
            Ok(page.unwrap_or_else(|| FeedPage::nothing(FeedPosition::after(Arc::clone(after)))))
        }
        (Dialect::Sqlite, Place::Sqlite(after)) => on_sqlite(source, filter, *after, limit).await,
        _ => Err(NOT_A_POSITION.into()),
    }
}

/// The position behind everything that is committed now.
pub(super) async fn now<S: Source>(source: &S) -> Result<FeedPosition> {
    let dialect = source.context().dialect();
    let found = ByHand(now_query(dialect).statement(dialect))
        .fetch_with(source, "feed.now", |cells| end_of_feed(cells, dialect))
        .await?;
    Ok(found.into_iter().next().unwrap_or(FeedPosition(Place::Sqlite(0))))
}

fn now_query(dialect: Dialect) -> Query {
    Query::new(match dialect {
        Dialect::Postgres => "SELECT CAST(pg_current_snapshot() AS text) AS now",
        Dialect::Sqlite => "SELECT CAST(COALESCE(max(sequence), 0) AS integer) AS now FROM audit_feed",
    })
}

/// The column `now`: the position behind everything that a statement sees.
fn end_of_feed(cells: &mut Cells<'_>, dialect: Dialect) -> Result<FeedPosition, DbErr> {
    Ok(match dialect {
        Dialect::Postgres => {
            let text: String = cells.next("now")?;
            let snapshot: Result<Snapshot, ()> = text.parse();
            FeedPosition::after(snapshot.map_err(|()| DbErr::Type(format!("{text} is no snapshot")))?)
        }
        Dialect::Sqlite => FeedPosition(Place::Sqlite(cells.next("now")?)),
    })
}

/// Which part of what is new is read, on PostgreSQL.
#[derive(Clone, Copy)]
enum Scope<'a> {
    /// All of it, as long as it is not much: along the index.
    Walk,
    /// The first of it, however much there is.
    Sorted,
    /// What an earlier page has left of it.
    Rest(&'a Within),
}

/// One row of a page: where the feed ends, and an event if there is one.
struct Row {
    now: FeedPosition,
    /// How many a walk has found.
    found: i64,
    event: Option<(Mark, audit_log::Model)>,
}

impl Row {
    fn read(cells: &mut Cells<'_>, dialect: Dialect) -> Result<Self, DbErr> {
        let now = end_of_feed(cells, dialect)?;
        let found = cells.next::<Option<i64>>("found")?.unwrap_or(0);
        let sequence: Option<i64> = cells.next("sequence")?;
        let transaction: Option<String> = cells.next("transaction_id")?;
        let Some(sequence) = sequence else {
            return Ok(Self {
                now,
                found,
                event: None,
            });
        };
        let transaction = transaction.unwrap_or_default();
        let transaction = transaction
            .parse()
            .map_err(|_| DbErr::Type(format!("{transaction} is no transaction")))?;
        let mark = Mark { transaction, sequence };
        let event = Some((mark, cells.read()?));
        Ok(Self { now, found, event })
    }
}

impl FeedPage {
    fn nothing(at: FeedPosition) -> Self {
        Self {
            events: Vec::new(),
            after: at.clone(),
            until: at,
            goes_on: false,
            reaches_now: true,
        }
    }

    /// Of the rows of a statement that asked for one more than `limit`.
    fn of(rows: Vec<Row>, after: FeedPosition, until: Option<FeedPosition>, limit: u16) -> Self {
        let mut page = Self::nothing(after);
        for row in rows {
            page.until = row.now;
            page.events.extend(row.event);
        }
        page.reaches_now = until.is_none();
        if let Some(until) = until {
            page.until = until;
        }
        page.goes_on = page.events.len() > usize::from(limit);
        page.events.truncate(limit.into());
        page
    }
}

/// None if a walk found more than it looks at.
async fn on_postgres<S: Source>(
    source: &S,
    filter: &FeedFilter,
    after: &Arc<Snapshot>,
    scope: Scope<'_>,
    limit: u16,
) -> Result<Option<FeedPage>> {
    let dialect = Dialect::Postgres;
    let (until, last) = match scope {
        Scope::Rest(Within { until, sequence }) => (Some(until), *sequence),
        _ => (None, 0),
    };
    let query = filter
        .bound(Query::new(postgres_sql(filter, scope)))
        .bind("after", Bind::text_as("pg_snapshot", Some(after.to_string())))
        .bind(
            "until",
            Bind::text_as("pg_snapshot", until.map(|until| until.to_string())),
        )
        .bind("last", last)
        .bind("walked", WALKED + 1)
        .bind("limit", i64::from(limit) + 1);
    let rows = ByHand(query.statement(dialect))
        .fetch_with(source, "feed.read", |cells| Row::read(cells, dialect))
        .await?;
    if rows.first().is_some_and(|row| row.found > WALKED) {
        return Ok(None);
    }
    let whole = |snapshot: &Arc<Snapshot>| FeedPosition::after(Arc::clone(snapshot));
    Ok(Some(FeedPage::of(rows, whole(after), until.map(whole), limit)))
}

fn postgres_sql(filter: &FeedFilter, scope: Scope<'_>) -> String {
    let dialect = Dialect::Postgres;
    let mut and = filter.and(dialect);
    if matches!(scope, Scope::Rest(_)) {
        and.push_str(" AND sequence > :last AND pg_visible_in_snapshot(transaction, :until)");
    }
    let columns = dialect.columns_of::<audit_log::Entity>();
    let head = "sequence, CAST(transaction AS text) AS transaction_id";
    let newer = format!("FROM audit_logs WHERE transaction >= pg_snapshot_xmax(:after){and}");
    let were_open = format!("FROM audit_logs WHERE transaction = ANY (ARRAY(SELECT pg_snapshot_xip(:after))){and}");
    // In the order of the index, so that no plan reads and sorts the whole audit log, whatever it takes the snapshot to be.
    let (walk, found) = match scope {
        Scope::Walk => (
            format!(
                " ORDER BY transaction, sequence LIMIT {}",
                dialect.limit_of_walk(":walked")
            ),
            "count(*) OVER ()",
        ),
        _ => (String::new(), "CAST(0 AS bigint)"),
    };
    format!(
        "SELECT CAST(pg_current_snapshot() AS text) AS now, event.* FROM (SELECT) AS one LEFT JOIN (
            SELECT {found} AS found, event.* FROM (
                (SELECT {head}, {columns} {newer}{walk})
                UNION ALL
                (SELECT {head}, {columns} {were_open}{walk})
            ) AS event ORDER BY sequence LIMIT :limit
        ) AS event ON TRUE ORDER BY sequence"
    )
}

async fn on_sqlite<S: Source>(source: &S, filter: &FeedFilter, after: i64, limit: u16) -> Result<FeedPage> {
    let dialect = Dialect::Sqlite;
    let query = filter
        .bound(Query::new(sqlite_sql(filter)))
        .bind("after", after)
        .bind("limit", i64::from(limit) + 1);
    let rows = ByHand(query.statement(dialect))
        .fetch_with(source, "feed.read", |cells| Row::read(cells, dialect))
        .await?;
    Ok(FeedPage::of(rows, FeedPosition(Place::Sqlite(after)), None, limit))
}

fn sqlite_sql(filter: &FeedFilter) -> String {
    let dialect = Dialect::Sqlite;
    let and = filter.and(dialect);
    let columns = dialect.columns_of::<audit_log::Entity>();
    // CROSS JOIN: along the feed, whatever the filter names.
    format!(
        r#"SELECT feed.now, event.* FROM (SELECT COALESCE(max(sequence), 0) AS now FROM audit_feed) AS feed LEFT JOIN (
            SELECT NULL AS found, audit_feed.sequence, '0' AS transaction_id, audit_logs.* FROM audit_feed CROSS JOIN (
                SELECT {columns} FROM audit_logs
            ) AS audit_logs ON audit_logs."timestamp" = audit_feed."timestamp" AND audit_logs.id = audit_feed.id
            WHERE audit_feed.sequence > :after{and} ORDER BY audit_feed.sequence LIMIT :limit
        ) AS event ON TRUE ORDER BY event.sequence"#
    )
}

impl FeedFilter {
    /// Its conditions, each behind an AND.
    fn and(&self, dialect: Dialect) -> String {
        let conditions = [
            (self.room.is_some(), "room_id = :room"),
            (self.user.is_some(), "(user_id = :user OR target_user_id = :user)"),
            (!self.actions.is_empty(), search::one_of_actions(dialect)),
        ];
        let named = conditions.into_iter().filter(|(is_named, _)| *is_named);
        named.map(|(_, condition)| format!(" AND {condition}")).collect()
    }

    pub(super) fn admits(&self, row: &audit_log::Model) -> bool {
        let of_user = |user| row.user_id == Some(user) || row.target_user_id == Some(user);
        self.room.is_none_or(|room| row.room_id == Some(room))
            && self.user.is_none_or(of_user)
            && (self.actions.is_empty()
                || self
                    .actions
                    .iter()
                    .any(|action| row.action == RecordedAction::from(*action)))
    }

    fn bound(&self, query: Query) -> Query {
        query
            .bind("room", self.room)
            .bind("user", self.user)
            .bind("actions", search::names(&self.actions))
    }
}

/// For the list of all statements: each part of the feed that is read in a way of its own.
pub(super) async fn list_statements<S: Source>(on: &S, filter: &FeedFilter) {
    let _ = now(on).await;
    match on.context().dialect() {
        Dialect::Postgres => {
            let Ok(snapshot) = "1:1:".parse::<Snapshot>() else {
                return;
            };
            let after = Arc::new(snapshot);
            let until = Arc::clone(&after);
            let within = Within { until, sequence: 0 };
            for scope in [Scope::Walk, Scope::Sorted, Scope::Rest(&within)] {
                let _ = on_postgres(on, filter, &after, scope, 1).await;
            }
        }
        Dialect::Sqlite => drop(on_sqlite(on, filter, 0, 1).await),
    }
}
