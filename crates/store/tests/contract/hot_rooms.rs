//! Joins and leaves that wait for one room within a process are done together, in the order in which they came.

use chrono::TimeDelta;
use conferencing_store::Actor;
use conferencing_store::Error;
use conferencing_store::Rejected;
use conferencing_store::Store;
use conferencing_store::StoreSettings;
use conferencing_store::connect::ConnectSettings;
use conferencing_store::entity::ParticipantRole::Host;
use conferencing_store::entity::ParticipantRole::Participant;
use conferencing_store::entity::RoomId;
use conferencing_store::entity::UserId;
use conferencing_store::entity::room_participant::Model as Seat;
use futures_util::future::join_all;
use uuid::Uuid;

use crate::accounts_support::until_blocked;
use crate::harness::Backend;
use crate::harness::TestDb;
use crate::harness::race;
use crate::harness::settings;
use crate::hot_rooms_support::Call;
use crate::hot_rooms_support::assert_seated;
use crate::hot_rooms_support::begun;
use crate::hot_rooms_support::crowd;
use crate::hot_rooms_support::hold;
use crate::hot_rooms_support::ids;
use crate::hot_rooms_support::join;
use crate::hot_rooms_support::joins;
use crate::hot_rooms_support::leave;
use crate::hot_rooms_support::queued;
use crate::hot_rooms_support::soon;
use crate::hot_rooms_support::system;
use crate::hot_rooms_support::told;
use crate::wire::Wire;

crate::cases![
    thousands_come_and_go_in_few_transactions,
    two_processes_at_one_room_seat_each_user_once,
    the_first_to_come_get_the_seats,
    seats_go_by_arrival_also_among_joins_of_all_kinds,
    seats_of_a_room_not_begun_go_by_arrival_though_the_first_are_refused,
    joins_and_leaves_of_one_queue_keep_the_rules,
    a_unit_waits_for_no_group_and_groups_wait_for_units,
    a_room_that_is_over_by_then_refuses_the_whole_queue,
    @Postgres a_queue_takes_one_connection_and_two_statements_and_who_is_alone_one,
];

async fn thousands_come_and_go_in_few_transactions(db: TestDb) {
    let (raw, owner) = (db.raw().await, db.user("owner").await);
    let count = if db.backend == Backend::Postgres { 10_000 } else { 2_000 };
    let users = crowd(&raw, owner.id, count).await;
    let seats = i32::try_from(count).unwrap();
    let room = db.room(&owner, seats).await.id;
    for leaves in [false, true] {
        let tasks = (0..256).map(|task| {
            let (store, users) = (db.store.clone(), users.clone());
            async move {
                let mut done = Vec::new();
                for user in users.into_iter().skip(task).step_by(256) {
                    let actor = Actor::user(user);
                    let call = if leaves {
                        leave(&store, actor, room, user)
                    } else {
                        join(&store, actor, room, user, Participant)
                    };
                    let seat = call.await.unwrap();
                    assert_eq!((seat.user_id, seat.left_at.is_some()), (user, leaves));
                    done.push(seat);
                }
                done
            }
        });
        let mut told: Vec<Seat> = soon(race(tasks)).await.into_iter().flatten().collect();
        told.sort_by_key(|seat| (seat.joined_at, seat.id));
        let rows: Vec<Seat> = db
            .participations(room)
            .await
            .into_iter()
            .map(|row| row.participant)
            .collect();
        assert!(rows == told, "each was told of their own row");
        let now = db.store.rooms().get(room).await.unwrap();
        let present = if leaves { 0 } else { seats };
        assert_eq!(
            (now.active_participants, now.peak_participants, now.total_joins),
            (present, seats, seats)
        );
        raw.assert_invariants().await;
        if db.backend == Backend::Postgres {
            let transactions = raw
                .number("SELECT count(DISTINCT CAST(xmin AS text)) FROM room_participants")
                .await;
            assert!(
                transactions < i64::from(count) / 10,
                "{transactions} transactions for {count}"
            );
        }
    }
    db.assert_audit_log_tells_the_participations(room).await;
}

async fn two_processes_at_one_room_seat_each_user_once(db: TestDb) {
    let (raw, owner) = (db.raw().await, db.user("owner").await);
    let users = crowd(&raw, owner.id, 150).await;
    let room = db.room(&owner, 400).await.id;
    let stores = [db.store.clone(), db.store_with(settings()).await];
    for round in 1..=2 {
        let calls = users.iter().flat_map(|user| {
            stores
                .iter()
                .map(|store| join(store, Actor::user(*user), room, *user, Participant))
        });
        let outcomes = soon(race(calls.collect::<Vec<_>>())).await;
        for (pair, user) in outcomes.chunks(2).zip(&users) {
            let (Ok(seat), Err(Error::Rejected(refused))) = (if pair[0].is_ok() {
                (&pair[0], &pair[1])
            } else {
                (&pair[1], &pair[0])
            }) else {
                panic!("{pair:?}")
            };
            let (role, since) = (Participant, seat.joined_at);
            assert_eq!(
                *refused,
                Rejected::AlreadyPresent {
                    user: *user,
                    room,
                    seat: seat.id,
                    role,
                    since
                }
            );
        }
        let calls = users
            .iter()
            .flat_map(|user| stores.iter().map(|store| leave(store, Actor::user(*user), room, *user)));
        let outcomes = soon(race(calls.collect::<Vec<_>>())).await;
        for (pair, user) in outcomes.chunks(2).zip(&users) {
            let (gone, refused): (Vec<_>, Vec<_>) = pair.iter().partition(|outcome| outcome.is_ok());
            assert_eq!((gone.len(), refused.len()), (1, 1));
            assert!(matches!(refused[0], Err(Error::Rejected(Rejected::NotPresent { user: who, .. })) if who == user));
        }
        let total = db.store.rooms().get(room).await.unwrap().total_joins;
        assert_eq!(total, 150 * round);
        raw.assert_invariants().await;
    }
    db.assert_audit_log_tells_the_participations(room).await;
}

