//! How late the feed is, and what it costs those who write.
//!
//! `scripts/bench feed` runs it, on a PostgreSQL server of its own; docs/PERFORMANCE.md says what the numbers mean.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a benchmark ends with the first thing that goes wrong"
)]

#[path = "../audit/measure.rs"]
mod measure;

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use conferencing_migration::{Migrator, MigratorTrait};
use conferencing_store::entity::ParticipantRole::Participant;
use conferencing_store::entity::{RoomId, Secret, UserId};
use conferencing_store::{Actor, AuditEvent, FeedFilter, NewRoom, NewUser, Observation, Store, StoreSettings};
use futures_util::StreamExt;
use measure::{Rounds, header, row};
use sea_orm::{ConnectionTrait, Database};
use tokio::sync::mpsc;

/// How much is measured.
#[derive(Clone, Copy)]
struct Scale {
    rounds: usize,
    turn: Duration,
    rooms: usize,
}

const FULL: Scale = Scale {
    rounds: 5,
    turn: Duration::from_secs(3),
    rooms: 500,
};
/// Shows that everything runs, and nothing else.
const QUICK: Scale = Scale {
    rounds: 1,
    turn: Duration::from_millis(300),
    rooms: 20,
};
const EVENTS_A_SECOND: u32 = 1_000;
const CLIENTS: usize = 16;

struct World {
    url: String,
    rooms: Vec<RoomId>,
    users: Vec<UserId>,
    began: Instant,
}

impl World {
    async fn make(scale: Scale) -> Self {
        let server = std::env::var("TEST_DATABASE_URL").expect("scripts/bench feed starts the server");
        let admin = Database::connect(&server).await.unwrap();
        admin
            .execute_unprepared("DROP DATABASE IF EXISTS bench_feed WITH (FORCE)")
            .await
            .unwrap();
        admin.execute_unprepared("CREATE DATABASE bench_feed").await.unwrap();
        let (address, parameters) = server.split_once('?').unwrap_or((server.as_str(), ""));
        let url = format!("{}/bench_feed?{parameters}", &address[..address.rfind('/').unwrap()]);
        let db = Database::connect(&url).await.unwrap();
        Migrator::up(&db, None).await.unwrap();
        db.close().await.unwrap();
        let store = Store::connect(&url).await.unwrap();
        let system = store.acting(&Actor::system("bench"));
        let mut users = Vec::new();
        for number in 0..CLIENTS {
            let name = format!("user{number}");
            let hash = Secret::new("$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHQ$aGFzaGhhc2g");
            users.push(
                system
                    .users()
                    .register(NewUser::named(&name, &name, hash))
                    .await
                    .unwrap()
                    .id,
            );
        }
        let mut rooms = Vec::new();
        for _ in 0..scale.rooms {
            let room = system
                .rooms()
                .create(NewRoom::titled(users[0], "A room"))
                .await
                .unwrap()
                .id;
            system.rooms().start(room).await.unwrap();
            rooms.push(room);
        }
        store.close().await.unwrap();
        Self {
            url,
            rooms,
            users,
            began: Instant::now(),
        }
    }

    async fn store(&self) -> Store {
        Store::connect_with(&self.url, StoreSettings::default()).await.unwrap()
    }

    /// One subscriber a room; each event's age comes out at the end that is returned.
    async fn follow(&self, store: &Store) -> mpsc::UnboundedReceiver<Duration> {
        let (ages, heard) = mpsc::unbounded_channel();
        let joined = Arc::new(AtomicUsize::new(0));
        for room in &self.rooms {
            let events = store.feed().subscribe(FeedFilter::of_room(*room), None).await.unwrap();
            let (began, ages, joined) = (self.began, ages.clone(), Arc::clone(&joined));
            tokio::spawn(async move {
                let mut events = std::pin::pin!(events);
                joined.fetch_add(1, Ordering::SeqCst);
                while let Some(Ok(event)) = events.next().await {
                    if let AuditEvent::Observation(Observation::ProducerClosed { producer_id }) = event.entry.event {
                        let sent = Duration::from_micros(producer_id.parse().unwrap());
                        let _ = ages.send(began.elapsed().saturating_sub(sent));
                    }
                }
            });
        }
        while joined.load(Ordering::SeqCst) < self.rooms.len() {
            tokio::task::yield_now().await;
        }
        heard
    }

