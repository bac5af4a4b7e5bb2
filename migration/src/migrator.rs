//! SeaORM's interface to our migrations: for its command line, and for transactions of the caller's.

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::{ConnectionTrait, DatabaseConnection, DatabaseExecutor, DbBackend};
use sea_orm_migration::{Migration, seaql_migrations};

use crate::run::{self, LOG_TARGET, down_within, up_within};
use crate::{MIGRATION_TABLE, MigrateError, MigrateSettings, fresh, table};

/// Applies and reverts the migrations of this crate, in the table [`MIGRATION_TABLE`].
///
/// `up` is [`crate::migrate`]; `down`, `fresh`, `refresh` and `reset` are as safe from many processes at once. `fresh` drops what is
/// ours and nothing else, and is refused while a foreign key of another table points at ours. `down`, `refresh` and `reset` are
/// refused on a database that a newer build has migrated.
///
/// A caller that passes a transaction instead of a connection is taken to have locked already; all is part of that transaction.
pub struct Migrator;

#[async_trait::async_trait]
impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![
            Box::new(crate::m20261101_000001_base_schema::Migration),
            Box::new(crate::m20261122_000002_audit_actions::Migration),
            Box::new(crate::m20261122_000003_audit_custody_actions::Migration),
            Box::new(crate::m20261122_000004_audit_indexes::Migration),
            Box::new(crate::m20261122_000005_audit_partitions::Migration),
            Box::new(crate::m20261130_000006_back_office::Migration),
            Box::new(crate::m20261130_000007_guests::Migration),
        ]
    }

    fn migration_table_name() -> DynIden {
        Alias::new(MIGRATION_TABLE).into_iden()
    }

    /// Those that this build knows: SeaORM takes others for an error.
    async fn get_migration_models<C: ConnectionTrait>(db: &C) -> Result<Vec<seaql_migrations::Model>, DbErr> {
        Self::install(db).await?;
        known(db).await
    }

    /// Also where there is no right to make a table.
    async fn get_migration_with_status_read_only<C: ConnectionTrait>(db: &C) -> Result<Vec<Migration>, DbErr> {
        Reader::get_migration_with_status(db).await
    }

    async fn up<'c, C>(db: C, steps: Option<u32>) -> Result<(), DbErr>
    where
        C: IntoSchemaManagerConnection<'c>,
    {
        Command::Up(steps).run(db.into_database_executor()).await
    }

    async fn down<'c, C>(db: C, steps: Option<u32>) -> Result<(), DbErr>
    where
        C: IntoSchemaManagerConnection<'c>,
    {
        Command::Down(steps).run(db.into_database_executor()).await
    }

    /// As SeaORM's, but only looks: it makes no table, so it needs no lock and no right to make one.
    async fn status<C: ConnectionTrait>(db: &C) -> Result<(), DbErr> {
        tracing::info!(target: LOG_TARGET, "Checking migration status");
        for migration in Self::get_migration_with_status_read_only(db).await? {
            tracing::info!(target: LOG_TARGET, "Migration '{}'... {}", migration.name(), migration.status());
        }
        for name in table::unknown::<Self>(table::names::<Self>(db).await?) {
            tracing::info!(target: LOG_TARGET, "Migration '{name}'... Applied by a newer build");
        }
        Ok(())
    }

    async fn fresh<'c, C>(db: C) -> Result<(), DbErr>
    where
        C: IntoSchemaManagerConnection<'c>,
    {
        Command::Fresh.run(db.into_database_executor()).await
    }

    async fn refresh<'c, C>(db: C) -> Result<(), DbErr>
    where
        C: IntoSchemaManagerConnection<'c>,
    {
        Command::Refresh.run(db.into_database_executor()).await
    }

    async fn reset<'c, C>(db: C) -> Result<(), DbErr>
    where
        C: IntoSchemaManagerConnection<'c>,
    {
        Command::Reset.run(db.into_database_executor()).await
    }
}

/// Looks at the migrations without a word to the database that would change it.
struct Reader;

