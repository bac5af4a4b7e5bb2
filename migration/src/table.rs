//! Which migrations a database has: SeaORM's table of them, under whatever name.

use std::collections::BTreeSet;

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::{ConnectionTrait, DbBackend, Statement};

const VERSION: &str = "version";
const APPLIED_AT: &str = "applied_at";

/// The names in the table, each with when it was applied, in seconds since 1970; none where there is no table.
pub(crate) async fn rows<M: MigratorTrait>(db: &impl ConnectionTrait) -> Result<Vec<(String, i64)>, DbErr> {
    let backend = db.get_database_backend();
    let table = M::migration_table_name();
    let sql = match backend {
        DbBackend::Sqlite => "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = $1",
        _ => "SELECT 1 WHERE to_regclass(quote_ident($1)) IS NOT NULL",
    };
    let is_there = Statement::from_sql_and_values(backend, sql, [table.to_string().into()]);
    if db.query_one_raw(is_there).await?.is_none() {
        return Ok(Vec::new());
    }
    let all = Query::select()
        .columns([VERSION, APPLIED_AT].map(Alias::new))
        .from(table)
        .order_by(Alias::new(VERSION), Order::Asc)
        .take();
    let rows = db.query_all(&all).await?;
    rows.iter()
        .map(|row| Ok((row.try_get_by_index(0)?, row.try_get_by_index(1)?)))
        .collect()
}

pub(crate) async fn names<M: MigratorTrait>(db: &impl ConnectionTrait) -> Result<BTreeSet<String>, DbErr> {
    let rows = rows::<M>(db).await?;
    Ok(rows.into_iter().map(|(name, _)| name).collect())
}

/// Those of the names that `M` does not know.
pub(crate) fn unknown<M: MigratorTrait>(mut names: BTreeSet<String>) -> Vec<String> {
    for migration in M::migrations() {
        names.remove(migration.name());
    }
    names.into_iter().collect()
}

pub(crate) async fn record<M: MigratorTrait>(db: &impl ConnectionTrait, name: &str) -> Result<(), DbErr> {
    let row = Query::insert()
        .into_table(M::migration_table_name())
        .columns([VERSION, APPLIED_AT].map(Alias::new))
        .values_panic([name.into(), seconds_now().into()])
        .take();
    db.execute(&row).await.map(drop)
}

pub(crate) async fn forget<M: MigratorTrait>(db: &impl ConnectionTrait, name: &str) -> Result<(), DbErr> {
    let row = Query::delete()
        .from_table(M::migration_table_name())
        .and_where(Expr::col(Alias::new(VERSION)).eq(name))
        .take();
    db.execute(&row).await.map(drop)
}

/// As SeaORM counts.
#[expect(clippy::disallowed_methods, reason = "what SeaORM records, and nobody reads")]
fn seconds_now() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |since| since.as_secs().cast_signed())
}
