//! Whether the database keeps what it has said to have committed.

use sea_orm::{ConnectionTrait, DbErr, Statement};

use super::Dialect;

/// The setting, as `name = value`, with which a crash may undo a reported commit; none when all is well.
///
/// PostgreSQL: `synchronous_commit = off` reports commits before they are written. (`fsync` is not looked at: it speaks of the
/// whole machine, and who switches it off means a throw-away server.) SQLite: in WAL mode only `synchronous` FULL (2) or
/// EXTRA (3) writes the log through at each commit; a database in memory has nothing to keep.
pub(crate) async fn setting_that_forgets(dialect: Dialect, db: &impl ConnectionTrait) -> Result<Option<String>, DbErr> {
    let ask = |sql: &str| Statement::from_string(dialect.backend(), sql);
    let [first, second] = questions(dialect);
    match dialect {
        Dialect::Postgres => {
            let row = db.query_one_raw(ask(first)).await?;
            let value: Option<String> = row.map(|row| row.try_get_by_index(0)).transpose()?;
            Ok(value
                .filter(|value| value == "off")
                .map(|value| format!("synchronous_commit = {value}")))
        }
        Dialect::Sqlite => {
            let row = db.query_one_raw(ask(first)).await?;
            let files: Option<i64> = row.map(|row| row.try_get_by_index(0)).transpose()?;
            let row = db.query_one_raw(ask(second)).await?;
            let level: Option<i64> = row.map(|row| row.try_get_by_index(0)).transpose()?;
            Ok(level
                .filter(|level| *level < 2 && files != Some(0))
                .map(|level| format!("synchronous = {level}")))
        }
    }
}

/// What the database is asked for that.
pub(crate) fn questions(dialect: Dialect) -> [&'static str; 2] {
    match dialect {
        Dialect::Postgres => ["SELECT current_setting('synchronous_commit')"; 2],
        Dialect::Sqlite => [
            "SELECT count(*) FROM pragma_database_list WHERE name = 'main' AND file <> ''",
            "PRAGMA synchronous",
        ],
    }
}
