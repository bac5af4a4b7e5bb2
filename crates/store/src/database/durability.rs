//! What a store asks of a database when it is made: whether it keeps what it has said to have committed, and which limits it sets.

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

/// Whether PostgreSQL limits this session, or all of this role's, as the settings want: how long it waits for locks and works on a statement.
/// Behind a pooler nothing does but what an administrator has set for the role or the database.
pub(crate) const LIMITS: &str =
    "SELECT current_setting('lock_timeout') <> '0' AS locks, current_setting('statement_timeout') <> '0' AS statements";

/// Which of the two are limited: waits for locks, and statements.
pub(crate) async fn limits(dialect: Dialect, db: &impl ConnectionTrait) -> Result<(bool, bool), DbErr> {
    let row = db
        .query_one_raw(Statement::from_string(dialect.backend(), LIMITS))
        .await?;
    let row = row.ok_or_else(|| DbErr::RecordNotFound("the session's limits".to_owned()))?;
    Ok((row.try_get_by_index(0)?, row.try_get_by_index(1)?))
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
