//! What the schema lacks, and indexes that serve nobody.

use chrono::{DateTime, TimeDelta, Utc};

use super::{Check, DOCTOR, Examined, Finding};
use crate::database::statement::Query;
use crate::database::{Dialect, fault};
use crate::error::Result;
use crate::schema::{self, ObjectKind, SchemaDifference};

/// Since when statistics have to be kept before an index that was not used means something.
const TELLING: TimeDelta = TimeDelta::days(30);

pub(super) async fn check(examined: &Examined<'_>) -> Result<Vec<Finding>> {
    let dialect = examined.dialect();
    let rows = examined.rows(&schema::query(dialect)).await?;
    let differences = schema::differences(dialect, &rows);
    let differences = differences.map_err(|error| fault::read(dialect, &error, DOCTOR, false))?;
    // An index that is there and not valid is told of by `invalid`, which also finds those of nobody's schema.
    let differences = differences.iter().filter(|difference| !is_invalid(difference));
    Ok(differences.map(|difference| finding(dialect, difference)).collect())
}

fn is_invalid(difference: &SchemaDifference) -> bool {
    let found = difference
        .found
        .as_deref()
        .and_then(|found| found.strip_suffix(" INVALID"));
    difference.kind == ObjectKind::Index && found == Some(&difference.expected)
}

fn finding(dialect: Dialect, difference: &SchemaDifference) -> Finding {
    let check = match (difference.kind, &difference.found) {
        (ObjectKind::Index, _) => Check::IndexMissing,
        (ObjectKind::Trigger, None) => Check::TriggerMissing,
        (ObjectKind::Trigger, Some(_)) => Check::TriggerOff,
        _ => Check::SchemaDrift,
    };
    let (table, name) = difference.name.split_once('.').unwrap_or(("", &difference.name));
    let definition = match difference.kind {
        ObjectKind::Trigger => difference
            .expected
            .split(", fires ")
            .next()
            .unwrap_or_default()
            .to_owned(),
        // A partitioned table's index cannot be made CONCURRENTLY.
        _ if dialect == Dialect::Sqlite || difference.expected.contains(" ON ONLY ") => {
            difference.expected.replace(" ON ONLY ", " ON ")
        }
        _ => difference.expected.replacen(" INDEX ", " INDEX CONCURRENTLY ", 1),
    };
    let finding = Finding::of(check, difference.to_string())
        .with("definition", &definition)
        .with("table", table)
        .with("trigger", name);
    match (dialect, check) {
        // What was found says of which partitions.
        (Dialect::Postgres, _) if difference.kind == ObjectKind::Trigger && table.ends_with("_*") => Finding {
            remedy: format!(
                "ALTER TABLE <partition> ENABLE ALWAYS TRIGGER {name}; where it is missing, make it as on the others"
            ),
            ..finding
        },
        // SQLite can switch no trigger off.
        (Dialect::Sqlite, Check::TriggerMissing) => Finding {
            remedy: format!("{definition};"),
            ..finding
        },
        (Dialect::Sqlite, Check::TriggerOff) => Finding {
            remedy: format!("DROP TRIGGER {name}; {definition};"),
            ..finding
        },
        _ => finding,
    }
}

/// Those that are under construction are not valid yet.
pub(super) fn invalid() -> Query {
    let home = schema::home();
    Query::new(format!(
        "SELECT CAST(CAST(indexrelid AS regclass) AS text) AS name
        FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid
        WHERE NOT indisvalid AND relnamespace = {home}
            AND NOT EXISTS (SELECT FROM pg_stat_progress_create_index WHERE index_relid = indexrelid)
        ORDER BY 1"
    ))
}

/// An index of a partitioned table is used if that of one partition is.
pub(super) fn unused() -> Query {
    let home = schema::home();
    Query::new(format!(
        "SELECT CAST(COALESCE(whole.relname, own.relname) AS text) AS name, (
            SELECT COALESCE(stats_reset, pg_postmaster_start_time()) FROM pg_stat_database
            WHERE datname = current_database()) AS since
        FROM pg_stat_user_indexes AS used JOIN pg_class AS own ON own.oid = used.indexrelid
        JOIN pg_index ON pg_index.indexrelid = own.oid
        LEFT JOIN pg_inherits ON inhrelid = own.oid LEFT JOIN pg_class AS whole ON whole.oid = inhparent
        WHERE own.relnamespace = {home} AND NOT indisunique
        GROUP BY 1 HAVING sum(idx_scan) = 0 ORDER BY 1"
    ))
}

pub(super) async fn indexes(examined: &Examined<'_>) -> Result<Vec<Finding>> {
    if examined.dialect() == Dialect::Sqlite {
        return Ok(Vec::new());
    }
    let names: Vec<String> = examined.read(&invalid(), |cells| cells.next("name")).await?;
    let mut findings: Vec<Finding> = names
        .iter()
        .map(|name| Finding::of(Check::IndexInvalid, format!("index {name} is not valid")).with("index", name))
        .collect();
    let unused: Vec<(String, DateTime<Utc>)> = examined
        .read(&unused(), |cells| Ok((cells.next("name")?, cells.next("since")?)))
        .await?;
    let now = examined.context.now();
    findings.extend(
        unused
            .iter()
            .filter(|(_, since)| *since + TELLING <= now)
            .map(|(name, since)| {
                let what = format!("index {name} was not used since {}", since.format("%Y-%m-%d"));
                Finding::of(Check::IndexUnused, what).with("index", name)
            }),
    );
    Ok(findings)
}
