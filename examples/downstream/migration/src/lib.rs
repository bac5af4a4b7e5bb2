//! The migrations of a service that keeps tables of its own beside ours, in SeaORM's table `seaql_migrations`.

mod m20261129_000001_room_notes;

use sea_orm_migration::prelude::*;

/// The service's own migrations. They refer to our tables, so ours run first.
pub struct Migrator;

#[async_trait::async_trait]
impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![Box::new(m20261129_000001_room_notes::Migration)]
    }

    /// SeaORM's own would drop every table of the schema, ours too, and leave our functions behind: both schemas anew, ours first.
    async fn fresh<'c, C>(db: C) -> Result<(), DbErr>
    where
        C: IntoSchemaManagerConnection<'c>,
    {
        let SchemaManagerConnection::Connection(pool) = db.into_database_executor() else {
            return Err(DbErr::Migration(
                "fresh takes a connection, not a transaction".to_owned(),
            ));
        };
        Self::reset(pool).await?;
        conferencing_migration::Migrator::fresh(pool).await?;
        Self::up(pool, None).await
    }
}
