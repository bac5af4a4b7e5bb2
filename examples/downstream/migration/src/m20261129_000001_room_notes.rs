//! Notes that people write about rooms.

use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        // Users and rooms are marked as deleted, never deleted: what ON DELETE says would never happen, but for a mistake.
        let references = |column: &str, table: &str| {
            ForeignKey::create()
                .name(format!("fk_room_notes_{column}"))
                .from(Alias::new("room_notes"), Alias::new(column))
                .to(Alias::new(table), Alias::new("id"))
                .on_delete(ForeignKeyAction::Restrict)
                .take()
        };
        let column = |name: &str| ColumnDef::new(Alias::new(name)).not_null().take();
        manager
            .create_table(
                Table::create()
                    .table(Alias::new("room_notes"))
                    .col(column("id").uuid().primary_key())
                    .col(column("author_id").uuid())
                    .col(column("room_id").uuid())
                    .col(column("text").text())
                    .foreign_key(&mut references("author_id", "users"))
                    .foreign_key(&mut references("room_id", "rooms"))
                    .take(),
            )
            .await?;
        manager
            .create_index(
                Index::create()
                    .name("ix_room_notes_room")
                    .table(Alias::new("room_notes"))
                    .col(Alias::new("room_id"))
                    .take(),
            )
            .await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager
            .drop_table(Table::drop().table(Alias::new("room_notes")).take())
            .await
    }
}
