//! Live rooms, private ones too; the bans of a user and by a moderator.

use chrono::TimeDelta;
use conferencing_store::clock::Clock;
use conferencing_store::entity::ParticipantRole::Participant;
use conferencing_store::entity::{RoomId, room};
use conferencing_store::{Actor, BanInRoom, BanState, NewRoom, Order, PageRequest, RoomFilter};

use crate::harness::TestDb;
use crate::user_lists::all_pages;

crate::cases![
    live_rooms_are_listed_private_ones_too,
    bans_of_a_user_tell_what_became_of_them,
    bans_by_a_moderator_are_theirs_alone,
];

async fn live_rooms_are_listed_private_ones_too(db: TestDb) {
    let owner = db.user("owner").await;
    let (store, clock) = db.with_manual_clock().await;
    let system = store.acting(&Actor::system("test"));
    let mut rooms: Vec<room::Model> = Vec::new();
    for number in 0..9 {
        let new = NewRoom {
            is_public: number % 3 == 0,
            ..NewRoom::titled(owner.id, "A room")
        };
        let room = system.rooms().create(new).await.unwrap();
        // Three at a time start at one time, and one stays closed.
        if number != 8 {
            rooms.push(system.rooms().start(room.id).await.unwrap());
        }
        if number % 3 == 2 {
            clock.advance(TimeDelta::minutes(1));
        }
    }
    system.rooms().end(rooms.remove(4).id).await.unwrap();
    rooms.sort_by_key(|room| (room.started_at, room.id));
    for order in [Order::OldestFirst, Order::NewestFirst] {
        for size in [1, 2, 3, 100] {
            let mut listed = all_pages!(size, order, |page| store.rooms().list(RoomFilter::Live, page));
            if order == Order::NewestFirst {
                listed.reverse();
            }
            assert_eq!(listed, rooms, "{order:?} {size}");
        }
    }
    let page = PageRequest::first(100, Order::OldestFirst).unwrap();
    let any = store.rooms().any().list(RoomFilter::Live, &page).await.unwrap();
    assert_eq!(any.items, rooms);
    let deleted = store.rooms().deleted();
    assert!(deleted.list(RoomFilter::Live, &page).await.unwrap().items.is_empty());
    assert_eq!(deleted.count(RoomFilter::Live).await.unwrap(), 0);
    assert_eq!(store.rooms().count(RoomFilter::Live).await.unwrap(), 7);
    assert_eq!(store.rooms().count(RoomFilter::LivePublic).await.unwrap(), 3);
}

/// Where, and what became of it.
fn told(bans: &[BanInRoom]) -> Vec<(RoomId, BanState)> {
    bans.iter().map(|ban| (ban.room.id, ban.state)).collect()
}

