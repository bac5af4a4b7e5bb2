//! The audit log's months: how many lie ahead, and what lies in none of them.

use chrono::{DateTime, Utc};
use sea_orm::DbErr;

use super::{Check, DOCTOR, Examined, Finding};
use crate::audit::partitions::{self, AuditPartition, PartitionState};
use crate::database::statement::Query;
use crate::database::{Dialect, fault};
use crate::error::Result;

/// How many months have to lie ahead at least.
const FEWEST: u32 = 2;
/// How many events of the default partition are counted; more are so many or more.
const COUNTED: i64 = 1_000;

/// Events from one time up to, not including, another, for several such spans: the default partition's alone, which every other one leaves
/// out. Its rights are those of the whole, as of each partition.
pub(super) fn query(gaps: &[(String, String)]) -> Query {
    let gaps: serde_json::Value = gaps
        .iter()
        .map(|(since, until)| serde_json::json!([since, until]))
        .collect();
    Query::new(format!(
        r#"SELECT gap->>0 AS since, gap->>1 AS until, (
            SELECT count(*) FROM (
                SELECT FROM audit_logs WHERE "timestamp" >= CAST(gap->>0 AS timestamptz)
                    AND "timestamp" < CAST(gap->>1 AS timestamptz) LIMIT {COUNTED}) AS events) AS events
        FROM jsonb_array_elements(:gaps) AS gap"#
    ))
    .bind("gaps", gaps)
}

pub(super) async fn check(examined: &Examined<'_>) -> Result<Vec<Finding>> {
    let rows = examined.rows(&partitions::list_query()).await?;
    let all = partitions::read_list(&rows);
    let all = all.map_err(|error: DbErr| fault::read(Dialect::Postgres, &error, DOCTOR, false))?;
    let mut attached: Vec<AuditPartition> = all
        .into_iter()
        .filter(|one| one.state == PartitionState::Attached)
        .collect();
    attached.sort_by_key(|one| (one.since, one.until));
    let mut findings = Vec::new();
    let ahead = partitions::months_ahead(&attached, examined.context.now());
    if ahead < FEWEST {
        let what = format!("{ahead} months ahead have a partition");
        findings.push(Finding::of(Check::MonthsAhead, what));
    }
    let events: Vec<(String, String, i64)> = examined
        .read(&query(&gaps(&attached)), |cells| {
            Ok((cells.next("since")?, cells.next("until")?, cells.next("events")?))
        })
        .await?;
    findings.extend(
        events
            .iter()
            .filter(|(.., events)| *events > 0)
            .map(|(since, until, events)| {
                let or_more = if *events == COUNTED { " or more" } else { "" };
                let what = format!("{events}{or_more} events from {since} up to {until} lie in the default partition");
                Finding::of(Check::DefaultPartition, what)
            }),
    );
    Ok(findings)
}

/// The times that no partition but the default one is for.
fn gaps(attached: &[AuditPartition]) -> Vec<(String, String)> {
    let text = |at: DateTime<Utc>| at.to_rfc3339();
    let mut gaps = Vec::new();
    // None: from the beginning of time.
    let mut covered: Option<DateTime<Utc>> = None;
    for one in attached {
        let begins = match (one.since, covered) {
            (None, _) => None,
            (Some(since), None) => Some(("-infinity".to_owned(), since)),
            (Some(since), Some(until)) => (until < since).then(|| (text(until), since)),
        };
        gaps.extend(begins.map(|(from, since)| (from, text(since))));
        covered = covered.max(one.until);
        if one.until.is_none() {
            return gaps;
        }
    }
    let from = covered.map_or_else(|| "-infinity".to_owned(), text);
    gaps.push((from, "infinity".to_owned()));
    gaps
}

#[cfg(test)]
mod tests {
    use super::*;

    fn month(since: Option<u32>, until: u32) -> AuditPartition {
        let at = |month: u32| format!("2026-{month:02}-01T00:00:00Z").parse().unwrap();
        AuditPartition {
            name: format!("until_{until}"),
            state: PartitionState::Attached,
            since: since.map(at),
            until: Some(at(until)),
            bytes: 0,
            about_events: 0,
        }
    }

    #[test]
    fn what_no_month_is_for_is_the_default_partitions() {
        let spans = |attached: &[AuditPartition]| -> Vec<String> {
            let short = |text: &str| text.get(..7).unwrap_or(text).to_owned();
            let gaps = gaps(attached);
            gaps.iter()
                .map(|(since, until)| format!("{}..{}", short(since), short(until)))
                .collect()
        };
        assert_eq!(spans(&[]), ["-infini..infinit"]);
        assert_eq!(spans(&[month(None, 3), month(Some(3), 4)]), ["2026-04..infinit"]);
        assert_eq!(
            spans(&[month(Some(2), 3), month(Some(5), 6)]),
            ["-infini..2026-02", "2026-03..2026-05", "2026-06..infinit"]
        );
    }
}