#[async_trait::async_trait]
impl MigratorTrait for Reader {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        Migrator::migrations()
    }

    fn migration_table_name() -> DynIden {
        Migrator::migration_table_name()
    }

    async fn install<C: ConnectionTrait>(_: &C) -> Result<(), DbErr> {
        Ok(())
    }

    async fn get_migration_models<C: ConnectionTrait>(db: &C) -> Result<Vec<seaql_migrations::Model>, DbErr> {
        known(db).await
    }
}

async fn known<C: ConnectionTrait>(db: &C) -> Result<Vec<seaql_migrations::Model>, DbErr> {
    let mut rows = table::rows::<Migrator>(db).await?;
    let files = Migrator::migrations();
    rows.retain(|(name, _)| files.iter().any(|file| file.name() == name));
    let rows = rows.into_iter();
    Ok(rows
        .map(|(version, applied_at)| seaql_migrations::Model { version, applied_at })
        .collect())
}

#[derive(Clone, Copy)]
enum Command {
    Up(Option<u32>),
    Down(Option<u32>),
    Fresh,
    Refresh,
    Reset,
}

impl Command {
    async fn run(self, db: DatabaseExecutor<'_>) -> Result<(), DbErr> {
        let settings = MigrateSettings::default();
        let done = match db {
            DatabaseExecutor::Connection(pool) if pool.get_database_backend() == DbBackend::Sqlite => {
                Box::pin(self.on_sqlite(pool, &settings)).await
            }
            DatabaseExecutor::Connection(pool) => Box::pin(self.on_postgres(pool, &settings)).await,
            transaction => Box::pin(self.within(&SchemaManager::new(transaction))).await,
        };
        Ok(done?)
    }

    /// In one transaction.
    async fn on_sqlite(self, pool: &DatabaseConnection, settings: &MigrateSettings) -> Result<(), MigrateError> {
        if let Self::Up(steps) = self {
            return run::up::<Migrator>(pool, steps, settings).await.map(drop);
        }
        let transaction = run::begin_immediate(pool, settings).await?;
        self.within(&SchemaManager::new(&transaction)).await?;
        let committed = transaction.commit().await;
        committed.map_err(|error| MigrateError::database(&error))
    }

    /// Each migration in a transaction of its own.
    async fn on_postgres(self, pool: &DatabaseConnection, settings: &MigrateSettings) -> Result<(), MigrateError> {
        match self {
            Self::Up(steps) => run::up::<Migrator>(pool, steps, settings).await.map(drop),
            Self::Down(Some(steps)) => run::down::<Migrator>(pool, Some(steps), settings).await,
            Self::Down(None) => {
                run::alone(pool, fresh::POSTGRES_GUARD, settings).await?;
                run::down::<Migrator>(pool, None, settings).await
            }
            Self::Refresh => {
                Box::pin(Self::Down(None).on_postgres(pool, settings)).await?;
                run::up::<Migrator>(pool, None, settings).await.map(drop)
            }
            Self::Reset => {
                Box::pin(Self::Down(None).on_postgres(pool, settings)).await?;
                run::alone(pool, &fresh::drop_migration_table(), settings).await
            }
            Self::Fresh => {
                let sql = [fresh::POSTGRES_GUARD, fresh::POSTGRES, &fresh::drop_migration_table()].concat();
                run::alone(pool, &sql, settings).await?;
                run::up::<Migrator>(pool, None, settings).await.map(drop)
            }
        }
    }

    async fn within(self, manager: &SchemaManager<'_>) -> Result<(), MigrateError> {
        let db = manager.get_connection();
        let database = |error: DbErr| MigrateError::database(&error);
        match self {
            Self::Up(steps) => up_within::<Migrator>(manager, steps).await.map(drop),
            Self::Down(steps) => down_within::<Migrator>(manager, steps).await,
            Self::Refresh => {
                down_within::<Migrator>(manager, None).await?;
                up_within::<Migrator>(manager, None).await.map(drop)
            }
            Self::Reset => {
                down_within::<Migrator>(manager, None).await?;
                let dropped = db.execute_unprepared(&fresh::drop_migration_table()).await;
                dropped.map(drop).map_err(database)
            }
            Self::Fresh => {
                fresh::drop_ours(db).await.map_err(database)?;
                up_within::<Migrator>(manager, None).await.map(drop)
            }
        }
    }
}
