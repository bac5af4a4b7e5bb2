//! Rooms: how they are made and by whom, and who sees deleted ones.

use chrono::{DateTime, Utc};
use conferencing_store::authority::{ActorRole, Operation};
use conferencing_store::entity::{RoomId, RoomStatus, UserId, room};
use conferencing_store::rooms::MAX_CAPACITY;
use conferencing_store::{Actor, Error, NewRoom, Rejected, Subject};
use uuid::Uuid;

use crate::harness::TestDb;

crate::cases![
    a_new_room_has_the_usual_and_nothing_happened_in_it,
    a_new_room_keeps_what_was_asked_for,
    rooms_are_made_for_oneself_or_by_the_platform,
    an_owner_must_be_live_and_active,
    deleted_rooms_are_seen_by_who_asks_for_them,
];

async fn a_new_room_has_the_usual_and_nothing_happened_in_it(db: TestDb) {
    let ada = db.user("ada").await;
    let start: DateTime<Utc> = "2026-02-03T04:05:06.123456Z".parse().unwrap();
    let (store, _) = db.with_clock_at(start).await;
    let acting = store.acting(&Actor::user(ada.id));
    let made = acting
        .rooms()
        .create(NewRoom::titled(ada.id, "  Stand-up "))
        .await
        .unwrap();
    let expected = room::Model {
        id: made.id,
        owner_id: ada.id,
        room_code: made.room_code.clone(),
        title: "Stand-up".to_owned(),
        description: None,
        scheduled_start: None,
        scheduled_end: None,
        max_participants: 100,
        is_public: false,
        is_recordable: true,
        require_auth: true,
        status: RoomStatus::Created,
        started_at: None,
        ended_at: None,
        peak_participants: 0,
        total_joins: 0,
        duration_seconds: None,
        active_participants: 0,
        deleted_at: None,
        created_at: start,
        updated_at: start,
    };
    assert_eq!(made, expected);
    assert_eq!(db.store.rooms().get(made.id).await.unwrap(), expected);
    assert_eq!(made.id.as_uuid().get_version_num(), 7);
}

async fn a_new_room_keeps_what_was_asked_for(db: TestDb) {
    let ada = db.user("ada").await;
    let title = "🎥".repeat(255);
    let start = "2026-02-03T04:05:06.123456789Z".parse().unwrap();
    let end = "2026-02-03T04:05:06.123457Z".parse().unwrap();
    let new = NewRoom {
        owner: ada.id,
        title: &title,
        description: Some("  First line\r\n\tsecond  line\n"),
        scheduled_start: Some(start),
        scheduled_end: Some(end),
        max_participants: MAX_CAPACITY,
        is_public: true,
        is_recordable: false,
        require_auth: false,
    };
    let made = db.acting(&ada).rooms().create(new.clone()).await.unwrap();
    assert_eq!(db.store.rooms().get(made.id).await.unwrap(), made);
    assert_eq!(made.title, title);
    assert_eq!(made.description.as_deref(), Some("First line\r\n\tsecond  line"));
    let cut: DateTime<Utc> = "2026-02-03T04:05:06.123456Z".parse().unwrap();
    assert_eq!((made.scheduled_start, made.scheduled_end), (Some(cut), Some(end)));
    assert_eq!(made.max_participants, MAX_CAPACITY);
    assert!(made.is_public && !made.is_recordable && !made.require_auth);
    let blank = NewRoom {
        description: Some(" \n\t "),
        scheduled_end: None,
        max_participants: 1,
        ..new
    };
    let made = db.acting(&ada).rooms().create(blank).await.unwrap();
    assert_eq!(
        (made.description, made.scheduled_end, made.max_participants),
        (None, None, 1)
    );
}

