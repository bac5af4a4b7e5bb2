//! Applying and reverting migrations, each in a transaction that has the lock, tried again while tables are busy.

use std::collections::BTreeSet;
use std::time::Duration;

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::{ConnectionTrait, DatabaseConnection, DatabaseTransaction, DbBackend};

use crate::error::MigrateError;
use crate::waiting::{Waiting, failed};
use crate::{MigrateSettings, Migrator, lock, table};

/// What the command line shows unless told otherwise.
pub(crate) const LOG_TARGET: &str = "sea_orm_migration";
/// What [`migrate`] found and did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Migrated {
    /// The migrations that this call applied, in their order; none where there was nothing to do, or others did it.
    pub applied: Vec<String>,
    /// What the database has and this build does not know: a newer build has migrated it. That is no error, see docs/MIGRATIONS.md.
    pub unknown: Vec<String>,
}

/// Brings the schema up to date, with the default [`MigrateSettings`]. Safe from every instance of a service at its start: any number may call it at once, through a pool
/// of one connection and through PgBouncer in transaction mode. Where nothing is pending it only reads, and needs no right to
/// change the schema. A database that a newer build has migrated is left as it is.
///
/// ```no_run
/// # async fn start(db: &sea_orm_migration::sea_orm::DatabaseConnection) -> Result<(), conferencing_migration::MigrateError> {
/// let migrated = conferencing_migration::migrate(db).await?;
/// println!("applied {:?}", migrated.applied);
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// As of [`apply`].
pub async fn migrate(db: &DatabaseConnection) -> Result<Migrated, MigrateError> {
    apply::<Migrator>(db, &MigrateSettings::default()).await
}

/// Applies what is pending of any SeaORM migrator: of [`Migrator`] with other settings, or of a service's own, in its own table of
/// migrations. All that go through here share one lock for each database.
///
/// On PostgreSQL each migration is a transaction of its own, unless it says `Some(false)` to `use_transaction`: then it runs without
/// the lock, maybe in several processes at once, and must be able to begin anew, as [`crate::create_index_concurrently`] is. On
/// SQLite all are one transaction.
///
/// # Errors
/// [`MigrateError::Locked`] and [`MigrateError::Busy`] when others are in its way for too long; [`MigrateError::Failed`] and
/// [`MigrateError::Database`] for what the database says. Those that were applied before stay so on PostgreSQL.
pub async fn apply<M: MigratorTrait>(
    db: &DatabaseConnection,
    settings: &MigrateSettings,
) -> Result<Migrated, MigrateError> {
    up::<M>(db, None, settings).await
}

pub(crate) async fn up<M: MigratorTrait>(
    db: &DatabaseConnection,
    steps: Option<u32>,
    settings: &MigrateSettings,
) -> Result<Migrated, MigrateError> {
    let names = names::<M>(db).await?;
    let mut migrated = Migrated {
        applied: Vec::new(),
        unknown: table::unknown::<M>(names.clone()),
    };
    let pending = first(steps, pending::<M>(&names));
    if pending.is_empty() {
        tracing::info!(target: LOG_TARGET, "No pending migrations");
        return Ok(migrated);
    }
    if db.get_database_backend() == DbBackend::Sqlite {
        migrated.applied = on_sqlite::<M>(db, steps, settings).await?;
        return Ok(migrated);
    }
    for migration in pending {
        let change = Change::Up(&*migration);
        if Box::pin(patiently::<M>(db, &change, settings)).await? {
            migrated.applied.push(migration.name().to_owned());
        }
    }
    Ok(migrated)
}

/// Reverts on PostgreSQL, each in a transaction of its own, the newest first.
pub(crate) async fn down<M: MigratorTrait>(
    db: &DatabaseConnection,
    steps: Option<u32>,
    settings: &MigrateSettings,
) -> Result<(), MigrateError> {
    let names = names::<M>(db).await?;
    refuse_newer::<M>(&names)?;
    for migration in first(steps, applied::<M>(&names)) {
        Box::pin(patiently::<M>(db, &Change::Down(&*migration), settings)).await?;
    }
    Ok(())
}

