//! Whoever waits for a room with others has the answer, the event and the refusal that the call alone would have.

use std::net::IpAddr;

use chrono::TimeDelta;
use conferencing_store::Actor;
use conferencing_store::Change;
use conferencing_store::EmptyRoomPolicy;
use conferencing_store::Error;
use conferencing_store::LeaveReason;
use conferencing_store::Rejected;
use conferencing_store::Store;
use conferencing_store::StoreSettings;
use conferencing_store::entity::ParticipantRole::CoHost;
use conferencing_store::entity::ParticipantRole::Host;
use conferencing_store::entity::ParticipantRole::Participant;
use conferencing_store::entity::RoomStatus;
use conferencing_store::entity::UserId;
use conferencing_store::entity::room;
use conferencing_store::entity::user;
use uuid::Uuid;

use crate::harness::TestDb;
use crate::harness::settings;
use crate::hot_rooms_support::Call;
use crate::hot_rooms_support::NO_STAY;
use crate::hot_rooms_support::assert_alike;
use crate::hot_rooms_support::events;
use crate::hot_rooms_support::ids;
use crate::hot_rooms_support::join;
use crate::hot_rooms_support::leave;
use crate::hot_rooms_support::one_by_one;
use crate::hot_rooms_support::queued;
use crate::hot_rooms_support::system;
use crate::hot_rooms_support::told;
use crate::hot_rooms_support::without_stay;

crate::cases![
    each_join_of_a_queue_is_answered_as_if_it_were_alone,
    each_leave_of_a_queue_is_answered_as_if_it_were_alone,
    the_last_of_a_queue_ends_the_room_where_the_store_says_so,
    each_event_of_a_queue_carries_its_own_actor,
];

/// The guests of a mixed queue and their room, which has a banned, a once banned and a present one, and is live or not.
async fn stage(
    db: &TestDb,
    store: &Store,
    people: &[user::Model],
    live: bool,
    until: chrono::DateTime<chrono::Utc>,
) -> room::Model {
    let room = db.room(&people[0], 40).await;
    let acting = store.acting(&system());
    for (user, until) in [(people[1].id, None), (people[2].id, Some(until))] {
        if live {
            acting.participants().join(room.id, user, Participant).await.unwrap();
        }
        acting
            .participants()
            .ban(room.id, user, Some("spam"), until)
            .await
            .unwrap();
    }
    if live {
        acting.participants().join(room.id, people[3].id, CoHost).await.unwrap();
    }
    room
}

/// Different for each number: a user, or a part of the system; from somewhere, or from nowhere.
fn actor(number: usize, user: UserId) -> Actor {
    let actor = if number % 4 == 3 {
        Actor::system(format!("usher {number}"))
    } else {
        Actor::user(user)
    };
    let address: IpAddr = if number.is_multiple_of(2) {
        format!("10.0.0.{number}")
    } else {
        format!("2001:db8::{number}")
    }
    .parse()
    .unwrap();
    match number % 5 {
        0 => actor,
        1 => actor.from_address(address),
        2 => actor.with_user_agent("only the agent"),
        _ => actor
            .from_address(address)
            .with_user_agent(&format!("Agent/{number} \"Ü\" '; -- \\ {{}}")),
    }
}

