//! Migrations that this build has and the database has not, and the reverse.

use super::{Check, Examined, Finding};
use crate::database::statement::Query;
use crate::error::Result;
use entity::MIGRATION_TABLE;

/// The migrations that this build knows, in their order. A test holds the list equal to what there is.
pub const MIGRATIONS: &[&str] = &[
    "m20261101_000001_base_schema",
    "m20261122_000002_audit_actions",
    "m20261122_000003_audit_custody_actions",
    "m20261122_000004_audit_indexes",
    "m20261122_000005_audit_partitions",
    "m20261130_000006_back_office",
    "m20261130_000007_guests",
];

pub(super) fn query() -> Query {
    Query::new(format!("SELECT version FROM {MIGRATION_TABLE} ORDER BY version"))
}

pub(super) async fn check(examined: &Examined<'_>) -> Result<Vec<Finding>> {
    let applied: Vec<String> = examined.read(&query(), |cells| cells.next("version")).await?;
    let pending = MIGRATIONS.iter().filter(|name| !applied.iter().any(|one| one == *name));
    let pending = pending.map(|name| Finding::of(Check::MigrationPending, format!("{name} was not applied")));
    let unknown = applied.iter().filter(|name| !MIGRATIONS.contains(&name.as_str()));
    let unknown = unknown.map(|name| Finding::of(Check::MigrationUnknown, format!("{name} is unknown to this build")));
    Ok(pending.chain(unknown).collect())
}
