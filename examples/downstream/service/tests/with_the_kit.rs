//! The service under the testing kit: on both backends, with its own migration beside ours, and with a database that fails.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use conferencing_store::Error;
use conferencing_store::entity::AuditAction;
use conferencing_testing::{Builder, Fault, Outcome, TestStore, event, on_both_backends};
use downstream::Service;
use downstream::meetings::Answer;

fn service(kit: &TestStore) -> Service {
    Service::over(kit.store().clone(), kit.db().clone())
}

on_both_backends! {
    with |builder: Builder| builder.migrations::<migration::Migrator>();

    async fn somebody_enters_although_the_database_stumbles(kit: TestStore) {
        let (ada, ben) = (kit.user("ada").await, kit.user("ben").await);
        let room = kit.room(&ada).live().await;
        // The store tries again by itself; the client hears of nothing.
        let stumbled = kit.faults().fail_times(2, "participants.join", Fault::Transient);
        let answer = service(&kit).enter(room.id, ben.id).await.unwrap();
        assert!(matches!(answer, Answer::Done(seat) if seat.user_id == ben.id));
        assert_eq!(stumbled.met(), 2);
        kit.expect_events([event(AuditAction::UserJoined).by(&ben).in_room(&room)]).await;
    }

    async fn a_database_that_does_not_recover_is_for_later(kit: TestStore) {
        let ada = kit.user("ada").await;
        let room = kit.room(&ada).live().await;
        for fault in [Fault::Transient, Fault::TimedOut] {
            kit.faults().fail_always("participants.join", fault);
            assert_eq!(service(&kit).enter(room.id, ada.id).await.unwrap(), Answer::Later);
            kit.faults().clear();
        }
        kit.expect_no_events().await;
    }

    async fn after_a_lost_connection_the_service_looks(kit: TestStore) {
        let ada = kit.user("ada").await;
        let room = kit.room(&ada).live().await;
        let service = service(&kit);
        kit.faults().fail_next("participants.join", Fault::Indeterminate(Outcome::DidNothing));
        assert_eq!(service.enter(room.id, ada.id).await.unwrap(), Answer::Later);
        kit.expect_no_events().await;
        kit.faults().fail_next("participants.join", Fault::Indeterminate(Outcome::TookEffect));
        assert!(matches!(service.enter(room.id, ada.id).await.unwrap(), Answer::Done(_)));
        kit.expect_events([event(AuditAction::UserJoined).by(&ada)]).await;
        // It looks by a read, and a read can fail as well.
        let ben = kit.user("ben").await;
        kit.faults().fail_next("participants.join", Fault::Indeterminate(Outcome::TookEffect));
        kit.faults().fail_next("participants.standing", Fault::Transient);
        let failed = service.enter(room.id, ben.id).await;
        assert!(matches!(failed, Err(Error::Transient { .. })));
        kit.faults().assert_all_met();
    }

    async fn a_full_room_is_a_refusal(kit: TestStore) {
        let guests = kit.users("guest", 2).await;
        let room = kit.room(&guests[0]).seats(1).await;
        kit.seat(&room, &guests[0]).await;
        let answer = service(&kit).enter(room.id, guests[1].id).await.unwrap();
        assert!(matches!(answer, Answer::Refused(reason) if reason.contains("seats")));
    }

    async fn notes_stand_beside_our_rows(kit: TestStore) {
        let ada = kit.user("ada").await;
        let room = kit.room(&ada).await;
        let service = service(&kit);
        let note = service.note(ada.id, room.id, "bring the plans").await.unwrap();
        assert!(note.id > room.id.as_uuid(), "keys come from the store, in the order of all others");
        assert_eq!(service.notes(room.id).await.unwrap(), [(note, ada)]);
        kit.expect_no_events().await;
    }
}
