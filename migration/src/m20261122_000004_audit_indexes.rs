//! Indexes that serve audit log of some actions of a room or an actor, and audit log of an address. On PostgreSQL they are made
//! CONCURRENTLY: the audit log is written and read meanwhile.

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::{ConnectionTrait, DatabaseExecutor, DbBackend, Statement};

#[derive(DeriveMigrationName)]
pub struct Migration;

const INDEXES: [(&str, &str); 3] = [
    (
        "ix_audit_logs_room_action",
        r#"(room_id, action, "timestamp", id) WHERE room_id IS NOT NULL"#,
    ),
    (
        "ix_audit_logs_user_action",
        r#"(user_id, action, "timestamp", id) WHERE user_id IS NOT NULL"#,
    ),
    (
        "ix_audit_logs_address",
        r#"(ip_address, "timestamp", id) WHERE ip_address IS NOT NULL"#,
    ),
];

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    /// CONCURRENTLY cannot be undone with a transaction; [`Migration::up`] clears away what a failed try left. SQLite's is part of
    /// the one transaction that every change is there.
    fn use_transaction(&self) -> Option<bool> {
        Some(false)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let db = manager.get_connection();
        let how = match db {
            DatabaseExecutor::Connection(_) if db.get_database_backend() != DbBackend::Sqlite => "CONCURRENTLY",
            // A caller's transaction, in which there is no CONCURRENTLY.
            _ => "",
        };
        for (name, on) in INDEXES {
            if exists(db, name).await? {
                if is_valid(db, name).await? {
                    continue;
                }
                db.execute_unprepared(&format!("DROP INDEX {how} {name}")).await?;
            }
            db.execute_unprepared(&format!("CREATE INDEX {how} {name} ON audit_logs {on}"))
                .await?;
        }
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for (name, _) in INDEXES {
            manager
                .get_connection()
                .execute_unprepared(&format!("DROP INDEX IF EXISTS {name}"))
                .await?;
        }
        Ok(())
    }
}

async fn exists(db: &DatabaseExecutor<'_>, name: &str) -> Result<bool, DbErr> {
    let backend = db.get_database_backend();
    let sql = match backend {
        DbBackend::Sqlite => "SELECT 1 FROM sqlite_master WHERE type = 'index' AND name = $1",
        _ => "SELECT 1 WHERE to_regclass($1) IS NOT NULL",
    };
    let statement = Statement::from_sql_and_values(backend, sql, [name.into()]);
    Ok(db.query_one_raw(statement).await?.is_some())
}

/// False for what a CREATE INDEX CONCURRENTLY left that did not come to its end.
async fn is_valid(db: &DatabaseExecutor<'_>, name: &str) -> Result<bool, DbErr> {
    let backend = db.get_database_backend();
    if backend == DbBackend::Sqlite {
        return Ok(true);
    }
    let sql = "SELECT 1 FROM pg_index WHERE indexrelid = to_regclass($1) AND indisvalid";
    let statement = Statement::from_sql_and_values(backend, sql, [name.into()]);
    Ok(db.query_one_raw(statement).await?.is_some())
}
