//! Seats become what the media server says, and who came after it looked is left alone.

use chrono::TimeDelta;
use conferencing_store::clock::{Clock, SystemClock};
use conferencing_store::entity::ParticipantRole::Participant;
use conferencing_store::entity::{RoomId, RoomStatus, UserId};
use conferencing_store::participants::MAX_RECONCILED;
use conferencing_store::{
    Actor, AuditEvent, Change, ClosedSeat, EmptyRoomPolicy, Error, LeaveReason, Reconciled, StoreSettings, Subject,
};
use uuid::Uuid;

use crate::accounts_support::until_blocked;
use crate::harness::{TestDb, race, settings};
use crate::model::check_invariants;
use crate::stays::{log_of, presence_held, presence_told_by};

crate::cases![
    seats_become_what_the_media_server_says,
    who_came_after_is_left_alone,
    the_last_one_out_may_end_the_room,
    a_list_of_old_closes_no_rejoin,
    reconciling_has_limits,
    many_reconcile_at_once,
    @Postgres who_came_while_the_room_was_waited_for_is_not_missing,
];

async fn seats_become_what_the_media_server_says(db: TestDb) {
    let (owner, users) = (db.user("owner").await, db.users("guest", 6).await);
    let (store, clock) = db.with_manual_clock().await;
    let system = store.acting(&Actor::system("signaling"));
    let (room, other) = (db.room(&owner, 10).await.id, db.room(&owner, 10).await.id);
    let mut seats = Vec::new();
    for user in &users[..4] {
        seats.push(system.participants().join(room, user.id, Participant).await.unwrap());
        system.participants().join(other, user.id, Participant).await.unwrap();
    }
    clock.advance(TimeDelta::seconds(30));
    let as_of = clock.now();
    clock.advance(TimeDelta::seconds(5));
    // 0 and 1 are there, 4 and 5 without a seat, and one whom nobody knows; twice said is said once.
    let nobody = UserId::from_uuid(Uuid::from_u128(1));
    let [a, b, c, d, e, f] = [0, 1, 2, 3, 4, 5].map(|number: usize| users[number].id);
    let there = [a, f, nobody, e, b, e, a];
    let mut done = system.participants().reconcile(room, &there, as_of).await.unwrap();
    done.closed.sort_unstable();
    let mut closed = [(&seats[2], c), (&seats[3], d)]
        .map(|(seat, user)| ClosedSeat { stay: seat.id, user })
        .to_vec();
    closed.sort_unstable();
    let mut missing = vec![e, f, nobody];
    missing.sort_unstable();
    assert_eq!(
        done,
        Reconciled {
            closed,
            missing: missing.clone()
        }
    );
    for seat in &seats[2..] {
        let row = store.participants().get(seat.id).await.unwrap();
        assert_eq!((row.left_at, row.duration_seconds), (Some(as_of), Some(30)));
    }
    let log = log_of(&store, room).await;
    let last: Vec<_> = log[log.len() - 2..].iter().map(|entry| &entry.event).collect();
    for event in last {
        let AuditEvent::Change(Change::UserLeft {
            target,
            reason,
            duration_seconds,
            ..
        }) = event
        else {
            panic!("{event:?}");
        };
        assert!([Some(c), Some(d)].contains(target));
        assert_eq!((*reason, *duration_seconds), (LeaveReason::Reconciled, 30));
    }
    assert_eq!(store.rooms().get(room).await.unwrap().active_participants, 2);
    assert_eq!(
        store.rooms().get(other).await.unwrap().active_participants,
        4,
        "it is about one room"
    );
    let raw = db.raw().await;
    assert_eq!(presence_told_by(&log), presence_held(&raw, room).await);
    // Asked again it changes nothing.
    let before = raw.snapshot().await;
    let again = system.participants().reconcile(room, &there, as_of).await.unwrap();
    assert_eq!(
        again,
        Reconciled {
            closed: vec![],
            missing
        }
    );
    assert_eq!(raw.snapshot().await, before);
    check_invariants(&raw, &store).await;
}

