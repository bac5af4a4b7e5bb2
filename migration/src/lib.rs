//! The schema, as migrations for PostgreSQL 14+ and SQLite.
//!
//! `Migrator` is SeaORM's, with one thing added: whatever changes the schema takes a lock first, so that any number of
//! processes may run `up` at the same moment and all succeed. See `Migrator` for how, and docs/SCHEMA.md for the schema.

mod clean;
mod locked;
mod m20261101_000001_base_schema;
mod m20261122_000002_audit_actions;
mod m20261122_000003_audit_custody_actions;
mod m20261122_000004_audit_indexes;
mod m20261122_000005_audit_partitions;
mod values;

pub use clean::clean_test_database;
pub use locked::Migrator;
pub use sea_orm_migration::MigratorTrait;