/// Runs something that is not one of the migrations under the lock, on PostgreSQL.
pub(crate) async fn alone(db: &DatabaseConnection, sql: &str, settings: &MigrateSettings) -> Result<(), MigrateError> {
    let mut waiting = Waiting::new(settings);
    loop {
        match lock::execute(db, settings.lock_timeout, sql).await {
            Ok(()) => return Ok(()),
            Err(error) => waiting.after(db, "the change", &error).await?,
        }
    }
}

pub(crate) fn refuse_newer<M: MigratorTrait>(names: &BTreeSet<String>) -> Result<(), MigrateError> {
    let unknown = table::unknown::<M>(names.clone());
    if unknown.is_empty() {
        Ok(())
    } else {
        Err(MigrateError::Newer { unknown })
    }
}

async fn names<M: MigratorTrait>(db: &DatabaseConnection) -> Result<BTreeSet<String>, MigrateError> {
    let names = table::names::<M>(db).await;
    names.map_err(|error| MigrateError::database(&error))
}

pub(crate) fn pending<M: MigratorTrait>(names: &BTreeSet<String>) -> Vec<Box<dyn MigrationTrait>> {
    let all = M::migrations().into_iter();
    all.filter(|migration| !names.contains(migration.name())).collect()
}

/// The newest first.
pub(crate) fn applied<M: MigratorTrait>(names: &BTreeSet<String>) -> Vec<Box<dyn MigrationTrait>> {
    let all = M::migrations().into_iter().rev();
    all.filter(|migration| names.contains(migration.name())).collect()
}

pub(crate) fn first<T>(steps: Option<u32>, mut all: Vec<T>) -> Vec<T> {
    let most = steps.and_then(|steps| usize::try_from(steps).ok());
    all.truncate(most.unwrap_or(usize::MAX));
    all
}

/// Begins SQLite's one transaction, once nobody else writes.
pub(crate) async fn begin_immediate(
    db: &DatabaseConnection,
    settings: &MigrateSettings,
) -> Result<DatabaseTransaction, MigrateError> {
    let mut waiting = Waiting::new(settings);
    loop {
        match lock::begin_immediate(db).await {
            Ok(transaction) => return Ok(transaction),
            Err(error) => waiting.after(db, "the first migration", &error).await?,
        }
    }
}

async fn on_sqlite<M: MigratorTrait>(
    db: &DatabaseConnection,
    steps: Option<u32>,
    settings: &MigrateSettings,
) -> Result<Vec<String>, MigrateError> {
    let transaction = begin_immediate(db, settings).await?;
    let applied = up_within::<M>(&SchemaManager::new(&transaction), steps).await?;
    let committed = transaction.commit().await;
    committed.map_err(|error| MigrateError::database(&error))?;
    Ok(applied)
}

/// Applies in a transaction that is there.
pub(crate) async fn up_within<M: MigratorTrait>(
    manager: &SchemaManager<'_>,
    steps: Option<u32>,
) -> Result<Vec<String>, MigrateError> {
    let db = manager.get_connection();
    let database = |error: DbErr| MigrateError::database(&error);
    M::install(db).await.map_err(database)?;
    let names = table::names::<M>(db).await.map_err(database)?;
    let mut applied = Vec::new();
    for migration in first(steps, pending::<M>(&names)) {
        let change = Change::Up(&*migration);
        change.within::<M>(manager).await?;
        applied.push(migration.name().to_owned());
    }
    Ok(applied)
}

/// Reverts in a transaction that is there.
pub(crate) async fn down_within<M: MigratorTrait>(
    manager: &SchemaManager<'_>,
    steps: Option<u32>,
) -> Result<(), MigrateError> {
    let names = table::names::<M>(manager.get_connection()).await;
    let names = names.map_err(|error| MigrateError::database(&error))?;
    refuse_newer::<M>(&names)?;
    for migration in first(steps, applied::<M>(&names)) {
        Change::Down(&*migration).within::<M>(manager).await?;
    }
    Ok(())
}

