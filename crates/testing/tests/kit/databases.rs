//! Each test has a database of its own, whole and alone, which goes with it.

use std::path::Path;
use std::sync::Arc;

use conferencing_store::clock::{Clock, SystemClock};
use conferencing_store::connect::{self, ConnectSettings};
use conferencing_store::entity::{AuditAction, ParticipantRole};
use conferencing_store::{Check, EmptyRoomPolicy, Severity};
use conferencing_testing::{Backend, Builder, SetUpError, TestStore, event, on_both_backends};
use sea_orm::ConnectionTrait;

use crate::migrations::Migrator;
use crate::number;

/// What a copy has is what the migrations make, down to triggers, and rows.
async fn is_whole(kit: &TestStore) {
    assert_eq!(kit.store().check_schema().await.unwrap(), []);
    assert_eq!(number(kit.db(), "SELECT count(*) FROM users").await, 0);
    assert_eq!(number(kit.db(), "SELECT number FROM plans").await, 2);
    let add = "INSERT INTO plans (name) VALUES ('next')";
    kit.db().execute_unprepared(add).await.unwrap();
    assert_eq!(number(kit.db(), "SELECT max(number) FROM plans").await, 3);
    kit.db().execute_unprepared(add).await.unwrap_err();
    let refused = kit.db().execute_unprepared("DELETE FROM plans").await.unwrap_err();
    assert!(refused.to_string().contains("plans stay"), "{refused}");
    let report = kit.store().doctor().await.unwrap();
    // A server for tests may forget.
    let bad: Vec<_> = report
        .findings
        .iter()
        .filter(|finding| finding.severity > Severity::Warning && finding.check != Check::LosesData)
        .collect();
    assert!(bad.is_empty(), "{bad:?}");
}

#[tokio::test]
async fn sqlite_in_memory_is_whole() {
    let kit = TestStore::builder()
        .sqlite()
        .migrations::<Migrator>()
        .open()
        .await
        .unwrap();
    is_whole(&kit).await;
    let ada = kit.user("ada").await;
    let other = TestStore::builder()
        .sqlite()
        .migrations::<Migrator>()
        .open()
        .await
        .unwrap();
    assert!(other.store().users().find(ada.id).await.unwrap().is_none());
    assert!(
        kit.another_store()
            .await
            .unwrap()
            .users()
            .find(ada.id)
            .await
            .unwrap()
            .is_some()
    );
}

on_both_backends! {
    with |builder: Builder| builder.migrations::<Migrator>();

    async fn copies_are_whole_and_alone(kit: TestStore) {
        is_whole(&kit).await;
        let ada = kit.user("ada").await;
        let other = match kit.backend() {
            Backend::Sqlite => TestStore::builder().sqlite_file(),
            Backend::Postgres => TestStore::builder().postgres(),
        };
        let other = other.migrations::<Migrator>().open().await.unwrap();
        assert!(other.store().users().find(ada.id).await.unwrap().is_none());
        // Another process has the same database, by its address.
        let process = kit.another_store().await.unwrap();
        assert_eq!(process.users().get(ada.id).await.unwrap(), ada);
        assert_eq!(other.user("ada").await.id, ada.id, "the same seed and the same time");
    }

    async fn what_is_chosen_is_there(kit: TestStore) {
        let builder = match kit.backend() {
            Backend::Sqlite => TestStore::builder().sqlite_file(),
            Backend::Postgres => TestStore::builder().postgres(),
        };
        let before = SystemClock.now();
        let other = builder
            .seed(9)
            .clock(Arc::new(SystemClock))
            .settings(|settings| settings.empty_rooms = EmptyRoomPolicy::EndRoom)
            .open()
            .await
            .unwrap();
        assert!(other.now() >= before - chrono::TimeDelta::microseconds(1));
        assert!(kit.now() < before);
        assert_eq!(kit.store().clock().now(), kit.now());
        let (ada, eve) = (other.user("ada").await, other.user("eve").await);
        let room = other.room(&ada).await;
        assert_ne!(kit.room(kit.user("ada").await).await.room_code, room.room_code);
        other.seat(&room, &eve).await;
        let left = other.acting_as(&eve);
        left.participants().leave(room.id, eve.id).await.unwrap();
        let ended = [event(AuditAction::UserLeft).by(&eve), event(AuditAction::RoomEnded).in_room(&room)];
        other.expect_events(ended).await;
    }

    async fn the_clock_is_moved_by_hand(kit: TestStore) {
        let (ada, before) = (kit.user("ada").await, kit.now());
        let room = kit.room(&ada).await;
        kit.seat(&room, &ada).await;
        kit.advance(chrono::TimeDelta::minutes(90));
        assert_eq!(kit.now() - before, chrono::TimeDelta::minutes(90));
        let acting = kit.acting_as(&ada);
        let stay = acting.participants().leave(room.id, ada.id).await.unwrap();
        assert_eq!(stay.duration_seconds, Some(90 * 60));
        assert_eq!(stay.role, ParticipantRole::Host);
    }

    async fn a_database_goes_with_its_value(kit: TestStore) {
        let url = kit.url().to_owned();
        is_there(&url).await.unwrap();
        let still_open = kit.another_store().await.unwrap();
        drop(kit);
        until_gone(&url).await;
        drop(still_open);
    }

    async fn a_database_goes_with_a_test_that_panics(kit: TestStore) {
        let url = kit.url().to_owned();
        let failing = tokio::spawn(async move {
            let ada = kit.user("ada").await;
            kit.user(&ada.username).await;
        });
        let panic = failing.await.unwrap_err().into_panic();
        let said = crate::said(&*panic);
        assert!(said.contains("databases.rs:") && said.contains("username is taken"), "{said}");
        until_gone(&url).await;
    }
}

/// On a server of the kit's own nobody waits for it, and here somebody looks again and again.
async fn until_gone(url: &str) {
    let is_own = url.contains("host=");
    let mut looks = 0;
    while is_there(url).await.is_ok() {
        looks += 1;
        assert!(is_own && looks < 1_000, "it is still there");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

async fn is_there(url: &str) -> Result<(), String> {
    if let Some(file) = url.strip_prefix("sqlite://") {
        let file = Path::new(file.split('?').next().unwrap());
        let folder = file.parent().unwrap();
        return if folder.exists() {
            Ok(())
        } else {
            Err("gone".to_owned())
        };
    }
    let db = connect::open(url, &ConnectSettings::default()).await;
    db.map(drop).map_err(|error| error.to_string())
}

#[tokio::test]
async fn a_server_that_is_not_there_is_an_error() {
    let nobody = TestStore::builder()
        .postgres_at("postgres://nobody@127.0.0.1:1/none")
        .open()
        .await;
    let error = nobody.unwrap_err();
    assert!(matches!(error, SetUpError::Store(_)), "{error}");
}