async fn the_first_to_come_get_the_seats(db: TestDb) {
    let (raw, owner) = (db.raw().await, db.user("owner").await);
    let users = crowd(&raw, owner.id, 300).await;
    // Neither the order of the keys nor its reverse.
    let users: Vec<UserId> = (0..300).map(|n| users[n * 7 % 300]).collect();
    let room = db.room(&owner, 100).await.id;
    let outcomes = queued(&raw, room, joins(&db.store, room, &users)).await;
    for (number, (outcome, user)) in outcomes.iter().zip(&users).enumerate() {
        match outcome {
            Ok(seat) if number < 100 => assert_eq!(seat.user_id, *user),
            Err(Error::Rejected(refused)) if number >= 100 => {
                assert_eq!(*refused, Rejected::RoomFull { room, capacity: 100 });
            }
            other => panic!("{number}: {other:?}"),
        }
    }
    assert_seated(&db, room, &outcomes).await;
    let own: Vec<_> = db
        .audit_log(room)
        .await
        .into_iter()
        .skip(2)
        .map(|entry| entry.actor.unwrap())
        .collect();
    assert_eq!(own, users[..100], "the audit log is in their order, too");
}

async fn seats_go_by_arrival_also_among_joins_of_all_kinds(db: TestDb) {
    let (store, clock) = db.with_manual_clock().await;
    let (raw, owner, users) = (db.raw().await, db.user("owner").await, ids(&db.users("guest", 8).await));
    for seats in 1..=7 {
        let room = db.room(&owner, seats).await.id;
        let acting = store.acting(&system());
        let until = conferencing_store::clock::Clock::now(&*clock) + TimeDelta::seconds(1);
        for (user, until) in [(users[3], Some(until)), (users[0], None)] {
            acting.participants().join(room, user, Participant).await.unwrap();
            acting.participants().ban(room, user, None, until).await.unwrap();
        }
        clock.advance(TimeDelta::seconds(2));
        // One who may not, an ordinary one twice, the owner, one whose ban has run out, one for the HOST seat, ordinary ones.
        let mut calls = joins(
            &store,
            room,
            &[users[0], users[1], users[1], owner.id, users[2], users[3]],
        );
        calls.push(join(&store, Actor::user(users[4]), room, users[4], Host));
        calls.extend(joins(&store, room, &[users[5], users[6], users[7]]));
        let outcomes = queued(&raw, room, calls).await;
        let seated: Vec<UserId> = outcomes.iter().flatten().map(|seat| seat.user_id).collect();
        let order = [users[1], owner.id, users[2], users[3], users[5], users[6], users[7]];
        assert_eq!(seated, order[..usize::try_from(seats).unwrap()], "{seats} seats");
        assert_seated(&db, room, &outcomes).await;
        clock.advance(TimeDelta::seconds(1));
    }
}

async fn seats_of_a_room_not_begun_go_by_arrival_though_the_first_are_refused(db: TestDb) {
    let (raw, owner) = (db.raw().await, db.user("owner").await);
    let users = ids(&db.users("guest", 24).await);
    for _ in 0..3 {
        let room = db.room(&owner, 5).await.id;
        for banned in &users[..2] {
            let acting = db.system();
            acting.participants().ban(room, *banned, None, None).await.unwrap();
        }
        let outcomes = queued(&raw, room, joins(&db.store, room, &users)).await;
        let seated: Vec<UserId> = outcomes.iter().flatten().map(|seat| seat.user_id).collect();
        assert_eq!(seated, users[2..7]);
        let started = db
            .actions(room)
            .await
            .into_iter()
            .filter(|action| action == "ROOM_STARTED");
        assert_eq!(started.count(), 1);
    }
}

