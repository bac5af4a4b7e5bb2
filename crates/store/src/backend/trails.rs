//! Statements that read the trail.
//!
//! A page is walked along one index, in its order, from the cursor on. Which one depends on what the filter names:
//!
//! | the filter names | index | how |
//! |---|---|---|
//! | nothing, or times alone | `ix_audit_logs_time` | |
//! | a room, an actor, a target or an address | `ix_audit_logs_room`, `_user`, `_target_user`, `_address` | |
//! | actions | `ix_audit_logs_action` | a walk for each action, merged |
//! | a room or an actor, and actions | `ix_audit_logs_room_action`, `_user_action` | the same |
//! | any more | that of the target, else the room, else the actor | up to [`SCANNED`] events are looked at |
//!
//! So a page costs what it returns, or at most [`SCANNED`] events, at any depth.

use entity::{AuditAction, ClientAddress, audit_log};
use sea_orm::ActiveEnum;
use serde_json::Value as Json;

use super::Dialect;
use super::plan::{Bind, Query};
use crate::audit::AuditFilter;
use crate::page::{Cursor, Order, PageRequest};

/// How many events one page of a filter without an index of its own looks at. A bound on the cost of a page; a few hundredths
/// of a second at worst.
pub(crate) const SCANNED: u16 = 5_000;

/// Column of [`page`] that tells how many events a page without an index of its own had looked at when it came to this one.
pub(crate) const PLACE: &str = "place";
/// Column of [`page`] that is false for an event which is only there to tell how far the page has looked.
pub(crate) const IS_HIT: &str = "is_hit";

/// What of a filter an index finds, and what is left to be asked of each event that it finds.
struct Split {
    found: Vec<&'static str>,
    left: Vec<&'static str>,
    /// A walk for each action.
    by_action: bool,
}

const ROOM: &str = "room_id = :room";
const ACTOR: &str = "user_id = :actor";
const TARGET: &str = "target_user_id = :target";
const ADDRESS: &str = "ip_address = :address";

/// The members of `:actions`, as a condition on one event.
fn one_of_actions(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::Postgres => {
            "action = ANY (ARRAY(SELECT CAST(value AS audit_action) FROM jsonb_array_elements_text(:actions)))"
        }
        Dialect::Sqlite => "action IN (SELECT value FROM json_each(:actions))",
    }
}

fn split(dialect: Dialect, filter: &AuditFilter) -> Split {
    // The likeliest to be rare first.
    let mut named = [
        (filter.target.is_some(), TARGET),
        (filter.room.is_some(), ROOM),
        (filter.actor.is_some(), ACTOR),
        (filter.address.is_some(), ADDRESS),
    ]
    .into_iter()
    .filter_map(|(is_named, condition)| is_named.then_some(condition));
    let lead = named.next();
    let mut left: Vec<_> = named.collect();
    let has_actions = !filter.actions.is_empty();
    let by_action = has_actions && left.is_empty() && matches!(lead, None | Some(ROOM | ACTOR));
    if has_actions && !by_action {
        left.push(one_of_actions(dialect));
    }
    Split {
        found: lead.into_iter().collect(),
        left,
        by_action,
    }
}

fn window(filter: &AuditFilter) -> impl Iterator<Item = &'static str> {
    let since = filter.since.map(|_| r#""timestamp" >= :since"#);
    let until = filter.until.map(|_| r#""timestamp" < :until"#);
    since.into_iter().chain(until)
}

fn all_of<'a>(conditions: impl IntoIterator<Item = &'a str>) -> String {
    let conditions: Vec<&str> = conditions.into_iter().collect();
    if conditions.is_empty() {
        "TRUE".to_owned()
    } else {
        conditions.join(" AND ")
    }
}

