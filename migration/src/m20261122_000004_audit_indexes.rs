//! Indexes that serve the audit log by action, by a room's or an actor's actions, and by address. On PostgreSQL they are made
//! CONCURRENTLY: the audit log is written and read meanwhile.

use sea_orm_migration::prelude::*;

use crate::{create_index_concurrently, lock};

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
    /// CONCURRENTLY cannot be undone with a transaction. SQLite's is part of the one transaction that every change is there.
    fn use_transaction(&self) -> Option<bool> {
        Some(false)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for (name, on) in INDEXES {
            create_index_concurrently(manager, "audit_logs", name, on).await?;
        }
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for (name, _) in INDEXES {
            lock::step(manager.get_connection(), &format!("DROP INDEX IF EXISTS {name}")).await?;
        }
        Ok(())
    }
}