async fn bans_of_a_user_tell_what_became_of_them(db: TestDb) {
    let (owner, guest, other) = (db.user("owner").await, db.user("guest").await, db.user("other").await);
    let (store, clock) = db.with_manual_clock().await;
    let (system, by_owner) = (
        store.acting(&Actor::system("test")),
        store.acting(&Actor::user(owner.id)),
    );
    let mut rooms = Vec::new();
    for _ in 0..5 {
        rooms.push(db.room(&owner, 5).await.id);
    }
    let until = Some(clock.now() + TimeDelta::minutes(10));
    let ban = async |room, until| {
        let banning = by_owner.participants();
        banning.ban(room, guest.id, Some("noise"), until).await.unwrap();
    };
    ban(rooms[0], None).await;
    // At the same time, and while they were in.
    let joining = system.participants();
    joining.join(rooms[1], guest.id, Participant).await.unwrap();
    ban(rooms[1], until).await;
    clock.advance(TimeDelta::minutes(1));
    ban(rooms[2], None).await;
    by_owner.participants().unban(rooms[2], guest.id).await.unwrap();
    clock.advance(TimeDelta::minutes(1));
    ban(rooms[3], until).await;
    by_owner
        .participants()
        .ban(rooms[4], other.id, None, None)
        .await
        .unwrap();
    // They come back when it has run out: that lifts it. Elsewhere it has run out and stands there still.
    clock.advance(TimeDelta::minutes(20));
    joining.join(rooms[3], guest.id, Participant).await.unwrap();
    ban(rooms[3], None).await;
    let expected = [
        (rooms[0], BanState::InForce),
        (rooms[1], BanState::RunOut),
        (rooms[2], BanState::Lifted),
        (rooms[3], BanState::Lifted),
        (rooms[3], BanState::InForce),
    ];
    for order in [Order::OldestFirst, Order::NewestFirst] {
        for size in [1, 2, 5, 6] {
            let mut bans = all_pages!(size, order, |page| store.participants().bans_of(guest.id, page));
            if order == Order::NewestFirst {
                bans.reverse();
            }
            assert_eq!(sorted(told(&bans)), sorted(expected.to_vec()));
            assert_eq!(told(&bans[2..]), expected[2..]);
            for ban in &bans {
                let room = store.rooms().get(ban.room.id).await.unwrap();
                assert_eq!((&ban.room.room_code, &ban.room.title), (&room.room_code, &room.title));
                assert_eq!((ban.user.id, ban.user.username.as_str()), (guest.id, "guest"));
                let row = &ban.participant;
                assert_eq!(
                    (row.banned_by, row.ban_reason.as_deref()),
                    (Some(owner.id), Some("noise"))
                );
            }
        }
    }
    // What the room's own list says is in force is in force.
    let page = PageRequest::first(10, Order::OldestFirst).unwrap();
    for room in &rooms[..4] {
        let standing = store.participants().list_bans(*room, &page).await.unwrap().items;
        let in_force = expected.contains(&(*room, BanState::InForce));
        assert_eq!(standing.len(), usize::from(in_force));
    }
    // A deleted room and an erased user are named all the same.
    system.rooms().delete(rooms[0]).await.unwrap();
    system.users().erase(guest.id).await.unwrap();
    let bans = store.participants().bans_of(guest.id, &page).await.unwrap().items;
    assert_eq!(bans.len(), 5);
    assert_eq!(bans[0].user.username, format!("deleted-{}", guest.id));
}

fn sorted(mut bans: Vec<(RoomId, BanState)>) -> Vec<(RoomId, BanState)> {
    bans.sort_by_key(|(room, state)| (*room, format!("{state:?}")));
    bans
}

async fn bans_by_a_moderator_are_theirs_alone(db: TestDb) {
    let (owner, helper) = (db.user("owner").await, db.user("helper").await);
    let guests = db.users("guest", 4).await;
    let (here, there) = (db.room(&owner, 9).await, db.room(&owner, 9).await);
    for room in [&here, &there] {
        db.seat(room, &helper).await;
        db.system().participants().promote(room.id, helper.id).await.unwrap();
    }
    let by_helper = db.acting(&helper);
    for (room, guest) in [(&here, 0), (&there, 0), (&here, 1)] {
        by_helper
            .participants()
            .ban(room.id, guests[guest].id, None, None)
            .await
            .unwrap();
    }
    db.acting(&owner)
        .participants()
        .ban(here.id, guests[2].id, None, None)
        .await
        .unwrap();
    db.system()
        .participants()
        .ban(here.id, guests[3].id, None, None)
        .await
        .unwrap();
    let by = async |user: &conferencing_store::entity::user::Model, size| {
        let people = db.store.participants();
        let bans = all_pages!(size, Order::NewestFirst, |page| people.bans_by(user.id, page));
        bans.into_iter()
            .map(|ban| (ban.room.id, ban.user.id))
            .collect::<Vec<_>>()
    };
    let expected = [
        (here.id, guests[1].id),
        (there.id, guests[0].id),
        (here.id, guests[0].id),
    ];
    assert_eq!(by(&helper, 2).await, expected);
    assert_eq!(by(&helper, 10).await, expected);
    assert_eq!(by(&owner, 10).await, [(here.id, guests[2].id)]);
    assert_eq!(by(&guests[0], 10).await, []);
}
