//! Media nodes: how they register, say that they are there and go, and which seats name them.

use chrono::TimeDelta;
use conferencing_store::authority::{ActorRole, Operation};
use conferencing_store::clock::Clock;
use conferencing_store::entity::ParticipantRole::{Host, Participant};
use conferencing_store::entity::{MediaNodeId, ParticipantId, RoomId, UserId};
use conferencing_store::{
    Actor, AuditEvent, AuditFilter, Change, Error, Heartbeat, LeaveDetails, NodeLossReason, Order, PageRequest,
    Rejected, Store, StoreSettings, Subject,
};
use uuid::Uuid;

use crate::accounts_support::rejected;
use crate::harness::{TestDb, race, settings};
use crate::model::check_invariants;

crate::cases![
    a_node_registers_beats_and_retires,
    the_seats_of_a_node_are_those_that_it_serves_now,
    a_server_that_starts_again_replaces_its_former,
    of_many_that_register_one_name_one_is_in_service,
    a_seat_names_its_node,
    those_who_wait_for_a_room_name_their_nodes,
    a_node_that_is_lost_or_unknown_seats_nobody,
    every_end_forgets_the_node,
    a_seat_moves_to_another_node,
    nodes_are_for_the_platform,
];

const UNKNOWN: MediaNodeId = MediaNodeId::from_uuid(Uuid::from_u128(7));

/// All events of media nodes, oldest first.
async fn told(store: &Store) -> Vec<Change> {
    let page = PageRequest::first(500, Order::OldestFirst).unwrap();
    let log = store.audit().list(&AuditFilter::default(), &page).await.unwrap();
    let changes = log.items.into_iter().filter_map(|entry| match entry.event {
        AuditEvent::Change(change) => Some(change),
        _ => None,
    });
    changes
        .filter(|change| {
            matches!(
                change,
                Change::MediaNodeRegistered { .. } | Change::MediaNodeLost { .. }
            )
        })
        .collect()
}

async fn alive(store: &Store) -> Vec<MediaNodeId> {
    let page = PageRequest::first(500, Order::OldestFirst).unwrap();
    let nodes = store.nodes().list_alive(&page).await.unwrap().items;
    nodes.into_iter().map(|node| node.id).collect()
}

pub async fn node_of(store: &Store, stay: ParticipantId) -> Option<MediaNodeId> {
    store.participants().get(stay).await.unwrap().node_id
}

async fn the_seats_of_a_node_are_those_that_it_serves_now(db: TestDb) {
    let system = db.store.acting(&Actor::system("sfu"));
    let (one, other) = (
        system.nodes().register("one").await.unwrap().id,
        system.nodes().register("other").await.unwrap().id,
    );
    let owner = db.user("owner").await;
    let room = db.room(&owner, 20).await;
    let mut served = Vec::new();
    for (number, guest) in db.users("guest", 9).await.iter().enumerate() {
        let node = if number % 3 == 0 { other } else { one };
        let seat = system
            .participants()
            .join_on(room.id, guest.id, Participant, node)
            .await
            .unwrap();
        match number {
            1 => drop(system.participants().leave(room.id, guest.id).await.unwrap()),
            2 => drop(system.participants().assign_node(seat.id, other).await.unwrap()),
            _ if node == one => served.push((seat.joined_at, seat.id)),
            _ => {}
        }
    }
    db.seat(&room, &owner).await;
    served.sort_unstable();
    for order in [Order::OldestFirst, Order::NewestFirst] {
        let mut page = PageRequest::first(2, order).unwrap();
        let mut found = Vec::new();
        loop {
            let part = db.store.nodes().seats(one, &page).await.unwrap();
            found.extend(part.items.into_iter().map(|seat| (seat.joined_at, seat.id)));
            let Some(next) = part.next else { break };
            page = page.after(next);
        }
        assert_eq!(found, served);
        served.reverse();
    }
    let page = PageRequest::first(2, Order::OldestFirst).unwrap();
    assert!(db.store.nodes().seats(UNKNOWN, &page).await.unwrap().items.is_empty());
}

