//! Adding values to `audit_action`, and taking them away again: a type on PostgreSQL, a CHECK on SQLite.

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::{ConnectionTrait, DatabaseExecutor, DbBackend, Statement};

/// Adds actions behind those that are there.
pub(crate) async fn add_audit_actions(db: &DatabaseExecutor<'_>, added: &[&str]) -> Result<(), DbErr> {
    match db.get_database_backend() {
        DbBackend::Sqlite => {
            let more = quoted(added);
            rebuild_audit_logs(db, |sql| {
                let end = sql[..check_end(sql)?].trim_end().len();
                Some(format!("{},\n        {more}{}", &sql[..end], &sql[end..]))
            })
            .await
        }
        _ => {
            for action in added {
                db.execute_unprepared(&format!("ALTER TYPE audit_action ADD VALUE '{action}'"))
                    .await?;
            }
            Ok(())
        }
    }
}

/// Takes actions away. Fails when a row has one.
pub(crate) async fn remove_audit_actions(db: &DatabaseExecutor<'_>, removed: &[&str]) -> Result<(), DbErr> {
    match db.get_database_backend() {
        DbBackend::Sqlite => {
            let gone = format!(",\n        {}", quoted(removed));
            rebuild_audit_logs(db, |sql| sql.contains(&gone).then(|| sql.replacen(&gone, "", 1))).await
        }
        _ => {
            let sql = format!(
                "DO $$
                DECLARE kept text;
                BEGIN
                    SELECT string_agg(quote_literal(enumlabel), ', ' ORDER BY enumsortorder) INTO kept FROM pg_enum
                    WHERE enumtypid = 'audit_action'::regtype AND enumlabel NOT IN ({gone});
                    ALTER TYPE audit_action RENAME TO audit_action_before;
                    EXECUTE 'CREATE TYPE audit_action AS ENUM (' || kept || ')';
                    ALTER TABLE audit_logs ALTER COLUMN action TYPE audit_action USING action::text::audit_action;
                    DROP TYPE audit_action_before;
                END $$",
                gone = quoted(removed)
            );
            db.execute_unprepared(&sql).await.map(drop)
        }
    }
}

fn quoted(values: &[&str]) -> String {
    let quoted: Vec<String> = values.iter().map(|value| format!("'{value}'")).collect();
    quoted.join(", ")
}

/// Where the list of actions ends in the text of the table.
fn check_end(sql: &str) -> Option<usize> {
    let list = sql.find("CHECK (action IN (")?;
    sql[list..].find("))").map(|end| list + end)
}

/// SQLite cannot change a CHECK: the table is made anew, with its indexes and triggers, and filled from the old one. The old one
/// is dropped, not emptied, so that its triggers have nothing to refuse.
async fn rebuild_audit_logs(
    db: &DatabaseExecutor<'_>,
    edit: impl FnOnce(&str) -> Option<String> + Send,
) -> Result<(), DbErr> {
    let objects = "SELECT type, sql FROM sqlite_master WHERE tbl_name = 'audit_logs' AND sql IS NOT NULL";
    let mut table = None;
    let mut belongings: Vec<String> = Vec::new();
    for row in db
        .query_all_raw(Statement::from_string(DbBackend::Sqlite, objects))
        .await?
    {
        let kind: String = row.try_get_by_index(0)?;
        let sql: String = row.try_get_by_index(1)?;
        if kind == "table" {
            table = Some(sql);
        } else {
            belongings.push(sql);
        }
    }
    let unexpected = || DbErr::Migration("the table audit_logs is not as the base schema made it".to_owned());
    let table = table.ok_or_else(unexpected)?;
    let edited = edit(&table).ok_or_else(unexpected)?;
    db.execute_unprepared("ALTER TABLE audit_logs RENAME TO audit_logs_before")
        .await?;
    db.execute_unprepared(&edited).await?;
    db.execute_unprepared("INSERT INTO audit_logs SELECT * FROM audit_logs_before")
        .await?;
    db.execute_unprepared("DROP TABLE audit_logs_before").await?;
    for sql in belongings {
        db.execute_unprepared(&sql).await?;
    }
    Ok(())
}
