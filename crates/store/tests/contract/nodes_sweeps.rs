//! A media node that fell silent: its seats are closed, each is told, and the node that comes back hears what it lost.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::TimeDelta;
use conferencing_store::clock::{Clock, ManualClock};
use conferencing_store::entity::ParticipantRole::Participant;
use conferencing_store::entity::{MediaNodeId, ParticipantId, RoomId, room, room_participant};
use conferencing_store::{
    Acting, Actor, AuditEvent, Change, Error, FeedFilter, Heartbeat, LeaveDetails, LeaveReason, LostSeat,
    NodeLossReason, NodeSweep, Order, PageRequest, RoomChanges, Store, StoreSettings,
};
use futures_util::StreamExt;

use crate::accounts_support::until_blocked;
use crate::checks::assert_sabotaged;
use crate::harness::{TestDb, race, settings};
use crate::model::check_invariants;

crate::cases![
    ghosts_of_a_dead_node_are_closed_and_told,
    who_is_silent_for_less_keeps_its_seats,
    participations_end_with_the_last_sign_of_life,
    a_seat_taken_in_the_moment_of_loss_is_closed_by_the_next_sweep,
    a_node_that_comes_back_hears_what_it_lost,
    a_sweep_that_cannot_tell_closes_nothing,
    sweeps_race_with_everybody,
    @Postgres a_unit_that_seats_while_its_node_is_lost_is_healed,
    @Postgres a_busy_room_is_waited_for,
];

const SILENCE: Duration = Duration::from_secs(30);

struct Stage {
    store: Store,
    clock: Arc<ManualClock>,
    system: Acting,
}

impl Stage {
    async fn set(db: &TestDb) -> Self {
        let (store, clock) = db.with_manual_clock().await;
        let system = store.acting(&Actor::system("sweeper"));
        Self { store, clock, system }
    }

    async fn node(&self, name: &str) -> MediaNodeId {
        self.system.nodes().register(name).await.unwrap().id
    }

    async fn pass(&self, seconds: i64) {
        self.clock.advance(TimeDelta::seconds(seconds));
    }

    async fn beat(&self, node: MediaNodeId) {
        assert_eq!(self.system.nodes().beat(node).await.unwrap(), Heartbeat::Alive);
    }

    async fn sweep(&self, limit: u16) -> NodeSweep {
        self.system.nodes().sweep_silent(SILENCE, limit).await.unwrap()
    }

    /// Seats new users in a new room on a node, or on none.
    async fn seats(
        &self,
        db: &TestDb,
        name: &str,
        nodes: &[Option<MediaNodeId>],
    ) -> (room::Model, Vec<room_participant::Model>) {
        let owner = db.user(&format!("{name}-owner")).await;
        let room = db.room(&owner, 100).await;
        let mut seats = Vec::new();
        for (number, node) in nodes.iter().enumerate() {
            let user = db.user(&format!("{name}-{number}")).await.id;
            let people = self.system.participants();
            let seat = match node {
                Some(node) => people.join_on(room.id, user, Participant, *node).await,
                None => people.join(room.id, user, Participant).await,
            };
            seats.push(seat.unwrap());
        }
        (room, seats)
    }
}

fn lost(seat: &room_participant::Model) -> LostSeat {
    LostSeat {
        stay: seat.id,
        room: seat.room_id,
        user: seat.user_id,
        node: seat.node_id.unwrap(),
    }
}

fn sorted(mut seats: Vec<LostSeat>) -> Vec<LostSeat> {
    seats.sort_unstable();
    seats
}

/// All seats that a node lost, in pages of this size.
async fn lost_by(store: &Store, node: MediaNodeId, size: u16, order: Order) -> Vec<LostSeat> {
    let mut page = PageRequest::first(size, order).unwrap();
    let mut all = Vec::new();
    loop {
        let part = store.nodes().lost_seats(node, &page).await.unwrap();
        all.extend(part.items);
        let Some(next) = part.next else { return all };
        page = page.after(next);
    }
}

const ROOMS: usize = 50;
const GHOSTS_IN_A_ROOM: usize = 10;

