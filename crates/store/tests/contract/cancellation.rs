//! Callers who give up waiting, at every place where they can: it has happened whole or not at all, and nothing is left
//! behind that others would stumble over.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;

use conferencing_store::connect::ConnectSettings;
use conferencing_store::entity::ParticipantRole::Participant;
use conferencing_store::{Actor, Error, NewRoom, Store, StoreSettings};

use crate::harness::{TestDb, settings};
use crate::users::new_user;

crate::cases![
    an_operation_that_nobody_waits_for_happens_whole_or_not_at_all,
    a_unit_that_nobody_waits_for_happens_whole_or_not_at_all,
];

/// Polls so many times, and gives up on what is not done by then.
async fn polled<F: Future>(future: F, times: usize) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut left = times;
    poll_fn(|context| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        future.as_mut().poll(context).map(Some)
    })
    .await
}

/// A store with one connection, so that one left in doubt is the one that is used next.
async fn narrow(db: &TestDb) -> Store {
    let connect = ConnectSettings {
        max_connections: Some(1),
        ..settings().connect
    };
    db.store_with(StoreSettings { connect, ..settings() }).await
}

async fn an_operation_that_nobody_waits_for_happens_whole_or_not_at_all(db: TestDb) {
    let (store, raw) = (narrow(&db).await, db.raw().await);
    let owner = db.user("owner").await;
    let system = store.acting(&Actor::system("test"));
    let mut done = 0;
    for times in 1..200 {
        let room = system
            .rooms()
            .create(NewRoom::titled(owner.id, "A room"))
            .await
            .unwrap()
            .id;
        let outcomes = [
            polled(system.participants().join(room, owner.id, Participant), times)
                .await
                .map(|o| o.map(drop)),
            polled(system.participants().leave(room, owner.id), times)
                .await
                .map(|o| o.map(drop)),
            polled(system.rooms().end(room), times).await.map(|o| o.map(drop)),
        ];
        for outcome in outcomes.iter().flatten() {
            assert!(matches!(outcome, Ok(()) | Err(Error::Rejected(_))), "{outcome:?}");
        }
        // Waits for what was given up on.
        system
            .users()
            .register(new_user(&format!("after{times}"), None))
            .await
            .unwrap();
        raw.assert_invariants().await;
        db.assert_audit_log_tells_the_participations(room).await;
        if outcomes.iter().all(Option::is_some) {
            done += 1;
        }
        if done == 3 {
            return;
        }
    }
    panic!("never done");
}

async fn a_unit_that_nobody_waits_for_happens_whole_or_not_at_all(db: TestDb) {
    let (store, raw) = (narrow(&db).await, db.raw().await);
    let owner = db.user("owner").await.id;
    let system = Actor::system("test");
    let mut done = 0;
    for times in 1..200 {
        let name = &format!("guest{times}");
        let work = store.transact(&system, |unit| async move {
            let guest = unit.users().register(new_user(name, None)).await?;
            let room = unit.rooms().create(NewRoom::titled(owner, name)).await?;
            unit.participants().join(room.id, guest.id, Participant).await?;
            unit.rooms().end(room.id).await
        });
        let outcome = polled(work, times).await;
        store
            .acting(&system)
            .users()
            .register(new_user(&format!("after{times}"), None))
            .await
            .unwrap();
        raw.assert_invariants().await;
        let made = format!("SELECT count(*) FROM users WHERE username = '{name}'");
        let ended = format!("SELECT count(*) FROM rooms WHERE title = '{name}' AND status = 'ENDED'");
        let (made, ended) = (raw.number(&made).await, raw.number(&ended).await);
        assert_eq!(made, ended, "{times}");
        if let Some(room) = outcome {
            db.assert_audit_log_tells_the_participations(room.unwrap().id).await;
            assert_eq!(ended, 1);
            done += 1;
        }
        if done == 3 {
            return;
        }
    }
    panic!("never done");
}
