//! What a test's database is migrated with: ours, and a service's own.

use std::future::Future;
use std::pin::Pin;
use std::time::UNIX_EPOCH;

use conferencing_migration::{MigrateError, MigrateSettings, Migrator, MigratorTrait, apply};
use sea_orm::DatabaseConnection;
use sha2::{Digest, Sha256};

type Applying<'a> = Pin<Box<dyn Future<Output = Result<(), MigrateError>> + Send + 'a>>;

/// Migrators in the order in which they are applied.
#[derive(Clone)]
pub(crate) struct Migrations(Vec<One>);

#[derive(Clone)]
struct One {
    /// Its table and the names of its migrations.
    text: String,
    apply: for<'a> fn(&'a DatabaseConnection) -> Applying<'a>,
}

impl Default for Migrations {
    fn default() -> Self {
        Self(Vec::new()).and::<Migrator>()
    }
}

impl Migrations {
    pub(crate) fn and<M: MigratorTrait>(mut self) -> Self {
        let names: Vec<String> = M::migrations().iter().map(|one| one.name().to_owned()).collect();
        self.0.push(One {
            text: format!("{}: {}\n", M::migration_table_name(), names.join(", ")),
            apply: |db| {
                Box::pin(async move {
                    apply::<M>(db, &MigrateSettings::default()).await?;
                    Ok(())
                })
            },
        });
        self
    }

    pub(crate) async fn apply(&self, db: &DatabaseConnection) -> Result<(), MigrateError> {
        for one in &self.0 {
            (one.apply)(db).await?;
        }
        Ok(())
    }

    /// 16 hexadecimal digits that stand for these migrations as this program has them: for their names, and for the program's file, because
    /// whoever is at work on a migration changes it without a new name.
    pub(crate) fn key(&self) -> String {
        let mut digest = Sha256::new();
        for one in &self.0 {
            digest.update(&one.text);
        }
        if let Ok(program) = std::env::current_exe() {
            digest.update(program.as_os_str().as_encoded_bytes());
            if let Ok(file) = program.metadata() {
                let changed = file.modified().ok();
                let changed = changed.and_then(|at| at.duration_since(UNIX_EPOCH).ok());
                digest.update(format!("{} {changed:?}", file.len()));
            }
        }
        let bytes = digest.finalize();
        bytes.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
    }
}
