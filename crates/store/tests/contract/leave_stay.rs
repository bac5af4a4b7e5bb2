//! `leave_stay` ends one participation and no other, once.

use chrono::{DateTime, TimeDelta, Utc};
use conferencing_store::authority::{ActorRole, Operation};
use conferencing_store::entity::ParticipantRole::Participant;
use conferencing_store::entity::{ParticipantId, RoomStatus, room_participant};
use conferencing_store::{
    Actor, Change, EmptyRoomPolicy, Error, Invalid, LeaveDetails, LeaveReason, Observation, Rejected, Rule, Store,
    StoreSettings, Subject,
};
use uuid::Uuid;

use crate::accounts_support::{appended, rejected, until_blocked};
use crate::harness::{Backend, Raw, TestDb, race, settings};
use crate::hot_rooms_support::hold;
use crate::stays::log_of;

crate::cases![
    it_ends_this_stay_and_says_why,
    a_stay_that_has_ended_stays_as_it_is,
    a_rejoin_is_never_closed_by_an_older_leave,
    a_rejoin_is_never_closed_by_older_leaves_at_once,
    of_many_at_once_one_ends_the_stay,
    @Postgres a_stay_that_ended_while_the_room_was_waited_for_is_left_as_it_is,
    it_ended_when_the_caller_says_but_not_before_it_began,
    an_earlier_end_replaces_one_that_was_inferred,
    of_many_ends_at_once_the_earliest_stays,
    a_kick_is_the_end_whatever_is_reported_later,
    times_to_come_and_reasons_of_the_store_are_refused,
    nobody_ends_the_stay_of_somebody_else,
    the_last_stay_ends_the_room_where_the_store_says_so,
    an_empty_room_is_not_ended_by_a_stay_that_was_over,
    a_unit_goes_on_after_a_stay_that_was_over,
];

const NOW: LeaveDetails = LeaveDetails {
    at: None,
    reason: LeaveReason::Left,
};

fn lost(at: DateTime<Utc>) -> LeaveDetails {
    LeaveDetails {
        at: Some(at),
        reason: LeaveReason::LostConnection,
    }
}

/// Ends the stay once more, which must change nothing and return the row.
async fn assert_over(raw: &Raw, store: &Store, row: &room_participant::Model) {
    let before = raw.snapshot().await;
    for actor in [Actor::system("test"), Actor::user(row.user_id)] {
        let again = store.acting(&actor).participants().leave_stay(row.id, NOW).await;
        assert_eq!(again.unwrap(), *row);
    }
    assert_eq!(raw.snapshot().await, before);
}

async fn it_ends_this_stay_and_says_why(db: TestDb) {
    let (ada, ben, raw) = (db.user("ada").await, db.user("ben").await, db.raw().await);
    let (store, clock) = db.with_manual_clock().await;
    let room = db.room(&ada, 5).await.id;
    let system = store.acting(&Actor::system("gateway"));
    system.participants().join(room, ada.id, Participant).await.unwrap();
    for (actor, target) in [(Actor::user(ben.id), None), (Actor::system("gateway"), Some(ben.id))] {
        for reason in [LeaveReason::Left, LeaveReason::LostConnection, LeaveReason::Moved] {
            let seat = system.participants().join(room, ben.id, Participant).await.unwrap();
            clock.advance(TimeDelta::seconds(90));
            let acting = store.acting(&actor);
            let details = LeaveDetails { at: None, reason };
            let (left, events) = appended(&raw, acting.participants().leave_stay(seat.id, details)).await;
            let expected = room_participant::Model {
                left_at: Some(seat.joined_at + TimeDelta::seconds(90)),
                duration_seconds: Some(90),
                ..seat.clone()
            };
            assert_eq!(left.unwrap(), expected);
            assert_eq!(store.participants().get(seat.id).await.unwrap(), expected);
            assert_eq!(events, ["USER_LEFT"]);
            let last = log_of(&store, room).await.pop().unwrap();
            let told = Change::UserLeft {
                target,
                stay: seat.id,
                reason,
                duration_seconds: 90,
            };
            assert_eq!((last.actor, last.event), (actor_id(target, ben.id), told.into()));
            assert_eq!(store.rooms().get(room).await.unwrap().active_participants, 1);
            assert_over(&raw, &store, &expected).await;
        }
    }
    raw.assert_invariants().await;
    db.assert_audit_log_tells_the_participations(room).await;
}

