//! Recordings under races, and what each change costs on the wire.

use conferencing_store::entity::RecordingId;
use conferencing_store::entity::RecordingStatus::{Started, Stopped};
use conferencing_store::{Acting, Error, Order, PageRequest, Rejected};

use crate::harness::TestDb;
use crate::recordings::{Act, live_room, new_recording, told_of};
use crate::wire::Wire;

crate::cases![conflicting_changes_have_one_winner, @Postgres each_change_is_one_statement];

/// Lets 32 tasks do these at once and says which went through.
async fn race(acting: &Acting, id: RecordingId, acts: [Act; 32]) -> Vec<Act> {
    let start = std::sync::Arc::new(tokio::sync::Barrier::new(acts.len()));
    let tasks = acts.map(|act| {
        let (acting, start) = (acting.clone(), start.clone());
        tokio::spawn(async move {
            start.wait().await;
            (act, act.by(&acting, id).await)
        })
    });
    let mut won = Vec::new();
    for task in tasks {
        match task.await.unwrap() {
            (act, Ok(_)) => won.push(act),
            (_, Err(Error::Rejected(Rejected::RecordingStatus { .. } | Rejected::NotAllowed { .. }))) => {}
            (act, Err(error)) => panic!("{act:?}: {error:?}"),
        }
    }
    won
}

async fn conflicting_changes_have_one_winner(db: TestDb) {
    let ada = db.user("ada").await;
    let room = live_room(&db, &ada).await;
    let (owner, system) = (db.acting(&ada), db.system());
    let half = |a, b| std::array::from_fn(|number| if number % 2 == 0 { a } else { b });
    let mut changes = 0;
    for round in 0..3 {
        let tag = format!("race {round}");
        let new = new_recording(room.id, ada.id, &tag);
        let id = owner.recordings().start(new).await.unwrap().id;
        // Her word ends the writing only, so whichever comes first shuts the other out.
        let ended = race(&owner, id, half(Act::Stop, Act::Fail)).await;
        assert_eq!(ended.len(), 1, "{ended:?}");
        let status = db.store.recordings().get(id).await.unwrap().status;
        assert_eq!(Act::leads(ended[0], Started), Some(status));
        let onward = if status == Stopped { Act::Process } else { Act::Retry };
        assert_eq!(race(&system, id, half(onward, onward)).await, [onward]);
        let decided = race(&system, id, half(Act::Ready, Act::Fail)).await;
        assert_eq!(decided.len(), 1, "{decided:?}");
        changes += 4;
    }
    assert_eq!(told_of(&db, room.id).await.len(), changes);
}

async fn each_change_is_one_statement(db: TestDb) {
    let ada = db.user("ada").await;
    let room = live_room(&db, &ada).await;
    let wire = Wire::before(&db.url).await;
    let store = conferencing_store::Store::connect(&wire.url).await.unwrap();
    let (owner, system) = (
        store.acting(&conferencing_store::Actor::user(ada.id)),
        store.acting(&conferencing_store::Actor::system("test")),
    );
    wire.executions();
    let id = owner
        .recordings()
        .start(new_recording(room.id, ada.id, "a"))
        .await
        .unwrap()
        .id;
    assert_eq!(wire.executions(), ["execute"], "start");
    let acts = [
        Act::Progress,
        Act::Stop,
        Act::Process,
        Act::Fail,
        Act::Retry,
        Act::Ready,
        Act::SetExpiry,
        Act::Delete,
        Act::Restore,
    ];
    for act in acts {
        let acting = if matches!(act, Act::Progress | Act::Stop | Act::Delete) {
            &owner
        } else {
            &system
        };
        act.by(acting, id).await.unwrap();
        assert_eq!(wire.executions(), ["execute"], "{act:?}");
    }
    let page = PageRequest::first(10, Order::OldestFirst).unwrap();
    store.recordings().list_of_room(room.id, &page).await.unwrap();
    assert_eq!(wire.executions(), ["execute"], "list");
    system.recordings().sweep_expired(10).await.unwrap();
    assert_eq!(wire.executions(), ["execute"], "sweep of the expired");
    let minute = std::time::Duration::from_secs(60);
    system.recordings().sweep_stuck(minute, 10).await.unwrap();
    assert_eq!(wire.executions(), ["execute"], "sweep of the stuck");
    system.recordings().claim_purges(10, minute).await.unwrap();
    assert_eq!(wire.executions(), ["execute"], "claim of files to purge");
    system.recordings().confirm_purged(&[id]).await.unwrap();
    assert_eq!(
        wire.executions().len(),
        4,
        "confirmation that they are purged: BEGIN, two, COMMIT"
    );
}