async fn who_came_after_is_left_alone(db: TestDb) {
    let (owner, users) = (db.user("owner").await, db.users("guest", 3).await);
    let (store, clock) = db.with_manual_clock().await;
    let system = store.acting(&Actor::system("signaling"));
    let room = db.room(&owner, 10).await.id;
    let join = async |user: &conferencing_store::entity::user::Model| {
        let joined = system.participants().join(room, user.id, Participant).await;
        clock.advance(TimeDelta::microseconds(1));
        joined.unwrap()
    };
    let (before, at) = (join(&users[0]).await, join(&users[1]).await);
    let after = join(&users[2]).await;
    let done = system.participants().reconcile(room, &[], at.joined_at).await.unwrap();
    let mut closed: Vec<_> = done.closed.iter().map(|seat| seat.stay).collect();
    closed.sort_unstable();
    let mut expected = vec![before.id, at.id];
    expected.sort_unstable();
    assert_eq!(closed, expected, "to the microsecond");
    assert_eq!(store.participants().get(after.id).await.unwrap().left_at, None);
    // Whoever came after and is in the list is no one missing.
    let done = system
        .participants()
        .reconcile(room, &[users[2].id], at.joined_at)
        .await
        .unwrap();
    assert_eq!(done, Reconciled::default());
}

/// A list that was made before somebody left and came back.
async fn a_list_of_old_closes_no_rejoin(db: TestDb) {
    let (owner, guest) = (db.user("owner").await, db.user("guest").await);
    let (store, clock) = db.with_manual_clock().await;
    let system = store.acting(&Actor::system("signaling"));
    let room = db.room(&owner, 10).await.id;
    system.participants().join(room, guest.id, Participant).await.unwrap();
    clock.advance(TimeDelta::seconds(1));
    system.participants().leave(room, guest.id).await.unwrap();
    let as_of = clock.now();
    clock.advance(TimeDelta::seconds(1));
    let again = system.participants().join(room, guest.id, Participant).await.unwrap();
    for _ in 0..3 {
        let done = system.participants().reconcile(room, &[], as_of).await.unwrap();
        assert_eq!(done, Reconciled::default());
    }
    assert_eq!(store.participants().get(again.id).await.unwrap().left_at, None);
}

async fn the_last_one_out_may_end_the_room(db: TestDb) {
    let (owner, guest) = (db.user("owner").await, db.user("guest").await);
    for (empty_rooms, ends) in [(EmptyRoomPolicy::KeepOpen, false), (EmptyRoomPolicy::EndRoom, true)] {
        let store = db
            .store_with(StoreSettings {
                empty_rooms,
                ..settings()
            })
            .await;
        let system = store.acting(&Actor::system("signaling"));
        let room = db.room(&owner, 5).await.id;
        system.rooms().start(room).await.unwrap();
        let reconcile = async |there: &[UserId]| {
            let now = SystemClock.now();
            system.participants().reconcile(room, there, now).await.unwrap()
        };
        // Nobody was there, so nobody was the last one; not in one unit with the start either.
        assert_eq!(reconcile(&[]).await, Reconciled::default());
        let unit = store.begin(&Actor::system("signaling")).await.unwrap();
        let started = db_room(&unit, &owner).await;
        unit.participants()
            .reconcile(started, &[], SystemClock.now())
            .await
            .unwrap();
        unit.commit().await.unwrap();
        for room in [room, started] {
            assert_eq!(store.rooms().get(room).await.unwrap().status, RoomStatus::Live);
        }
        for user in [&owner, &guest] {
            system.participants().join(room, user.id, Participant).await.unwrap();
        }
        assert_eq!(reconcile(&[owner.id]).await.closed.len(), 1);
        assert_eq!(store.rooms().get(room).await.unwrap().status, RoomStatus::Live);
        assert_eq!(reconcile(&[]).await.closed.len(), 1);
        let (row, actions) = (store.rooms().get(room).await.unwrap(), db.actions(room).await);
        assert_eq!(row.status == RoomStatus::Ended, ends);
        let last = if ends { "ROOM_ENDED" } else { "USER_LEFT" };
        assert_eq!(actions.last().unwrap(), last);
        // In a room that is over, whoever is said to be there is missing.
        let missing = reconcile(&[guest.id]).await.missing;
        assert_eq!(missing, [guest.id]);
    }
    check_invariants(&db.raw().await, &db.store).await;
}