/// Who acted, given the target that the event has.
fn actor_id(
    target: Option<conferencing_store::entity::UserId>,
    user: conferencing_store::entity::UserId,
) -> Option<conferencing_store::entity::UserId> {
    target.is_none().then_some(user)
}

async fn a_stay_that_has_ended_stays_as_it_is(db: TestDb) {
    let (ada, raw, system) = (db.user("ada").await, db.raw().await, db.system());
    let guests = db.users("guest", 5).await;
    let room = db.room(&ada, 9).await;
    let mut seats = Vec::new();
    for guest in &guests {
        seats.push(db.seat(&room, guest).await.id);
    }
    let participants = system.participants();
    participants.leave(room.id, guests[0].id).await.unwrap();
    participants.kick(room.id, guests[1].id, None).await.unwrap();
    participants.ban(room.id, guests[2].id, None, None).await.unwrap();
    system.users().deactivate(guests[3].id).await.unwrap();
    for round in 0..3 {
        match round {
            1 => drop(system.rooms().end(room.id).await.unwrap()),
            2 => drop(system.rooms().delete(room.id).await.unwrap()),
            _ => {}
        }
        for seat in &seats[..if round == 0 { 4 } else { 5 }] {
            let row = db.store.participants().get(*seat).await.unwrap();
            assert_over(&raw, &db.store, &row).await;
        }
    }
    let unknown = ParticipantId::from_uuid(Uuid::from_u128(7));
    for acting in [&system, &db.acting(&ada)] {
        let missing = acting.participants().leave_stay(unknown, NOW).await;
        assert!(matches!(missing, Err(Error::NotFound(Subject::Participant(id))) if id == unknown));
    }
    raw.assert_invariants().await;
}

async fn a_rejoin_is_never_closed_by_an_older_leave(db: TestDb) {
    let (ada, ben, raw) = (db.user("ada").await, db.user("ben").await, db.raw().await);
    let room = db.room(&ada, 5).await;
    let first = db.seat(&room, &ben).await;
    let first = db.acting(&ben).participants().leave_stay(first.id, NOW).await.unwrap();
    let second = db.seat(&room, &ben).await;
    assert_over(&raw, &db.store, &first).await;
    let present = db.store.participants().get(second.id).await.unwrap();
    assert_eq!((present.left_at, present), (None, second));
    raw.assert_invariants().await;
}

async fn a_rejoin_is_never_closed_by_older_leaves_at_once(db: TestDb) {
    let (ada, ben, raw) = (db.user("ada").await, db.user("ben").await, db.raw().await);
    let room = db.room(&ada, 5).await;
    for _ in 0..4 {
        let first = db.seat(&room, &ben).await;
        let tasks = (0..32).map(|task| {
            let (system, room, user, stay) = (db.system(), room.id, ben.id, first.id);
            async move {
                if task > 0 {
                    return system.participants().leave_stay(stay, NOW).await.map(|_| None);
                }
                match system.participants().leave(room, user).await {
                    Ok(_) | Err(Error::Rejected(Rejected::NotPresent { .. })) => {}
                    Err(error) => return Err(error),
                }
                system.participants().join(room, user, Participant).await.map(Some)
            }
        });
        let mut outcomes = race(tasks).await.into_iter();
        let second = outcomes.next().unwrap().unwrap().unwrap();
        for outcome in outcomes {
            outcome.unwrap();
        }
        let present = db.store.participants().get(second.id).await.unwrap();
        assert_eq!(present.left_at, None);
        db.system().participants().leave_stay(second.id, NOW).await.unwrap();
    }
    raw.assert_invariants().await;
    db.assert_audit_log_tells_the_participations(room.id).await;
}

async fn of_many_at_once_one_ends_the_stay(db: TestDb) {
    let (ada, ben, raw) = (db.user("ada").await, db.user("ben").await, db.raw().await);
    let room = db.room(&ada, 5).await;
    for _ in 0..4 {
        let seat = db.seat(&room, &ben).await;
        let tasks = (0..32).map(|_| {
            let (acting, stay) = (db.acting(&ben), seat.id);
            async move { acting.participants().leave_stay(stay, NOW).await }
        });
        let outcomes = race(tasks).await;
        let row = db.store.participants().get(seat.id).await.unwrap();
        assert!(row.left_at.is_some());
        for outcome in outcomes {
            assert_eq!(outcome.unwrap(), row);
        }
    }
    raw.assert_invariants().await;
    db.assert_audit_log_tells_the_participations(room.id).await;
}

