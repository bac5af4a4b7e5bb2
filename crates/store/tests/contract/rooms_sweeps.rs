//! Rooms that are LIVE and empty are ended by a sweep, whatever emptied them.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use conferencing_store::clock::{Clock, ManualClock};
use conferencing_store::entity::ParticipantRole::Participant;
use conferencing_store::entity::{RecordingStatus, RoomId, RoomStatus, user};
use conferencing_store::{
    Acting, Actor, EndedRoom, Error, NewRoom, Rejected, RoomChanges, RoomFilter, Store, StoreSettings, statements,
};
use conferencing_store::{Order, PageRequest};
use sea_orm::{ConnectionTrait, Statement};

use crate::checks::assert_sabotaged;
use crate::harness::{Backend, TestDb, race, settings};
use crate::model::check_invariants;
use crate::recordings::recording_in;

crate::cases![
    whatever_emptied_a_room_it_ends,
    who_is_present_or_was_lately_keeps_the_room,
    what_was_recorded_stops_with_the_room,
    sweepers_share_the_rooms,
    joins_race_with_the_sweep,
    a_sweep_that_cannot_tell_ends_nothing,
    live_rooms_are_found_along_their_index,
    @Postgres a_room_that_somebody_has_is_left,
];

const TIMEOUT: Duration = Duration::from_secs(300);

struct Stage {
    store: Store,
    clock: Arc<ManualClock>,
    system: Acting,
    owner: user::Model,
}

impl Stage {
    async fn set(db: &TestDb) -> Self {
        let (store, clock) = db.with_manual_clock().await;
        let system = store.acting(&Actor::system("sweeper"));
        let owner = db.user("owner").await;
        Self {
            store,
            clock,
            system,
            owner,
        }
    }

    /// A live room with somebody in it.
    async fn room(&self, db: &TestDb, name: &str, is_public: bool) -> (RoomId, user::Model) {
        let new = NewRoom {
            is_public,
            ..NewRoom::titled(self.owner.id, name)
        };
        let room = self.system.rooms().create(new).await.unwrap().id;
        let guest = db.user(name).await;
        self.system
            .participants()
            .join(room, guest.id, Participant)
            .await
            .unwrap();
        (room, guest)
    }

    async fn sweep(&self, limit: u16) -> Vec<RoomId> {
        let mut swept = self.system.rooms().sweep_empty(limit).await.unwrap();
        swept.sort_unstable();
        swept.into_iter().map(|ended| ended.room).collect()
    }

    async fn status(&self, room: RoomId) -> RoomStatus {
        self.store.rooms().get(room).await.unwrap().status
    }
}

async fn whatever_emptied_a_room_it_ends(db: TestDb) {
    let stage = Stage::set(&db).await;
    let (system, people) = (&stage.system, stage.system.participants());
    let node = system.nodes().register("sfu").await.unwrap().id;
    let began = stage.clock.now();
    let mut rooms = Vec::new();
    for (number, way) in ["leave", "kick", "ban", "deactivate", "erase", "node", "reconcile"]
        .into_iter()
        .enumerate()
    {
        let (room, guest) = stage.room(&db, way, number % 2 == 0).await;
        match way {
            "leave" => drop(people.leave(room, guest.id).await.unwrap()),
            "kick" => drop(people.kick(room, guest.id, None).await.unwrap()),
            "ban" => drop(people.ban(room, guest.id, None, None).await.unwrap()),
            "deactivate" => drop(system.users().deactivate(guest.id).await.unwrap()),
            "erase" => drop(system.users().erase(guest.id).await.unwrap()),
            "reconcile" => drop(people.reconcile(room, &[], stage.clock.now()).await.unwrap()),
            _ => {
                let stay = people
                    .list_present(room, &PageRequest::first(1, Order::OldestFirst).unwrap())
                    .await
                    .unwrap();
                people.assign_node(stay.items[0].participant.id, node).await.unwrap();
                system.nodes().retire(node).await.unwrap();
                assert_eq!(system.nodes().sweep_silent(TIMEOUT, 10).await.unwrap().closed.len(), 1);
            }
        }
        rooms.push(room);
    }
    // Somebody meant to begin, and nobody ever came.
    let started = system
        .rooms()
        .create(NewRoom::titled(stage.owner.id, "Nobody came"))
        .await
        .unwrap()
        .id;
    system.rooms().start(started).await.unwrap();
    rooms.push(started);
    assert_eq!(stage.sweep(10).await, []);
    stage.clock.advance(TimeDelta::seconds(300));
    assert_eq!(stage.sweep(10).await, [], "five minutes are not longer than five");
    stage.clock.advance(TimeDelta::microseconds(1));
    let mut swept = system.rooms().sweep_empty(3).await.unwrap();
    swept.extend(system.rooms().sweep_empty(500).await.unwrap());
    swept.sort_unstable();
    rooms.sort_unstable();
    let expected: Vec<_> = rooms
        .iter()
        .map(|room| EndedRoom {
            room: *room,
            duration_seconds: 300,
        })
        .collect();
    assert_eq!(swept, expected);
    for room in rooms {
        let row = stage.store.rooms().get(room).await.unwrap();
        assert_eq!((row.status, row.ended_at), (RoomStatus::Ended, Some(stage.clock.now())));
        assert_eq!((row.started_at, row.duration_seconds), (Some(began), Some(300)));
        let actions = db.actions(room).await;
        assert_eq!(actions.iter().filter(|action| *action == "ROOM_ENDED").count(), 1);
        assert_eq!(actions.last().unwrap(), "ROOM_ENDED");
    }
    assert_eq!(stage.sweep(10).await, []);
    check_invariants(&db.raw().await, &db.store).await;
}