    /// Appends at the rate, to one room after the other, and says how many and how long each took.
    async fn append(&self, store: &Store, turn: Duration) -> Vec<Duration> {
        let mut tick = tokio::time::interval(Duration::from_millis(10));
        let (mut tasks, mut number, end) = (Vec::new(), 0, Instant::now() + turn);
        while Instant::now() < end {
            tick.tick().await;
            for _ in 0..EVENTS_A_SECOND / 100 {
                let (room, user) = (self.rooms[number % self.rooms.len()], self.users[number % CLIENTS]);
                number += 1;
                let (acting, began) = (store.acting(&Actor::user(user)), self.began);
                tasks.push(tokio::spawn(async move {
                    let sent = began.elapsed();
                    let producer_id = sent.as_micros().to_string();
                    acting
                        .audit()
                        .append(Some(room), Observation::ProducerClosed { producer_id })
                        .await
                        .unwrap();
                    began.elapsed() - sent
                }));
            }
        }
        let mut took = Vec::with_capacity(tasks.len());
        for task in tasks {
            took.push(task.await.unwrap());
        }
        took
    }

    /// Joins and leaves by all clients, each in rooms of their own: how many a second.
    async fn seats(&self, store: &Store, turn: Duration) -> f64 {
        let over = Arc::new(AtomicBool::new(false));
        let mut tasks = Vec::new();
        for (number, user) in self.users.iter().enumerate() {
            let (acting, room, user) = (
                store.acting(&Actor::user(*user)),
                self.rooms[number % self.rooms.len()],
                *user,
            );
            let over = Arc::clone(&over);
            tasks.push(tokio::spawn(async move {
                let mut done = 0_u32;
                while !over.load(Ordering::Relaxed) {
                    acting.participants().join(room, user, Participant).await.unwrap();
                    acting.participants().leave(room, user).await.unwrap();
                    done += 2;
                }
                done
            }));
        }
        tokio::time::sleep(turn).await;
        over.store(true, Ordering::Relaxed);
        let mut done = 0;
        for task in tasks {
            done += task.await.unwrap();
        }
        f64::from(done) / turn.as_secs_f64()
    }
}

fn percentile(sorted: &[Duration], part: f64) -> f64 {
    let place = (sorted.len() - 1) as f64 * part;
    sorted[place as usize].as_secs_f64() * 1_000.0
}

async fn latency(world: &World, scale: Scale) {
    header(&[
        "ms from the call to the subscriber",
        "p50",
        "p99",
        "the append itself, p50",
        "p99",
    ]);
    for (title, by_another) in [("of another process", true), ("of the same process", false)] {
        let [mut p50, mut p99, mut own50, mut own99] = [const { Vec::new() }; 4];
        let follower = world.store().await;
        let writer = if by_another {
            world.store().await
        } else {
            follower.clone()
        };
        let mut heard = world.follow(&follower).await;
        // All have caught up, and connections and statements have come to be.
        for _ in 0..world.append(&writer, scale.turn / 3).await.len() {
            heard.recv().await.unwrap();
        }
        for _ in 0..scale.rounds {
            let mut took = world.append(&writer, scale.turn).await;
            let mut ages = Vec::with_capacity(took.len());
            while ages.len() < took.len() {
                ages.push(heard.recv().await.unwrap());
            }
            ages.sort_unstable();
            took.sort_unstable();
            p50.push(percentile(&ages, 0.5));
            p99.push(percentile(&ages, 0.99));
            own50.push(percentile(&took, 0.5));
            own99.push(percentile(&took, 0.99));
        }
        let shown = [p50, p99, own50, own99].map(|all| {
            let mut rounds = Rounds::default();
            all.into_iter().for_each(|one| rounds.push(one));
            rounds.shown(1)
        });
        let title = format!("{title}, {} subscribers, {EVENTS_A_SECOND} events/s", scale.rooms);
        row(&[&title, &shown[0], &shown[1], &shown[2], &shown[3]]);
        follower.close().await.unwrap();
        let _ = writer.close().await;
    }
}

async fn cost(world: &World, scale: Scale) {
    let (mut without, mut with) = (Rounds::default(), Rounds::default());
    for _ in 0..scale.rounds {
        let writer = world.store().await;
        without.push(world.seats(&writer, scale.turn).await);
        let follower = world.store().await;
        let _heard = world.follow(&follower).await;
        with.push(world.seats(&writer, scale.turn).await);
        follower.close().await.unwrap();
        writer.close().await.unwrap();
    }
    header(&["joins and leaves/s, 16 clients", "", "to nobody follows"]);
    row(&["nobody follows", &without.shown(0), ""]);
    let title = format!("another process follows, {} subscribers", scale.rooms);
    row(&[&title, &with.shown(0), &with.over(&without).shown(2)]);
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // `cargo test` builds it and does not run it.
    if !arguments.iter().any(|argument| argument == "--bench") {
        return ExitCode::SUCCESS;
    }
    let scale = if arguments.iter().any(|argument| argument == "--quick") {
        QUICK
    } else {
        FULL
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let world = World::make(scale).await;
        latency(&world, scale).await;
        cost(&world, scale).await;
    });
    ExitCode::SUCCESS
}