async fn a_node_registers_beats_and_retires(db: TestDb) {
    let (store, clock) = db.with_manual_clock().await;
    let acting = store.acting(&Actor::system("sfu"));
    let node = acting.nodes().register("  sfu-1 ").await.unwrap();
    assert_eq!((node.name.as_str(), node.lost_at), ("sfu-1", None));
    assert_eq!((node.registered_at, node.beat_at), (clock.now(), clock.now()));
    assert_eq!(store.nodes().find(node.id).await.unwrap().as_ref(), Some(&node));
    assert_eq!(store.nodes().find(UNKNOWN).await.unwrap(), None);

    clock.advance(TimeDelta::seconds(5));
    assert_eq!(acting.nodes().beat(node.id).await.unwrap(), Heartbeat::Alive);
    let last = clock.now();
    assert_eq!(store.nodes().get(node.id).await.unwrap().beat_at, last);
    // A process whose clock is behind takes nothing back.
    clock.advance(TimeDelta::seconds(-60));
    assert_eq!(acting.nodes().beat(node.id).await.unwrap(), Heartbeat::Alive);
    assert_eq!(store.nodes().get(node.id).await.unwrap().beat_at, last);

    clock.advance(TimeDelta::seconds(120));
    let since = clock.now();
    let retired = acting.nodes().retire(node.id).await.unwrap();
    assert_eq!((retired.beat_at, retired.lost_at), (since, Some(since)));
    clock.advance(TimeDelta::seconds(1));
    assert_eq!(acting.nodes().retire(node.id).await.unwrap(), retired);
    assert_eq!(acting.nodes().beat(node.id).await.unwrap(), Heartbeat::Lost { since });
    assert_eq!(store.nodes().get(node.id).await.unwrap(), retired);
    assert_eq!(alive(&store).await, []);

    let (id, name) = (node.id, "sfu-1".to_owned());
    let reason = NodeLossReason::Retired;
    assert_eq!(
        told(&store).await,
        [
            Change::MediaNodeRegistered {
                node: id,
                name: name.clone()
            },
            Change::MediaNodeLost { node: id, name, reason }
        ]
    );
    for (what, done) in [
        ("beat", acting.nodes().beat(UNKNOWN).await.map(drop)),
        ("retire", acting.nodes().retire(UNKNOWN).await.map(drop)),
        ("get", acting.nodes().get(UNKNOWN).await.map(drop)),
    ] {
        assert!(
            matches!(done, Err(Error::NotFound(Subject::MediaNode(UNKNOWN)))),
            "{what}: {done:?}"
        );
    }
    for name in ["", " \t", "a\u{0}b", &"x".repeat(101)] {
        let done = acting.nodes().register(name).await;
        assert!(matches!(done, Err(Error::Invalid(_))), "{name:?}: {done:?}");
    }
}

async fn a_server_that_starts_again_replaces_its_former(db: TestDb) {
    let system = db.system();
    let former = system.nodes().register("sfu").await.unwrap();
    let other = system.nodes().register("another").await.unwrap();
    let now = system.nodes().register("sfu").await.unwrap();
    assert_ne!(former.id, now.id);
    assert_eq!(alive(&db.store).await, [other.id, now.id]);
    let lost = db.store.nodes().get(former.id).await.unwrap();
    assert!(lost.lost_at.is_some() && lost.beat_at == former.beat_at, "{lost:?}");
    let beat = system.nodes().beat(former.id).await.unwrap();
    assert!(matches!(beat, Heartbeat::Lost { since } if Some(since) == lost.lost_at));
    let last_two = told(&db.store).await.split_off(2);
    let (name, reason) = ("sfu".to_owned(), NodeLossReason::Replaced);
    assert_eq!(
        last_two,
        [
            Change::MediaNodeLost {
                node: former.id,
                name: name.clone(),
                reason
            },
            Change::MediaNodeRegistered { node: now.id, name }
        ]
    );
}

