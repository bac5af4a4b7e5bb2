//! Statements that add up.

use entity::{RoomId, UserId};

use super::Dialect;
use super::plan::{Plan, Step};
use chrono::{DateTime, Utc};

/// A row that only carries the ban of somebody who was absent is no stay: it begins and ends with the ban, and nobody was put out.
const A_STAY: &str = "NOT (banned_at IS NOT NULL AND NOT is_kicked AND joined_at = banned_at AND left_at = banned_at)";

fn seconds(dialect: Dialect) -> String {
    let until_now = dialect.seconds_between("joined_at", &dialect.later(":now", "joined_at"));
    format!("CAST(COALESCE(sum(COALESCE(duration_seconds, {until_now})), 0) AS bigint)")
}

fn totals(dialect: Dialect, other: &str, of: &str) -> String {
    format!(
        "SELECT count(*) AS stays, count(DISTINCT {other}) AS others, {seconds} AS seconds,
            count(CASE WHEN is_kicked THEN 1 END) AS kicks
        FROM room_participants WHERE {of} AND {A_STAY}",
        seconds = seconds(dialect)
    )
}

/// Of a room: 1 statement, 1 row.
pub(crate) fn of_room(dialect: Dialect, room: RoomId, now: DateTime<Utc>) -> Plan {
    Plan::yielding("totals")
        .bind("room", room)
        .bind("now", now)
        .step(Step::guard(
            "totals",
            &[],
            totals(dialect, "user_id", "room_id = :room"),
        ))
}

/// Of a user: 1 statement, 1 row.
pub(crate) fn of_user(dialect: Dialect, user: UserId, now: DateTime<Utc>) -> Plan {
    Plan::yielding("totals")
        .bind("user", user)
        .bind("now", now)
        .step(Step::guard(
            "totals",
            &[],
            totals(dialect, "room_id", "user_id = :user"),
        ))
}
