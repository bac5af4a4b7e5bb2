//! What a room is: settings, calling it off, its owner, deleting and restoring it; its door, lists and sums.

use chrono::{DateTime, TimeDelta, Utc};
use conferencing_store::clock::Clock;
use conferencing_store::entity::ParticipantRole::Participant;
use conferencing_store::entity::{RoomStatus, room};
use conferencing_store::{
    Actor, AuditFilter, Change, Error, Invalid, NewRoom, Order, PageRequest, Rejected, RoomChanges, RoomFilter, Rule,
    Schedule,
};

use crate::harness::{Backend, TestDb};
use crate::wire::Wire;

crate::cases![
    settings_change_one_by_one,
    capacity_never_goes_below_who_is_present,
    what_is_over_or_has_begun_keeps_its_settings,
    rooms_are_called_off_before_they_begin_only,
    a_room_goes_to_a_live_active_user,
    deleting_and_restoring,
    the_door_shows_owner_and_people_in_one_statement,
    lists_and_counts_agree,
    sums_are_made_by_the_database,
];

fn page(size: u16) -> PageRequest {
    PageRequest::first(size, Order::OldestFirst).unwrap()
}

async fn last_event(db: &TestDb, room: &room::Model) -> conferencing_store::AuditEvent {
    let newest = PageRequest::first(1, Order::NewestFirst).unwrap();
    let audit_log = db
        .store
        .audit()
        .list(&AuditFilter::of_room(room.id), &newest)
        .await
        .unwrap();
    audit_log.items[0].event.clone()
}

async fn settings_change_one_by_one(db: TestDb) {
    let owner = db.user("owner").await;
    let room = db.room(&owner, 5).await;
    let acting = db.acting(&owner);
    let start = DateTime::<Utc>::from_timestamp_micros(1_900_000_000_000_000).unwrap();
    let end = start + TimeDelta::hours(1);
    let changes = RoomChanges {
        title: Some("  Retro "),
        description: Some(Some("line\nline")),
        schedule: Some(Some(Schedule { start, end: Some(end) })),
        is_public: Some(true),
        ..RoomChanges::default()
    };
    let changed = acting.rooms().update(room.id, changes).await.unwrap();
    assert_eq!(
        (changed.title.as_str(), changed.is_public, changed.max_participants),
        ("Retro", true, 5)
    );
    assert_eq!(
        (changed.scheduled_start, changed.scheduled_end),
        (Some(start), Some(end))
    );
    let fields = ["title", "description", "schedule", "is_public"]
        .map(str::to_owned)
        .to_vec();
    assert_eq!(last_event(&db, &room).await, Change::RoomUpdated { fields }.into());
    let clear = RoomChanges {
        description: Some(None),
        schedule: Some(None),
        ..RoomChanges::default()
    };
    let cleared = acting.rooms().update(room.id, clear).await.unwrap();
    assert_eq!(
        (cleared.description, cleared.scheduled_start, cleared.title),
        (None, None, "Retro".to_owned())
    );
    for (changes, field, rule) in [
        (RoomChanges::default(), "changes", Rule::NotEmpty),
        (
            RoomChanges {
                title: Some(" "),
                ..RoomChanges::default()
            },
            "title",
            Rule::NotEmpty,
        ),
        (
            RoomChanges {
                max_participants: Some(0),
                ..RoomChanges::default()
            },
            "max_participants",
            Rule::AtLeast(1),
        ),
        (
            RoomChanges {
                schedule: Some(Some(Schedule {
                    start: end,
                    end: Some(start),
                })),
                ..RoomChanges::default()
            },
            "scheduled_end",
            Rule::After("scheduled_start"),
        ),
    ] {
        let refused = acting.rooms().update(room.id, changes).await;
        assert!(matches!(refused, Err(Error::Invalid(invalid)) if invalid == Invalid { field, rule }));
    }
}