/// A node dies with 500 seats in 50 rooms; four sweepers, each with a pool of its own, share them, and a follower of the feed hears of each
/// seat once. Others in these rooms, on another node or on none, notice nothing.
async fn ghosts_of_a_dead_node_are_closed_and_told(db: TestDb) {
    let stage = Stage::set(&db).await;
    let (dead, living) = (stage.node("dead").await, stage.node("living").await);
    let mut nodes = vec![Some(dead); GHOSTS_IN_A_ROOM];
    nodes.extend([Some(living), None]);
    let (mut ghosts, mut others) = (BTreeMap::new(), BTreeSet::new());
    for number in 0..ROOMS {
        let (_, seats) = stage.seats(&db, &format!("room{number}"), &nodes).await;
        for seat in seats {
            if seat.node_id == Some(dead) {
                ghosts.insert(seat.id, lost(&seat));
            } else {
                others.insert(seat.id);
            }
        }
    }
    stage.pass(60).await;
    stage.beat(living).await;
    let position = stage.store.feed().now().await.unwrap();
    let follower = stage.store.clone();
    let following = tokio::spawn(async move {
        let mut events = pin!(
            follower
                .feed()
                .subscribe(FeedFilter::default(), Some(position))
                .await
                .unwrap()
        );
        let mut heard = Vec::new();
        while heard.len() < 1 + ROOMS * GHOSTS_IN_A_ROOM {
            heard.push(events.next().await.unwrap().unwrap());
        }
        heard
    });

    let began = Instant::now();
    let sweeps = (0..4).map(|_| StoreSettings {
        clock: stage.clock.clone(),
        ..settings()
    });
    let mut stores = Vec::new();
    for settings in sweeps {
        stores.push(db.store_with(settings).await);
    }
    let swept = race(stores.into_iter().map(|store| async move {
        let sweeper = store.acting(&Actor::system("sweeper"));
        let mut sweeps = Vec::new();
        loop {
            let sweep = sweeper.nodes().sweep_silent(SILENCE, 40).await.unwrap();
            assert!(sweep.closed.len() <= 40);
            let remaining = sweep.remaining;
            sweeps.push(sweep);
            if !remaining {
                return sweeps;
            }
        }
    }))
    .await;
    let heard = tokio::time::timeout(Duration::from_secs(60), following)
        .await
        .unwrap()
        .unwrap();
    println!(
        "{} seats in {ROOMS} rooms closed and told in {:?}",
        ghosts.len(),
        began.elapsed()
    );

    let sweeps: Vec<NodeSweep> = swept.into_iter().flatten().collect();
    let found: Vec<_> = sweeps.iter().flat_map(|sweep| &sweep.lost).collect();
    assert_eq!(found, [&dead], "one of them found it");
    let closed: Vec<LostSeat> = sweeps.iter().flat_map(|sweep| sweep.closed.clone()).collect();
    assert_eq!(sorted(closed), sorted(ghosts.values().copied().collect()), "each once");
    let mut left = HashSet::new();
    for event in &heard {
        match &event.entry.event {
            AuditEvent::Change(Change::UserLeft {
                target, stay, reason, ..
            }) => {
                assert_eq!(*reason, LeaveReason::NodeLost);
                assert_eq!(
                    (event.entry.room, *target),
                    (Some(ghosts[stay].room), Some(ghosts[stay].user))
                );
                assert!(left.insert(*stay), "{stay} left twice");
            }
            AuditEvent::Change(Change::MediaNodeLost { node, name, reason }) => {
                assert_eq!((*node, name.as_str(), *reason), (dead, "dead", NodeLossReason::Silent));
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(left.len(), ghosts.len());
    let behind = stage.store.feed();
    let rest = behind
        .read(&FeedFilter::default(), &heard.last().unwrap().position, 10)
        .await
        .unwrap();
    assert_eq!(rest.events.len(), 0, "nothing is told twice");
    for room in ghosts.values().map(|seat| seat.room).collect::<BTreeSet<_>>() {
        let row = stage.store.rooms().get(room).await.unwrap();
        assert_eq!(
            (row.active_participants, row.total_joins, row.peak_participants),
            (2, 12, 12)
        );
    }
    for stay in others {
        assert_eq!(stage.store.participants().get(stay).await.unwrap().left_at, None);
    }
    check_invariants(&db.raw().await, &db.store).await;
}

async fn who_is_silent_for_less_keeps_its_seats(db: TestDb) {
    let stage = Stage::set(&db).await;
    let node = stage.node("sfu").await;
    let (_, seats) = stage.seats(&db, "room", &[Some(node), None]).await;
    assert_eq!(stage.sweep(10).await, NodeSweep::default());
    stage.pass(30).await;
    assert_eq!(
        stage.sweep(10).await,
        NodeSweep::default(),
        "thirty seconds are not longer than thirty"
    );
    stage.beat(node).await;
    stage.pass(30).await;
    assert_eq!(stage.sweep(10).await, NodeSweep::default());
    stage.pass(1).await;
    let swept = stage.sweep(10).await;
    assert_eq!(
        (swept.lost, swept.closed, swept.remaining),
        (vec![node], vec![lost(&seats[0])], false)
    );
    assert_eq!(stage.sweep(10).await, NodeSweep::default());
    // However long a silence is asked about.
    let nothing = stage.system.nodes().sweep_silent(Duration::MAX, 10).await.unwrap();
    assert_eq!(nothing, NodeSweep::default());
    check_invariants(&db.raw().await, &db.store).await;
}

async fn participations_end_with_the_last_sign_of_life(db: TestDb) {
    let stage = Stage::set(&db).await;
    let node = stage.node("sfu").await;
    let (room, seats) = stage.seats(&db, "early", &[Some(node)]).await;
    stage.pass(20).await;
    stage.beat(node).await;
    let last = stage.clock.now();
    stage.pass(5).await;
    // Came after that.
    let (_, late) = stage.seats(&db, "late", &[Some(node)]).await;
    stage.pass(60).await;
    let swept = stage.sweep(10).await;
    assert_eq!(sorted(swept.closed), sorted(vec![lost(&seats[0]), lost(&late[0])]));
    for (seat, left_at, seconds) in [(&seats[0], last, 20), (&late[0], late[0].joined_at, 0)] {
        let row = stage.store.participants().get(seat.id).await.unwrap();
        assert_eq!((row.left_at, row.duration_seconds), (Some(left_at), Some(seconds)));
        assert_eq!(row.node_id, Some(node), "it keeps the node that it ended with");
    }
    let room = stage.store.rooms().get(room.id).await.unwrap();
    assert_eq!(
        room.status,
        conferencing_store::entity::RoomStatus::Live,
        "it is left to sweep_empty"
    );
    assert_eq!((room.active_participants, room.updated_at), (0, stage.clock.now()));
}

/// Whoever seats somebody on a node reads of it without a lock, so it may be lost by then.
async fn a_seat_taken_in_the_moment_of_loss_is_closed_by_the_next_sweep(db: TestDb) {
    let stage = Stage::set(&db).await;
    let node = stage.node("sfu").await;
    let (_, seats) = stage.seats(&db, "room", &[None, None]).await;
    stage.pass(60).await;
    assert_eq!(stage.sweep(10).await.lost, [node]);
    let raw = db.raw().await;
    let (node_sql, stay) = (raw.id(node.as_uuid()), raw.id(seats[0].id.as_uuid()));
    raw.run(&format!(
        "UPDATE room_participants SET node_id = {node_sql} WHERE id = {stay}"
    ))
    .await;
    let seat = stage.store.participants().get(seats[0].id).await.unwrap();
    stage.pass(1).await;
    let swept = stage.sweep(10).await;
    assert_eq!((swept.lost, swept.closed), (vec![], vec![lost(&seat)]));
    assert_eq!(stage.store.participants().get(seats[1].id).await.unwrap().left_at, None);
    check_invariants(&raw, &db.store).await;
}

async fn a_unit_that_seats_while_its_node_is_lost_is_healed(db: TestDb) {
    let stage = Stage::set(&db).await;
    let node = stage.node("sfu").await;
    let (room, _) = stage.seats(&db, "room", &[None]).await;
    let guest = db.user("guest").await.id;
    let unit = stage.store.begin(&Actor::user(guest)).await.unwrap();
    let seat = unit
        .participants()
        .join_on(room.id, guest, Participant, node)
        .await
        .unwrap();
    // Nobody waits for it.
    stage.pass(60).await;
    let swept = stage.sweep(10).await;
    assert_eq!((swept.lost, swept.closed, swept.remaining), (vec![node], vec![], false));
    unit.commit().await.unwrap();
    stage.pass(1).await;
    assert_eq!(stage.sweep(10).await.closed, [lost(&seat)]);
    check_invariants(&db.raw().await, &db.store).await;
}

async fn a_node_that_comes_back_hears_what_it_lost(db: TestDb) {
    let stage = Stage::set(&db).await;
    let (node, other) = (stage.node("sfu").await, stage.node("other").await);
    let mut expected = Vec::new();
    for number in 0..3 {
        let on = [Some(node), Some(node), Some(node), Some(other), None];
        let (room, seats) = stage.seats(&db, &format!("room{number}"), &on).await;
        // This one left by themself: the node has not lost them.
        stage
            .system
            .participants()
            .leave(room.id, seats[2].user_id)
            .await
            .unwrap();
        expected.extend(seats[..2].iter().map(lost));
        stage.pass(1).await;
    }
    stage.pass(60).await;
    stage.beat(other).await;
    assert_eq!(lost_by(&stage.store, node, 10, Order::OldestFirst).await, []);
    let mut closed = Vec::new();
    for (limit, remaining) in [(4, true), (4, false)] {
        let swept = stage.sweep(limit).await;
        assert!(swept.closed.len() <= usize::from(limit));
        assert_eq!(swept.remaining, remaining);
        closed.extend(swept.closed);
    }
    assert_eq!(sorted(closed), sorted(expected.clone()));
    let Heartbeat::Lost { since } = stage.system.nodes().beat(node).await.unwrap() else {
        panic!("it is lost");
    };
    assert_eq!(since, stage.clock.now());
    let all = lost_by(&stage.store, node, 500, Order::OldestFirst).await;
    assert_eq!(sorted(all.clone()), sorted(expected));
    for size in [1, 2, 5] {
        assert_eq!(lost_by(&stage.store, node, size, Order::OldestFirst).await, all);
        let mut newest = lost_by(&stage.store, node, size, Order::NewestFirst).await;
        newest.reverse();
        assert_eq!(newest, all);
    }
    assert_eq!(lost_by(&stage.store, other, 10, Order::OldestFirst).await, []);
    // It is a node again, and serves.
    let again = stage.node("sfu").await;
    let people = stage.system.participants();
    let back = people
        .join_on(all[0].room, all[0].user, Participant, again)
        .await
        .unwrap();
    assert_ne!(back.id, all[0].stay);
    assert_eq!(stage.sweep(10).await, NodeSweep::default());
}

async fn a_sweep_that_cannot_tell_closes_nothing(db: TestDb) {
    let stage = Stage::set(&db).await;
    let node = stage.node("sfu").await;
    let (_, seats) = stage.seats(&db, "room", &[Some(node); 3]).await;
    stage.pass(60).await;
    let raw = db.raw().await;
    for (event, found) in [("MEDIA_NODE_LOST", false), ("USER_LEFT", true)] {
        raw.sabotage("audit_logs", &format!("NEW.action = '{event}'")).await;
        let swept = stage.system.nodes().sweep_silent(SILENCE, 2).await;
        assert_sabotaged(&swept, event);
        raw.repair().await;
        let is_lost = stage.store.nodes().get(node).await.unwrap().lost_at.is_some();
        assert_eq!(is_lost, found, "{event}");
        assert_eq!(
            stage
                .store
                .rooms()
                .get(seats[0].room_id)
                .await
                .unwrap()
                .active_participants,
            3
        );
    }
    let unit = stage.store.begin(&Actor::system("sweeper")).await.unwrap();
    let swept = unit.nodes().sweep_silent(SILENCE, 2).await.unwrap();
    assert_eq!((swept.closed.len(), swept.remaining), (2, true));
    unit.roll_back().await.unwrap();
    let swept = stage.sweep(500).await;
    assert_eq!(sorted(swept.closed), sorted(seats.iter().map(lost).collect()));
    check_invariants(&raw, &db.store).await;
}

async fn sweeps_race_with_everybody(db: TestDb) {
    let system = db.system();
    let (owner, users) = (db.user("owner").await, db.users("guest", 24).await);
    let mut rooms: Vec<RoomId> = Vec::new();
    for _ in 0..4 {
        rooms.push(db.room(&owner, 50).await.id);
    }
    let mut nodes = Vec::new();
    for name in ["a", "b", "c"] {
        nodes.push(system.nodes().register(name).await.unwrap().id);
    }
    let people = users.iter().enumerate().map(|(number, user)| {
        let (store, user, rooms, nodes) = (db.store.clone(), user.id, rooms.clone(), nodes.clone());
        tokio::spawn(async move {
            let system = store.acting(&Actor::system("test"));
            let refused = |error: &Error| matches!(error, Error::Rejected(_));
            for turn in 0..30 {
                let (room, node) = (rooms[(number + turn) % 4], nodes[turn % 3]);
                let joined = system.participants().join_on(room, user, Participant, node).await;
                let Ok(seat) = joined else {
                    assert!(joined.as_ref().is_err_and(refused), "{joined:?}");
                    let _ = system.participants().join(room, user, Participant).await;
                    continue;
                };
                let done = match turn % 4 {
                    0 => system.participants().leave(room, user).await.map(drop),
                    1 => system
                        .participants()
                        .leave_stay(seat.id, LeaveDetails::default())
                        .await
                        .map(drop),
                    2 => system
                        .participants()
                        .assign_node(seat.id, nodes[(turn + 1) % 3])
                        .await
                        .map(drop),
                    _ => system.participants().kick(room, user, None).await.map(drop),
                };
                assert!(done.is_ok() || done.as_ref().is_err_and(refused), "{done:?}");
            }
        })
    });
    let sweepers = (0..8).map(|number| {
        let (store, nodes, rooms) = (db.store.clone(), nodes.clone(), rooms.clone());
        tokio::spawn(async move {
            let system = store.acting(&Actor::system("sweeper"));
            let mut closed: Vec<ParticipantId> = Vec::new();
            for turn in 0..25 {
                if number < 3 && turn == 3 * (number + 1) {
                    system.nodes().retire(nodes[number]).await.unwrap();
                }
                let sweep = system.nodes().sweep_silent(Duration::from_secs(600), 3).await.unwrap();
                closed.extend(sweep.closed.iter().map(|seat| seat.stay));
                let present = [];
                let now = conferencing_store::clock::SystemClock.now() - TimeDelta::milliseconds(5);
                let reconciled = system
                    .participants()
                    .reconcile(rooms[turn % 4], &present, now)
                    .await
                    .unwrap();
                closed.extend(reconciled.closed.iter().map(|seat| seat.stay));
            }
            closed
        })
    });
    let (people, sweepers): (Vec<_>, Vec<_>) = (people.collect(), sweepers.collect());
    for task in people {
        task.await.unwrap();
    }
    let mut closed = Vec::new();
    for task in sweepers {
        closed.extend(task.await.unwrap());
    }
    while system
        .nodes()
        .sweep_silent(Duration::from_secs(600), 500)
        .await
        .unwrap()
        .remaining
    {}
    assert_eq!(
        closed.iter().collect::<HashSet<_>>().len(),
        closed.len(),
        "nobody twice"
    );
    let raw = db.raw().await;
    let open = "SELECT count(*) FROM room_participants p JOIN media_nodes n ON n.id = p.node_id
        WHERE p.left_at IS NULL AND n.lost_at IS NOT NULL";
    assert_eq!(raw.number(open).await, 0, "nobody is left on a lost node");
    check_invariants(&raw, &db.store).await;
}

/// Whose room is never free when a sweep looks is not passed over for ever.
async fn a_busy_room_is_waited_for(db: TestDb) {
    let stage = Stage::set(&db).await;
    let node = stage.node("sfu").await;
    let (busy, ghosts) = stage.seats(&db, "busy", &[Some(node); 2]).await;
    let (_, free) = stage.seats(&db, "free", &[Some(node)]).await;
    stage.pass(60).await;
    let unit = stage.store.begin(&Actor::system("test")).await.unwrap();
    let changes = RoomChanges {
        title: Some("Busy"),
        ..RoomChanges::default()
    };
    unit.rooms().update(busy.id, changes).await.unwrap();
    let swept = stage.sweep(10).await;
    assert_eq!(
        (swept.closed, swept.remaining),
        (vec![lost(&free[0])], true),
        "those that are free come first"
    );
    let system = stage.system.clone();
    let waiting = tokio::spawn(async move { system.nodes().sweep_silent(SILENCE, 10).await.unwrap() });
    until_blocked(&db.raw().await, 1).await;
    // One of them leaves meanwhile.
    unit.participants().leave(busy.id, ghosts[0].user_id).await.unwrap();
    unit.commit().await.unwrap();
    let swept = waiting.await.unwrap();
    assert_eq!(swept.closed, [lost(&ghosts[1])]);
    assert_eq!(stage.store.rooms().get(busy.id).await.unwrap().active_participants, 0);
    check_invariants(&db.raw().await, &db.store).await;
}
