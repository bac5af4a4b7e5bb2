//! Many at once: whatever the order in which things happen, the rules of rooms hold.

use conferencing_store::entity::ParticipantRole::{Host, Participant};
use conferencing_store::entity::{RoomStatus, room_participant};
use conferencing_store::{Conflict, Error, Rejected};

use crate::harness::{TestDb, race};

crate::cases![
    one_user_joining_from_everywhere_gets_one_seat,
    the_last_seat_has_one_winner,
    a_join_never_ends_up_in_an_ended_room,
    racing_first_joins_start_the_room_once,
    a_seat_is_given_up_once,
    everybody_doing_everything_keeps_the_rules,
    everybody_doing_everything_in_many_rooms_keeps_the_rules,
];

async fn one_user_joining_from_everywhere_gets_one_seat(db: TestDb) {
    let (ada, ben) = (db.user("ada").await, db.user("ben").await);
    let room = db.room(&ada, 100).await;
    let tasks = (0..32).map(|number| {
        let (acting, room, ben) = (
            if number % 2 == 0 { db.acting(&ben) } else { db.system() },
            room.id,
            ben.id,
        );
        async move { acting.participants().join(room, ben, Participant).await }
    });
    let (won, lost): (Vec<_>, Vec<_>) = race(tasks).await.into_iter().partition(Result::is_ok);
    assert_eq!(won.len(), 1);
    let won = won.into_iter().next().unwrap().unwrap();
    assert_eq!(lost.len(), 31);
    for refused in lost {
        match refused {
            Err(Error::Rejected(refused)) => assert_eq!(
                refused,
                Rejected::AlreadyPresent {
                    user: ben.id,
                    room: room.id,
                    seat: won.id,
                    role: won.role,
                    since: won.joined_at
                }
            ),
            other => panic!("{other:?}"),
        }
    }
    let participations = db.participations(room.id).await;
    assert_eq!(
        participations
            .iter()
            .map(|participation| &participation.participant)
            .collect::<Vec<_>>(),
        [&won]
    );
    assert_eq!(
        db.actions(room.id).await,
        ["ROOM_CREATED", "ROOM_STARTED", "USER_JOINED"]
    );
    db.raw().await.assert_invariants().await;
}

async fn the_last_seat_has_one_winner(db: TestDb) {
    let owner = db.user("owner").await;
    let users = db.users("guest", 32).await;
    for seats in [1, 5] {
        let room = db.room(&owner, seats).await;
        let tasks = users.iter().map(|user| {
            let (acting, room, user) = (db.acting(user), room.id, user.id);
            async move { acting.participants().join(room, user, Participant).await }
        });
        let mut seated = Vec::new();
        for outcome in race(tasks).await {
            match outcome {
                Ok(seat) => seated.push(seat.id),
                Err(Error::Rejected(refused)) => assert_eq!(
                    refused,
                    Rejected::RoomFull {
                        room: room.id,
                        capacity: seats
                    }
                ),
                Err(error) => panic!("{error:?}"),
            }
        }
        seated.sort();
        let mut participations: Vec<_> = db
            .participations(room.id)
            .await
            .iter()
            .map(|participation| participation.participant.id)
            .collect();
        participations.sort();
        assert_eq!(participations.len(), usize::try_from(seats).unwrap());
        assert_eq!(participations, seated, "who was refused left no row");
        // Two events of the room itself, one for each seat, none for who was refused.
        assert_eq!(db.audit_log(room.id).await.len(), 2 + participations.len());
        let room = db.store.rooms().get(room.id).await.unwrap();
        assert_eq!(
            (room.active_participants, room.peak_participants, room.total_joins),
            (seats, seats, seats)
        );
    }
    db.raw().await.assert_invariants().await;
}

async fn a_join_never_ends_up_in_an_ended_room(db: TestDb) {
    let owner = db.user("owner").await;
    let users = db.users("guest", 32).await;
    let raw = db.raw().await;
    for round in 0..6 {
        let room = db.room(&owner, 100).await;
        db.seat(&room, &owner).await;
        // The end stands in another place of the queue in each round.
        let end_at = round * 6;
        let tasks = (0..=users.len()).map(|number| {
            let user = (number != end_at).then(|| users[number - usize::from(number > end_at)].id);
            let (system, room) = (db.system(), room.id);
            async move {
                match user {
                    Some(user) => system.participants().join(room, user, Participant).await.map(Some),
                    None => system.rooms().end(room).await.map(|_| None),
                }
            }
        });
        let mut joined = 1;
        for outcome in race(tasks).await {
            match outcome {
                Ok(Some(room_participant::Model { .. })) => joined += 1,
                Ok(None) => {}
                Err(Error::Rejected(refused)) => assert_eq!(
                    refused,
                    Rejected::RoomStatus {
                        room: room.id,
                        status: RoomStatus::Ended
                    }
                ),
                Err(error) => panic!("{error:?}"),
            }
        }
        let room = db.store.rooms().get(room.id).await.unwrap();
        assert_eq!((room.status, room.active_participants), (RoomStatus::Ended, 0));
        assert_eq!(room.total_joins, joined);
        raw.assert_invariants().await;
        db.assert_audit_log_tells_the_participations(room.id).await;
    }
}

