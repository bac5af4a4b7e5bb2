//! Statements that read the audit log.
//!
//! A page is walked along one index, in its order, from the cursor on. Which one depends on what the filter names:
//!
//! | the filter names | index | how |
//! |---|---|---|
//! | nothing, or times alone | `pk_audit_logs` | |
//! | a room, an actor, a target or an address | `ix_audit_logs_room`, `_user`, `_target_user`, `_address` | |
//! | actions, none of [`AuditAction::TRAFFIC`] | `ix_audit_logs_action` | a walk for each action, merged |
//! | a room or an actor, and such actions | `ix_audit_logs_room_action`, `_user_action` | the same |
//! | any more | that of the target, else the room, else the actor, else the time | up to [`SCANNED`] events are looked at |
//!
//! So a page costs what it returns, or at most [`SCANNED`] events, at any depth; on PostgreSQL also a few buffers for each
//! partition that the times leave in. Its planner would not see to that by itself: see [`Walk`].

use entity::{AuditAction, ClientAddress, audit_log};
use sea_orm::ActiveEnum;
use serde_json::Value as Json;

use crate::audit::AuditFilter;
use crate::database::statement::{Bind, Query, enum_list};
use crate::database::{Dialect, LookUp, Rows};
pub(crate) use crate::page::SCANNED;
use crate::page::{ByTime, Order};
use crate::read::page_of;
use crate::row::FromRow;

/// Column of a page that tells how many events it had looked at when it came to this one.
pub(crate) const PLACE: &str = "place";
/// Column of a page that is false for an event which is only there to tell how far the page has looked.
pub(crate) const IS_HIT: &str = "is_hit";

/// A page, and what its rows have.
pub(crate) struct PageQuery {
    pub(crate) query: Query,
    /// Whether [`PLACE`] and [`IS_HIT`] stand before the columns of the event: they do where the filter has no index of its own.
    pub(crate) scans: bool,
}

/// Column that stands before all others on a page with names: what the row is of.
pub(crate) const KIND: &str = "kind";
/// The row is an event, without names.
pub(crate) const EVENT: i32 = 0;
/// The row is a user: [`NAME`], [`TITLE`] and `id` are theirs.
pub(crate) const USER: i32 = 1;
/// The row is a room, likewise.
pub(crate) const ROOM_OF_PAGE: i32 = 2;
/// Column with the username or the code of a room.
pub(crate) const NAME: &str = "name";
/// Column with the name to show or the title.
pub(crate) const TITLE: &str = "title";

/// What of a filter an index finds, and what is left to be asked of each event that it finds.
struct Split {
    lead: Option<&'static Subject>,
    left: Vec<String>,
    /// A walk for each action.
    by_action: bool,
}

/// One thing that a filter may name: a column that has an index, and its value.
#[derive(PartialEq)]
struct Subject {
    column: &'static str,
    value: &'static str,
}

impl Subject {
    fn is_named(&self) -> String {
        format!("{} = {}", self.column, self.value)
    }
}

const ROOM: &Subject = &Subject {
    column: "room_id",
    value: ":room",
};
const ACTOR: &Subject = &Subject {
    column: "user_id",
    value: ":actor",
};
const TARGET: &Subject = &Subject {
    column: "target_user_id",
    value: ":target",
};
const ADDRESS: &Subject = &Subject {
    column: "ip_address",
    value: ":address",
};
/// In a walk of one action.
const ACTION: &Subject = &Subject {
    column: "action",
    value: "CAST(wanted.name AS audit_action)",
};

/// How a walk along a subject's index is asked for.
///
/// PostgreSQL chooses by what it expects of the rows. Asked for `room_id = 1 ORDER BY "timestamp", id`, it walks all events by time
/// where many are the room's, past any number that are not; and where it expects few, it collects and sorts all of them. So on
/// PostgreSQL
/// - the subject's column comes first in the order, and `= ANY` keeps it from knowing that there is one value of it: then no index
///   has this order but those that begin with the column;
/// - the limit is a subquery: see [`Dialect::limit_of_walk`].
struct Walk {
    /// The condition on the subject.
    condition: Option<String>,
    /// The order, after ORDER BY.
    order: String,
}

impl Walk {
    fn of(dialect: Dialect, subject: Option<&Subject>, direction: &str) -> Self {
        match (dialect, subject) {
            (Dialect::Postgres, Some(Subject { column, value })) => Self {
                condition: Some(format!("{column} = ANY (ARRAY[{value}])")),
                order: order_of(&[column], direction),
            },
            (_, subject) => Self {
                condition: subject.map(Subject::is_named),
                order: order_of(&[], direction),
            },
        }
    }
}