async fn each_join_of_a_queue_is_answered_as_if_it_were_alone(db: TestDb) {
    let (store, clock) = db.with_manual_clock().await;
    let (raw, people) = (db.raw().await, db.users("guest", 24).await);
    let who = ids(&people);
    let until = conferencing_store::clock::Clock::now(&*clock) + TimeDelta::minutes(1);
    let mut rooms = Vec::new();
    for live in [true, true, false, false] {
        rooms.push(stage(&db, &store, &people, live, until).await.id);
    }
    db.system().users().deactivate(who[4]).await.unwrap();
    clock.advance(TimeDelta::minutes(2));
    let nobody = UserId::from_uuid(Uuid::from_u128(7));
    for (live, pair) in [true, false].into_iter().zip(rooms.chunks(2)) {
        let mut outcomes = Vec::new();
        for (alone, room) in [true, false].into_iter().zip(pair.iter().copied()) {
            let own = |user: UserId, role| join(&store, Actor::user(user), room, user, role);
            let by = |actor: Actor, user: UserId| join(&store, actor, room, user, Participant);
            let calls = vec![
                own(who[1], Participant),
                own(who[5], Participant),
                own(who[5], CoHost),
                own(who[6], Host),
                own(who[2], Participant),
                by(Actor::user(who[7]), who[8]),
                own(who[7], CoHost),
                by(Actor::anonymous(), who[9]),
                own(who[4], Participant),
                own(nobody, Participant),
                by(system(), nobody),
                own(who[3], Participant),
                by(system(), who[10]),
                own(who[10], Participant),
                own(who[0], Participant),
                by(system(), who[1]),
                own(who[11], Participant),
                by(Actor::user(who[0]), who[12]),
                own(who[6], Participant),
                by(system(), who[13]),
                own(who[14], Participant),
                own(who[15], Participant),
                own(who[16], CoHost),
                by(Actor::user(nobody), who[17]),
                own(who[17], Participant),
                own(who[18], Participant),
                own(who[19], Participant),
                own(who[20], Participant),
                own(who[20], Participant),
                own(who[5], Participant),
                own(who[21], Host),
                by(Actor::user(who[22]), who[23]),
            ];
            let given = if alone {
                one_by_one(calls).await
            } else {
                queued(&raw, room, calls).await
            };
            let rows = db.participations(room).await;
            for outcome in &given {
                if let Err(Error::Rejected(Rejected::AlreadyPresent { user, seat, since, .. })) = outcome {
                    let row = rows.iter().find(|row| row.participant.id == *seat).unwrap();
                    assert_eq!((row.user.id, row.participant.joined_at), (*user, *since));
                }
            }
            let mut order: Vec<UserId> = rows.iter().map(|row| row.user.id).collect();
            // Seats are not short here; their order is another case's.
            order.sort();
            outcomes.push((
                given.iter().map(|outcome| told(room, outcome)).collect::<Vec<_>>(),
                order,
                events(&db, room).await,
            ));
        }
        assert_alike(&outcomes[1].0, &outcomes[0].0);
        assert_alike(&outcomes[1].2, &outcomes[0].2);
        assert_eq!(outcomes[1].1, outcomes[0].1);
        let (answers, _, events) = &outcomes[1];
        let of = |text: &str| events.iter().filter(|event| event.contains(text)).count();
        // What the comparison alone might miss if both went wrong.
        assert_eq!(
            (of("UserUnbanned"), of("UnauthorizedAccessAttempt"), of("RoomStarted")),
            (1, 5, 1),
            "{events:#?}"
        );
        assert_eq!(
            of("UserJoined"),
            answers.iter().filter(|told| told.ends_with(" None")).count() + if live { 3 } else { 0 }
        );
        let host = format!("{} Host None", who[0]);
        assert!(answers.contains(&host), "{answers:?}");
        clock.advance(TimeDelta::seconds(1));
    }
}

