//! Those who get in each other's way: tried again when that can help, and recorded so when it does not.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use conferencing_store::connect::ConnectSettings;
use conferencing_store::entity::ParticipantRole::Participant;
use conferencing_store::{Actor, Error, Observation, RetryPolicy, StoreSettings};
use tokio::sync::Barrier;

use crate::harness::{Backend, TestDb, race, settings};
use crate::unit::OwnError;
use crate::users::new_user;

crate::cases![
    a_deadlock_is_tried_again_until_both_succeed,
    a_callers_own_error_is_not_tried_again,
    who_waits_for_a_unit_too_long_is_told_to_come_back,
    two_stores_on_one_database_write_at_once,
];

async fn a_deadlock_is_tried_again_until_both_succeed(db: TestDb) {
    let owner = db.user("owner").await;
    let guests = db.users("guest", 2).await;
    let rooms = [db.room(&owner, 5).await.id, db.room(&owner, 5).await.id];
    // On PostgreSQL both hold their first room before either asks for its second. SQLite has one writer, who would wait for ever.
    let both_hold_one = (db.backend == Backend::Postgres).then(|| Arc::new(Barrier::new(2)));
    let attempts = Arc::new(AtomicUsize::new(0));
    let tasks = guests.iter().enumerate().map(|(number, guest)| {
        let (store, guest) = (db.store.clone(), guest.id);
        let (first, second) = (rooms[number], rooms[1 - number]);
        let (barrier, attempts) = (both_hold_one.clone(), Arc::clone(&attempts));
        async move {
            let mine = &AtomicUsize::new(0);
            let (barrier, attempts) = (&barrier, &attempts);
            store
                .transact(&Actor::system("test"), |unit| async move {
                    attempts.fetch_add(1, Ordering::SeqCst);
                    unit.participants().join(first, guest, Participant).await?;
                    if mine.fetch_add(1, Ordering::SeqCst) == 0
                        && let Some(barrier) = barrier
                    {
                        barrier.wait().await;
                    }
                    unit.participants().join(second, guest, Participant).await?;
                    Ok::<_, Error>(())
                })
                .await
        }
    });
    for outcome in race(tasks.collect::<Vec<_>>()).await {
        outcome.unwrap();
    }
    let attempts = attempts.load(Ordering::SeqCst);
    match db.backend {
        Backend::Postgres => assert!(attempts > 2, "nothing was in anybody's way"),
        Backend::Sqlite => assert_eq!(attempts, 2),
    }
    for room in rooms {
        assert_eq!(db.participations(room).await.len(), 2);
        db.assert_audit_log_tells_the_participations(room).await;
    }
    db.raw().await.assert_invariants().await;
}

async fn a_callers_own_error_is_not_tried_again(db: TestDb) {
    let attempts = &AtomicUsize::new(0);
    let failed: Result<(), OwnError> = db
        .store
        .transact(&Actor::system("test"), |_| async move {
            Err(OwnError::Own(
                u32::try_from(attempts.fetch_add(1, Ordering::SeqCst)).unwrap(),
            ))
        })
        .await;
    assert!(matches!(failed, Err(OwnError::Own(0))), "{failed:?}");
    // Nor is a refusal, which is the database's last word.
    db.user("ada").await;
    attempts.store(0, Ordering::SeqCst);
    let refused: Result<(), OwnError> = db
        .store
        .transact(&Actor::system("test"), |unit| async move {
            attempts.fetch_add(1, Ordering::SeqCst);
            unit.users().register(new_user("ada", None)).await?;
            Ok(())
        })
        .await;
    assert!(
        matches!(refused, Err(OwnError::Store(Error::Conflict(_)))),
        "{refused:?}"
    );
    assert_eq!(attempts.load(Ordering::SeqCst), 1);
}

async fn who_waits_for_a_unit_too_long_is_told_to_come_back(db: TestDb) {
    let impatient = StoreSettings {
        connect: ConnectSettings {
            max_connections: Some(1),
            // Also the time in which a busy machine must get a first connection.
            acquire_timeout: Duration::from_secs(1),
            ..ConnectSettings::default()
        },
        retry: RetryPolicy {
            attempts: 2,
            ..RetryPolicy::default()
        },
        ..settings()
    };
    let store = db.store_with(impatient).await;
    let system = Actor::system("test");
    let unit = store.begin(&system).await.unwrap();
    unit.users().register(new_user("ada", None)).await.unwrap();
    let second = store.begin(&system).await.map(drop);
    let alone = store
        .acting(&system)
        .users()
        .register(new_user("ben", None))
        .await
        .map(drop);
    let inside = store
        .transact(&system, |unit| async move {
            unit.users().register(new_user("cleo", None)).await.map(drop)
        })
        .await;
    for outcome in [second, alone, inside] {
        match outcome {
            Err(error @ Error::Transient { .. }) => assert!(error.is_retryable()),
            other => panic!("{other:?}"),
        }
    }
    unit.commit().await.unwrap();
    store
        .acting(&system)
        .users()
        .register(new_user("ben", None))
        .await
        .unwrap();
    assert_eq!(db.raw().await.number("SELECT count(*) FROM users").await, 2);
}

async fn two_stores_on_one_database_write_at_once(db: TestDb) {
    let stores = [db.store.clone(), db.store_with(settings()).await];
    let owner = db.user("owner").await;
    let room = db.room(&owner, 100).await;
    let tasks = (0..32).map(|number| {
        let (store, room) = (stores[number % 2].clone(), room.id);
        async move {
            let system = Actor::system("test");
            let user = store
                .acting(&system)
                .users()
                .register(new_user(&format!("guest{number}"), None))
                .await?;
            store
                .transact(&system, |unit| async move {
                    unit.participants().join(room, user.id, Participant).await?;
                    unit.participants().leave(room, user.id).await.map(drop)
                })
                .await?;
            store
                .acting(&system)
                .audit()
                .append(Some(room), Observation::ScreenShareStarted {})
                .await
        }
    });
    let ids: BTreeSet<_> = race(tasks).await.into_iter().map(|id| id.unwrap()).collect();
    assert_eq!(ids.len(), 32);
    let raw = db.raw().await;
    assert_eq!(raw.number("SELECT count(*) FROM users").await, 33);
    assert_eq!(db.participations(room.id).await.len(), 32);
    raw.assert_invariants().await;
}
