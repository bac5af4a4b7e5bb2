//! Settings with which a crash loses or spoils what was reported as committed.

use super::{Check, Examined, Finding};
use crate::database::Dialect;
use crate::database::statement::Query;
use crate::error::Result;

pub(super) fn query(dialect: Dialect) -> Query {
    Query::new(match dialect {
        Dialect::Postgres => {
            "SELECT CAST(name AS text) AS name, CAST(setting AS text) AS value FROM pg_settings
            WHERE name IN ('fsync', 'full_page_writes', 'synchronous_commit') ORDER BY name"
        }
        // A database in memory has no file, and nothing to keep.
        Dialect::Sqlite => {
            "SELECT 'files' AS name, CAST(count(*) AS text) AS value FROM pragma_database_list
            WHERE name = 'main' AND file <> ''
            UNION ALL SELECT 'synchronous', CAST(synchronous AS text) FROM pragma_synchronous
            UNION ALL SELECT 'journal_mode', CAST(journal_mode AS text) FROM pragma_journal_mode
            UNION ALL SELECT 'foreign_keys', CAST(foreign_keys AS text) FROM pragma_foreign_keys"
        }
    })
}

pub(super) async fn check(examined: &Examined<'_>) -> Result<Vec<Finding>> {
    let dialect = examined.dialect();
    let values: Vec<(String, String)> = examined
        .read(&query(dialect), |cells| Ok((cells.next("name")?, cells.next("value")?)))
        .await?;
    let is_in_memory = values.iter().any(|(name, value)| name == "files" && value == "0");
    let judged = values.iter().filter_map(|(name, value)| {
        let (check, remedy) = match dialect {
            Dialect::Postgres => of_postgres(name, value)?,
            Dialect::Sqlite => {
                of_sqlite(name, value).filter(|(check, _)| !is_in_memory || *check == Check::ForeignKeysOff)?
            }
        };
        Some(Finding::of(check, format!("{name} = {value}")).with("setting", remedy))
    });
    Ok(judged.collect())
}

fn of_postgres(name: &str, value: &str) -> Option<(Check, &'static str)> {
    let remedy = match name {
        "fsync" => "ALTER SYSTEM SET fsync = on; SELECT pg_reload_conf(); -- off is for servers that are thrown away",
        "full_page_writes" => "ALTER SYSTEM SET full_page_writes = on; SELECT pg_reload_conf();",
        "synchronous_commit" => {
            "ALTER SYSTEM SET synchronous_commit = on; SELECT pg_reload_conf(); -- and RESET it for the role and the database, \
             which count before"
        }
        _ => return None,
    };
    (value == "off").then_some((Check::LosesData, remedy))
}

fn of_sqlite(name: &str, value: &str) -> Option<(Check, &'static str)> {
    match (name, value) {
        ("synchronous", "0" | "1") => Some((
            Check::LosesData,
            "PRAGMA synchronous = FULL for each connection; the store sets it when it opens the file by its address.",
        )),
        ("journal_mode", "off" | "memory") => Some((Check::LosesData, "PRAGMA journal_mode = WAL;")),
        ("journal_mode", value) if value != "wal" => Some((Check::JournalNotWal, "")),
        ("foreign_keys", "0") => Some((Check::ForeignKeysOff, "")),
        _ => None,
    }
}