async fn joins_and_leaves_of_one_queue_keep_the_rules(db: TestDb) {
    let (raw, owner) = (db.raw().await, db.user("owner").await);
    let users = ids(&db.users("guest", 6).await);
    let room = db.room(&owner, 3).await.id;
    db.system().rooms().start(room).await.unwrap();
    let mut calls: Vec<Call> = Vec::new();
    for number in 0..60 {
        let user = users[number * 5 % 6];
        calls.push(if number % 4 < 2 {
            join(&db.store, Actor::user(user), room, user, Participant)
        } else {
            leave(&db.store, Actor::user(user), room, user)
        });
    }
    for outcome in queued(&raw, room, calls).await {
        let refused = |refused: &Rejected| {
            let told = format!("{refused:?}");
            ["RoomFull", "AlreadyPresent", "NotPresent"]
                .iter()
                .any(|kind| told.starts_with(kind))
        };
        let expected = match &outcome {
            Ok(_) => true,
            Err(Error::Rejected(reason)) => refused(reason),
            Err(_) => false,
        };
        assert!(expected, "{outcome:?}");
    }
    raw.assert_invariants().await;
    db.assert_audit_log_tells_the_participations(room).await;
}

async fn a_unit_waits_for_no_group_and_groups_wait_for_units(db: TestDb) {
    let (raw, owner) = (db.raw().await, db.user("owner").await);
    let who = crowd(&raw, owner.id, 54).await;
    let room = db.room(&owner, 60).await.id;
    let unit = db.store.begin(&system()).await.unwrap();
    unit.participants().join(room, who[50], Participant).await.unwrap();
    let all = tokio::spawn(join_all(begun(joins(&db.store, room, &who[..50])).await));
    if db.backend == Backend::Postgres {
        soon(until_blocked(&raw, 1)).await;
    }
    for user in &who[51..] {
        soon(unit.participants().join(room, *user, Participant)).await.unwrap();
    }
    soon(unit.participants().leave(room, who[50])).await.unwrap();
    unit.commit().await.unwrap();
    let outcomes = soon(all).await.unwrap();
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
    assert_eq!(db.store.rooms().get(room).await.unwrap().active_participants, 53);
    raw.assert_invariants().await;
    db.assert_audit_log_tells_the_participations(room).await;
}

async fn a_room_that_is_over_by_then_refuses_the_whole_queue(db: TestDb) {
    let (raw, owner, who) = (
        db.raw().await,
        db.user("owner").await,
        ids(&db.users("guest", 20).await),
    );
    let room = db.room(&owner, 60).await.id;
    join(&db.store, system(), room, who[0], Participant).await.unwrap();
    let unit = db.store.begin(&system()).await.unwrap();
    unit.rooms().end(room).await.unwrap();
    let mut calls = joins(&db.store, room, &who[1..]);
    calls.push(leave(&db.store, Actor::user(who[0]), room, who[0]));
    calls.push(join(&db.store, Actor::user(who[1]), room, who[2], Participant));
    let all = tokio::spawn(join_all(begun(calls).await));
    unit.commit().await.unwrap();
    let outcomes = soon(all).await.unwrap();
    let told: Vec<String> = outcomes.iter().map(|outcome| told(room, outcome)).collect();
    assert!(
        told[..19]
            .iter()
            .all(|told| told.contains("RoomStatus") && told.contains("Ended")),
        "{told:?}"
    );
    assert!(
        told[19].contains("NotPresent") && told[20].contains("NotAllowed"),
        "{told:?}"
    );
    raw.assert_invariants().await;
    db.assert_audit_log_tells_the_participations(room).await;
    let unknown = RoomId::from_uuid(Uuid::from_u128(7));
    for outcome in soon(race(joins(&db.store, unknown, &who))).await {
        assert!(matches!(outcome, Err(Error::NotFound(_))), "{outcome:?}");
    }
}

async fn a_queue_takes_one_connection_and_two_statements_and_who_is_alone_one(db: TestDb) {
    let (raw, owner) = (db.raw().await, db.user("owner").await);
    let who = crowd(&raw, owner.id, 101).await;
    let (room, other) = (db.room(&owner, 200).await.id, db.room(&owner, 200).await.id);
    for room in [room, other] {
        db.system().rooms().start(room).await.unwrap();
    }
    let wire = Wire::before(&db.url).await;
    let connect = ConnectSettings {
        max_connections: Some(2),
        ..settings().connect
    };
    let store = Store::connect_with(&wire.url, StoreSettings { connect, ..settings() })
        .await
        .unwrap();
    for leaves in [false, true] {
        let call = |room: RoomId, user: UserId| {
            if leaves {
                leave(&store, Actor::user(user), room, user)
            } else {
                join(&store, Actor::user(user), room, user, Participant)
            }
        };
        wire.executions();
        let held = hold(&raw, room).await;
        let all = tokio::spawn(join_all(
            begun(who[..100].iter().map(|user| call(room, *user)).collect()).await,
        ));
        soon(until_blocked(&raw, 1)).await;
        assert_eq!(wire.executions(), ["execute"]);
        soon(call(other, who[100])).await.unwrap();
        assert_eq!(wire.executions(), ["execute"], "one who is alone, in another room");
        held.commit().await.unwrap();
        assert!(soon(all).await.unwrap().iter().all(Result::is_ok));
        assert_eq!(wire.executions(), ["execute"], "99 together");
        soon(call(room, who[100])).await.unwrap();
        assert_eq!(wire.executions(), ["execute"], "one who is alone again");
    }
    raw.assert_invariants().await;
}
