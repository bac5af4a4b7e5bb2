//! Callers who give up and databases that fail, while others wait for the same room.

use conferencing_store::Actor;
use conferencing_store::Error;
use conferencing_store::Rejected;
use conferencing_store::Store;
use conferencing_store::entity::ParticipantRole::Host;
use conferencing_store::entity::ParticipantRole::Participant;
use conferencing_store::entity::RoomId;
use conferencing_store::entity::UserId;
use conferencing_store::entity::room_participant::Model as Seat;
use sea_orm::ConnectionTrait;
use sea_orm::DatabaseTransaction;
use sea_orm::TransactionTrait;

use crate::accounts_support::until_blocked;
use crate::checks::assert_sabotaged;
use crate::harness::Backend;
use crate::harness::Raw;
use crate::harness::TestDb;
use crate::hot_rooms_support::assert_seated;
use crate::hot_rooms_support::begun;
use crate::hot_rooms_support::hold;
use crate::hot_rooms_support::ids;
use crate::hot_rooms_support::join;
use crate::hot_rooms_support::joins;
use crate::hot_rooms_support::leave;
use crate::hot_rooms_support::one_by_one;
use crate::hot_rooms_support::queued;
use crate::hot_rooms_support::soon;
use crate::hot_rooms_support::system;
use crate::wire::Wire;

crate::cases![
    callers_who_give_up_cost_the_others_nothing,
    @Postgres callers_who_give_up_while_their_group_is_at_the_room_cost_the_others_nothing,
    @Postgres a_group_whose_answer_is_lost_leaves_nobody_waiting,
    what_the_database_refuses_to_one_spoils_no_other,
    what_the_database_refuses_to_all_leaves_nobody_waiting,
    a_runtime_that_ends_takes_its_queue_with_it,
];

/// Four calls that are one group, which waits for a lock on a row of the second.
async fn group_at_work(
    raw: &Raw,
    store: &Store,
    room: RoomId,
    who: &[UserId],
    leaves: bool,
) -> (DatabaseTransaction, Vec<tokio::task::JoinHandle<Result<Seat, Error>>>) {
    let at_the_room = hold(raw, room).await;
    let held = raw.db.begin().await.unwrap();
    let row = raw.id(who[2].as_uuid());
    let lock = if leaves {
        format!("room_participants WHERE left_at IS NULL AND user_id = {row}")
    } else {
        format!("users WHERE id = {row}")
    };
    held.execute_unprepared(&format!("SELECT id FROM {lock} FOR UPDATE"))
        .await
        .unwrap();
    let calls = if leaves {
        who.iter()
            .map(|user| leave(store, Actor::user(*user), room, *user))
            .collect()
    } else {
        joins(store, room, who)
    };
    let mut tasks: Vec<_> = begun(calls).await.into_iter().map(tokio::spawn).collect();
    soon(until_blocked(raw, 1)).await;
    at_the_room.commit().await.unwrap();
    // The first was alone.
    soon(tasks.remove(0)).await.unwrap().unwrap();
    soon(until_blocked(raw, 1)).await;
    (held, tasks)
}