async fn who_is_present_or_was_lately_keeps_the_room(db: TestDb) {
    let stage = Stage::set(&db).await;
    let people = stage.system.participants();
    let (present, _) = stage.room(&db, "present", false).await;
    let (lately, guest) = stage.room(&db, "lately", false).await;
    let (changed, other) = stage.room(&db, "changed", false).await;
    let created = db.room(&stage.owner, 5).await.id;
    people.leave(changed, other.id).await.unwrap();
    stage.clock.advance(TimeDelta::seconds(200));
    people.leave(lately, guest.id).await.unwrap();
    let changes = RoomChanges {
        title: Some("Coming back"),
        ..RoomChanges::default()
    };
    stage.system.rooms().update(changed, changes).await.unwrap();
    stage.clock.advance(TimeDelta::seconds(200));
    assert_eq!(stage.sweep(10).await, []);
    people.join(lately, guest.id, Participant).await.unwrap();
    people.leave(lately, guest.id).await.unwrap();
    stage.clock.advance(TimeDelta::seconds(200));
    assert_eq!(stage.sweep(10).await, [changed]);
    stage.clock.advance(TimeDelta::seconds(200));
    assert_eq!(stage.sweep(10).await, [lately]);
    assert_eq!(stage.status(present).await, RoomStatus::Live);
    assert_eq!(stage.status(created).await, RoomStatus::Created);
    check_invariants(&db.raw().await, &db.store).await;
}

async fn what_was_recorded_stops_with_the_room(db: TestDb) {
    let stage = Stage::set(&db).await;
    let mut recordings = Vec::new();
    for name in ["a", "b"] {
        let (room, guest) = stage.room(&db, name, false).await;
        for (number, status) in [
            RecordingStatus::Started,
            RecordingStatus::InProgress,
            RecordingStatus::Ready,
        ]
        .into_iter()
        .enumerate()
        {
            let tag = format!("{name}{number}");
            recordings.push((recording_in(&stage.system, room, guest.id, status, &tag).await, status));
        }
        stage.system.participants().leave(room, guest.id).await.unwrap();
    }
    let (other, guest) = stage.room(&db, "other", false).await;
    let runs = recording_in(&stage.system, other, guest.id, RecordingStatus::Started, "other").await;
    stage.clock.advance(TimeDelta::seconds(301));
    let rooms = stage.sweep(10).await;
    assert_eq!(rooms.len(), 2);
    for (recording, before) in recordings {
        let row = stage.store.recordings().get(recording).await.unwrap();
        let stopped = before != RecordingStatus::Ready;
        let expected = if stopped { RecordingStatus::Stopped } else { before };
        assert_eq!(row.status, expected);
        assert!(!stopped || row.stopped_at == Some(stage.clock.now()));
    }
    assert_eq!(
        stage.store.recordings().get(runs).await.unwrap().status,
        RecordingStatus::Started
    );
    for room in rooms {
        let actions = db.actions(room).await;
        let last = &actions[actions.len() - 3..];
        assert_eq!(last, ["RECORDING_STOPPED", "RECORDING_STOPPED", "ROOM_ENDED"]);
    }
}