async fn of_many_that_register_one_name_one_is_in_service(db: TestDb) {
    let registered = race((0..32).map(|number| {
        let store = db.store.clone();
        async move {
            let acting = store.acting(&Actor::system("sfu"));
            if number % 2 == 0 {
                return acting.nodes().register("sfu").await.unwrap().id;
            }
            let register = |unit: conferencing_store::Unit| async move { unit.nodes().register("sfu").await };
            store.transact(&Actor::system("sfu"), register).await.unwrap().id
        }
    }))
    .await;
    let alive = alive(&db.store).await;
    assert_eq!(alive.len(), 1);
    assert!(registered.contains(&alive[0]));
    let told = told(&db.store).await;
    let lost = told
        .iter()
        .filter(|change| matches!(change, Change::MediaNodeLost { .. }));
    assert_eq!((told.len(), lost.count()), (63, 31));
}

async fn a_seat_names_its_node(db: TestDb) {
    let (owner, guests) = (db.user("owner").await, db.users("guest", 4).await);
    let room = db.room(&owner, 10).await.id;
    let node = db.system().nodes().register("sfu").await.unwrap().id;
    let participants = |user: UserId| db.store.acting(&Actor::user(user));
    // The first to come; the owner; the usual case; inside a unit.
    let mut seats = Vec::new();
    for (user, role) in [
        (guests[0].id, Participant),
        (owner.id, Host),
        (guests[1].id, Participant),
    ] {
        let acting = participants(user);
        let seat = acting.participants().join_on(room, user, role, node).await.unwrap();
        assert_eq!(seat.node_id, Some(node));
        seats.push(seat);
    }
    let unit = db.store.begin(&Actor::user(guests[2].id)).await.unwrap();
    let seat = unit.participants().join_on(room, guests[2].id, Participant, node).await;
    unit.commit().await.unwrap();
    seats.push(seat.unwrap());
    for seat in &seats {
        assert_eq!(&db.store.participants().get(seat.id).await.unwrap(), seat);
    }
    let without = participants(guests[3].id);
    let seat = without
        .participants()
        .join(room, guests[3].id, Participant)
        .await
        .unwrap();
    assert_eq!(seat.node_id, None);
    check_invariants(&db.raw().await, &db.store).await;
}

/// Some name one node, some another, some none, and some one that is lost.
async fn those_who_wait_for_a_room_name_their_nodes(db: TestDb) {
    let (owner, guests) = (db.user("owner").await, db.users("guest", 64).await);
    let room = db.room(&owner, 100).await.id;
    db.system().rooms().start(room).await.unwrap();
    let nodes = db.system();
    let (a, b, lost) = (
        nodes.nodes().register("a").await.unwrap().id,
        nodes.nodes().register("b").await.unwrap().id,
        nodes.nodes().register("lost").await.unwrap().id,
    );
    nodes.nodes().retire(lost).await.unwrap();
    let joins = guests.iter().enumerate().map(|(number, guest)| {
        let (store, user) = (db.store.clone(), guest.id);
        let node = [Some(a), Some(b), None, Some(lost)][number % 4];
        async move {
            let acting = store.acting(&Actor::user(user));
            let joined = match node {
                Some(node) => acting.participants().join_on(room, user, Participant, node).await,
                None => acting.participants().join(room, user, Participant).await,
            };
            (node, joined)
        }
    });
    for (node, joined) in race(joins).await {
        if node == Some(lost) {
            assert!(matches!(rejected(joined), Rejected::NodeLost { node, .. } if node == lost));
        } else {
            let seat = joined.unwrap();
            assert_eq!((seat.node_id, node_of(&db.store, seat.id).await), (node, node));
        }
    }
    assert_eq!(db.store.rooms().get(room).await.unwrap().active_participants, 48);
    check_invariants(&db.raw().await, &db.store).await;
}

