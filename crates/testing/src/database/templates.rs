//! Migrated databases that those of tests are copies of. They stay on the server, for the next process that has the same migrations.

use std::time::Duration;

use conferencing_store::connect;
use sea_orm::DbErr;

use super::migrations::Migrations;
use super::server::{Host, one_connection};
use crate::error::SetUpError;

const PREFIX: &str = "conferencing_template_test_";
/// The advisory lock under which templates are made and dropped.
const LOCK: (i32, i32) = (0x636f_6e67, 0);
/// A template that no process has begun to use for so many seconds is dropped by the next that makes one.
const FORGOTTEN: u32 = 24 * 60 * 60;
const PAUSE: Duration = Duration::from_millis(20);

/// The name of the template with these migrations, which is made if it is not there.
pub(super) async fn ensure(host: &Host, key: &str, migrations: &Migrations) -> Result<String, SetUpError> {
    // Asked for again and again: a session that waits within a statement holds up CREATE INDEX CONCURRENTLY.
    while !host.try_lock(LOCK.0, LOCK.1).await? {
        tokio::time::sleep(host.pause()).await;
    }
    let made = make_unless_there(host, key, migrations).await;
    host.unlock(LOCK.0, LOCK.1).await?;
    made
}

async fn make_unless_there(host: &Host, key: &str, migrations: &Migrations) -> Result<String, SetUpError> {
    let name = format!("{PREFIX}{key}");
    let there = format!("SELECT 1 FROM pg_database WHERE datname = '{name}'");
    if host.rows(&there).await?.is_empty() {
        drop_forgotten(host).await?;
        make(host, &name, migrations).await?;
    }
    let now: i64 = match host
        .rows("SELECT CAST(extract(epoch FROM now()) AS bigint)")
        .await?
        .first()
    {
        Some(row) => row.try_get_by_index(0)?,
        None => 0,
    };
    host.run(&format!("COMMENT ON DATABASE {name} IS 'used at {now}'"))
        .await?;
    Ok(name)
}

/// Under another name until it is whole, so that nobody takes what a killed process has left.
async fn make(host: &Host, name: &str, migrations: &Migrations) -> Result<(), SetUpError> {
    let unfinished = format!("{name}_unfinished");
    host.run(&format!("DROP DATABASE IF EXISTS {unfinished} WITH (FORCE)"))
        .await?;
    host.run(&format!("CREATE DATABASE {unfinished}")).await?;
    let db = connect::open(&host.url_of(&unfinished), &one_connection()).await?;
    let migrated = migrations.apply(&db).await;
    db.close().await?;
    migrated?;
    // From now on nobody is connected to it, autovacuum neither: it could not be copied.
    host.run(&format!("ALTER DATABASE {unfinished} ALLOW_CONNECTIONS false"))
        .await?;
    let left = format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{unfinished}'");
    while !host.rows(&left).await?.is_empty() {
        tokio::time::sleep(PAUSE).await;
    }
    host.run(&format!("ALTER DATABASE {unfinished} RENAME TO {name}"))
        .await?;
    Ok(())
}

async fn drop_forgotten(host: &Host) -> Result<(), DbErr> {
    let forgotten = format!(
        "SELECT CAST(datname AS text) FROM pg_database WHERE starts_with(datname, '{PREFIX}') AND coalesce(
            CAST(substring(shobj_description(oid, 'pg_database') FROM 'used at (\\d+)') AS bigint), 0)
            < extract(epoch FROM now()) - {FORGOTTEN}"
    );
    for row in host.rows(&forgotten).await? {
        let name: String = row.try_get_by_index(0)?;
        // One of another owner stays.
        let _ = host.run(&format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)")).await;
    }
    Ok(())
}
