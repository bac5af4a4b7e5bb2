//! Units of work: all or nothing, at one time.

use std::collections::BTreeSet;
use std::sync::Mutex;

use chrono::TimeDelta;
use conferencing_store::clock::Clock;
use conferencing_store::entity::ParticipantRole::Participant;
use conferencing_store::entity::RoomStatus;
use conferencing_store::{Actor, AuditFilter, Conflict, Error, NewRoom, Observation, Rejected, Unit};

use crate::checks::assert_sabotaged;
use crate::harness::{Raw, TestDb};
use crate::users::new_user;

crate::cases![
    what_a_unit_did_is_there_at_once_after_the_commit,
    what_a_unit_did_is_gone_when_it_returns_an_error,
    a_unit_that_is_dropped_did_nothing,
    a_refusal_in_the_middle_leaves_a_unit_usable,
    a_refusal_that_is_returned_rolls_back,
    an_error_of_the_database_spoils_a_unit,
    a_unit_in_use_elsewhere_is_not_committed,
    a_unit_reads_its_own_changes,
    everything_in_a_unit_happened_at_one_time,
    a_unit_runs_in_a_task_with_what_it_captured,
];

async fn users(raw: &Raw) -> i64 {
    raw.number("SELECT count(*) FROM users").await
}

async fn what_a_unit_did_is_there_at_once_after_the_commit(db: TestDb) {
    let raw = db.raw().await;
    let unit = db.store.begin(&Actor::system("test")).await.unwrap();
    let ada = unit.users().register(new_user("ada", None)).await.unwrap();
    let room = unit.rooms().create(NewRoom::titled(ada.id, "A room")).await.unwrap();
    unit.participants().join(room.id, ada.id, Participant).await.unwrap();
    assert_eq!(
        raw.snapshot().await,
        Vec::<String>::new(),
        "nothing is seen before the commit"
    );
    assert_eq!(db.store.users().find(ada.id).await.unwrap(), None);
    unit.commit().await.unwrap();
    assert_eq!(db.store.users().find(ada.id).await.unwrap(), Some(ada));
    assert_eq!(
        db.actions(room.id).await,
        ["ROOM_CREATED", "ROOM_STARTED", "USER_JOINED"]
    );
    raw.assert_invariants().await;
}

/// What a service's own error looks like.
#[derive(Debug)]
pub enum OwnError {
    Store(Error),
    Own(u32),
}

impl From<Error> for OwnError {
    fn from(error: Error) -> Self {
        Self::Store(error)
    }
}

async fn what_a_unit_did_is_gone_when_it_returns_an_error(db: TestDb) {
    let failed: Result<(), OwnError> = db
        .store
        .transact(&Actor::system("test"), |unit| async move {
            let ada = unit.users().register(new_user("ada", None)).await?;
            unit.rooms().create(NewRoom::titled(ada.id, "A room")).await?;
            Err(OwnError::Own(7))
        })
        .await;
    assert!(matches!(failed, Err(OwnError::Own(7))), "{failed:?}");
    assert_eq!(db.raw().await.snapshot().await, Vec::<String>::new());
    db.user("ada").await;
}

async fn a_unit_that_is_dropped_did_nothing(db: TestDb) {
    let raw = db.raw().await;
    for _ in 0..3 {
        let unit = db.store.begin(&Actor::system("test")).await.unwrap();
        unit.users().register(new_user("ada", None)).await.unwrap();
        drop(unit);
    }
    // Registering the same name waits for the rollbacks, if any is still under way.
    db.user("ada").await;
    assert_eq!(users(&raw).await, 1);
    raw.assert_invariants().await;
}

async fn a_refusal_in_the_middle_leaves_a_unit_usable(db: TestDb) {
    let (ada, raw) = (db.user("ada").await.id, db.raw().await);
    let full = db.room(&db.user("owner").await, 1).await.id;
    let guest = db.user("guest").await.id;
    db.system().participants().join(full, guest, Participant).await.unwrap();
    let done: Result<(), Error> = db
        .store
        .transact(&Actor::system("test"), |unit| async move {
            unit.users().register(new_user("first", None)).await?;
            let taken = unit.users().register(new_user("ADA", None)).await;
            assert!(
                matches!(taken, Err(Error::Conflict(Conflict::UsernameTaken))),
                "{taken:?}"
            );
            let refused = unit.participants().join(full, ada, Participant).await;
            assert!(
                matches!(refused, Err(Error::Rejected(Rejected::RoomFull { .. }))),
                "{refused:?}"
            );
            let refused = unit.participants().join(full, guest, Participant).await;
            assert!(
                matches!(refused, Err(Error::Rejected(Rejected::AlreadyPresent { .. }))),
                "{refused:?}"
            );
            let refused = unit.participants().leave(full, ada).await;
            assert!(
                matches!(refused, Err(Error::Rejected(Rejected::NotPresent { .. }))),
                "{refused:?}"
            );
            let refused = unit.rooms().start(full).await;
            assert!(
                matches!(refused, Err(Error::Rejected(Rejected::RoomStatus { .. }))),
                "{refused:?}"
            );
            unit.users().register(new_user("second", None)).await?;
            Ok(())
        })
        .await;
    done.unwrap();
    let kept = "SELECT count(*) FROM users WHERE username IN ('first', 'second')";
    assert_eq!(raw.number(kept).await, 2);
    assert_eq!(users(&raw).await, 5);
    raw.assert_invariants().await;
}

