//! Statements that are held, so that order needs no sleep.

use conferencing_store::entity::{ParticipantRole, room, user};
use conferencing_store::{Actor, Error, Rejected};
use conferencing_testing::{TestStore, on_both_backends};

fn joining(
    kit: &TestStore,
    room: &room::Model,
    user: &user::Model,
) -> tokio::task::JoinHandle<Result<conferencing_store::entity::room_participant::Model, Error>> {
    let (acting, room, user) = (kit.acting_as(user), room.id, user.id);
    tokio::spawn(async move {
        acting
            .participants()
            .join(room, user, ParticipantRole::Participant)
            .await
    })
}

on_both_backends! {
    async fn a_statement_is_held_before_it_is_sent(kit: TestStore) {
        let (ada, ben) = (kit.user("ada").await, kit.user("ben").await);
        let room = kit.room(&ada).live().await;
        let gate = kit.faults().hold_next("rooms.find");
        let reading = {
            let (store, room) = (kit.store().clone(), room.id);
            tokio::spawn(async move { store.rooms().get(room).await })
        };
        gate.reached().await;
        assert!(gate.is_reached());
        kit.seat(&room, &ben).await;
        gate.release();
        assert_eq!(reading.await.unwrap().unwrap().active_participants, 1, "it was asked when it was let go");
    }

    async fn a_statement_is_held_when_it_is_done(kit: TestStore) {
        let (ada, ben, eve) = (kit.user("ada").await, kit.user("ben").await, kit.user("eve").await);
        let room = kit.room(&ada).seats(1).live().await;
        // In a unit it has its locks then: who comes meanwhile waits for the last seat, and does not get it.
        let gate = kit.faults().hold_next_when_done("participants.join");
        let (store, room_id, user) = (kit.store().clone(), room.id, ben.id);
        let in_a_unit = tokio::spawn(async move {
            let system = Actor::system("test");
 let seated = store.transact(&system, |unit| async move {
                unit.participants().join(room_id, user, ParticipantRole::Participant).await
            });
            seated.await
        });
        gate.reached().await;
        let second = joining(&kit, &room, &eve);
        tokio::task::yield_now().await;
        assert!(!second.is_finished());
        gate.release();
        in_a_unit.await.unwrap().unwrap();
        let refused = second.await.unwrap().unwrap_err();
        assert!(matches!(refused, Error::Rejected(Rejected::RoomFull { capacity: 1, .. })), "{refused:?}");
    }

    async fn a_gate_that_is_dropped_lets_go(kit: TestStore) {
        let ada = kit.user("ada").await;
        let room = kit.room(&ada).live().await;
        let gate = kit.faults().hold_next("participants.join");
        let joining = joining(&kit, &room, &ada);
        gate.reached().await;
        drop(gate);
        joining.await.unwrap().unwrap();
    }
}
