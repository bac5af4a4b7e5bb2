//! Dropping what is ours, and nothing else.

use entity::TABLES;
use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::{ConnectionTrait, DatabaseExecutor, DbBackend, Statement};

use crate::MIGRATION_TABLE;

/// Drops everything that any migration of ours makes, as far as it is there.
pub(crate) const POSTGRES: &str = include_str!("base_schema/postgres_fresh.sql");
/// Fails while a foreign key of somebody else's table points at ours.
pub(crate) const POSTGRES_GUARD: &str = include_str!("base_schema/postgres_guard.sql");

pub(crate) fn drop_migration_table() -> String {
    format!("DROP TABLE IF EXISTS {MIGRATION_TABLE};\n")
}

/// Fails while a foreign key of somebody else's table points at ours: on SQLite their rows could be deleted with ours.
pub(crate) async fn refuse_referenced(db: &DatabaseExecutor<'_>) -> Result<(), DbErr> {
    if db.get_database_backend() != DbBackend::Sqlite {
        return db.execute_unprepared(POSTGRES_GUARD).await.map(drop);
    }
    let ours: Vec<_> = TABLES.iter().map(|table| format!("'{table}'")).collect();
    let ours = ours.join(", ");
    let sql = format!(
        r#"SELECT DISTINCT tables.name FROM sqlite_master AS tables, pragma_foreign_key_list(tables.name) AS key
            WHERE tables.type = 'table' AND key."table" IN ({ours}) AND tables.name NOT IN ({ours}) ORDER BY 1"#
    );
    let rows = db.query_all_raw(Statement::from_string(DbBackend::Sqlite, sql)).await?;
    let others: Result<Vec<String>, _> = rows.iter().map(|row| row.try_get_by_index(0)).collect();
    let others = others?;
    if others.is_empty() {
        return Ok(());
    }
    Err(DbErr::Migration(format!(
        "foreign keys of other tables point at ours, drop those tables first: {}",
        others.join(", ")
    )))
}

/// Drops what is ours, the table of migrations too, in the transaction that it is given.
pub(crate) async fn drop_ours(db: &DatabaseExecutor<'_>) -> Result<(), DbErr> {
    refuse_referenced(db).await?;
    if db.get_database_backend() == DbBackend::Sqlite {
        for table in TABLES.iter().rev() {
            db.execute_unprepared(&format!("DROP TABLE IF EXISTS {table}")).await?;
        }
    } else {
        db.execute_unprepared(POSTGRES).await?;
    }
    db.execute_unprepared(&drop_migration_table()).await.map(drop)
}
