//! What stands between this process and PostgreSQL: its clock, and a pooler.

use chrono::{DateTime, TimeDelta, Utc};

use super::{Check, Examined, Finding};
use crate::database::statement::Query;
use crate::error::Result;

/// How far two clocks may be apart, the time that the answer took left out.
const CLOSE: TimeDelta = TimeDelta::seconds(1);

pub(super) fn time() -> Query {
    Query::new("SELECT clock_timestamp() AS now")
}

pub(super) async fn clock(examined: &Examined<'_>) -> Result<Vec<Finding>> {
    let before = examined.context.now();
    let times: Vec<DateTime<Utc>> = examined.read(&time(), |cells| cells.next("now")).await?;
    let after = examined.context.now();
    let Some(theirs) = times.first().copied() else {
        return Ok(Vec::new());
    };
    // Theirs is of some moment between.
    let (behind, ahead) = (theirs - after, before - theirs);
    let what = if behind > CLOSE {
        format!(
            "this process's clock is {} ms behind the server's",
            behind.num_milliseconds()
        )
    } else if ahead > CLOSE {
        format!(
            "this process's clock is {} ms ahead of the server's",
            ahead.num_milliseconds()
        )
    } else {
        return Ok(Vec::new());
    };
    Ok(vec![Finding::of(Check::ClockDifference, what)])
}

/// What the server calls the statement that asks: the driver calls it `sqlx_s_…`. A pooler in transaction mode, which hands statements of
/// many clients to one session, calls it otherwise. One that gives sessions cannot be told from the server.
pub(super) fn session() -> Query {
    Query::new(
        r"SELECT CAST(current_user AS text) AS role, EXISTS (
            SELECT FROM pg_prepared_statements
            WHERE statement LIKE 'SELECT CAST(current\_user AS text) AS role, EXISTS%' AND name NOT LIKE 'sqlx\_s\_%') AS is_renamed",
    )
}

pub(super) async fn pooler(examined: &Examined<'_>) -> Result<Vec<Finding>> {
    let context = examined.context;
    let sessions: Vec<(String, bool)> = examined
        .read(&session(), |cells| Ok((cells.next("role")?, cells.next("is_renamed")?)))
        .await?;
    let Some((role, is_renamed)) = sessions.first() else {
        return Ok(Vec::new());
    };
    let mut findings = Vec::new();
    let pooler = match (is_renamed, context.settings().connect.pgbouncer) {
        (true, true) => Some("a pooler in transaction mode stands between, as the store was told (pgbouncer=true)"),
        (true, false) => {
            Some("a pooler in transaction mode stands between, and the store was not told (pgbouncer=true)")
        }
        (false, true) => Some("a pooler stands between, as the store was told (pgbouncer=true)"),
        (false, false) => None,
    };
    findings.extend(pooler.map(|what| Finding::of(Check::Pooler, what)));
    if context.changes_in_units() {
        let what = "the sessions have no lock_timeout or no statement_timeout of their own";
        findings.push(Finding::of(Check::NoLimits, what).with("role", role));
    }
    Ok(findings)
}
