//! A commit that was reported stays: the store does not work on a database that is set to forget.

use conferencing_store::{Durability, Error, Store, StoreSettings};
use sea_orm::{ConnectOptions, ConnectionTrait, Database, Statement, TransactionTrait};

use crate::harness::{Backend, TestDb};
use crate::metering::one_connection;

crate::cases![
    a_database_that_may_forget_commits_is_refused,
    every_connection_of_the_pool_writes_through,
];

async fn a_database_that_may_forget_commits_is_refused(db: TestDb) {
    let forgetful = || StoreSettings {
        durability: Durability::AsConfigured,
        ..StoreSettings::default()
    };
    let refused = match db.backend {
        Backend::Postgres => {
            let raw = one_connection(&db.url).await;
            let name = &raw.texts("SELECT current_database()::text").await[0];
            let sql = format!("ALTER DATABASE {name} SET synchronous_commit = off");
            raw.execute(&sql).await.unwrap();
            raw.end_other_sessions().await;
            Store::connect_with(&db.service_url(), forgetful()).await.unwrap();
            Store::connect(&db.service_url()).await
        }
        Backend::Sqlite => {
            let open = || async {
                let mut options = ConnectOptions::new(&db.url);
                options.map_sqlx_sqlite_opts(|connect| {
                    connect.synchronous(sea_orm::sqlx::sqlite::SqliteSynchronous::Normal)
                });
                Database::connect(options).await.unwrap()
            };
            Store::from_connection(open().await, forgetful()).await.unwrap();
            Store::from_connection(open().await, StoreSettings::default()).await
        }
    };
    let Err(Error::NotDurable { setting }) = refused else {
        panic!("{refused:?}");
    };
    assert!(setting.starts_with("synchronous"), "{setting}");
}

async fn every_connection_of_the_pool_writes_through(db: TestDb) {
    let raw = db.raw().await;
    let held = [raw.db.begin().await.unwrap(), raw.db.begin().await.unwrap()];
    for connection in &held {
        let expected: &[(&str, &str)] = match db.backend {
            Backend::Postgres => &[("SELECT current_setting('synchronous_commit')", "on")],
            Backend::Sqlite => &[
                ("SELECT CAST(synchronous AS text) FROM pragma_synchronous", "2"),
                ("SELECT journal_mode FROM pragma_journal_mode", "wal"),
            ],
        };
        for (question, answer) in expected {
            let row = connection
                .query_one_raw(Statement::from_string(raw.backend(), *question))
                .await;
            assert_eq!(row.unwrap().unwrap().try_get_by_index::<String>(0).unwrap(), *answer);
        }
    }
}