async fn rooms_are_made_for_oneself_or_by_the_platform(db: TestDb) {
    let (ada, ben) = (db.user("ada").await, db.user("ben").await);
    let raw = db.raw().await;
    for actor in [Actor::user(ben.id), Actor::anonymous()] {
        let refusal = Rejected::NotAllowed {
            operation: Operation::CreateRoom,
            actor_role: ActorRole::Outsider,
            room: None,
            user: Some(ada.id),
        };
        let acting = db.store.acting(&actor);
        let repository = acting.rooms();
        let create = repository.create(NewRoom::titled(ada.id, "A room"));
        raw.assert_refused(create, refusal, &actor).await;
    }
    for actor in [Actor::user(ada.id), Actor::system("test")] {
        let acting = db.store.acting(&actor);
        let made = acting.rooms().create(NewRoom::titled(ada.id, "A room")).await.unwrap();
        assert_eq!(made.owner_id, ada.id);
        assert_eq!(db.audit_log(made.id).await[0].actor, actor.user_id());
    }
}

async fn an_owner_must_be_live_and_active(db: TestDb) {
    let ada = db.user("ada").await;
    let raw = db.raw().await;
    let nobody = UserId::from_uuid(Uuid::from_u128(1));
    let system = db.system();
    let repository = system.rooms();
    let not_found = |user| Error::NotFound(Subject::User(user));
    let create = |owner| repository.create(NewRoom::titled(owner, "A room"));
    raw.assert_refused(create(nobody), not_found(nobody), "nobody").await;
    raw.run("UPDATE users SET is_active = (1 = 0)").await;
    let inactive = Rejected::UserInactive { user: ada.id };
    raw.assert_refused(create(ada.id), inactive, "inactive").await;
    raw.run("UPDATE users SET deleted_at = updated_at, is_active = (1 = 1)")
        .await;
    raw.assert_refused(create(ada.id), not_found(ada.id), "deleted").await;
}

async fn deleted_rooms_are_seen_by_who_asks_for_them(db: TestDb) {
    let ada = db.user("ada").await;
    let (kept, gone) = (db.room(&ada, 5).await, db.room(&ada, 5).await);
    let raw = db.raw().await;
    let id = raw.id(gone.id.as_uuid());
    raw.run(&format!("UPDATE rooms SET deleted_at = updated_at WHERE id = {id}"))
        .await;
    let nothing = RoomId::from_uuid(Uuid::from_u128(1));
    // Which room, and whether it is seen among the live, the deleted and all.
    for (id, code, seen) in [
        (kept.id, kept.room_code.as_str(), [true, false, true]),
        (gone.id, gone.room_code.as_str(), [false, true, true]),
        (nothing, "FREEWXYZ", [false, false, false]),
    ] {
        let store = &db.store;
        let by_id = [
            store.rooms().find(id).await.unwrap(),
            store.rooms().deleted().find(id).await.unwrap(),
            store.rooms().any().find(id).await.unwrap(),
        ];
        let required = [
            store.rooms().get(id).await,
            store.rooms().deleted().get(id).await,
            store.rooms().any().get(id).await,
        ];
        let by_code = [
            store.rooms().find_by_code(code).await.unwrap(),
            store.rooms().deleted().find_by_code(code).await.unwrap(),
            store.rooms().any().find_by_code(code).await.unwrap(),
        ];
        for (found, required) in by_id.iter().zip(required) {
            match (found, required) {
                (Some(found), Ok(required)) => assert_eq!(&required, found),
                (None, Err(Error::NotFound(Subject::Room(missing)))) => assert_eq!(missing, id),
                other => panic!("{other:?}"),
            }
        }
        let overviews = [
            store.rooms().find_overview(code).await.unwrap(),
            store.rooms().deleted().find_overview(code).await.unwrap(),
            store.rooms().any().find_overview(code).await.unwrap(),
        ];
        let overviews = overviews.map(|found| found.map(|found| found.room));
        for found in [by_id, by_code, overviews] {
            assert_eq!(found.each_ref().map(Option::is_some), seen);
            assert!(
                found
                    .iter()
                    .flatten()
                    .all(|room| room.id == id && room.room_code == code)
            );
        }
    }
}
