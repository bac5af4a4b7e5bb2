//! The service's own tables, by migrations of its own in a table of its own: the store's stand in another, and neither knows of the other's.

use sea_orm_migration::prelude::*;

/// The service's own migrations. They refer to the store's tables, whose migrations run first.
pub struct Migrator;

#[async_trait::async_trait]
impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![Box::new(Sessions)]
    }

    fn migration_table_name() -> DynIden {
        Alias::new("signaling_migrations").into_iden()
    }
}

struct Sessions;

impl MigrationName for Sessions {
    fn name(&self) -> &str {
        "m20261130_000001_sessions"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Sessions {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let hash = |name: &str| ColumnDef::new(Alias::new(name)).string_len(64).not_null().take();
        let time = |name: &str| {
            ColumnDef::new(Alias::new(name))
                .timestamp_with_time_zone()
                .not_null()
                .take()
        };
        // Users are marked as deleted, never deleted.
        let user = ForeignKey::create()
            .name("fk_signaling_sessions_user")
            .from(Alias::new("signaling_sessions"), Alias::new("user_id"))
            .to(Alias::new("users"), Alias::new("id"))
            .on_delete(ForeignKeyAction::Restrict)
            .take();
        let session = ForeignKey::create()
            .name("fk_signaling_tickets_session")
            .from(Alias::new("signaling_tickets"), Alias::new("session_hash"))
            .to(Alias::new("signaling_sessions"), Alias::new("token_hash"))
            .on_delete(ForeignKeyAction::Cascade)
            .take();
        let sessions = Table::create()
            .table(Alias::new("signaling_sessions"))
            .col(hash("token_hash").primary_key())
            .col(ColumnDef::new(Alias::new("user_id")).uuid().not_null())
            .col(time("created_at"))
            .col(time("expires_at"))
            .foreign_key(&mut user.clone())
            .take();
        manager.create_table(sessions).await?;
        let tickets = Table::create()
            .table(Alias::new("signaling_tickets"))
            .col(hash("token_hash").primary_key())
            .col(hash("session_hash"))
            .col(time("expires_at"))
            .foreign_key(&mut session.clone())
            .take();
        manager.create_table(tickets).await?;
        for (table, column) in [
            ("signaling_sessions", "expires_at"),
            ("signaling_sessions", "user_id"),
            ("signaling_tickets", "session_hash"),
            ("signaling_tickets", "expires_at"),
        ] {
            let index = Index::create()
                .name(format!("ix_{table}_{column}"))
                .table(Alias::new(table))
                .col(Alias::new(column))
                .take();
            manager.create_index(index).await?;
        }
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for table in ["signaling_tickets", "signaling_sessions"] {
            manager
                .drop_table(Table::drop().table(Alias::new(table)).take())
                .await?;
        }
        Ok(())
    }
}
