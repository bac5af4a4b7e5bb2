//! The schema, as migrations for PostgreSQL 14+ and SQLite.
//!
//! [`migrate`] brings a database up to date, from every instance of a service at its start if you like: one works, the others wait and
//! find it done. [`apply`] does the same with the migrations of your own that stand beside ours. [`Migrator`] is SeaORM's
//! `MigratorTrait`, for its command line. docs/MIGRATIONS.md has how to run them in production, docs/SCHEMA.md the schema.

mod clean;
mod error;
mod fresh;
mod index;
mod lock;
mod m20261101_000001_base_schema;
mod m20261122_000002_audit_actions;
mod m20261122_000003_audit_custody_actions;
mod m20261122_000004_audit_indexes;
mod m20261122_000005_audit_partitions;
mod m20261130_000006_back_office;
mod m20261130_000007_guests;
mod migrator;
mod run;
mod settings;
mod table;
mod values;
mod waiting;

pub use clean::clean_test_database;
pub use entity::MIGRATION_TABLE;
pub use error::{LockHolder, MigrateError};
pub use index::create_index_concurrently;
pub use migrator::Migrator;
pub use run::{Migrated, apply, migrate};
pub use sea_orm_migration::MigratorTrait;
pub use settings::MigrateSettings;
