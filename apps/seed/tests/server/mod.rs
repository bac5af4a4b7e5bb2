//! A migrated database of a test's own: an SQLite file, or one on the server of TEST_DATABASE_URL.

use std::sync::atomic::{AtomicUsize, Ordering};

use conferencing_seed::connect_settings;
use conferencing_store::{ConnectSettings, connect};
use sea_orm::{ConnectionTrait, DatabaseConnection};
use tempfile::TempDir;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    Sqlite,
    Postgres,
}

pub struct TestDatabase {
    pub db: DatabaseConnection,
    /// Of the server, and the database's name there.
    on_server: Option<(String, String)>,
    _folder: Option<TempDir>,
}

/// Whether there is a server to test on; where there must be one, a missing one is a failure.
pub fn server_is_there() -> bool {
    let there = std::env::var_os("TEST_DATABASE_URL").is_some();
    let required = std::env::var_os("REQUIRE_POSTGRES").is_some();
    assert!(there || !required, "TEST_DATABASE_URL names no server");
    there
}

static MADE: AtomicUsize = AtomicUsize::new(0);

impl TestDatabase {
    pub async fn new(backend: Backend) -> Self {
        let (url, on_server, folder) = match backend {
            Backend::Sqlite => {
                let folder = tempfile::tempdir().unwrap();
                let url = format!("sqlite://{}?mode=rwc", folder.path().join("seed.sqlite").display());
                (url, None, Some(folder))
            }
            Backend::Postgres => {
                let server = std::env::var("TEST_DATABASE_URL").unwrap();
                let number = MADE.fetch_add(1, Ordering::Relaxed);
                let name = format!("seed_{}_{number}", std::process::id());
                on_server(&server, &format!("CREATE DATABASE {name}")).await;
                let (head, parameters) = server.split_once('?').unwrap_or((&server, ""));
                let (head, _) = head.rsplit_once('/').unwrap();
                let url = format!("{head}/{name}?{parameters}");
                (url, Some((server, name)), None)
            }
        };
        let db = connect::open(&url, &connect_settings(8, ConnectSettings::default()))
            .await
            .unwrap();
        conferencing_migration::migrate(&db).await.unwrap();
        Self {
            db,
            on_server,
            _folder: folder,
        }
    }

    pub async fn close(self) {
        self.db.close().await.unwrap();
        if let Some((server, name)) = self.on_server {
            on_server(&server, &format!("DROP DATABASE {name} WITH (FORCE)")).await;
        }
    }
}

async fn on_server(url: &str, sql: &str) {
    let admin = connect::open(url, &ConnectSettings::default()).await.unwrap();
    admin.execute_unprepared(sql).await.unwrap();
    admin.close().await.unwrap();
}
