//! Indexes that only the back office reads along. Each is of rows that joins, leaves and logins neither make nor change: deleted users, bans,
//! meetings that ended. On PostgreSQL they are made CONCURRENTLY: their tables are written and read meanwhile.

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::DbBackend;

use crate::{create_index_concurrently, lock};

#[derive(DeriveMigrationName)]
pub struct Migration;

struct Index {
    table: &'static str,
    name: &'static str,
    on: &'static str,
    /// Where SQLite spells it otherwise.
    on_sqlite: Option<&'static str>,
}

const fn index(table: &'static str, name: &'static str, on: &'static str) -> Index {
    Index {
        table,
        name,
        on,
        on_sqlite: None,
    }
}

const INDEXES: [Index; 5] = [
    index("users", "ix_users_deleted", "(id) WHERE deleted_at IS NOT NULL"),
    Index {
        on_sqlite: Some("(lower(username)) WHERE deleted_at IS NOT NULL"),
        ..index(
            "users",
            "ix_users_deleted_username",
            r#"(lower(username COLLATE "C")) WHERE deleted_at IS NOT NULL"#,
        )
    },
    index(
        "room_participants",
        "ix_room_participants_banned",
        "(user_id, banned_at, id) WHERE banned_at IS NOT NULL",
    ),
    index(
        "room_participants",
        "ix_room_participants_banned_by",
        "(banned_by, banned_at, id) WHERE banned_by IS NOT NULL",
    ),
    index(
        "rooms",
        "ix_rooms_ended",
        "(ended_at, started_at, id) WHERE status = 'ENDED'",
    ),
];

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    /// CONCURRENTLY cannot be undone with a transaction. SQLite's is part of the one transaction that every change is there.
    fn use_transaction(&self) -> Option<bool> {
        Some(false)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let is_sqlite = manager.get_database_backend() == DbBackend::Sqlite;
        for Index {
            table,
            name,
            on,
            on_sqlite,
        } in INDEXES
        {
            let on = on_sqlite.filter(|_| is_sqlite).unwrap_or(on);
            create_index_concurrently(manager, table, name, on).await?;
        }
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for Index { name, .. } in INDEXES {
            lock::step(manager.get_connection(), &format!("DROP INDEX IF EXISTS {name}")).await?;
        }
        Ok(())
    }
}