/// A page and one event more, to know whether there is a next one; at most [`SCANNED`] looked at where the filter has no index of its own.
pub(crate) fn page(dialect: Dialect, filter: &AuditFilter, page: &PageRequest) -> Query {
    let split = split(dialect, filter);
    let (beyond, direction) = match page.order() {
        // The first comparison says nothing new, but it is one by which PostgreSQL leaves partitions out.
        Order::NewestFirst => (r#""timestamp" <= :at AND ("timestamp", id) < (:at, :last)"#, "DESC"),
        Order::OldestFirst => (r#""timestamp" >= :at AND ("timestamp", id) > (:at, :last)"#, "ASC"),
    };
    let in_order = format!(r#"ORDER BY "timestamp" {direction}, id {direction}"#);
    let along = all_of(
        split
            .found
            .iter()
            .copied()
            .chain(window(filter))
            .chain(page.cursor().map(|_| beyond)),
    );
    let columns = dialect.columns_of::<audit_log::Entity>();
    let sql = if split.by_action {
        match dialect {
            Dialect::Postgres => format!(
                "SELECT found.*, 0 AS {PLACE}, TRUE AS {IS_HIT}
                FROM jsonb_array_elements_text(:actions) AS wanted(name) CROSS JOIN LATERAL (
                    SELECT {columns} FROM audit_logs
                    WHERE audit_logs.action = CAST(wanted.name AS audit_action) AND {along} {in_order} LIMIT :limit
                ) AS found {in_order} LIMIT :limit"
            ),
            Dialect::Sqlite => format!(
                "SELECT {columns}, 0 AS {PLACE}, TRUE AS {IS_HIT} FROM audit_logs
                WHERE {} AND {along} {in_order} LIMIT :limit",
                one_of_actions(dialect)
            ),
        }
    } else if split.left.is_empty() {
        format!(
            "SELECT {columns}, 0 AS {PLACE}, TRUE AS {IS_HIT} FROM audit_logs WHERE {along} {in_order} LIMIT :limit"
        )
    } else {
        let left = all_of(split.left.iter().copied());
        // The last one that was looked at comes along, whether or not it is wanted, so that the next page begins there.
        format!(
            r#"WITH scanned AS (
                SELECT *, row_number() OVER ({in_order}) AS {PLACE} FROM (
                    SELECT * FROM audit_logs WHERE {along} {in_order} LIMIT :scanned
                ) AS walked
            )
            SELECT {columns}, CAST({PLACE} AS integer) AS {PLACE}, COALESCE({left}, FALSE) AS {IS_HIT} FROM scanned
            WHERE ({left}) OR {PLACE} = :scanned {in_order} LIMIT :limit"#
        )
    };
    let query = bound(Query::new(sql), filter)
        .bind("limit", i64::from(page.size()) + 1)
        .bind("scanned", i64::from(SCANNED));
    match page.cursor() {
        Some(Cursor { at, id }) => query.bind("at", at).bind("last", id),
        None => query,
    }
}

/// How many events there are: column `events`.
pub(crate) fn count(dialect: Dialect, filter: &AuditFilter) -> Query {
    let Split { found, left, .. } = split(dialect, filter);
    let by_action = (!filter.actions.is_empty()).then(|| one_of_actions(dialect));
    // An action that was left is in both lists.
    let left = left.into_iter().filter(|condition| Some(*condition) != by_action);
    let all = all_of(found.into_iter().chain(left).chain(by_action).chain(window(filter)));
    let sql = format!("SELECT count(*) AS events FROM audit_logs WHERE {all}");
    bound(Query::new(sql), filter)
}

/// Binds what the filter names; what a statement does not mention is not sent.
fn bound(query: Query, filter: &AuditFilter) -> Query {
    let address = filter.address.map(|address| ClientAddress(address).to_string());
    query
        .bind("room", filter.room)
        .bind("actor", filter.actor)
        .bind("target", filter.target)
        .bind("address", Bind::text_as("inet", address))
        .bind("actions", names(&filter.actions))
        .bind("since", filter.since)
        .bind("until", filter.until)
}

/// Each action once: a walk for one that is named twice would yield its events twice.
fn names(actions: &[AuditAction]) -> Json {
    let mut names: Vec<_> = actions.iter().map(|action| action.to_value().value).collect();
    names.sort_unstable();
    names.dedup();
    names.into_iter().map(Json::from).collect()
}