async fn a_refusal_that_is_returned_rolls_back(db: TestDb) {
    db.user("ada").await;
    let raw = db.raw().await;
    let before = raw.snapshot().await;
    let refused: Result<(), Error> = db
        .store
        .transact(&Actor::system("test"), |unit| async move {
            unit.users().register(new_user("first", None)).await?;
            unit.users().register(new_user("ada", None)).await?;
            Ok(())
        })
        .await;
    assert!(
        matches!(refused, Err(Error::Conflict(Conflict::UsernameTaken))),
        "{refused:?}"
    );
    assert_eq!(raw.snapshot().await, before);
}

async fn an_error_of_the_database_spoils_a_unit(db: TestDb) {
    let raw = db.raw().await;
    raw.sabotage("audit_logs", "NEW.action = 'SCREEN_SHARE_STARTED'").await;
    let unit = db.store.begin(&Actor::system("test")).await.unwrap();
    unit.users().register(new_user("before", None)).await.unwrap();
    let failed = unit.audit().append(None, Observation::ScreenShareStarted {}).await;
    assert_sabotaged(&failed, "append");
    // SQLite would go on from here, PostgreSQL would not; the store does not either way.
    let _ = unit.users().register(new_user("after", None)).await;
    let committed = unit.commit().await;
    assert!(matches!(committed, Err(Error::Aborted { .. })), "{committed:?}");
    assert_eq!(raw.snapshot().await, Vec::<String>::new());
    db.user("before").await;
    assert_eq!(users(&raw).await, 1);
}

async fn a_unit_in_use_elsewhere_is_not_committed(db: TestDb) {
    let raw = db.raw().await;
    let kept: Mutex<Option<Unit>> = Mutex::new(None);
    let kept_by = &kept;
    let committed: Result<(), Error> = db
        .store
        .transact(&Actor::system("test"), |unit| async move {
            unit.users().register(new_user("ada", None)).await?;
            *kept_by.lock().unwrap() = Some(unit);
            Ok(())
        })
        .await;
    assert!(matches!(committed, Err(Error::Aborted { .. })), "{committed:?}");
    drop(kept);
    db.user("ada").await;
    assert_eq!(users(&raw).await, 1);
}

async fn a_unit_reads_its_own_changes(db: TestDb) {
    let unit = db.store.begin(&Actor::system("test")).await.unwrap();
    let ada = unit.users().register(new_user("ada", None)).await.unwrap();
    let room = unit.rooms().create(NewRoom::titled(ada.id, "A room")).await.unwrap();
    let seat = unit.participants().join(room.id, ada.id, Participant).await.unwrap();
    assert_eq!(unit.users().get(ada.id).await.unwrap(), ada);
    assert_eq!(unit.rooms().get(room.id).await.unwrap().status, RoomStatus::Live);
    let page = conferencing_store::PageRequest::first(10, conferencing_store::Order::OldestFirst).unwrap();
    let present = unit.participants().list_present(room.id, &page).await.unwrap();
    assert_eq!(present.items[0].participant, seat);
    assert_eq!(
        unit.audit()
            .list(&AuditFilter::of_room(room.id), &page)
            .await
            .unwrap()
            .items
            .len(),
        3
    );
    unit.roll_back().await.unwrap();
    assert_eq!(db.store.users().find(ada.id).await.unwrap(), None);
}

async fn everything_in_a_unit_happened_at_one_time(db: TestDb) {
    let (store, clock) = db.with_manual_clock().await;
    let began = clock.now();
    let unit = store.begin(&Actor::system("test")).await.unwrap();
    let on = || clock.advance(TimeDelta::seconds(1));
    on();
    let ada = unit.users().register(new_user("ada", None)).await.unwrap();
    on();
    let room = unit.rooms().create(NewRoom::titled(ada.id, "A room")).await.unwrap();
    on();
    let seat = unit.participants().join(room.id, ada.id, Participant).await.unwrap();
    on();
    let ended = unit.rooms().end(room.id).await.unwrap();
    assert_eq!(unit.now(), began);
    unit.commit().await.unwrap();
    assert_eq!((ada.created_at, ada.updated_at), (began, began));
    assert_eq!(
        (room.created_at, room.updated_at, seat.joined_at),
        (began, began, began)
    );
    assert_eq!((ended.started_at, ended.ended_at), (Some(began), Some(began)));
    assert_eq!((ended.duration_seconds, ended.updated_at), (Some(0), began));
    let participation = db.participations(room.id).await.remove(0).participant;
    assert_eq!(
        (participation.left_at, participation.duration_seconds),
        (Some(began), Some(0))
    );
    let times: BTreeSet<_> = db.audit_log(room.id).await.iter().map(|entry| entry.at).collect();
    assert_eq!(times, BTreeSet::from([began]));
    // The order in which it happened is kept all the same.
    assert_eq!(
        db.actions(room.id).await,
        ["ROOM_CREATED", "ROOM_STARTED", "USER_JOINED", "USER_LEFT", "ROOM_ENDED"]
    );
    // A unit of a later time has that one, with its fraction cut to microseconds.
    let later = store.begin(&Actor::system("test")).await.unwrap();
    assert_eq!(later.now(), began + TimeDelta::seconds(4));
}

async fn a_unit_runs_in_a_task_with_what_it_captured(db: TestDb) {
    let (store, name) = (db.store.clone(), "ada".to_owned());
    let task = tokio::spawn(async move {
        let name = &name;
        store
            .transact(&Actor::anonymous(), |unit| async move {
                let ada = unit.users().register(new_user(name, None)).await?;
                Ok::<_, Error>((ada, name.len()))
            })
            .await
    });
    let (ada, length) = task.await.unwrap().unwrap();
    assert_eq!((ada.username.as_str(), length), ("ada", 3));
    assert_eq!(db.store.users().find(ada.id).await.unwrap(), Some(ada));
}