/// One migration, forth or back.
enum Change<'m> {
    Up(&'m dyn MigrationTrait),
    Down(&'m dyn MigrationTrait),
}

impl Change<'_> {
    fn migration(&self) -> &dyn MigrationTrait {
        match self {
            Self::Up(migration) | Self::Down(migration) => *migration,
        }
    }

    async fn make(&self, manager: &SchemaManager<'_>) -> Result<(), DbErr> {
        match self {
            Self::Up(migration) => migration.up(manager).await,
            Self::Down(migration) => migration.down(manager).await,
        }
    }

    async fn record<M: MigratorTrait>(&self, db: &impl ConnectionTrait) -> Result<(), DbErr> {
        let name = self.migration().name();
        match self {
            Self::Up(_) => table::record::<M>(db, name).await,
            Self::Down(_) => table::forget::<M>(db, name).await,
        }
    }

    /// False when there is nothing to do any more, because others have done it.
    async fn is_due<M: MigratorTrait>(&self, db: &impl ConnectionTrait) -> Result<bool, DbErr> {
        let names = table::names::<M>(db).await?;
        let is_applied = names.contains(self.migration().name());
        match self {
            Self::Up(_) => Ok(!is_applied),
            Self::Down(_) => Ok(is_applied),
        }
    }

    async fn within<M: MigratorTrait>(&self, manager: &SchemaManager<'_>) -> Result<(), MigrateError> {
        let made = async {
            self.make(manager).await?;
            self.record::<M>(manager.get_connection()).await
        };
        made.await.map_err(|error| failed(self.migration().name(), &error))?;
        self.tell();
        Ok(())
    }

    fn tell(&self) {
        let done = match self {
            Self::Up(_) => "applied",
            Self::Down(_) => "rolled back",
        };
        tracing::info!(target: LOG_TARGET, "Migration '{}' has been {done}", self.migration().name());
    }

    /// True when it was this process that did it.
    async fn once<M: MigratorTrait>(&self, db: &DatabaseConnection, lock_timeout: Duration) -> Result<bool, DbErr> {
        let transaction = lock::begin(db, lock_timeout).await?;
        M::install(&transaction).await?;
        if !self.is_due::<M>(&transaction).await? {
            transaction.rollback().await?;
            return Ok(false);
        }
        if self.migration().use_transaction().unwrap_or(true) {
            self.make(&SchemaManager::new(&transaction)).await?;
            self.record::<M>(&transaction).await?;
            transaction.commit().await?;
            return Ok(true);
        }
        // The table of migrations has to be there for what the migration leaves.
        transaction.commit().await?;
        self.make(&SchemaManager::new(db)).await?;
        self.finish::<M>(db, lock_timeout).await
    }

    /// Records what was done outside of the transaction. The lock is waited for: what is done need not be done again.
    async fn finish<M: MigratorTrait>(&self, db: &DatabaseConnection, lock_timeout: Duration) -> Result<bool, DbErr> {
        let transaction = lock::begin(db, lock_timeout).await?;
        let is_mine = self.is_due::<M>(&transaction).await?;
        if is_mine {
            self.record::<M>(&transaction).await?;
        }
        transaction.commit().await?;
        Ok(is_mine)
    }
}

async fn patiently<M: MigratorTrait>(
    db: &DatabaseConnection,
    change: &Change<'_>,
    settings: &MigrateSettings,
) -> Result<bool, MigrateError> {
    let name = change.migration().name();
    let mut waiting = Waiting::new(settings);
    loop {
        match change.once::<M>(db, settings.lock_timeout).await {
            Ok(done) => {
                if done {
                    change.tell();
                }
                return Ok(done);
            }
            Err(error) => waiting.after(db, name, &error).await?,
        }
    }
}
