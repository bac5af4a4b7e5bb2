//! The audit log as it is expected.

use conferencing_store::entity::{AuditAction, ParticipantRole};
use conferencing_store::{Actor, Error};
use conferencing_testing::{Backend, ExpectedEvent, TestStore, event, on_both_backends};
use sea_orm::TransactionTrait;
use serde_json::json;

/// What a failed expectation says.
async fn failure(kit: TestStore, expected: Vec<ExpectedEvent>) -> (TestStore, String) {
    let kit = std::sync::Arc::new(kit);
    let failing = {
        let kit = std::sync::Arc::clone(&kit);
        tokio::spawn(async move { kit.expect_events(expected).await })
    };
    let panic = failing.await.unwrap_err().into_panic();
    let said = crate::said(&*panic);
    (std::sync::Arc::into_inner(kit).unwrap(), said)
}

on_both_backends! {
    async fn exactly_these_events(kit: TestStore) {
        let (ada, ben) = (kit.user("ada").await, kit.user("ben").await);
        let room = kit.room(&ada).titled("Review").await;
        kit.expect_no_events().await;
        let (host, guest) = (kit.acting_as(&ada), kit.acting_as(&ben));
        host.participants().join(room.id, ada.id, ParticipantRole::Host).await.unwrap();
        guest.participants().join(room.id, ben.id, ParticipantRole::Participant).await.unwrap();
        // What the builders do meanwhile does not count.
        kit.seat(&room, kit.user("eve").await).await;
        host.participants().kick(room.id, ben.id, Some("noise")).await.unwrap();
        assert_eq!(kit.events().await.unwrap().len(), 4);
        let kicked = event(AuditAction::UserKicked).by(&ada).about(&ben).in_room(&room).with("reason", "noise");
        kit.expect_events([
            event(AuditAction::RoomStarted).by(&ada).in_room(&room).with("by_join", true),
            event(AuditAction::UserJoined).by(&ada).about_nobody().with("role", json!("HOST")),
            event(AuditAction::UserJoined).by(&ben),
            kicked.clone(),
        ])
        .await;
        // The mark is behind them now.
        kit.expect_no_events().await;
        let cleaning = kit.store().acting(&Actor::system("cleaning"));
        cleaning.rooms().end(room.id).await.unwrap();
        let all = [
            event(AuditAction::RoomEnded).by_system("cleaning").about_nobody(),
            event(AuditAction::UserLeft).about(&ada).in_room(room.id),
            event(AuditAction::UserLeft),
        ];
        kit.expect_events_in_any_order(all).await;
        kit.store().acting(&Actor::anonymous()).users().record_failed_login("nobody").await.unwrap();
        kit.expect_events([event(AuditAction::UserLoginFailed).by_nobody().in_no_room().with("login", "nobody")]).await;
        host.users().record_failed_login("x").await.unwrap();
        kit.mark().await.unwrap();
        kit.expect_no_events().await;
        drop(kicked);
    }

    async fn a_failure_says_what_is_missing_and_what_is_too_much(kit: TestStore) {
        let (ada, ben) = (kit.user("ada").await, kit.user("ben").await);
        let room = kit.room(&ada).titled("Review").live().await;
        let host = kit.acting_as(&ada);
        kit.seat(&room, &ben).await;
        host.participants().join(room.id, ada.id, ParticipantRole::Host).await.unwrap();
        host.participants().kick(room.id, ben.id, None).await.unwrap();
        let refused = kit.acting_as(&ben).rooms().end(room.id).await;
        assert!(matches!(refused, Err(Error::Rejected(_))));
        let expected = vec![
            event(AuditAction::UserJoined).by(&ada),
            event(AuditAction::UserKicked).by(&ada).about(&ada).in_room(&room).with("reason", "noise"),
        ];
        let (kit, said) = failure(kit, expected).await;
        let place = format!("{} {:?}", room.room_code, "Review");
        for line in [
            "trail.rs:".to_owned(),
            format!("    USER_JOINED by ada about nobody in {place} {{\"role\":\"HOST\""),
            format!("  - USER_KICKED by ada about ada in {place} {{\"reason\":\"noise\"}}\n"),
            format!("  + USER_KICKED by ada about ben in {place} {{"),
            format!("  + UNAUTHORIZED_ACCESS_ATTEMPT by ben about nobody in {place} {{"),
        ] {
            assert!(said.contains(&line), "{line} in {said}");
        }
        assert_eq!(kit.events().await.unwrap().len(), 3, "after a failure the mark is where it was");
    }

    async fn what_is_not_expected_is_told(kit: TestStore) {
        let ada = kit.user("ada").await;
        kit.acting_as(&ada).users().record_failed_login("x").await.unwrap();
        for (expected, count) in [(vec![], 1), (vec![event(AuditAction::UserLoginFailed), event(AuditAction::UserLoginFailed)], 1)] {
            let failing = std::panic::AssertUnwindSafe(|| {
                tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(kit.expect_events(expected)));
            });
            let said = crate::said(&*std::panic::catch_unwind(failing).unwrap_err());
            assert_eq!(said.lines().filter(|line| line.starts_with("  - ") || line.starts_with("  + ")).count(), count, "{said}");
        }
    }

    async fn what_another_process_commits_counts_too(kit: TestStore) {
        let ada = kit.user("ada").await;
        let other = kit.another_store().await.unwrap();
        other.acting(&Actor::user(ada.id)).rooms().create(conferencing_store::NewRoom::titled(ada.id, "B")).await.unwrap();
        kit.expect_events([event(AuditAction::RoomCreated).by(&ada)]).await;
        // What is rolled back was never there.
        let unit = kit.store().begin(&Actor::user(ada.id)).await.unwrap();
        unit.rooms().create(conferencing_store::NewRoom::titled(ada.id, "C")).await.unwrap();
        unit.roll_back().await.unwrap();
        kit.expect_no_events().await;
    }

    async fn what_is_committed_right_behind_the_read_is_left_to_the_next_expectation(kit: TestStore) {
        let builder = match kit.backend() {
            Backend::Sqlite => TestStore::builder().sqlite_file(),
            Backend::Postgres => TestStore::builder().postgres(),
        };
        let kit = builder.settings(|settings| settings.connect.max_connections = Some(1)).open().await.unwrap();
        // Who waits for the one connection has it in turn: the read, then the event, then whatever else the expectation asks.
        let held = kit.db().begin().await.unwrap();
        let system = kit.acting_as_system();
        let late = async { system.nodes().register("late").await.unwrap() };
        tokio::join!(kit.expect_no_events(), late, async { held.rollback().await.unwrap() });
        kit.expect_events([event(AuditAction::MediaNodeRegistered).by_system("test")]).await;
    }
}
