//! Random operations against a model in memory: the store must answer as the model does, and hold what it holds.
//!
//! A failure prints its seed; `MODEL_SEED=<seed> scripts/test model` runs that one again.

mod operations;
mod world;

use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use conferencing_store::clock::{Clock, ManualClock, SystemClock};
use conferencing_store::{Actor, AuditEvent, Change, Store, StoreSettings};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::harness::{Raw, TestDb, settings};
use crate::stays::{log_of, presence_held, presence_told_by};
use operations::Step;
use world::World;

crate::cases![
    the_store_answers_and_holds_what_the_model_does,
    concurrent_operations_keep_every_invariant,
];

const RUNS: usize = 10;
const STEPS_IN_A_RUN: usize = 220;
const TASKS: usize = 32;
const STEPS_IN_A_TASK: usize = 40;
const USERS: usize = 6;
const ROOMS: usize = 3;

/// Seeds to run: one that the environment names, or as many new ones.
fn seeds(count: usize) -> Vec<u64> {
    match std::env::var("MODEL_SEED").ok().and_then(|seed| seed.parse().ok()) {
        Some(seed) => vec![seed],
        None => (0..count).map(|_| rand::rng().random()).collect(),
    }
}

async fn the_store_answers_and_holds_what_the_model_does(db: TestDb) {
    let clock = Arc::new(ManualClock::at(SystemClock.now()));
    let store = db
        .store_with(StoreSettings {
            clock: clock.clone(),
            ..without_patience()
        })
        .await;
    let raw = db.raw().await;
    for (run, seed) in seeds(RUNS).into_iter().enumerate() {
        let mut random = StdRng::seed_from_u64(seed);
        let mut world = World::new(&db, &format!("run{run}"), USERS, ROOMS).await;
        let mut done: Vec<Step> = Vec::new();
        for _ in 0..STEPS_IN_A_RUN {
            clock.advance(TimeDelta::milliseconds(random.random_range(1..5_000)));
            let step = Step::random(&mut random, USERS, ROOMS);
            done.push(step);
            let expected = world.expect(step, now(&clock));
            let answered = step.perform(&store, &world).await;
            assert_eq!(
                answered,
                expected,
                "MODEL_SEED={seed}: step {} of {:?}",
                done.len(),
                done.iter().rev().take(12).collect::<Vec<_>>()
            );
        }
        world.compare(&store, seed).await;
        for room in &world.rooms {
            let told = presence_told_by(&log_of(&store, room.id).await);
            assert_eq!(told, presence_held(&raw, room.id).await, "MODEL_SEED={seed}");
        }
    }
    check_invariants(&db.raw().await, &db.store).await;
}

/// Settings by which every empty room is due for the sweep.
fn without_patience() -> StoreSettings {
    StoreSettings {
        empty_room_timeout: Duration::ZERO,
        ..settings()
    }
}

fn now(clock: &ManualClock) -> chrono::DateTime<chrono::Utc> {
    clock.now()
}

async fn concurrent_operations_keep_every_invariant(db: TestDb) {
    let store = db.store_with(without_patience()).await;
    for seed in seeds(1) {
        let world = Arc::new(World::new(&db, "race", USERS, ROOMS).await);
        let tasks: Vec<_> = (0..TASKS)
            .map(|task| {
                let (store, world) = (store.clone(), world.clone());
                let mut random = StdRng::seed_from_u64(seed.wrapping_add(task as u64));
                tokio::spawn(async move {
                    for _ in 0..STEPS_IN_A_TASK {
                        let step = Step::random(&mut random, USERS, ROOMS);
                        let answered = step.perform(&store, &world).await;
                        assert!(
                            !answered.starts_with("unexpected"),
                            "MODEL_SEED={seed}: {step:?}: {answered}"
                        );
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
    }
    check_invariants(&db.raw().await, &db.store).await;
}

/// What must hold of any database, whatever was done to it through the store.
pub async fn check_invariants(raw: &Raw, store: &Store) {
    let present = "SELECT count(*) FROM room_participants p WHERE p.room_id = r.id AND p.left_at IS NULL";
    let participations = "SELECT count(*) FROM room_participants p WHERE p.room_id = r.id
        AND NOT (p.banned_at IS NOT NULL AND NOT p.is_kicked AND p.joined_at = p.banned_at AND p.left_at = p.banned_at)";
    let events =
        |action: &str| format!("SELECT count(*) FROM audit_logs a WHERE a.room_id = r.id AND a.action = '{action}'");
    for (rule, broken) in [
        ("the counter equals the rows", format!("SELECT count(*) FROM rooms r WHERE r.active_participants <> ({present})")),
        ("joins equal the participations", format!("SELECT count(*) FROM rooms r WHERE r.total_joins <> ({participations})")),
        ("nobody is present unless it is live", format!("SELECT count(*) FROM rooms r WHERE r.status <> 'LIVE' AND ({present}) > 0")),
        ("never more than the seats", format!("SELECT count(*) FROM rooms r WHERE ({present}) > r.max_participants")),
        (
            "nobody twice, nobody present and banned",
            "SELECT count(*) FROM room_participants a JOIN room_participants b ON a.room_id = b.room_id AND a.user_id = b.user_id
             WHERE a.id <> b.id AND (a.left_at IS NULL OR a.is_banned) AND (b.left_at IS NULL OR b.is_banned)"
                .to_owned(),
        ),
        (
            "one host at most",
            "SELECT count(*) FROM room_participants a JOIN room_participants b ON a.room_id = b.room_id AND a.id <> b.id
             WHERE a.left_at IS NULL AND b.left_at IS NULL AND a.role = 'HOST' AND b.role = 'HOST'"
                .to_owned(),
        ),
        (
            "each participation was recorded once",
            format!("SELECT count(*) FROM rooms r WHERE r.total_joins <> ({})", events("USER_JOINED")),
        ),
        (
            "each start was recorded once",
            format!("SELECT count(*) FROM rooms r WHERE (r.started_at IS NOT NULL) <> (({}) = 1)", events("ROOM_STARTED")),
        ),
        (
            "each end was recorded once",
            format!("SELECT count(*) FROM rooms r WHERE (r.status = 'ENDED') <> (({}) = 1)", events("ROOM_ENDED")),
        ),
    ] {
        assert_eq!(raw.number(&broken).await, 0, "{rule}");
    }
    // What ends many participations counts them as well.
    let counted = "SELECT coalesce(sum(CAST(metadata->>'ended_participations' AS integer)), 0) FROM audit_logs
        WHERE action IN ('ROOM_ENDED', 'USER_DEACTIVATED')";
    let ended = "SELECT count(*) FROM audit_logs
        WHERE action = 'USER_LEFT' AND metadata->>'reason' IN ('room_ended', 'deactivated')";
    assert_eq!(
        raw.number(counted).await,
        raw.number(ended).await,
        "each is counted once"
    );
    for row in raw.rows("SELECT id FROM rooms").await {
        let room = row.try_get_by_index(0).unwrap();
        let mut log = log_of(store, room).await;
        // Of those who wait for the room at once, one who comes in later may have read an earlier time.
        log.sort_by_key(|entry| !matches!(entry.event, AuditEvent::Change(Change::UserJoined { .. })));
        assert_eq!(presence_told_by(&log), presence_held(raw, room).await, "{room}");
    }
}

/// The actor of a step: the system, or one of the users.
fn actor(world: &World, who: Option<usize>) -> Actor {
    who.map_or_else(|| Actor::system("model"), |index| Actor::user(world.users[index]))
}