async fn a_node_that_is_lost_or_unknown_seats_nobody(db: TestDb) {
    let (owner, guest) = (db.user("owner").await, db.user("guest").await);
    let (room, ended) = (db.room(&owner, 10).await.id, db.room(&owner, 10).await.id);
    let system = db.system();
    system.rooms().start(ended).await.unwrap();
    system.rooms().end(ended).await.unwrap();
    let lost = system.nodes().register("sfu").await.unwrap().id;
    let since = system.nodes().retire(lost).await.unwrap().lost_at.unwrap();
    let raw = db.raw().await;
    let join = async |room: RoomId, user: UserId, node| {
        let acting = db.store.acting(&Actor::user(user));
        acting.participants().join_on(room, user, Participant, node).await
    };
    let (is_lost, unknown) = (
        Rejected::NodeLost { node: lost, since },
        Error::NotFound(Subject::MediaNode(UNKNOWN)),
    );
    for live in [false, true] {
        if live {
            system.rooms().start(room).await.unwrap();
        }
        for user in [owner.id, guest.id] {
            raw.assert_refused(join(room, user, lost), is_lost.clone(), live).await;
            raw.assert_refused(join(room, user, UNKNOWN), unknown.clone(), live)
                .await;
        }
    }
    // What is wrong with the room is said first.
    let over = rejected(join(ended, guest.id, lost).await);
    assert!(matches!(over, Rejected::RoomStatus { .. }), "{over:?}");
    let seat = db.seat(&db.store.rooms().get(room).await.unwrap(), &guest).await;
    let assign = |node| {
        let acting = db.system();
        async move { acting.participants().assign_node(seat.id, node).await }
    };
    raw.assert_refused(assign(lost), is_lost, "assign").await;
    raw.assert_refused(assign(UNKNOWN), unknown, "assign").await;
}

/// Past the store, the schema would refuse a seat that ended and names a node in service.
async fn every_end_forgets_the_node(db: TestDb) {
    let owner = db.user("owner").await;
    let system = db.system();
    let node = system.nodes().register("sfu").await.unwrap().id;
    let ways = [
        "leave",
        "leave_stay",
        "leaves",
        "kick",
        "ban",
        "deactivate",
        "erase",
        "reconcile",
        "end",
        "erase owner",
    ];
    for way in ways {
        let owner = if way == "erase owner" {
            db.user("other").await
        } else {
            owner.clone()
        };
        let guest = db.user(&way.replace(' ', "-")).await.id;
        let room = db.room(&owner, 10).await.id;
        let acting = db.store.acting(&Actor::user(guest));
        let seat = acting
            .participants()
            .join_on(room, guest, Participant, node)
            .await
            .unwrap();
        let people = system.participants();
        match way {
            "leave" => drop(people.leave(room, guest).await.unwrap()),
            "leave_stay" => drop(people.leave_stay(seat.id, LeaveDetails::default()).await.unwrap()),
            "leaves" => {
                let others = db.users("of-a-group", 8).await;
                for other in &others {
                    people.join_on(room, other.id, Participant, node).await.unwrap();
                }
                let all = others.iter().map(|other| other.id).chain([guest]);
                let leaves = all.map(|user| {
                    let acting = db.store.acting(&Actor::user(user));
                    async move { acting.participants().leave(room, user).await.unwrap() }
                });
                assert!(race(leaves).await.iter().all(|seat| seat.node_id.is_none()));
            }
            "kick" => drop(people.kick(room, guest, None).await.unwrap()),
            "ban" => drop(people.ban(room, guest, None, None).await.unwrap()),
            "deactivate" => drop(system.users().deactivate(guest).await.unwrap()),
            "erase" => drop(system.users().erase(guest).await.unwrap()),
            "reconcile" => {
                let now = conferencing_store::clock::SystemClock.now();
                assert_eq!(people.reconcile(room, &[], now).await.unwrap().closed.len(), 1);
            }
            "end" => drop(system.rooms().end(room).await.unwrap()),
            _ => drop(system.users().erase(owner.id).await.unwrap()),
        }
        let ended = db.store.participants().get(seat.id).await.unwrap();
        assert!(ended.left_at.is_some(), "{way}");
        assert_eq!(ended.node_id, None, "{way}");
    }
}

