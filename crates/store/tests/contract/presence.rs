//! Lists of who is present and who was.

use chrono::TimeDelta;
use conferencing_store::entity::ParticipantRole::Participant;
use conferencing_store::entity::{ParticipantId, RoomId};
use conferencing_store::page::Page;
use conferencing_store::participants::ParticipantWithUser;
use conferencing_store::{Actor, Order, PageRequest, Store};

use crate::harness::{Backend, TestDb};
use crate::wire::Wire;

crate::cases![
    pages_lose_and_double_nobody_when_many_came_at_once,
    who_leaves_between_two_pages_takes_nobody_else_along,
    the_present_are_listed_with_their_users,
    deleted_users_are_never_listed,
    a_room_that_does_not_exist_has_nobody_in_it,
    a_list_is_one_statement_however_many_there_are,
];

async fn page(store: &Store, room: RoomId, present: bool, request: &PageRequest) -> Page<ParticipantWithUser> {
    if present {
        store.participants().list_present(room, request).await.unwrap()
    } else {
        store.participants().list_history(room, request).await.unwrap()
    }
}

/// All pages, each cursor handed out as text and taken back.
async fn walk(store: &Store, room: RoomId, present: bool, size: u16, order: Order) -> Vec<ParticipantWithUser> {
    let mut all = Vec::new();
    let mut request = PageRequest::first(size, order).unwrap();
    loop {
        let page = page(store, room, present, &request).await;
        assert!(page.items.len() <= usize::from(size));
        all.extend(page.items);
        let Some(next) = page.next else { return all };
        assert_eq!(all.len() % usize::from(size), 0, "only the last page is short");
        request = request.after(next.to_string().parse().unwrap());
    }
}

async fn pages_lose_and_double_nobody_when_many_came_at_once(db: TestDb) {
    let owner = db.user("owner").await;
    let users = db.users("guest", 12).await;
    let room = db.room(&owner, 50).await;
    let (store, clock) = db.with_manual_clock().await;
    let system = store.acting(&Actor::system("test"));
    let mut seats = Vec::new();
    // Four at each of three instants.
    for users in users.chunks(4) {
        for user in users {
            seats.push(system.participants().join(room.id, user.id, Participant).await.unwrap());
        }
        clock.advance(TimeDelta::microseconds(1));
    }
    system.participants().leave(room.id, users[5].id).await.unwrap();
    for present in [true, false] {
        let mut expected: Vec<_> = seats
            .iter()
            .filter(|seat| !present || seat.user_id != users[5].id)
            .map(|seat| (seat.joined_at, seat.id))
            .collect();
        for order in [Order::OldestFirst, Order::NewestFirst] {
            expected.sort();
            if order == Order::NewestFirst {
                expected.reverse();
            }
            for size in [1, 2, 3, 4, 5, 11, 12, 500] {
                let found: Vec<_> = walk(&store, room.id, present, size, order)
                    .await
                    .into_iter()
                    .map(|participation| (participation.participant.joined_at, participation.participant.id))
                    .collect();
                assert_eq!(found, expected, "{present} {order:?} {size}");
            }
        }
    }
}

async fn who_leaves_between_two_pages_takes_nobody_else_along(db: TestDb) {
    let owner = db.user("owner").await;
    let users = db.users("guest", 6).await;
    let room = db.room(&owner, 50).await;
    for user in &users {
        db.seat(&room, user).await;
    }
    let request = PageRequest::first(3, Order::OldestFirst).unwrap();
    let first = page(&db.store, room.id, true, &request).await;
    // The very one that the cursor stands on, and one before it.
    for user in [&users[2], &users[0]] {
        db.system().participants().leave(room.id, user.id).await.unwrap();
    }
    let second = page(&db.store, room.id, true, &request.after(first.next.unwrap())).await;
    let names: Vec<_> = second
        .items
        .iter()
        .map(|participation| participation.user.username.as_str())
        .collect();
    assert_eq!(names, ["guest3", "guest4", "guest5"]);
    assert_eq!(second.next, None);
}

async fn the_present_are_listed_with_their_users(db: TestDb) {
    let owner = db.user("owner").await;
    let guests = db.users("guest", 2).await;
    let room = db.room(&owner, 10).await;
    let elsewhere = db.room(&owner, 10).await;
    let seats = [db.seat(&room, &guests[0]).await, db.seat(&room, &guests[1]).await];
    db.seat(&elsewhere, &owner).await;
    let all = walk(&db.store, room.id, true, 500, Order::OldestFirst).await;
    assert_eq!(all.len(), 2);
    for ((participation, seat), guest) in all.iter().zip(&seats).zip(&guests) {
        assert_eq!(&participation.participant, seat);
        assert_eq!(
            (
                participation.user.id,
                &participation.user.username,
                &participation.user.display_name
            ),
            (guest.id, &guest.username, &guest.display_name)
        );
    }
    db.system().rooms().end(room.id).await.unwrap();
    assert_eq!(walk(&db.store, room.id, true, 500, Order::OldestFirst).await, []);
    assert_eq!(walk(&db.store, room.id, false, 500, Order::OldestFirst).await.len(), 2);
}

async fn deleted_users_are_never_listed(db: TestDb) {
    let owner = db.user("owner").await;
    let guests = db.users("guest", 5).await;
    let room = db.room(&owner, 10).await;
    let mut seats = Vec::new();
    for guest in &guests {
        seats.push(db.seat(&room, guest).await.id);
    }
    let raw = db.raw().await;
    raw.run("UPDATE users SET deleted_at = updated_at WHERE username IN ('guest1', 'guest4')")
        .await;
    for present in [true, false] {
        for size in [1, 2, 500] {
            let found: Vec<ParticipantId> = walk(&db.store, room.id, present, size, Order::OldestFirst)
                .await
                .into_iter()
                .map(|participation| participation.participant.id)
                .collect();
            assert_eq!(found, [seats[0], seats[2], seats[3]], "{present} {size}");
        }
    }
}

async fn a_room_that_does_not_exist_has_nobody_in_it(db: TestDb) {
    let nowhere = RoomId::from_uuid(uuid::Uuid::from_u128(1));
    for present in [true, false] {
        assert_eq!(walk(&db.store, nowhere, present, 5, Order::NewestFirst).await, []);
    }
}

async fn a_list_is_one_statement_however_many_there_are(db: TestDb) {
    let owner = db.user("owner").await;
    let room = db.room(&owner, 1000).await;
    let wire = match db.backend {
        Backend::Postgres => Some(Wire::before(&db.url).await),
        Backend::Sqlite => None,
    };
    let store = match &wire {
        Some(wire) => Store::connect(&wire.url).await.unwrap(),
        None => db.store.clone(),
    };
    let mut seated = 0;
    for crowd in [3, 300] {
        for user in db.users(&format!("crowd{crowd}_"), crowd - seated).await {
            db.seat(&room, &user).await;
        }
        seated = crowd;
        let request = PageRequest::first(500, Order::OldestFirst).unwrap();
        for present in [true, false] {
            wire.as_ref().map(Wire::executions);
            assert_eq!(page(&store, room.id, present, &request).await.items.len(), crowd);
            if let Some(wire) = &wire {
                assert_eq!(wire.executions(), ["execute"], "{crowd} {present}");
            }
        }
    }
}