/// A room that is made and started in the unit.
async fn db_room(unit: &conferencing_store::Unit, owner: &conferencing_store::entity::user::Model) -> RoomId {
    let new = conferencing_store::NewRoom::titled(owner.id, "A room");
    let room = unit.rooms().create(new).await.unwrap().id;
    unit.rooms().start(room).await.unwrap();
    room
}

async fn reconciling_has_limits(db: TestDb) {
    let owner = db.user("owner").await;
    let (store, clock) = db.with_manual_clock().await;
    let system = store.acting(&Actor::system("signaling"));
    let (room, deleted) = (db.room(&owner, 5).await.id, db.room(&owner, 5).await.id);
    system.rooms().delete(deleted).await.unwrap();
    let (people, now) = (system.participants(), clock.now());
    let future = people.reconcile(room, &[], now + TimeDelta::microseconds(1)).await;
    assert!(
        matches!(future, Err(Error::Invalid(ref invalid)) if invalid.field == "as_of"),
        "{future:?}"
    );
    let many: Vec<UserId> = (0..=MAX_RECONCILED)
        .map(|n| UserId::from_uuid(Uuid::from_u128(n as u128 + 1)))
        .collect();
    let too_many = people.reconcile(room, &many, now).await;
    assert!(
        matches!(too_many, Err(Error::Invalid(ref invalid)) if invalid.field == "present"),
        "{too_many:?}"
    );
    let all_missing = people.reconcile(room, &many[1..], now).await.unwrap();
    assert_eq!(all_missing.missing, many[1..]);
    for gone in [deleted, RoomId::from_uuid(Uuid::from_u128(3))] {
        let done = people.reconcile(gone, &[], now).await;
        assert!(
            matches!(done, Err(Error::NotFound(Subject::Room(id))) if id == gone),
            "{done:?}"
        );
    }
}

async fn many_reconcile_at_once(db: TestDb) {
    let (owner, users) = (db.user("owner").await, db.users("guest", 16).await);
    let room = db.room(&owner, 50).await.id;
    for user in &users {
        db.system()
            .participants()
            .join(room, user.id, Participant)
            .await
            .unwrap();
    }
    let now = SystemClock.now();
    let done = race((0..32).map(|number| {
        let (system, rejoining) = (db.system(), users[number % 16].id);
        async move {
            if number >= 16 {
                let _ = system.participants().leave(room, rejoining).await;
                let _ = system.participants().join(room, rejoining, Participant).await;
                return 0;
            }
            system
                .participants()
                .reconcile(room, &[], now)
                .await
                .unwrap()
                .closed
                .len()
        }
    }))
    .await;
    assert!(done.iter().sum::<usize>() <= 16, "{done:?}");
    let old = db.raw().await;
    let left = old
        .number("SELECT count(*) FROM room_participants WHERE left_at IS NULL")
        .await;
    let row = db.store.rooms().get(room).await.unwrap();
    assert_eq!(i64::from(row.active_participants), left);
    check_invariants(&old, &db.store).await;
}

async fn who_came_while_the_room_was_waited_for_is_not_missing(db: TestDb) {
    let (owner, users) = (db.user("owner").await, db.users("guest", 3).await);
    let room = db.room(&owner, 10).await.id;
    db.system()
        .participants()
        .join(room, users[0].id, Participant)
        .await
        .unwrap();
    let unit = db.store.begin(&Actor::system("test")).await.unwrap();
    for user in &users[1..] {
        unit.participants().join(room, user.id, Participant).await.unwrap();
    }
    let (system, present) = (db.system(), [users[0].id, users[1].id]);
    let now = SystemClock.now();
    let waiting = tokio::spawn(async move { system.participants().reconcile(room, &present, now).await.unwrap() });
    until_blocked(&db.raw().await, 1).await;
    unit.commit().await.unwrap();
    let done = waiting.await.unwrap();
    assert_eq!(done.missing, [], "they had a seat by then");
    let closed: Vec<_> = done.closed.iter().map(|seat| seat.user).collect();
    assert_eq!(closed, [users[2].id]);
    check_invariants(&db.raw().await, &db.store).await;
}