async fn a_seat_moves_to_another_node(db: TestDb) {
    let (owner, guest) = (db.user("owner").await, db.user("guest").await);
    let room = db.room(&owner, 10).await;
    let system = db.system();
    let (a, b) = (
        system.nodes().register("a").await.unwrap().id,
        system.nodes().register("b").await.unwrap().id,
    );
    let seat = db.seat(&room, &guest).await;
    let before = db.actions(room.id).await;
    for node in [a, a, b] {
        let moved = system.participants().assign_node(seat.id, node).await.unwrap();
        assert_eq!(moved.node_id, Some(node));
        assert_eq!(node_of(&db.store, seat.id).await, Some(node));
    }
    let left = system.participants().leave(room.id, guest.id).await.unwrap();
    let late = system.participants().assign_node(seat.id, a).await.unwrap();
    assert_eq!(late, left, "what has ended is served by nobody");
    let mut expected = before;
    expected.push("USER_LEFT".to_owned());
    assert_eq!(db.actions(room.id).await, expected, "a move is not told");
    let never = ParticipantId::from_uuid(Uuid::from_u128(9));
    let done = system.participants().assign_node(never, a).await;
    assert!(matches!(done, Err(Error::NotFound(Subject::Participant(id))) if id == never));
}

async fn nodes_are_for_the_platform(db: TestDb) {
    let (ada, ben) = (db.user("ada").await, db.user("ben").await);
    let room = db.room(&ada, 5).await;
    let seat = db.seat(&room, &ben).await;
    let node = db.system().nodes().register("sfu").await.unwrap().id;
    // No room is empty for less than no time at all.
    let store = db
        .store_with(StoreSettings {
            empty_room_timeout: std::time::Duration::ZERO,
            ..settings()
        })
        .await;
    let acting = store.acting(&Actor::user(ada.id));
    let now = conferencing_store::clock::SystemClock.now();
    let second = std::time::Duration::from_secs(1);
    let refusal = Rejected::NotAllowed {
        operation: Operation::KeepPresence,
        actor_role: ActorRole::Outsider,
        room: None,
        user: None,
    };
    for (what, done) in [
        ("register", acting.nodes().register("x").await.map(drop)),
        ("beat", acting.nodes().beat(node).await.map(drop)),
        ("retire", acting.nodes().retire(node).await.map(drop)),
        ("sweep", acting.nodes().sweep_silent(second, 10).await.map(drop)),
        (
            "assign",
            acting.participants().assign_node(seat.id, node).await.map(drop),
        ),
        (
            "reconcile",
            acting.participants().reconcile(room.id, &[], now).await.map(drop),
        ),
        ("sweep rooms", acting.rooms().sweep_empty(10).await.map(drop)),
    ] {
        assert_eq!(rejected(done), refusal, "{what}");
    }
    for limit in [0, 501] {
        let done = db.system().nodes().sweep_silent(second, limit).await;
        assert!(matches!(done, Err(Error::Invalid(_))), "{done:?}");
        let done = db.system().rooms().sweep_empty(limit).await;
        assert!(matches!(done, Err(Error::Invalid(_))), "{done:?}");
    }
    let done = db.system().nodes().sweep_silent(second / 2, 1).await;
    assert!(matches!(done, Err(Error::Invalid(_))), "{done:?}");
    assert_eq!(db.store.nodes().get(node).await.unwrap().lost_at, None);
}