async fn each_leave_of_a_queue_is_answered_as_if_it_were_alone(db: TestDb) {
    let (store, clock) = db.with_manual_clock().await;
    let (raw, who) = (db.raw().await, ids(&db.users("guest", 12).await));
    let owner = db.user("owner").await;
    let (rooms, nobody) = (
        [db.room(&owner, 20).await.id, db.room(&owner, 20).await.id],
        UserId::from_uuid(Uuid::from_u128(7)),
    );
    let mut outcomes = Vec::new();
    for (alone, room) in [true, false].into_iter().zip(rooms) {
        for user in &who[..9] {
            clock.advance(TimeDelta::seconds(1));
            join(&store, system(), room, *user, Participant).await.unwrap();
        }
        clock.advance(TimeDelta::seconds(100));
        let own = |user: UserId| leave(&store, Actor::user(user), room, user);
        let by = |actor: Actor, user: UserId| leave(&store, actor, room, user);
        let calls = vec![
            own(who[10]),
            own(who[0]),
            own(who[0]),
            by(system(), who[1]),
            own(who[1]),
            by(Actor::user(who[2]), who[3]),
            own(nobody),
            by(Actor::anonymous(), who[4]),
            own(who[2]),
            by(system(), nobody),
            own(who[3]),
            by(Actor::user(owner.id), who[5]),
            own(who[11]),
            own(who[4]),
            by(system(), who[5]),
            by(Actor::user(who[10]), who[11]),
            own(who[6]),
            by(system(), who[6]),
        ];
        let given = if alone {
            one_by_one(calls).await
        } else {
            queued(&raw, room, calls).await
        };
        let given: Vec<String> = given.iter().map(|outcome| told(room, outcome)).collect();
        let now = db.store.rooms().get(room).await.unwrap();
        assert_eq!(
            (now.status, now.active_participants, now.total_joins),
            (RoomStatus::Live, 2, 9)
        );
        outcomes.push((given, events(&db, room).await));
        raw.assert_invariants().await;
        db.assert_audit_log_tells_the_participations(room).await;
    }
    assert_eq!(outcomes[1], outcomes[0]);
    let of = |text: &str| outcomes[1].1.iter().filter(|event| event.contains(text)).count();
    assert_eq!((of("UserLeft"), of("UnauthorizedAccessAttempt")), (7, 4));
}

async fn the_last_of_a_queue_ends_the_room_where_the_store_says_so(db: TestDb) {
    let (_, clock) = db.with_manual_clock().await;
    let (raw, owner, who) = (
        db.raw().await,
        db.user("owner").await,
        ids(&db.users("guest", 12).await),
    );
    // Ahead of the machine's clock, by which the rooms are made.
    clock.advance(TimeDelta::minutes(1));
    for empty_rooms in [EmptyRoomPolicy::EndRoom, EmptyRoomPolicy::KeepOpen] {
        let store = db
            .store_with(StoreSettings {
                empty_rooms,
                clock: clock.clone(),
                ..settings()
            })
            .await;
        let ends = empty_rooms == EmptyRoomPolicy::EndRoom;
        let mut outcomes = Vec::new();
        for alone in [true, false] {
            let room = db.room(&owner, 20).await.id;
            for user in &who[..10] {
                join(&store, system(), room, *user, Participant).await.unwrap();
                clock.advance(TimeDelta::seconds(1));
            }
            clock.advance(TimeDelta::seconds(50));
            let mut calls: Vec<Call> = Vec::new();
            for user in [1, 0, 11, 2, 2, 3, 4, 5, 6, 7, 8, 9, 9, 1] {
                calls.push(leave(&store, Actor::user(who[user]), room, who[user]));
            }
            let given = if alone {
                one_by_one(calls).await
            } else {
                queued(&raw, room, calls).await
            };
            let mut given: Vec<String> = given.iter().map(|outcome| told(room, outcome)).collect();
            let now = db.store.rooms().get(room).await.unwrap();
            let status = if ends { RoomStatus::Ended } else { RoomStatus::Live };
            assert_eq!(
                (now.status, now.active_participants, now.peak_participants),
                (status, 0, 10)
            );
            let sums = db.store.statistics().of_room(room).await.unwrap();
            // 60 + 59 and so on down to 51.
            assert_eq!(
                (sums.total_participation, sums.participations),
                (TimeDelta::seconds(555), 10)
            );
            let log = db.audit_log(room).await;
            let expected = Change::RoomEnded {
                duration_seconds: 60,
                ended_participations: 0,
            };
            match log.iter().position(|entry| entry.event.action() == "ROOM_ENDED") {
                Some(place) => {
                    // By the last one out, and nothing comes after it.
                    assert!(ends && place == log.len() - 1);
                    assert_eq!(log[place].event, expected.into());
                    let last = &log[place - 1];
                    assert_eq!(
                        (last.event.action().as_str(), last.actor),
                        ("USER_LEFT", log[place].actor)
                    );
                }
                None => assert!(!ends),
            }
            // Which of two who say the same was first is another case's.
            given.sort();
            let events = events(&db, room).await.into_iter();
            let events = events.filter(|event| !event.contains("RoomEnded"));
            outcomes.push((given, db.actions(room).await, events.collect::<Vec<_>>()));
            raw.assert_invariants().await;
            db.assert_audit_log_tells_the_participations(room).await;
        }
        assert_alike(&outcomes[1].0, &outcomes[0].0);
        assert_alike(&outcomes[1].1, &outcomes[0].1);
        assert_alike(&outcomes[1].2, &outcomes[0].2);
    }
}