async fn a_stay_that_ended_while_the_room_was_waited_for_is_left_as_it_is(db: TestDb) {
    if db.backend == Backend::Sqlite {
        return;
    }
    let (ada, ben, raw) = (db.user("ada").await, db.user("ben").await, db.raw().await);
    let room = db.room(&ada, 5).await;
    let seat = db.seat(&room, &ben).await;
    let held = hold(&raw, room.id).await;
    let tasks: Vec<_> = (0..2)
        .map(|_| {
            let (system, stay) = (db.system(), seat.id);
            tokio::spawn(async move { system.participants().leave_stay(stay, NOW).await })
        })
        .collect();
    until_blocked(&raw, 2).await;
    held.commit().await.unwrap();
    let mut rows = Vec::new();
    for task in tasks {
        rows.push(task.await.unwrap().unwrap());
    }
    assert_eq!(rows[0], rows[1]);
    raw.assert_invariants().await;
    db.assert_audit_log_tells_the_participations(room.id).await;
}

async fn it_ended_when_the_caller_says_but_not_before_it_began(db: TestDb) {
    let (ada, ben, raw) = (db.user("ada").await, db.user("ben").await, db.raw().await);
    let (store, clock) = db.with_manual_clock().await;
    let room = db.room(&ada, 5).await.id;
    let system = store.acting(&Actor::system("gateway"));
    // Seconds after it began, and how long it lasted.
    for (after, lasted) in [(-3_600, 0), (-1, 0), (0, 0), (7, 7), (60, 60)] {
        let seat = system.participants().join(room, ben.id, Participant).await.unwrap();
        clock.advance(TimeDelta::seconds(60));
        let at = seat.joined_at + TimeDelta::seconds(after);
        let left = system.participants().leave_stay(seat.id, lost(at)).await.unwrap();
        let expected = seat.joined_at + TimeDelta::seconds(lasted.into());
        assert_eq!((left.left_at, left.duration_seconds), (Some(expected), Some(lasted)));
        let last = log_of(&store, room).await.pop().unwrap();
        assert_eq!(last.at, seat.joined_at + TimeDelta::seconds(60));
        let told = Change::UserLeft {
            target: Some(ben.id),
            stay: seat.id,
            reason: LeaveReason::LostConnection,
            duration_seconds: lasted,
        };
        assert_eq!(last.event, told.into());
    }
    raw.assert_invariants().await;
}

async fn times_to_come_and_reasons_of_the_store_are_refused(db: TestDb) {
    let (ada, raw) = (db.user("ada").await, db.raw().await);
    let (store, clock) = db.with_manual_clock().await;
    let room = db.room(&ada, 5).await.id;
    let system = store.acting(&Actor::system("gateway"));
    let seat = system.participants().join(room, ada.id, Participant).await.unwrap();
    let before = raw.snapshot().await;
    let now = conferencing_store::clock::Clock::now(&*clock);
    let of_reason = |reason| LeaveDetails { at: None, reason };
    let not_a_callers = ("reason", Rule::OneOf("left, lost_connection, moved"));
    for (details, (field, rule)) in [
        (lost(now + TimeDelta::microseconds(1)), ("at", Rule::NotAfter("now"))),
        (lost("1969-12-31T23:59:59Z".parse().unwrap()), ("at", Rule::Year)),
        (of_reason(LeaveReason::RoomEnded), not_a_callers.clone()),
        (of_reason(LeaveReason::Deactivated), not_a_callers.clone()),
        (of_reason(LeaveReason::Erased), not_a_callers.clone()),
        (of_reason(LeaveReason::NodeLost), not_a_callers.clone()),
        (of_reason(LeaveReason::Reconciled), not_a_callers),
    ] {
        let refused = system.participants().leave_stay(seat.id, details).await;
        let broken = Invalid { field, rule };
        assert!(
            matches!(&refused, Err(Error::Invalid(told)) if *told == broken),
            "{details:?}: {refused:?}"
        );
    }
    assert_eq!(raw.snapshot().await, before);
    system.participants().leave_stay(seat.id, lost(now)).await.unwrap();
}

