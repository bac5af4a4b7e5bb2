//! Indexes that serve the audit log by action, by a room's or an actor's actions, and by address. On PostgreSQL they are made
//! CONCURRENTLY: the audit log is written and read meanwhile.

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::{ConnectionTrait, DatabaseExecutor, DbBackend, Statement};

#[derive(DeriveMigrationName)]
pub struct Migration;

/// What every participant does many times a meeting, most of the audit log: found by room, by user and by time, not by action.
/// `AuditAction::TRAFFIC` is the same list; the store's suite compares the two.
macro_rules! not_traffic {
    () => {
        "action NOT IN ('USER_JOINED', 'USER_LEFT', 'USER_MUTED', 'USER_UNMUTED', \
         'PRODUCER_CREATED', 'PRODUCER_CLOSED', 'CONSUMER_CREATED', 'CONSUMER_CLOSED')"
    };
}

const INDEXES: [(&str, &str); 4] = [
    (
        "ix_audit_logs_action",
        concat!(r#"(action, "timestamp", id) WHERE "#, not_traffic!()),
    ),
    (
        "ix_audit_logs_room_action",
        concat!(
            r#"(room_id, action, "timestamp", id) WHERE room_id IS NOT NULL AND "#,
            not_traffic!()
        ),
    ),
    (
        "ix_audit_logs_user_action",
        concat!(
            r#"(user_id, action, "timestamp", id) WHERE user_id IS NOT NULL AND "#,
            not_traffic!()
        ),
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
