//! What a recording needs to start, and that it stops with its room.

use chrono::TimeDelta;
use conferencing_store::authority::{ActorRole, Operation};
use conferencing_store::entity::RecordingStatus::{Failed, InProgress, Started, Stopped};
use conferencing_store::entity::{RoomId, RoomStatus, UserId};
use conferencing_store::{Actor, Change, Conflict, Error, Rejected};

use crate::harness::TestDb;
use crate::recordings::{events, live_room, new_recording, recording_in, rejected, told_of};

crate::cases![
    a_start_is_for_oneself,
    only_a_live_and_recordable_room_is_recorded,
    a_storage_key_is_taken_for_ever,
    the_end_of_a_room_stops_what_runs_in_it,
];

async fn a_start_is_for_oneself(db: TestDb) {
    let (ada, ben, cleo) = (db.user("ada").await, db.user("ben").await, db.user("cleo").await);
    let room = live_room(&db, &ada).await;
    db.seat(&room, &ben).await;
    let not_allowed = |actor_role, user| Rejected::NotAllowed {
        operation: Operation::Record,
        actor_role,
        room: Some(room.id),
        user,
    };
    let start = async |actor: &Actor, owner, tag: &str| {
        let acting = db.store.acting(actor);
        acting.recordings().start(new_recording(room.id, owner, tag)).await
    };
    let refused = start(&Actor::user(ben.id), ben.id, "a").await;
    assert_eq!(rejected(refused), not_allowed(ActorRole::Participant, None));
    let refused = start(&Actor::user(cleo.id), cleo.id, "a").await;
    assert_eq!(rejected(refused), not_allowed(ActorRole::Outsider, None));
    let refused = start(&Actor::user(ada.id), ben.id, "a").await;
    assert_eq!(rejected(refused), not_allowed(ActorRole::Outsider, Some(ben.id)));
    let refused = start(&Actor::anonymous(), ben.id, "a").await;
    assert_eq!(rejected(refused), not_allowed(ActorRole::Outsider, Some(ben.id)));
    let raw = db.raw().await;
    assert_eq!(
        events(&raw).await[events(&raw).await.len() - 4..],
        ["UNAUTHORIZED_ACCESS_ATTEMPT"; 4]
    );
    assert_eq!(told_of(&db, room.id).await, []);
    db.acting(&ada).participants().leave(room.id, ada.id).await.unwrap();
    raw.execute("UPDATE room_participants SET role = 'HOST' WHERE left_at IS NULL")
        .await
        .unwrap();
    assert_eq!(start(&Actor::user(ben.id), ben.id, "a").await.unwrap().owner_id, ben.id);
}

async fn only_a_live_and_recordable_room_is_recorded(db: TestDb) {
    let (ada, ben) = (db.user("ada").await, db.user("ben").await);
    let room = db.room(&ada, 5).await;
    let raw = db.raw().await;
    let (owner, system) = (db.acting(&ada), db.system());
    let by_owner = async || owner.recordings().start(new_recording(room.id, ada.id, "a")).await;
    let by_platform = async || system.recordings().start(new_recording(room.id, ben.id, "b")).await;
    let refusal = |status| Rejected::RoomStatus { room: room.id, status };
    assert_eq!(rejected(by_owner().await), refusal(RoomStatus::Created));
    assert_eq!(rejected(by_platform().await), refusal(RoomStatus::Created));

    owner.rooms().start(room.id).await.unwrap();
    let absent = Rejected::NotPresent {
        user: ada.id,
        room: room.id,
    };
    assert_eq!(rejected(by_owner().await), absent);
    db.seat(&room, &ada).await;
    raw.execute("UPDATE rooms SET is_recordable = FALSE").await.unwrap();
    let not_recordable = Rejected::NotRecordable { room: room.id };
    assert_eq!(rejected(by_owner().await), not_recordable);
    assert_eq!(rejected(by_platform().await), not_recordable);
    raw.execute("UPDATE rooms SET is_recordable = TRUE").await.unwrap();
    raw.execute("UPDATE users SET is_active = FALSE").await.unwrap();
    assert_eq!(rejected(by_platform().await), Rejected::UserInactive { user: ben.id });
    raw.execute("UPDATE users SET is_active = TRUE").await.unwrap();

    let nowhere = RoomId::from_uuid(ada.id.as_uuid());
    let lost = owner.recordings().start(new_recording(nowhere, ada.id, "c")).await;
    assert!(matches!(lost, Err(Error::NotFound(conferencing_store::Subject::Room(id))) if id == nowhere));
    let nobody = UserId::from_uuid(room.id.as_uuid());
    let lost = system.recordings().start(new_recording(room.id, nobody, "c")).await;
    assert!(matches!(lost, Err(Error::NotFound(conferencing_store::Subject::User(id))) if id == nobody));
    assert_eq!(told_of(&db, room.id).await, []);

    assert_eq!(by_owner().await.unwrap().owner_id, ada.id);
    assert_eq!(
        by_platform().await.unwrap().owner_id,
        ben.id,
        "the system needs no seat"
    );
    owner.rooms().end(room.id).await.unwrap();
    let late = owner.recordings().start(new_recording(room.id, ada.id, "c")).await;
    assert_eq!(rejected(late), refusal(RoomStatus::Ended));
}