/// These columns, and then the key of a page.
fn order_of(columns: &[&str], direction: &str) -> String {
    let all = columns.iter().copied().chain([r#""timestamp""#, "id"]);
    let all: Vec<_> = all.map(|column| format!("audit_logs.{column} {direction}")).collect();
    all.join(", ")
}

/// The action of a walk that has a subject too, where `= ANY` would not do: PostgreSQL up to 16 takes no order from an index of which a
/// column but the first is asked for so. Instead both ends of what is walked, as tight as they are known: it begins at one and ends at
/// the other.
fn one_action(filter: &AuditFilter, page: ByTime) -> [String; 2] {
    let value = ACTION.value;
    let behind = |comparison| format!(r#"(action, "timestamp", id) {comparison} ({value}, :at, :last)"#);
    let lowest = match filter.since {
        _ if page.place().is_some() && page.order() == Order::OldestFirst => behind(">"),
        Some(_) => format!(r#"(action, "timestamp") >= ({value}, :since)"#),
        None => format!("action >= {value}"),
    };
    let highest = match filter.until {
        _ if page.place().is_some() && page.order() == Order::NewestFirst => behind("<"),
        Some(_) => format!(r#"(action, "timestamp") < ({value}, :until)"#),
        None => format!("action <= {value}"),
    };
    [lowest, highest]
}

/// The members of `:actions`, as a condition on one event.
pub(crate) fn one_of_actions(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::Postgres => {
            "action = ANY (ARRAY(SELECT CAST(value AS audit_action) FROM jsonb_array_elements_text(:actions)))"
        }
        Dialect::Sqlite => "action IN (SELECT value FROM json_each(:actions))",
    }
}

/// By which the planner knows that the indexes by action have what is asked for.
fn not_traffic() -> String {
    format!("action NOT IN ({})", enum_list(&AuditAction::TRAFFIC))
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
    .filter_map(|(is_named, subject)| is_named.then_some(subject));
    let lead = named.next();
    let mut left: Vec<_> = named.map(Subject::is_named).collect();
    let has_actions = !filter.actions.is_empty();
    let indexed = !filter
        .actions
        .iter()
        .any(|action| AuditAction::TRAFFIC.contains(action));
    let by_action = has_actions && indexed && left.is_empty() && lead.is_none_or(|lead| [ROOM, ACTOR].contains(&lead));
    if has_actions && !by_action {
        left.push(one_of_actions(dialect).to_owned());
    }
    Split { lead, left, by_action }
}

/// The bounds of the time. One that the page's cursor implies is left out: of several at one end, PostgreSQL 18 begins at a looser one, and
/// walks from there.
fn window(filter: &AuditFilter, page: Option<ByTime>) -> impl Iterator<Item = &'static str> {
    let behind = page.and_then(|page| Some((page.order(), page.place()?.at)));
    let since = filter
        .since
        .filter(|since| !matches!(behind, Some((Order::OldestFirst, at)) if at >= *since));
    let until = filter
        .until
        .filter(|until| !matches!(behind, Some((Order::NewestFirst, at)) if at < *until));
    let since = since.map(|_| r#""timestamp" >= :since"#);
    let until = until.map(|_| r#""timestamp" < :until"#);
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
pub(crate) fn page(dialect: Dialect, filter: &AuditFilter, page: ByTime, with_names: bool) -> PageQuery {
    let split = split(dialect, filter);
    let (comparison, direction) = page.order().in_sql();
    // The first comparison says nothing new, but it is one by which PostgreSQL leaves partitions out.
    let beyond = format!(r#""timestamp" {comparison}= :at AND ("timestamp", id) {comparison} (:at, :last)"#);
    let beyond = page.place().map(|_| beyond.as_str());
    let window: Vec<&str> = window(filter, Some(page))
        .map(|condition| -> &str { condition })
        .chain(beyond)
        .collect();
    let (limit_of_page, limit_of_scan) = (dialect.limit_of_walk(":limit"), dialect.limit_of_walk(":scanned"));
    let columns = dialect.columns_of::<audit_log::Entity>();
    let sql = if split.by_action && dialect == Dialect::Postgres {
        let Walk { condition, mut order } = Walk::of(dialect, split.lead.or(Some(ACTION)), direction);
        let mut conditions: Vec<String> = condition.into_iter().chain([not_traffic()]).collect();
        if let Some(lead) = split.lead {
            conditions.extend(one_action(filter, page));
            order = order_of(&[lead.column, ACTION.column], direction);
        }
        let along = all_of(conditions.iter().map(String::as_str).chain(window));
        format!(
            "SELECT audit_logs.* FROM jsonb_array_elements_text(:actions) AS wanted(name) CROSS JOIN LATERAL (
                SELECT {columns} FROM audit_logs WHERE {along} ORDER BY {order} LIMIT {limit_of_page}
            ) AS audit_logs ORDER BY {} LIMIT :limit",
            order_of(&[], direction)
        )
    } else {
        let Walk { condition, order } = Walk::of(dialect, split.lead, direction);
        let actions = split
            .by_action
            .then(|| format!("{} AND {}", one_of_actions(dialect), not_traffic()));
        let along = all_of(condition.as_deref().into_iter().chain(actions.as_deref()).chain(window));
        if split.left.is_empty() {
            format!("SELECT {columns} FROM audit_logs WHERE {along} ORDER BY {order} LIMIT {limit_of_page}")
        } else {
            let left = all_of(split.left.iter().map(String::as_str));
            // The last one that was looked at comes along, whether or not it is wanted, so that the next page begins there.
            format!(
                r#"WITH scanned AS (
                    SELECT *, row_number() OVER (ORDER BY {order}) AS {PLACE} FROM (
                        SELECT * FROM audit_logs WHERE {along} ORDER BY {order} LIMIT {limit_of_scan}
                    ) AS audit_logs
                )
                SELECT CAST({PLACE} AS integer) AS {PLACE}, COALESCE({left}, FALSE) AS {IS_HIT}, {columns} FROM scanned AS audit_logs
                WHERE ({left}) OR {PLACE} = :scanned ORDER BY {order} LIMIT :limit"#
            )
        }
    };
    let scans = !split.left.is_empty();
    let sql = if with_names { named(dialect, &sql, scans) } else { sql };
    let query = page_of(bound(Query::new(sql), filter), page).bind("scanned", i64::from(SCANNED));
    PageQuery { query, scans }
}

/// The events of a page, and behind them the users and rooms that they speak of, each once and looked up by key. People and rooms
/// recur in a trail: to join their names to each event takes up to three looks an event, and sends them again and again.
fn named(dialect: Dialect, page: &str, scans: bool) -> String {
    let look_up = |table, name, key| {
        dialect.look_up(LookUp {
            table,
            name,
            key,
            rows: Rows::All,
        })
    };
    // As in a row of an event, with nothing but the id.
    let only_id = |id: &str| {
        let event = audit_log::Model::COLUMNS.iter();
        let event = event.map(|column| {
            if *column == "id" {
                id.to_owned()
            } else {
                "NULL".to_owned()
            }
        });
        let scanned = vec!["NULL".to_owned(); if scans { 2 } else { 0 }];
        scanned.into_iter().chain(event).collect::<Vec<_>>().join(", ")
    };
    format!(
        "WITH page AS MATERIALIZED ({page})
        SELECT {EVENT} AS {KIND}, NULL AS {NAME}, NULL AS {TITLE}, page.* FROM page
        UNION ALL
        SELECT {USER}, person.username, person.display_name, {}
        FROM (SELECT user_id AS id FROM page UNION SELECT target_user_id FROM page) AS named {person}
        UNION ALL
        SELECT {ROOM_OF_PAGE}, room.room_code, room.title, {}
        FROM (SELECT DISTINCT room_id AS id FROM page) AS named {room}",
        only_id("person.id"),
        only_id("room.id"),
        person = look_up("users", "person", "named.id"),
        room = look_up("rooms", "room", "named.id"),
    )
}

/// Columns of an event that come before its id.
pub(crate) fn columns_before_id() -> usize {
    let columns = audit_log::Model::COLUMNS.iter();
    columns.take_while(|column| **column != "id").count()
}

/// How many events there are: column `events`.
pub(crate) fn count(dialect: Dialect, filter: &AuditFilter) -> Query {
    let Split { lead, left, by_action } = split(dialect, filter);
    let named: Vec<String> = lead.map(Subject::is_named).into_iter().chain(left).collect();
    let actions = by_action.then(|| one_of_actions(dialect));
    let rest: Vec<&str> = actions.into_iter().chain(window(filter, None)).collect();
    let all = all_of(named.iter().map(String::as_str).chain(rest));
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
pub(crate) fn names(actions: &[AuditAction]) -> Json {
    let mut names: Vec<_> = actions.iter().map(|action| action.to_value().value).collect();
    names.sort_unstable();
    names.dedup();
    names.into_iter().map(Json::from).collect()
}