async fn sweepers_share_the_rooms(db: TestDb) {
    let stage = Stage::set(&db).await;
    let mut rooms = BTreeSet::new();
    for number in 0..120 {
        let room = db.room(&stage.owner, 5).await.id;
        stage.system.rooms().start(room).await.unwrap();
        if number % 4 == 0 {
            db.seat(&db.store.rooms().get(room).await.unwrap(), &stage.owner).await;
        } else {
            rooms.insert(room);
        }
    }
    stage.clock.advance(TimeDelta::seconds(301));
    let mut stores = Vec::new();
    for _ in 0..4 {
        let settings = StoreSettings {
            clock: stage.clock.clone(),
            ..settings()
        };
        stores.push(db.store_with(settings).await);
    }
    let took = race(stores.into_iter().map(|store| async move {
        let system = store.acting(&Actor::system("sweeper"));
        let (mut took, mut empty) = (Vec::new(), 0);
        // Nothing may mean that others are at it, so it looks again a few times.
        while empty < 5 {
            let some = system.rooms().sweep_empty(7).await.unwrap();
            assert!(some.len() <= 7);
            empty = if some.is_empty() { empty + 1 } else { 0 };
            took.extend(some);
        }
        took
    }))
    .await;
    let all: Vec<RoomId> = took.into_iter().flatten().map(|ended| ended.room).collect();
    assert_eq!(all.len(), rooms.len(), "each once");
    assert_eq!(all.into_iter().collect::<BTreeSet<_>>(), rooms);
    check_invariants(&db.raw().await, &db.store).await;
}

async fn joins_race_with_the_sweep(db: TestDb) {
    let stage = Stage::set(&db).await;
    let users = db.users("guest", 24).await;
    let mut rooms = Vec::new();
    for _ in 0..24 {
        let room = db.room(&stage.owner, 5).await.id;
        stage.system.rooms().start(room).await.unwrap();
        rooms.push(room);
    }
    stage.clock.advance(TimeDelta::seconds(301));
    let (system, people) = (stage.system.clone(), users.iter().zip(&rooms));
    let mut tasks: Vec<std::pin::Pin<Box<dyn Future<Output = ()> + Send>>> = Vec::new();
    for (user, room) in people {
        let (system, user, room) = (system.clone(), user.id, *room);
        tasks.push(Box::pin(async move {
            match system.participants().join(room, user, Participant).await {
                Ok(_) | Err(Error::Rejected(Rejected::RoomStatus { .. })) => {}
                other => panic!("{other:?}"),
            }
        }));
    }
    for _ in 0..8 {
        let system = system.clone();
        tasks.push(Box::pin(async move {
            for _ in 0..6 {
                system.rooms().sweep_empty(3).await.unwrap();
            }
        }));
    }
    race(tasks).await;
    for room in rooms {
        let row = stage.store.rooms().get(room).await.unwrap();
        let ended = row.status == RoomStatus::Ended;
        assert!(
            ended == (row.total_joins == 0) || !ended && row.active_participants <= 1,
            "{row:?}"
        );
    }
    check_invariants(&db.raw().await, &db.store).await;
}

async fn a_sweep_that_cannot_tell_ends_nothing(db: TestDb) {
    let stage = Stage::set(&db).await;
    let (room, guest) = stage.room(&db, "room", false).await;
    recording_in(&stage.system, room, guest.id, RecordingStatus::Started, "tape").await;
    stage.system.participants().leave(room, guest.id).await.unwrap();
    stage.clock.advance(TimeDelta::seconds(301));
    let raw = db.raw().await;
    for event in ["RECORDING_STOPPED", "ROOM_ENDED"] {
        let before = raw.snapshot().await;
        raw.sabotage("audit_logs", &format!("NEW.action = '{event}'")).await;
        assert_sabotaged(&stage.system.rooms().sweep_empty(5).await, event);
        raw.repair().await;
        assert_eq!(raw.snapshot().await, before, "{event}");
    }
    let unit = stage.store.begin(&Actor::system("sweeper")).await.unwrap();
    assert_eq!(unit.rooms().sweep_empty(5).await.unwrap().len(), 1);
    unit.roll_back().await.unwrap();
    assert_eq!(stage.sweep(5).await, [room]);
}