async fn nobody_ends_the_stay_of_somebody_else(db: TestDb) {
    let (ada, ben, cyn) = (db.user("ada").await, db.user("ben").await, db.user("cyn").await);
    let raw = db.raw().await;
    let room = db.room(&ada, 5).await;
    db.seat(&room, &ada).await;
    let seat = db.seat(&room, &ben).await;
    // The same answer while it goes on and when it is over.
    for over in [false, true] {
        if over {
            db.acting(&ben).participants().leave_stay(seat.id, NOW).await.unwrap();
        }
        for actor in [Actor::user(ada.id), Actor::user(cyn.id), Actor::anonymous()] {
            let acting = db.store.acting(&actor);
            let (refused, events) = appended(&raw, acting.participants().leave_stay(seat.id, NOW)).await;
            let refusal = Rejected::NotAllowed {
                operation: Operation::Leave,
                actor_role: ActorRole::Outsider,
                room: Some(room.id),
                user: Some(ben.id),
            };
            assert_eq!(rejected(refused), refusal);
            assert_eq!(events, ["UNAUTHORIZED_ACCESS_ATTEMPT"]);
            let last = log_of(&db.store, room.id).await.pop().unwrap();
            let attempt = Observation::UnauthorizedAccessAttempt {
                target: Some(ben.id),
                attempted: "leave".to_owned(),
                actor_role: Some(ActorRole::Outsider),
            };
            assert_eq!(last.event, attempt.into());
        }
    }
    raw.assert_invariants().await;
}

async fn with_policy(db: &TestDb, empty_rooms: EmptyRoomPolicy) -> Store {
    let settings = StoreSettings {
        empty_rooms,
        ..settings()
    };
    db.store_with(settings).await
}

async fn the_last_stay_ends_the_room_where_the_store_says_so(db: TestDb) {
    let (ada, ben, raw) = (db.user("ada").await, db.user("ben").await, db.raw().await);
    for (empty_rooms, last, status) in [
        (EmptyRoomPolicy::EndRoom, "ROOM_ENDED", RoomStatus::Ended),
        (EmptyRoomPolicy::KeepOpen, "USER_LEFT", RoomStatus::Live),
    ] {
        let store = with_policy(&db, empty_rooms).await;
        let room = db.room(&ada, 5).await;
        let mut stays = Vec::new();
        for user in [&ada, &ben] {
            stays.push(db.seat(&room, user).await.id);
        }
        let system = store.acting(&Actor::system("gateway"));
        let details = LeaveDetails {
            at: None,
            reason: LeaveReason::LostConnection,
        };
        system.participants().leave_stay(stays[0], details).await.unwrap();
        assert_eq!(store.rooms().get(room.id).await.unwrap().status, RoomStatus::Live);
        let left = system.participants().leave_stay(stays[1], details).await.unwrap();
        assert!(left.left_at.is_some());
        assert_eq!(store.rooms().get(room.id).await.unwrap().status, status);
        assert_eq!(db.actions(room.id).await.last().unwrap(), last);
        db.assert_audit_log_tells_the_participations(room.id).await;
    }
    raw.assert_invariants().await;
}

async fn an_empty_room_is_not_ended_by_a_stay_that_was_over(db: TestDb) {
    let (ada, raw) = (db.user("ada").await, db.raw().await);
    let store = with_policy(&db, EmptyRoomPolicy::EndRoom).await;
    let room = db.room(&ada, 5).await;
    let seat = db.seat(&room, &ada).await;
    // Another store, which keeps it open.
    let left = db.system().participants().leave_stay(seat.id, NOW).await.unwrap();
    assert_over(&raw, &store, &left).await;
    assert_eq!(store.rooms().get(room.id).await.unwrap().status, RoomStatus::Live);
}

async fn a_unit_goes_on_after_a_stay_that_was_over(db: TestDb) {
    let (ada, raw) = (db.user("ada").await, db.raw().await);
    for empty_rooms in [EmptyRoomPolicy::EndRoom, EmptyRoomPolicy::KeepOpen] {
        let store = with_policy(&db, empty_rooms).await;
        let (over, room) = (db.room(&ada, 5).await, db.room(&ada, 5).await);
        let (first, second) = (db.seat(&over, &ada).await.id, db.seat(&room, &ada).await.id);
        db.system().participants().leave_stay(first, NOW).await.unwrap();
        let done: Result<(), Error> = store
            .transact(&Actor::system("gateway"), |unit| async move {
                unit.participants().leave_stay(first, NOW).await?;
                let left = unit.participants().leave_stay(second, NOW).await?;
                assert_eq!(unit.participants().leave_stay(second, NOW).await?, left);
                assert_eq!(unit.participants().get(second).await?, left);
                Ok(())
            })
            .await;
        done.unwrap();
        assert_eq!(store.rooms().get(over.id).await.unwrap().status, RoomStatus::Live);
        let left = store.participants().get(second).await.unwrap();
        assert!(left.left_at.is_some());
        db.assert_audit_log_tells_the_participations(room.id).await;
    }
    raw.assert_invariants().await;
}

