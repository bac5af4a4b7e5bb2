//! Which recordings are seen: live or deleted, of a room or an owner, page by page.

use chrono::TimeDelta;
use conferencing_store::entity::RecordingStatus::{Ready, Started};
use conferencing_store::entity::recording;
use conferencing_store::{Error, Order, PageRequest, Rejected};

use crate::harness::TestDb;
use crate::recordings::{Act, live_room, recording_in, rejected};

crate::cases![
    deleted_recordings_are_seen_and_restored_by_name_only,
    lists_page_through_recordings_of_one_instant,
];

async fn deleted_recordings_are_seen_and_restored_by_name_only(db: TestDb) {
    let ada = db.user("ada").await;
    let room = live_room(&db, &ada).await;
    let (store, clock) = db.with_manual_clock().await;
    let system = store.acting(&conferencing_store::Actor::system("test"));
    let id = recording_in(&system, room.id, ada.id, Ready, "a").await;
    let kept = recording_in(&system, room.id, ada.id, Ready, "b").await;
    let deleted = system.recordings().delete(id).await.unwrap();
    assert!(deleted.deleted_at.is_some());
    let page = PageRequest::first(10, Order::OldestFirst).unwrap();
    let ids =
        |page: conferencing_store::Page<recording::Model>| page.items.into_iter().map(|row| row.id).collect::<Vec<_>>();
    let recordings = || store.recordings();
    assert_eq!(recordings().find(id).await.unwrap(), None);
    assert_eq!(recordings().deleted().find(id).await.unwrap(), Some(deleted.clone()));
    assert_eq!(recordings().any().get(id).await.unwrap(), deleted);
    assert_eq!(ids(recordings().list_of_room(room.id, &page).await.unwrap()), [kept]);
    assert_eq!(ids(recordings().list_of_owner(ada.id, &page).await.unwrap()), [kept]);
    assert_eq!(
        ids(recordings().deleted().list_of_room(room.id, &page).await.unwrap()),
        [id]
    );
    assert_eq!(
        ids(recordings().any().list_of_owner(ada.id, &page).await.unwrap()),
        [id, kept]
    );
    for act in Act::ALL.into_iter().filter(|act| *act != Act::Restore) {
        let done = act.by(&system, id).await;
        assert!(matches!(done, Err(Error::NotFound(_))), "{act:?}: {done:?}");
    }

    let restored = system.recordings().deleted().restore(id).await.unwrap();
    assert_eq!((restored.deleted_at, restored.status), (None, Ready));
    let again = system.recordings().deleted().restore(id).await;
    assert!(matches!(again, Err(Error::NotFound(_))));

    // What has expired does not come back: the file may be gone.
    let expires_at = conferencing_store::clock::Clock::now(&*clock) + TimeDelta::days(1);
    system.recordings().set_expiry(id, Some(expires_at)).await.unwrap();
    system.recordings().delete(id).await.unwrap();
    system.recordings().deleted().restore(id).await.unwrap();
    system.recordings().delete(id).await.unwrap();
    clock.advance(TimeDelta::days(1));
    let expired = Rejected::RecordingExpired {
        recording: id,
        expires_at,
    };
    assert_eq!(rejected(system.recordings().deleted().restore(id).await), expired);

    // Nor does what somebody erased owned.
    system.recordings().delete(kept).await.unwrap();
    let raw = db.raw().await;
    raw.execute("UPDATE users SET deleted_at = created_at").await.unwrap();
    let orphan = system.recordings().deleted().restore(kept).await;
    assert!(matches!(orphan, Err(Error::NotFound(conferencing_store::Subject::User(owner))) if owner == ada.id));
}

async fn lists_page_through_recordings_of_one_instant(db: TestDb) {
    let ada = db.user("ada").await;
    let room = live_room(&db, &ada).await;
    let (store, _standing_still) = db.with_manual_clock().await;
    let system = store.acting(&conferencing_store::Actor::system("test"));
    let mut made = Vec::new();
    for number in 0..7 {
        made.push(recording_in(&system, room.id, ada.id, Started, &number.to_string()).await);
    }
    for order in [Order::OldestFirst, Order::NewestFirst] {
        let mut expected = made.clone();
        if order == Order::NewestFirst {
            expected.reverse();
        }
        let (mut of_room, mut of_owner) = (Vec::new(), Vec::new());
        let mut page = PageRequest::first(3, order).unwrap();
        loop {
            let rows = store.recordings().list_of_room(room.id, &page).await.unwrap();
            let owned = store.recordings().list_of_owner(ada.id, &page).await.unwrap();
            of_room.extend(rows.items.iter().map(|row| row.id));
            of_owner.extend(owned.items.iter().map(|row| row.id));
            let Some(next) = rows.next else { break };
            page = page.after(next);
        }
        assert_eq!(of_room, expected);
        assert_eq!(of_owner, expected);
    }
}