async fn a_room_that_somebody_has_is_left(db: TestDb) {
    let stage = Stage::set(&db).await;
    let mut rooms = Vec::new();
    for name in ["taken", "free"] {
        let (room, guest) = stage.room(&db, name, false).await;
        stage.system.participants().leave(room, guest.id).await.unwrap();
        rooms.push((room, guest.id));
    }
    stage.clock.advance(TimeDelta::seconds(301));
    let (taken, guest) = rooms[0];
    let unit = stage.store.begin(&Actor::user(guest)).await.unwrap();
    unit.participants().join(taken, guest, Participant).await.unwrap();
    let swept = tokio::time::timeout(Duration::from_secs(20), stage.sweep(10))
        .await
        .unwrap();
    assert_eq!(swept, [rooms[1].0]);
    unit.commit().await.unwrap();
    assert_eq!(stage.sweep(10).await, []);
    assert_eq!(stage.status(taken).await, RoomStatus::Live);
}

/// The lists of live and of planned rooms, and the sweep, on a database with many rooms that are not live; on PostgreSQL by the plan that is kept.
async fn live_rooms_are_found_along_their_index(db: TestDb) {
    let owner = db.user("owner").await;
    let raw = db.raw().await;
    let owner = raw.id(owner.id.as_uuid());
    let ended = "started_at, ended_at, duration_seconds, created_at, updated_at";
    let (id, times) = match db.backend {
        Backend::Sqlite => ("randomblob(16)", "'2026-01-01T00:00:00+00:00'"),
        Backend::Postgres => ("gen_random_uuid()", "CAST('2026-01-01T00:00:00+00:00' AS timestamptz)"),
    };
    let numbers = match db.backend {
        Backend::Sqlite => {
            "(WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 3000) SELECT n FROM n)"
        }
        Backend::Postgres => "(SELECT generate_series(1, 3000) AS n)",
    };
    raw.run(&format!(
        "INSERT INTO rooms (id, owner_id, room_code, title, max_participants, is_public, is_recordable, require_auth, status,
            peak_participants, total_joins, active_participants, {ended})
        SELECT {id}, {owner}, 'ended-' || n, 'Room', 9, TRUE, TRUE, TRUE, 'ENDED', 0, 0, 0, {times}, {times}, 0, {times}, {times}
        FROM {numbers} AS numbers"
    ))
    .await;
    raw.run("ANALYZE rooms").await;
    let backend = raw.backend();
    let newest = PageRequest::first(10, Order::NewestFirst).unwrap();
    db.store.rooms().list(RoomFilter::LivePublic, &newest).await.unwrap();
    let listed = statements::list(backend).await;
    let of_live = listed.iter().filter(|one| {
        let sql = one.statement.sql.as_str();
        let listed = sql.contains("'LIVE'") || sql.contains("'CREATED'") && !sql.contains("owner_id\" =");
        one.name == "rooms.list" && listed && sql.contains("deleted_at\" IS NULL")
            || (one.name == "rooms.sweep_empty" && sql.contains("ORDER BY is_public"))
    });
    let mut seen = 0;
    for one in of_live {
        let sql = &one.statement.sql;
        let plan = match db.backend {
            Backend::Sqlite => {
                let values = one.statement.values.clone().unwrap();
                let explain = Statement::from_sql_and_values(backend, format!("EXPLAIN QUERY PLAN {sql}"), values);
                let rows = raw.db.query_all_raw(explain).await.unwrap();
                rows.iter()
                    .map(|row| row.try_get_by::<String, _>("detail").unwrap())
                    .collect::<Vec<_>>()
            }
            Backend::Postgres => {
                let values = one.statement.values.clone().unwrap();
                let explain = Statement::from_sql_and_values(backend, format!("EXPLAIN {sql}"), values);
                let rows = raw.db.query_all_raw(explain).await.unwrap();
                rows.iter().map(|row| row.try_get_by_index(0).unwrap()).collect()
            }
        };
        let plan = plan.join("\n");
        let index = if sql.contains("'CREATED'") {
            "ix_rooms_upcoming"
        } else {
            "ix_rooms_live"
        };
        assert!(plan.contains(index), "{sql}\n{plan}");
        if one.name == "rooms.list" {
            assert!(!plan.contains("Sort") && !plan.contains("TEMP B-TREE"), "{sql}\n{plan}");
        }
        seen += 1;
    }
    assert!(seen >= 9, "{seen}");
}