async fn callers_who_give_up_cost_the_others_nothing(db: TestDb) {
    let (raw, owner, who) = (
        db.raw().await,
        db.user("owner").await,
        ids(&db.users("guest", 12).await),
    );
    for given_up in [
        vec![0],
        vec![5],
        vec![0, 1, 2],
        vec![3, 4, 11],
        vec![0, 2, 4, 6, 8, 10],
        (0..11).collect(),
        (0..12).collect(),
    ] {
        let room = db.room(&owner, 20).await.id;
        db.system().rooms().start(room).await.unwrap();
        let held = hold(&raw, room).await;
        let begun = begun(joins(&db.store, room, &who)).await;
        let mut tasks: Vec<_> = begun.into_iter().map(tokio::spawn).collect();
        for number in &given_up {
            if db.backend == Backend::Postgres {
                // Whoever is the first of those who are left is at the room.
                soon(until_blocked(&raw, 1)).await;
            }
            tasks[*number].abort();
            assert!((&mut tasks[*number]).await.unwrap_err().is_cancelled());
        }
        held.commit().await.unwrap();
        for (number, task) in tasks
            .into_iter()
            .enumerate()
            .filter(|(number, _)| !given_up.contains(number))
        {
            let seat = soon(task).await.unwrap().unwrap();
            assert_eq!((seat.user_id, seat.left_at), (who[number], None));
        }
        // Who was at the room may have come in; who waited behind them has not.
        let last = soon(join(&db.store, system(), room, owner.id, Participant))
            .await
            .unwrap();
        assert_eq!(last.role, Host);
        let order: Vec<usize> = db
            .participations(room)
            .await
            .iter()
            .filter_map(|row| who.iter().position(|id| *id == row.user.id))
            .collect();
        assert!(order.is_sorted(), "{order:?}");
        let in_line = given_up.iter().filter(|number| **number > 0 && given_up[0] != 0);
        for number in in_line {
            assert!(!order.contains(number), "{number} of {given_up:?}");
        }
        raw.assert_invariants().await;
        db.assert_audit_log_tells_the_participations(room).await;
    }
}

async fn callers_who_give_up_while_their_group_is_at_the_room_cost_the_others_nothing(db: TestDb) {
    let (raw, owner, who) = (db.raw().await, db.user("owner").await, ids(&db.users("guest", 5).await));
    for given_up in 0..4 {
        let room = db.room(&owner, 20).await.id;
        db.system().rooms().start(room).await.unwrap();
        for leaves in [false, true] {
            let (held, mut tasks) = group_at_work(&raw, &db.store, room, &who, leaves).await;
            let task = tasks.remove(given_up);
            task.abort();
            assert!(task.await.unwrap_err().is_cancelled());
            held.commit().await.unwrap();
            for task in tasks {
                let seat = soon(task).await.unwrap();
                assert!(seat.is_ok(), "given up: {given_up}, leaves: {leaves}: {seat:?}");
            }
            let one = who[given_up + 1];
            let again = if leaves {
                leave(&db.store, system(), room, one)
            } else {
                join(&db.store, system(), room, one, Participant)
            };
            // It happened, or it happens now.
            let again = soon(again).await;
            let happened = matches!(
                again,
                Ok(_)
                    | Err(Error::Rejected(
                        Rejected::AlreadyPresent { .. } | Rejected::NotPresent { .. }
                    ))
            );
            assert!(happened, "{again:?}");
            let present = db.store.rooms().get(room).await.unwrap().active_participants;
            assert_eq!(present, if leaves { 0 } else { 5 });
            raw.assert_invariants().await;
            db.assert_audit_log_tells_the_participations(room).await;
        }
    }
}

async fn a_group_whose_answer_is_lost_leaves_nobody_waiting(db: TestDb) {
    let (raw, owner, who) = (db.raw().await, db.user("owner").await, ids(&db.users("guest", 5).await));
    let wire = Wire::before(&db.url).await;
    let store = Store::connect(&wire.url).await.unwrap();
    let room = db.room(&owner, 20).await.id;
    db.system().rooms().start(room).await.unwrap();
    for leaves in [false, true] {
        let (held, tasks) = group_at_work(&raw, &store, room, &who, leaves).await;
        wire.lose_next_reply();
        held.commit().await.unwrap();
        for task in tasks {
            let outcome = soon(task).await.unwrap();
            assert!(matches!(outcome, Err(Error::Indeterminate { .. })), "{outcome:?}");
        }
        // All of it was committed before the answer was lost.
        let present = db.store.rooms().get(room).await.unwrap().active_participants;
        assert_eq!(present, if leaves { 0 } else { 5 });
        raw.assert_invariants().await;
        db.assert_audit_log_tells_the_participations(room).await;
    }
    soon(join(&store, system(), room, owner.id, Participant)).await.unwrap();
}