async fn an_earlier_end_replaces_one_that_was_inferred(db: TestDb) {
    let (ada, ben, raw) = (db.user("ada").await, db.user("ben").await, db.raw().await);
    let (store, clock) = db.with_manual_clock().await;
    let system = store.acting(&Actor::system("media"));
    let room = db.room(&ada, 5).await.id;
    let seat = system.participants().join(room, ben.id, Participant).await.unwrap();
    clock.advance(TimeDelta::seconds(100));
    system.rooms().end(room).await.unwrap();
    let at = |seconds| lost(seat.joined_at + TimeDelta::seconds(seconds));
    for (reported, ends, recorded) in [
        (90, 90, true),
        (90, 90, false),
        (95, 90, false),
        (60, 60, true),
        (-5, 0, true),
        (-9, 0, false),
    ] {
        let (row, events) = appended(&raw, system.participants().leave_stay(seat.id, at(reported))).await;
        let row = row.unwrap();
        assert_eq!(row.left_at, Some(seat.joined_at + TimeDelta::seconds(ends)));
        assert_eq!(row.duration_seconds, Some(ends as i32));
        let expected: &[&str] = if recorded { &["USER_STAY_CORRECTED"] } else { &[] };
        assert_eq!(events, expected);
        if recorded {
            let told = Change::UserStayCorrected {
                target: Some(ben.id),
                stay: seat.id,
                duration_seconds: ends as i32,
            };
            assert_eq!(log_of(&store, room).await.pop().unwrap().event, told.into());
        }
    }
    raw.assert_invariants().await;

    // Nobody makes their own stay shorter.
    let again = db.room(&ada, 5).await.id;
    let ben = store.acting(&Actor::user(ben.id));
    let seat = ben.participants().join(again, seat.user_id, Participant).await.unwrap();
    clock.advance(TimeDelta::seconds(100));
    let left = ben.participants().leave(again, seat.user_id).await.unwrap();
    let said = ben
        .participants()
        .leave_stay(seat.id, lost(seat.joined_at))
        .await
        .unwrap();
    assert_eq!(said, left);
}

async fn of_many_ends_at_once_the_earliest_stays(db: TestDb) {
    let (ada, ben, raw) = (db.user("ada").await, db.user("ben").await, db.raw().await);
    let (store, clock) = db.with_manual_clock().await;
    let system = store.acting(&Actor::system("media"));
    let room = db.room(&ada, 5).await.id;
    for _ in 0..3 {
        let seat = system.participants().join(room, ben.id, Participant).await.unwrap();
        clock.advance(TimeDelta::seconds(100));
        let report = |task: i64| {
            let (system, at) = (system.clone(), lost(seat.joined_at + TimeDelta::seconds(40 + task)));
            async move { system.participants().leave_stay(seat.id, at).await.unwrap() }
        };
        race((0..32).map(report)).await;
        let row = store.participants().get(seat.id).await.unwrap();
        assert_eq!(row.duration_seconds, Some(40));
    }
    raw.assert_invariants().await;
}

async fn a_kick_is_the_end_whatever_is_reported_later(db: TestDb) {
    let (ada, raw) = (db.user("ada").await, db.raw().await);
    let guests = db.users("guest", 2).await;
    let (store, clock) = db.with_manual_clock().await;
    let system = store.acting(&Actor::system("media"));
    let room = db.room(&ada, 5).await.id;
    let mut rows = Vec::new();
    for (guest, bans) in guests.iter().zip([false, true]) {
        let seat = system.participants().join(room, guest.id, Participant).await.unwrap();
        clock.advance(TimeDelta::seconds(100));
        let participants = system.participants();
        if bans {
            participants.ban(room, guest.id, None, None).await.unwrap();
        } else {
            participants.kick(room, guest.id, None).await.unwrap();
        }
        rows.push(participants.get(seat.id).await.unwrap());
    }
    let before = raw.snapshot().await;
    for row in rows {
        let said = system
            .participants()
            .leave_stay(row.id, lost(row.joined_at))
            .await
            .unwrap();
        assert_eq!(said, row);
    }
    assert_eq!(raw.snapshot().await, before);
}