async fn racing_first_joins_start_the_room_once(db: TestDb) {
    let owner = db.user("owner").await;
    let users = db.users("guest", 16).await;
    for _ in 0..4 {
        let room = db.room(&owner, 100).await;
        let tasks = (0..32).map(|number| {
            let (system, room, user) = (db.system(), room.id, users[number / 2].id);
            async move {
                if number % 2 == 0 {
                    system.participants().join(room, user, Participant).await.map(drop)
                } else {
                    system.rooms().start(room).await.map(drop)
                }
            }
        });
        for (number, outcome) in race(tasks).await.into_iter().enumerate() {
            match outcome {
                Ok(()) => {}
                Err(Error::Rejected(Rejected::RoomStatus {
                    status: RoomStatus::Live,
                    ..
                })) if number % 2 == 1 => {}
                Err(error) => panic!("{error:?}"),
            }
        }
        assert_eq!(db.participations(room.id).await.len(), 16);
        db.assert_audit_log_tells_the_participations(room.id).await;
    }
    db.raw().await.assert_invariants().await;
}

async fn a_seat_is_given_up_once(db: TestDb) {
    let (owner, guest) = (db.user("owner").await, db.user("guest").await);
    let room = db.room(&owner, 10).await;
    for _ in 0..4 {
        db.seat(&room, &guest).await;
        let tasks = (0..32).map(|number| {
            let (system, owner, room, guest) = (db.system(), db.acting(&owner), room.id, guest.id);
            async move {
                if number % 2 == 0 {
                    system.participants().leave(room, guest).await
                } else {
                    owner.participants().kick(room, guest, Some("noise")).await
                }
            }
        });
        let mut closed = 0;
        for outcome in race(tasks).await {
            match outcome {
                Ok(_) => closed += 1,
                Err(Error::Rejected(Rejected::NotPresent { user, .. })) => assert_eq!(user, guest.id),
                Err(error) => panic!("{error:?}"),
            }
        }
        assert_eq!(closed, 1);
    }
    db.raw().await.assert_invariants().await;
    db.assert_audit_log_tells_the_participations(room.id).await;
}

/// What a refusal may be when everybody does everything.
fn assert_expected(outcome: Result<(), Error>) {
    match outcome {
        Ok(())
        | Err(Error::Rejected(
            Rejected::AlreadyPresent { .. }
            | Rejected::NotPresent { .. }
            | Rejected::RoomFull { .. }
            | Rejected::RoomStatus {
                status: RoomStatus::Ended,
                ..
            },
        )) => {}
        // Two tasks that read the clock in the same microsecond.
        Err(Error::Conflict(Conflict::SameInstant { .. })) => {}
        Err(error) => panic!("{error:?}"),
    }
}

async fn everybody_doing_everything_keeps_the_rules(db: TestDb) {
    let owner = db.user("owner").await;
    let users = db.users("guest", 4).await;
    let raw = db.raw().await;
    for round in 0..3 {
        let room = db.room(&owner, 3).await;
        db.system().rooms().start(room.id).await.unwrap();
        let tasks = (0..32).map(|number| {
            let (system, room) = (db.system(), room.id);
            let users: Vec<_> = users.iter().map(|user| user.id).collect();
            let themselves: Vec<_> = users
                .iter()
                .map(|user| db.store.acting(&conferencing_store::Actor::user(*user)))
                .collect();
            async move {
                let mut outcomes = Vec::new();
                for step in 0..8 {
                    let who = (number + step + round) % users.len();
                    let (user, acting) = (users[who], &themselves[who]);
                    outcomes.push(match (number * 3 + step) % 5 {
                        0 => acting.participants().join(room, user, Participant).await.map(drop),
                        1 => system.participants().kick(room, user, None).await.map(drop),
                        2 => system.participants().join(room, user, Participant).await.map(drop),
                        3 => acting.participants().leave(room, user).await.map(drop),
                        _ if number == 7 && step >= 6 => system.rooms().end(room).await.map(drop),
                        _ => system.participants().leave(room, user).await.map(drop),
                    });
                }
                if number == 11 {
                    outcomes.push(system.rooms().end(room).await.map(drop));
                }
                outcomes
            }
        });
        race(tasks).await.into_iter().flatten().for_each(assert_expected);
        let room = db.store.rooms().get(room.id).await.unwrap();
        assert_eq!(room.status, RoomStatus::Ended);
        assert!(room.total_joins > 0);
        raw.assert_invariants().await;
        db.assert_audit_log_tells_the_participations(room.id).await;
    }
}

async fn everybody_doing_everything_in_many_rooms_keeps_the_rules(db: TestDb) {
    let users = db.users("guest", 4).await;
    let mut rooms = Vec::new();
    for owner in &users {
        rooms.push(db.room(owner, 4).await.id);
    }
    let tasks = (0..32).map(|number| {
        let (store, rooms) = (db.store.clone(), rooms.clone());
        let users: Vec<_> = users.iter().map(|user| user.id).collect();
        async move {
            let mut outcomes = Vec::new();
            for step in 0..6 {
                let (user, room) = (users[(number + step) % 4], rooms[(number / 4 + step) % 4]);
                let acting = store.acting(&conferencing_store::Actor::user(user));
                outcomes.push(match (number + step * 5) % 3 {
                    0 => acting.participants().leave(room, user).await.map(drop),
                    _ if users[(number / 4 + step) % 4] == user => {
                        acting.participants().join(room, user, Host).await.map(drop)
                    }
                    _ => acting.participants().join(room, user, Participant).await.map(drop),
                });
            }
            outcomes
        }
    });
    race(tasks).await.into_iter().flatten().for_each(assert_expected);
    db.raw().await.assert_invariants().await;
    for room in rooms {
        db.assert_audit_log_tells_the_participations(room).await;
    }
}
