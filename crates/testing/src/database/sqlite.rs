//! SQLite: a process migrates one database in memory, and the others are copies of it.

use std::collections::HashMap;
use std::sync::Arc;

use conferencing_store::connect::{self, ConnectSettings};
use sea_orm::{ConnectionTrait, DatabaseConnection, DbBackend, DbErr, QueryResult, Statement};
use tempfile::TempDir;
use tokio::sync::Mutex;

use super::migrations::Migrations;
use crate::error::SetUpError;

/// A migrated database.
pub(super) struct Template {
    /// As statements, for one in memory.
    text: String,
    /// As a file.
    bytes: Vec<u8>,
}

/// Those of this process, by the key of their migrations.
static TEMPLATES: Mutex<Option<HashMap<String, Arc<Template>>>> = Mutex::const_new(None);

pub(super) async fn template(migrations: &Migrations) -> Result<Arc<Template>, SetUpError> {
    let mut templates = TEMPLATES.lock().await;
    let templates = templates.get_or_insert_default();
    let key = migrations.key();
    if let Some(made) = templates.get(&key) {
        return Ok(Arc::clone(made));
    }
    let made = Arc::new(make(migrations).await?);
    templates.insert(key, Arc::clone(&made));
    Ok(made)
}

async fn make(migrations: &Migrations) -> Result<Template, SetUpError> {
    let folder = tempfile::tempdir()?;
    // Not in memory, where VACUUM would write into memory too.
    let url = format!("sqlite://{}?mode=rwc", folder.path().join("migrated.sqlite").display());
    let db = connect::open(&url, &ConnectSettings::default()).await?;
    migrations.apply(&db).await?;
    let file = folder.path().join("template.sqlite");
    let name = file.to_string_lossy().replace('\'', "''");
    db.execute_unprepared(&format!("VACUUM INTO '{name}'")).await?;
    let template = Template {
        text: text_of(&db).await?,
        bytes: std::fs::read(file)?,
    };
    db.close().await?;
    Ok(template)
}

/// The statements that make a database anew: tables, rows, and what must not be there yet while rows come in.
async fn text_of(db: &DatabaseConnection) -> Result<String, DbErr> {
    let mut text = "BEGIN; PRAGMA defer_foreign_keys = ON;\n".to_owned();
    let objects = |which: &str| {
        format!(
            "SELECT sql, name FROM sqlite_schema WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite!_%' ESCAPE '!' AND type {which} ORDER BY rowid"
        )
    };
    for row in rows(db, &objects("= 'table'")).await? {
        let (sql, _): (String, String) = columns(&row)?;
        text.push_str(&format!("{sql};\n"));
    }
    // Counters of AUTOINCREMENT, which the rows would raise, have the last word.
    let tables = "SELECT name, name FROM sqlite_schema WHERE type = 'table'
        AND (name NOT LIKE 'sqlite!_%' ESCAPE '!' OR name = 'sqlite_sequence') ORDER BY name = 'sqlite_sequence', rowid";
    for row in rows(db, tables).await? {
        let (table, _): (String, String) = columns(&row)?;
        let quoted = format!("\"{}\"", table.replace('"', "\"\""));
        if table == "sqlite_sequence" {
            text.push_str("DELETE FROM sqlite_sequence;\n");
        }
        text.push_str(&rows_of(db, &table, &quoted).await?);
    }
    for row in rows(db, &objects("<> 'table'")).await? {
        let (sql, _): (String, String) = columns(&row)?;
        text.push_str(&format!("{sql};\n"));
    }
    text.push_str("COMMIT;");
    Ok(text)
}

async fn rows_of(db: &DatabaseConnection, table: &str, quoted: &str) -> Result<String, DbErr> {
    let names = format!(
        "SELECT '\"' || replace(name, '\"', '\"\"') || '\"', name FROM pragma_table_info('{}')",
        table.replace('\'', "''")
    );
    let mut names_of = Vec::new();
    for row in rows(db, &names).await? {
        names_of.push(columns(&row)?.0);
    }
    let list = names_of.join(", ");
    let values: Vec<String> = names_of.iter().map(|name| format!("quote({name})")).collect();
    let values = values.join(" || ', ' || ");
    let mut text = String::new();
    for row in rows(db, &format!("SELECT {values}, 'row' FROM {quoted}")).await? {
        let (values, _) = columns(&row)?;
        text.push_str(&format!("INSERT INTO {quoted} ({list}) VALUES ({values});\n"));
    }
    Ok(text)
}

async fn rows(db: &DatabaseConnection, sql: &str) -> Result<Vec<QueryResult>, DbErr> {
    db.query_all_raw(Statement::from_string(DbBackend::Sqlite, sql)).await
}

fn columns(row: &QueryResult) -> Result<(String, String), DbErr> {
    Ok((row.try_get_by_index(0)?, row.try_get_by_index(1)?))
}

/// A database in memory, that goes with its pool.
pub(super) async fn in_memory(
    migrations: &Migrations,
    settings: &ConnectSettings,
) -> Result<DatabaseConnection, SetUpError> {
    let template = template(migrations).await?;
    let db = connect::open("sqlite::memory:", settings).await?;
    db.execute_unprepared(&template.text).await?;
    Ok(db)
}

/// A database in a folder that is removed with the value: its address.
pub(super) async fn file(migrations: &Migrations) -> Result<(TempDir, String), SetUpError> {
    let template = template(migrations).await?;
    let folder = tempfile::Builder::new().prefix("conferencing-test-").tempdir()?;
    let file = folder.path().join("test.sqlite");
    std::fs::write(&file, &template.bytes)?;
    let url = format!("sqlite://{}?mode=rwc", file.display());
    Ok((folder, url))
}
