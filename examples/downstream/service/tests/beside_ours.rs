//! The service starts on an empty database, from several instances at once, and its tables stand beside ours; on both backends.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, and looks past the store"
)]

use conferencing_migration::MIGRATION_TABLE;
use conferencing_store::connect::{self, ConnectSettings};
use conferencing_store::entity::{RoomId, Secret, UserId};
use conferencing_store::{Actor, NewRoom, NewUser};
use downstream::Service;
use migration::Migrator;
use sea_orm::{ConnectionTrait, DatabaseConnection, Statement};
use sea_orm_migration::MigratorTrait;
use uuid::Uuid;

async fn number(db: &DatabaseConnection, sql: &str) -> i64 {
    let statement = Statement::from_string(db.get_database_backend(), sql);
    let row = db.query_one_raw(statement).await.unwrap().unwrap();
    row.try_get_by_index(0).unwrap()
}

async fn tables_stand_beside_ours(url: &str) {
    let starting: Vec<_> = (0..4)
        .map(|_| {
            let url = url.to_owned();
            tokio::spawn(async move { Service::start(&url).await })
        })
        .collect();
    let mut instances = Vec::new();
    for instance in starting {
        instances.push(instance.await.unwrap().unwrap());
    }
    let service = instances.pop().unwrap();
    let db = connect::open(url, &ConnectSettings::default()).await.unwrap();
    assert_eq!(number(&db, "SELECT count(*) FROM seaql_migrations").await, 1);
    assert_eq!(number(&db, &format!("SELECT count(*) FROM {MIGRATION_TABLE}")).await, 7);

    let hash = Secret::new("$argon2id$v=19$m=19456,t=2,p=1$ZXhhbXBsZXNhbHQ$bm90IGEgcmVhbCBoYXNo");
    let anybody = service.store.acting(&Actor::anonymous());
    let ada = anybody
        .users()
        .register(NewUser::named("ada", "Ada", hash))
        .await
        .unwrap();
    let acting = service.store.acting(&Actor::user(ada.id));
    let room = acting.rooms().create(NewRoom::titled(ada.id, "Review")).await.unwrap();
    let note = service.note(ada.id, room.id, "bring the plans").await.unwrap();
    let notes = service.notes(room.id).await.unwrap();
    assert_eq!(notes, [(note, ada.clone())]);
    for (author, room) in [
        (UserId::from_uuid(Uuid::nil()), room.id),
        (ada.id, RoomId::from_uuid(Uuid::nil())),
    ] {
        service.note(author, room, "of nobody, or nothing").await.unwrap_err();
    }

    // Its own command line: neither status nor down touches ours, and fresh makes both anew.
    Migrator::status(&db).await.unwrap();
    conferencing_migration::Migrator::fresh(&db).await.unwrap_err();
    Migrator::down(&db, None).await.unwrap();
    assert_eq!(number(&db, "SELECT count(*) FROM users").await, 1);
    Migrator::up(&db, None).await.unwrap();
    Migrator::fresh(&db).await.unwrap();
    for table in ["users", "room_notes"] {
        assert_eq!(number(&db, &format!("SELECT count(*) FROM {table}")).await, 0);
    }
    db.close().await.unwrap();
}

mod sqlite {
    #[tokio::test(flavor = "multi_thread")]
    async fn tables_stand_beside_ours() {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}?mode=rwc", folder.path().join("service.sqlite").display());
        super::tables_stand_beside_ours(&url).await;
    }
}

mod postgres {
    use super::{ConnectSettings, ConnectionTrait, connect};

    /// On a database of its own, on the server of TEST_DATABASE_URL.
    #[tokio::test(flavor = "multi_thread")]
    async fn tables_stand_beside_ours() {
        let Ok(server) = std::env::var("TEST_DATABASE_URL") else {
            assert!(
                std::env::var_os("REQUIRE_POSTGRES").is_none(),
                "TEST_DATABASE_URL names no server"
            );
            return;
        };
        let name = format!("downstream_{}", std::process::id());
        let admin = connect::open(&server, &ConnectSettings::default()).await.unwrap();
        admin
            .execute_unprepared(&format!("CREATE DATABASE {name}"))
            .await
            .unwrap();
        let (head, parameters) = server.split_once('?').unwrap_or((&server, ""));
        let (head, _) = head.rsplit_once('/').unwrap();
        super::tables_stand_beside_ours(&format!("{head}/{name}?{parameters}")).await;
        admin
            .execute_unprepared(&format!("DROP DATABASE {name} WITH (FORCE)"))
            .await
            .unwrap();
    }
}