async fn capacity_never_goes_below_who_is_present(db: TestDb) {
    let owner = db.user("owner").await;
    let guests = db.users("guest", 32).await;
    let room = db.room(&owner, 32).await;
    let shrink = |seats| RoomChanges {
        max_participants: Some(seats),
        ..RoomChanges::default()
    };
    let tasks: Vec<_> = guests
        .into_iter()
        .enumerate()
        .map(|(turn, guest)| {
            let (system, room) = (db.system(), room.id);
            tokio::spawn(async move {
                let done = if turn % 4 == 0 {
                    system
                        .rooms()
                        .update(room, shrink(8 + i32::try_from(turn).unwrap()))
                        .await
                        .map(drop)
                } else {
                    system.participants().join(room, guest.id, Participant).await.map(drop)
                };
                assert!(matches!(done, Ok(()) | Err(Error::Rejected(_))), "{done:?}");
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let now = db.store.rooms().get(room.id).await.unwrap();
    assert!(now.active_participants <= now.max_participants);
    let refused = db.system().rooms().update(room.id, shrink(1)).await;
    let Err(Error::Rejected(Rejected::CapacityInUse { present, .. })) = refused else {
        panic!("{refused:?}");
    };
    assert_eq!(present, now.active_participants);
}

async fn what_is_over_or_has_begun_keeps_its_settings(db: TestDb) {
    let (owner, outsider) = (db.user("owner").await, db.user("outsider").await);
    let room = db.room(&owner, 5).await;
    let title = || RoomChanges {
        title: Some("New"),
        ..RoomChanges::default()
    };
    let acting = db.acting(&owner);
    let refused = db.acting(&outsider).rooms().update(room.id, title()).await;
    assert!(matches!(refused, Err(Error::Rejected(Rejected::NotAllowed { .. }))));
    acting.rooms().start(room.id).await.unwrap();
    acting.rooms().update(room.id, title()).await.unwrap();
    let schedule = RoomChanges {
        schedule: Some(None),
        ..RoomChanges::default()
    };
    let refused = acting.rooms().update(room.id, schedule).await;
    assert!(matches!(
        refused,
        Err(Error::Rejected(Rejected::RoomStatus {
            status: RoomStatus::Live,
            ..
        }))
    ));
    acting.rooms().end(room.id).await.unwrap();
    let refused = acting.rooms().update(room.id, title()).await;
    assert!(matches!(
        refused,
        Err(Error::Rejected(Rejected::RoomStatus {
            status: RoomStatus::Ended,
            ..
        }))
    ));
}

async fn rooms_are_called_off_before_they_begin_only(db: TestDb) {
    let owner = db.user("owner").await;
    let room = db.room(&owner, 5).await;
    let tasks: Vec<_> = (0..32)
        .map(|turn| {
            let (acting, room) = (db.acting(&owner), room.id);
            tokio::spawn(async move {
                if turn % 2 == 0 {
                    acting.rooms().cancel(room).await.is_ok()
                } else {
                    acting.rooms().start(room).await.is_ok()
                }
            })
        })
        .collect();
    let mut winners = 0;
    for task in tasks {
        winners += u8::from(task.await.unwrap());
    }
    assert_eq!(winners, 1);
    let status = db.store.rooms().get(room.id).await.unwrap().status;
    let refused = db.acting(&owner).rooms().cancel(room.id).await;
    assert!(
        matches!(refused, Err(Error::Rejected(Rejected::RoomStatus { status: recorded, .. })) if recorded == status)
    );
}

async fn a_room_goes_to_a_live_active_user(db: TestDb) {
    let (owner, heir) = (db.user("owner").await, db.user("heir").await);
    let gone = db.user("gone").await;
    let raw = db.raw().await;
    raw.execute("UPDATE users SET is_active = FALSE WHERE username = 'gone'")
        .await
        .unwrap();
    let room = db.room(&owner, 5).await;
    let acting = db.acting(&owner);
    let refused = acting.rooms().transfer(room.id, gone.id).await;
    assert!(matches!(refused, Err(Error::Rejected(Rejected::UserInactive { .. }))));
    let refused = acting.rooms().transfer(room.id, owner.id).await;
    assert!(matches!(refused, Err(Error::Rejected(Rejected::AlreadyOwner { .. }))));
    assert_eq!(
        acting.rooms().transfer(room.id, heir.id).await.unwrap().owner_id,
        heir.id
    );
    let event = Change::RoomOwnershipTransferred {
        target: heir.id,
        from: owner.id,
    };
    assert_eq!(last_event(&db, &room).await, event.into());
    let refused = acting.rooms().transfer(room.id, owner.id).await;
    assert!(matches!(refused, Err(Error::Rejected(Rejected::NotAllowed { .. }))));
}

async fn deleting_and_restoring(db: TestDb) {
    let (owner, outsider) = (db.user("owner").await, db.user("outsider").await);
    let room = db.room(&owner, 5).await;
    let acting = db.acting(&owner);
    acting.rooms().start(room.id).await.unwrap();
    let refused = acting.rooms().delete(room.id).await;
    assert!(matches!(
        refused,
        Err(Error::Rejected(Rejected::RoomStatus {
            status: RoomStatus::Live,
            ..
        }))
    ));
    acting.rooms().end(room.id).await.unwrap();
    assert!(matches!(
        acting.rooms().deleted().restore(room.id).await,
        Err(Error::NotFound(_))
    ));
    acting.rooms().delete(room.id).await.unwrap();
    assert_eq!(last_event(&db, &room).await, Change::RoomDeleted {}.into());
    assert!(matches!(acting.rooms().delete(room.id).await, Err(Error::NotFound(_))));
    assert!(db.store.rooms().find(room.id).await.unwrap().is_none());
    assert!(db.store.rooms().deleted().find(room.id).await.unwrap().is_some());
    let refused = db.acting(&outsider).rooms().deleted().restore(room.id).await;
    assert!(matches!(refused, Err(Error::Rejected(Rejected::NotAllowed { .. }))));
    acting.rooms().deleted().restore(room.id).await.unwrap();
    assert!(db.store.rooms().find(room.id).await.unwrap().is_some());
    assert_eq!(last_event(&db, &room).await, Change::RoomRestored {}.into());
}

async fn the_door_shows_owner_and_people_in_one_statement(db: TestDb) {
    let owner = db.user("owner").await;
    let guests = db.users("guest", 300).await;
    for count in [3, 300] {
        let room = db.room(&owner, 300).await;
        for guest in &guests[..count] {
            db.seat(&room, guest).await;
        }
        let typed = format!(" {}-{} ", room.room_code[..4].to_lowercase(), &room.room_code[4..]);
        let found = if db.backend == Backend::Postgres {
            let wire = Wire::before(&db.url).await;
            let store = conferencing_store::Store::connect(&wire.url).await.unwrap();
            wire.executions();
            let found = store.rooms().find_overview(&typed).await.unwrap().unwrap();
            assert_eq!(wire.executions(), ["execute"]);
            found
        } else {
            db.store.rooms().find_overview(&typed).await.unwrap().unwrap()
        };
        assert_eq!(found.owner.unwrap().username, "owner");
        assert_eq!(
            (found.present.len(), found.room.active_participants),
            (count, i32::try_from(count).unwrap())
        );
        assert_eq!(found.present[2].user.username, "guest2");
    }
    assert!(db.store.rooms().find_overview("NOSUCH99").await.unwrap().is_none());
}

async fn lists_and_counts_agree(db: TestDb) {
    let (owner, other) = (db.user("owner").await, db.user("other").await);
    let now = conferencing_store::clock::SystemClock.now();
    for number in 0..7_i64 {
        let new = NewRoom {
            is_public: number % 2 == 0,
            scheduled_start: (number > 3).then(|| now + TimeDelta::hours(9 - number)),
            ..NewRoom::titled(if number == 6 { other.id } else { owner.id }, "A room")
        };
        let room = db.system().rooms().create(new).await.unwrap();
        if number < 3 {
            db.seat(&room, &other).await;
        }
    }
    for (filter, expected) in [
        (RoomFilter::OwnedBy(owner.id), 6),
        (RoomFilter::OwnedBy(other.id), 1),
        (RoomFilter::AttendedBy(other.id), 3),
        (RoomFilter::AttendedBy(owner.id), 0),
        (RoomFilter::LivePublic, 2),
        (RoomFilter::Upcoming { owner: None }, 3),
        (RoomFilter::Upcoming { owner: Some(owner.id) }, 2),
    ] {
        assert_eq!(db.store.rooms().count(filter).await.unwrap(), expected, "{filter:?}");
        let mut seen: Vec<room::Model> = Vec::new();
        let mut request = page(2);
        loop {
            let found = db.store.rooms().list(filter, &request).await.unwrap();
            seen.extend(found.items);
            match found.next {
                Some(cursor) => request = page(2).after(cursor),
                None => break,
            }
        }
        assert_eq!(seen.len() as u64, expected, "{filter:?}");
        if let RoomFilter::Upcoming { .. } = filter {
            assert!(seen.is_sorted_by_key(|room| room.scheduled_start));
        }
    }
}

async fn sums_are_made_by_the_database(db: TestDb) {
    let (store, clock) = db.with_manual_clock().await;
    let owner = db.user("owner").await;
    let guests = db.users("guest", 3).await;
    let room = db.room(&owner, 5).await;
    let system = store.acting(&Actor::system("test"));
    clock.advance(TimeDelta::seconds(1));
    for guest in &guests {
        system
            .participants()
            .join(room.id, guest.id, Participant)
            .await
            .unwrap();
    }
    clock.advance(TimeDelta::milliseconds(10_900));
    system.participants().leave(room.id, guests[0].id).await.unwrap();
    system.participants().kick(room.id, guests[1].id, None).await.unwrap();
    clock.advance(TimeDelta::seconds(4));
    system
        .participants()
        .join(room.id, guests[0].id, Participant)
        .await
        .unwrap();
    system
        .participants()
        .ban(room.id, owner.id, None, None)
        .await
        .unwrap_err();
    clock.advance(TimeDelta::milliseconds(2_500));
    let sums = store.statistics().of_room(room.id).await.unwrap();
    assert_eq!((sums.distinct_participants, sums.participations, sums.kicks), (3, 4, 1));
    assert_eq!((sums.peak_participants, sums.total_joins), (3, 4));
    assert_eq!(sums.total_participation, TimeDelta::seconds(10 + 10 + 17 + 2));
    let sums = store.statistics().of_user(guests[0].id).await.unwrap();
    assert_eq!(
        (sums.distinct_rooms, sums.participations, sums.kicks, sums.rooms_owned),
        (1, 2, 0, 0)
    );
    assert_eq!(sums.total_participation, TimeDelta::seconds(12));
    let sums = store.statistics().of_user(owner.id).await.unwrap();
    assert_eq!((sums.participations, sums.rooms_owned), (0, 1));
    let nowhere = conferencing_store::entity::RoomId::from_uuid(owner.id.as_uuid());
    assert!(matches!(
        store.statistics().of_room(nowhere).await,
        Err(Error::NotFound(_))
    ));
}
