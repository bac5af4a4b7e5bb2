//! Guests: people without an account, who are in rooms that ask for none (ADR 15). A column of the users, what it forbids, and
//! its index.

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::{ConnectionTrait, DatabaseExecutor, DbBackend};

use crate::{create_index_concurrently, lock};

#[derive(DeriveMigrationName)]
pub struct Migration;

/// Guests who are not erased, those first who came first.
const INDEX: (&str, &str) = (
    "ix_users_guests",
    "(guest_since, id) WHERE guest_since IS NOT NULL AND deleted_at IS NULL",
);

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    /// The index is made CONCURRENTLY. All before it can be run again.
    fn use_transaction(&self) -> Option<bool> {
        Some(false)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        run(
            manager.get_connection(),
            include_str!("guests/postgres_up.sql"),
            include_str!("guests/sqlite_up.sql"),
        )
        .await?;
        let (name, on) = INDEX;
        create_index_concurrently(manager, "users", name, on).await
    }

    /// Guests are left as users whom nobody can sign in as.
    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        run(
            manager.get_connection(),
            include_str!("guests/postgres_down.sql"),
            include_str!("guests/sqlite_down.sql"),
        )
        .await
    }
}

async fn run(db: &DatabaseExecutor<'_>, postgres: &str, sqlite: &str) -> Result<(), DbErr> {
    let sql = match db.get_database_backend() {
        DbBackend::Sqlite => sqlite,
        _ => postgres,
    };
    lock::step(db, sql).await
}