async fn what_the_database_refuses_to_one_spoils_no_other(db: TestDb) {
    let (raw, owner, who) = (
        db.raw().await,
        db.user("owner").await,
        ids(&db.users("guest", 10).await),
    );
    for spoilt in [0, 5] {
        let user = raw.id(who[spoilt].as_uuid());
        let room = db.room(&owner, 20).await.id;
        for (table, leaves) in [
            ("room_participants", false),
            ("audit_logs", true),
            ("audit_logs", false),
            ("room_participants", true),
        ] {
            let calls = |users: &[UserId]| {
                if leaves {
                    users
                        .iter()
                        .map(|user| leave(&db.store, Actor::user(*user), room, *user))
                        .collect()
                } else {
                    joins(&db.store, room, users)
                }
            };
            raw.sabotage(table, &format!("NEW.user_id = {user}")).await;
            for (number, outcome) in queued(&raw, room, calls(&who)).await.iter().enumerate() {
                if number == spoilt {
                    assert_sabotaged(outcome, table);
                } else {
                    assert_eq!(outcome.as_ref().unwrap().user_id, who[number]);
                }
            }
            raw.repair().await;
            raw.assert_invariants().await;
            one_by_one(calls(&who[spoilt..=spoilt])).await.remove(0).unwrap();
        }
        db.assert_audit_log_tells_the_participations(room).await;
    }
}

async fn what_the_database_refuses_to_all_leaves_nobody_waiting(db: TestDb) {
    let (raw, owner, who) = (
        db.raw().await,
        db.user("owner").await,
        ids(&db.users("guest", 20).await),
    );
    let room = db.room(&owner, 20).await.id;
    for table in ["audit_logs", "room_participants", "rooms"] {
        let held = hold(&raw, room).await;
        held.rollback().await.unwrap();
        raw.sabotage(
            table,
            if table == "rooms" {
                "NEW.total_joins > 0"
            } else {
                "1 = 1"
            },
        )
        .await;
        for outcome in queued(&raw, room, joins(&db.store, room, &who)).await {
            assert_sabotaged(&outcome, table);
        }
        raw.repair().await;
        assert_eq!(db.participations(room).await, []);
    }
    let outcomes = queued(&raw, room, joins(&db.store, room, &who)).await;
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 20);
    assert_seated(&db, room, &outcomes).await;
}

/// Whoever is at a room when the runtime ends must not hand it on for ever.
async fn a_runtime_that_ends_takes_its_queue_with_it(db: TestDb) {
    let (raw, owner) = (db.raw().await, db.user("owner").await);
    let who = ids(&db.users("guest", 5).await);
    let room = db.room(&owner, 50).await.id;
    let held = hold(&raw, room).await;
    let url = db.service_url();
    let calls = who.clone();
    let store = tokio::task::spawn_blocking(move || {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let store = runtime.block_on(async {
            let store = Store::connect_with(&url, crate::harness::settings()).await.unwrap();
            for call in begun(joins(&store, room, &calls)).await {
                tokio::spawn(call);
            }
            store
        });
        runtime.shutdown_timeout(std::time::Duration::from_secs(30));
        store
    })
    .await
    .unwrap();
    held.rollback().await.unwrap();
    // Nobody is at the room any more in the store that lives on, though its connections went with the runtime.
    let after = soon(join(&store, system(), room, owner.id, Participant)).await;
    assert!(
        matches!(
            after,
            Ok(_) | Err(Error::Indeterminate { .. } | Error::Transient { .. })
        ),
        "{after:?}"
    );
    let again = soon(join(&db.store, system(), room, owner.id, Participant)).await;
    assert!(
        matches!(again, Ok(_) | Err(Error::Rejected(Rejected::AlreadyPresent { .. }))),
        "{again:?}"
    );
    let present = format!(
        "SELECT count(*) FROM room_participants WHERE room_id = {}",
        raw.id(room.as_uuid())
    );
    // The one that was at the room may have come through.
    assert!((1..=2).contains(&raw.number(&present).await));
    raw.assert_invariants().await;
}
