//! The six tables, five enums, their constraints, indexes and triggers.

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::DbBackend;

use crate::fresh;
use crate::lock::in_transaction;

#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    fn use_transaction(&self) -> Option<bool> {
        in_transaction()
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let sql = match manager.get_database_backend() {
            DbBackend::Sqlite => include_str!("base_schema/sqlite_up.sql"),
            _ => include_str!("base_schema/postgres_up.sql"),
        };
        manager.get_connection().execute_unprepared(sql).await.map(drop)
    }

    /// Fails, and changes nothing, while a foreign key of somebody else's table points at ours.
    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        fresh::refuse_referenced(manager.get_connection()).await?;
        let sql = match manager.get_database_backend() {
            DbBackend::Sqlite => include_str!("base_schema/sqlite_down.sql"),
            _ => include_str!("base_schema/postgres_down.sql"),
        };
        manager.get_connection().execute_unprepared(sql).await.map(drop)
    }
}
