//! Whether the database is well, and emptying one that is for tests.

use conferencing_migration::clean_test_database;
use conferencing_store::connect::{self, ConnectSettings};
use conferencing_store::{Error, REQUIRED_MIGRATION};

use crate::harness::{Backend, TestDb};
use crate::through::as_service;

crate::cases![
    a_store_says_whether_it_is_well,
    a_test_database_can_be_emptied_and_no_other,
];

async fn a_store_says_whether_it_is_well(db: TestDb) {
    let health = db.store.health().await.unwrap();
    let database = match db.backend {
        Backend::Postgres => "PostgreSQL",
        Backend::Sqlite => "SQLite",
    };
    assert_eq!((health.database, health.migration), (database, REQUIRED_MIGRATION));
    db.raw()
        .await
        .execute("DELETE FROM conferencing_migrations")
        .await
        .unwrap();
    let ill = db.store.health().await;
    assert!(matches!(ill, Err(Error::Unmigrated { .. })), "{ill:?}");
    db.store.close().await.unwrap();
    let gone = db.store.health().await;
    assert!(matches!(gone, Err(Error::Transient { .. })), "{gone:?}");
}

async fn a_test_database_can_be_emptied_and_no_other(db: TestDb) {
    db.user("ada").await;
    let users = "SELECT count(*) FROM users";
    let raw = db.raw().await;
    let (kept, emptied) = match db.backend {
        Backend::Sqlite => (db.url.replace("test.sqlite", "latest.sqlite"), db.url.clone()),
        Backend::Postgres => {
            let name = &raw.texts("SELECT CAST(current_database() AS text)").await[0];
            raw.execute(&format!("CREATE DATABASE {name}_test")).await.unwrap();
            (db.url.clone(), db.url.replace(name.as_str(), &format!("{name}_test")))
        }
    };
    let open = async |url: &str| {
        connect::open(&as_service(url), &ConnectSettings::default())
            .await
            .unwrap()
    };
    let refused = clean_test_database(&open(&kept).await).await.unwrap_err();
    assert!(refused.to_string().contains("not a test database"), "{refused}");
    assert_eq!(raw.number(users).await, 1);
    let database = open(&emptied).await;
    clean_test_database(&database).await.unwrap();
    let emptied = crate::harness::Raw { db: database };
    assert_eq!(emptied.number(users).await, 0);
}