async fn each_event_of_a_queue_carries_its_own_actor(db: TestDb) {
    let (store, clock) = db.with_manual_clock().await;
    let (raw, owner, who) = (
        db.raw().await,
        db.user("owner").await,
        ids(&db.users("guest", 24).await),
    );
    let rooms = [db.room(&owner, 30).await.id, db.room(&owner, 30).await.id];
    clock.advance(TimeDelta::minutes(1));
    let mut logs = Vec::new();
    for (alone, room) in [true, false].into_iter().zip(rooms) {
        let come = |numbers: std::ops::Range<usize>| -> Vec<Call> {
            let role = |number| if number % 3 == 0 { CoHost } else { Participant };
            numbers
                .map(|number| join(&store, actor(number, who[number]), room, who[number], role(number)))
                .collect()
        };
        let go = (0..24)
            .map(|number| leave(&store, actor(number + 1, who[number]), room, who[number]))
            .collect();
        for calls in [come(0..12), come(12..24), go] {
            let given = if alone {
                one_by_one(calls).await
            } else {
                queued(&raw, room, calls).await
            };
            assert!(given.iter().all(Result::is_ok), "{given:?}");
            clock.advance(TimeDelta::seconds(7));
        }
        let entries = db.audit_log(room).await.into_iter().skip(1);
        let keys: Vec<_> = entries.clone().map(|entry| entry.id).collect();
        assert!(
            keys.is_sorted_by(|one, other| one < other),
            "each has a key of its own, in their order"
        );
        db.assert_audit_log_tells_the_participations(room).await;
        logs.push(
            entries
                .map(|entry| {
                    let event = without_stay(entry.event);
                    (entry.actor, entry.system, entry.address, entry.user_agent, event)
                })
                .collect::<Vec<_>>(),
        );
    }
    assert_eq!(logs[1], logs[0]);
    assert_eq!(logs[1].len(), 1 + 24 + 24);
    for (number, user) in who.iter().enumerate() {
        // What was done for them by the system has a target, and what they did has none.
        let (is_system, role) = (number % 4 == 3, if number % 3 == 0 { CoHost } else { Participant });
        let joined = Change::UserJoined {
            target: is_system.then_some(*user),
            stay: NO_STAY,
            role,
        };
        let (by, part, _, _, event) = &logs[1][1 + number];
        let part_name = is_system.then(|| format!("usher {number}"));
        assert_eq!(
            (by, part, event),
            (&(!is_system).then_some(*user), &part_name, &joined.into())
        );
        let target = (number % 4 == 2).then_some(*user);
        let left = Change::UserLeft {
            target,
            stay: NO_STAY,
            reason: LeaveReason::Left,
            duration_seconds: if number < 12 { 14 } else { 7 },
        };
        assert_eq!(logs[1][25 + number].4, left.into());
    }
}