async fn a_storage_key_is_taken_for_ever(db: TestDb) {
    let ada = db.user("ada").await;
    let room = live_room(&db, &ada).await;
    let system = db.system();
    let id = recording_in(&system, room.id, ada.id, Stopped, "same").await;
    let again = async || system.recordings().start(new_recording(room.id, ada.id, "same")).await;
    assert!(matches!(again().await, Err(Error::Conflict(Conflict::StorageKeyTaken))));
    system.recordings().delete(id).await.unwrap();
    assert!(matches!(again().await, Err(Error::Conflict(Conflict::StorageKeyTaken))));

    let tasks: Vec<_> = (0..16)
        .map(|_| {
            let (system, room, ada) = (system.clone(), room.id, ada.id);
            tokio::spawn(async move { system.recordings().start(new_recording(room, ada, "raced")).await })
        })
        .collect();
    let mut begun = 0;
    for task in tasks {
        match task.await.unwrap() {
            Ok(_) => begun += 1,
            Err(Error::Conflict(Conflict::StorageKeyTaken)) => {}
            Err(error) => panic!("{error:?}"),
        }
    }
    assert_eq!(begun, 1);
}

async fn the_end_of_a_room_stops_what_runs_in_it(db: TestDb) {
    let ada = db.user("ada").await;
    let (room, other) = (live_room(&db, &ada).await, live_room(&db, &ada).await);
    let (store, clock) = db.with_manual_clock().await;
    let system = store.acting(&conferencing_store::Actor::system("test"));
    let running = [
        recording_in(&system, room.id, ada.id, Started, "started").await,
        recording_in(&system, room.id, ada.id, InProgress, "in progress").await,
    ];
    let failed = recording_in(&system, room.id, ada.id, Failed, "failed").await;
    let elsewhere = recording_in(&system, other.id, ada.id, InProgress, "elsewhere").await;
    let before = told_of(&db, room.id).await.len();
    clock.advance(TimeDelta::seconds(90));
    system.rooms().end(room.id).await.unwrap();
    for id in running {
        let row = store.recordings().get(id).await.unwrap();
        assert_eq!((row.status, row.duration_seconds), (Stopped, Some(90)));
        assert_eq!(row.stopped_at, Some(row.updated_at));
    }
    assert_eq!(store.recordings().get(failed).await.unwrap().status, Failed);
    assert_eq!(store.recordings().get(elsewhere).await.unwrap().status, InProgress);
    let recorded = told_of(&db, room.id).await.split_off(before);
    let expected = running.map(|recording| Change::RecordingStopped {
        recording,
        with_room: true,
    });
    assert_eq!(recorded, expected);
    let raw = db.raw().await;
    assert_eq!(
        events(&raw).await.last().unwrap(),
        "ROOM_ENDED",
        "the room's own event comes last"
    );

    // A start that races the end is either refused or stopped with the room.
    let tasks: Vec<_> = (0..16)
        .map(|number| {
            let (system, room, ada) = (system.clone(), other.id, ada.id);
            tokio::spawn(async move {
                if number == 8 {
                    return system.rooms().end(room).await.map(|_| None);
                }
                let tag = format!("raced {number}");
                let begun = system.recordings().start(new_recording(room, ada, &tag)).await;
                begun.map(|row| Some(row.id))
            })
        })
        .collect();
    for task in tasks {
        match task.await.unwrap() {
            Ok(_) | Err(Error::Rejected(Rejected::RoomStatus { .. })) => {}
            Err(error) => panic!("{error:?}"),
        }
    }
    let open = "SELECT count(*) FROM recordings WHERE status IN ('STARTED', 'IN_PROGRESS')";
    assert_eq!(raw.number(open).await, 0);
}
