//! Through a pooler in transaction mode: many more connections of clients than of the pooler to its server, and calls that are dropped
//! half way. Nothing is acknowledged and lost, nothing is done twice, and no connection is spoilt for whoever gets it next.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use conferencing_migration::{Migrator, MigratorTrait};
use conferencing_store::connect;
use conferencing_store::entity::{RoomId, Secret, UserId};
use conferencing_store::{
    Actor, AuditWriter, ConnectSettings, Error, NewRoom, NewUser, Rejected, Store, StoreSettings, WriterSettings,
};
use sea_orm::{ConnectionTrait, Database, DatabaseConnection, DbBackend, Statement, TransactionTrait};

use crate::address::with_database;
use crate::gauge::{Gauge, Pool, Totals};
use crate::through::{as_service, pooler};
use crate::traffic::{Report, Task};
use crate::{ledger, number_of};

/// Each as a process of its own would be: a store with its pool and its audit writer.
const STORES: u64 = 4;
const CONNECTIONS_OF_A_STORE: u32 = 16;
const TASKS_OF_A_STORE: u64 = 24;
const ROOMS: u64 = 8;
const PATIENCE: Duration = Duration::from_secs(60);

/// Who limits statements and locks: see docs/CONFIGURATION.md.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Limits {
    /// Each change is a transaction that sets them, three round trips of one server connection.
    OfTransactions,
    /// Changes stand alone, a round trip each.
    OfTheDatabase,
}

pub fn is_prepared() -> bool {
    pooler().is_some()
}

/// Statements that must have passed in each case.
fn statements() -> i64 {
    number_of("CHAOS_STATEMENTS", 100_000).try_into().unwrap()
}

pub async fn run(limits: Limits) {
    let seed = number_of("CHAOS_SEED", u64::from(std::process::id()));
    println!("\nseed {seed} (CHAOS_SEED)");
    let server = std::env::var("TEST_DATABASE_URL").unwrap();
    let name = format!("chaos_{}_{}", std::process::id(), limits as u8);
    let raw = Database::connect(&server).await.unwrap();
    raw.execute_unprepared(&format!("CREATE DATABASE {name}"))
        .await
        .unwrap();
    if limits == Limits::OfTheDatabase {
        for setting in ["lock_timeout = '30s'", "statement_timeout = '60s'"] {
            let sql = format!("ALTER DATABASE {name} SET {setting}");
            raw.execute_unprepared(&sql).await.unwrap();
        }
    }
    let scene = Scene {
        url: with_database(&server, &name),
        gauge: tokio::sync::Mutex::new(Gauge::open(&server).await),
        name,
        raw,
    };
    scene.play(seed).await;
    let sql = format!("DROP DATABASE {} WITH (FORCE)", scene.name);
    scene.raw.execute_unprepared(&sql).await.unwrap();
}

struct Scene {
    /// The database's, past the pooler.
    url: String,
    name: String,
    gauge: tokio::sync::Mutex<Gauge>,
    /// The server's own database.
    raw: DatabaseConnection,
}

impl Scene {
    async fn play(&self, seed: u64) {
        let (rooms, people) = self.prepare().await;
        let report = Arc::<Mutex<Report>>::default();
        let over = Arc::<AtomicBool>::default();
        let mut stores = Vec::new();
        let mut tasks = Vec::new();
        for _ in 0..STORES {
            stores.push(self.open().await);
        }
        let before = self.gauge.lock().await.totals(&self.name).await;
        let begun = Instant::now();
        for (number, &[patient, hasty]) in (0..).zip(&people) {
            let (store, writer) = &stores[usize::try_from(number % STORES).unwrap()];
            let task = Task {
                number,
                store: store.clone(),
                writer: writer.clone(),
                room: rooms[usize::try_from(number % ROOMS).unwrap()],
                patient,
                hasty,
                report: Arc::clone(&report),
                over: Arc::clone(&over),
            };
            tasks.push(tokio::spawn(task.work(seed)));
        }
        let most = self.watch(before).await;
        over.store(true, Ordering::SeqCst);
        for task in tasks {
            tokio::time::timeout(PATIENCE, task).await.unwrap().unwrap();
        }
        let took = begun.elapsed();
        for (_, writer) in &stores {
            writer.close().await;
        }
        self.until_quiet().await;
        let after = self.gauge.lock().await.totals(&self.name).await;
        let report = std::mem::take(&mut *report.lock().unwrap());
        tell(&report, most, before, after, took);
        assert!(report.faults.is_empty(), "{:#?}", report.faults);
        assert!(report.ledger.errors().is_empty(), "{:?}", report.ledger);
        assert!(report.dropped > 0, "nothing was dropped");
        // Otherwise there was a connection for everybody, and no pooling.
        assert!(most.waiting > 0 && most.servers < most.clients, "{most:?}");
        self.assert_connections_are_sound(&stores, &rooms, most.servers).await;
        self.assert_is_what_was_acknowledged(&report, &stores, &rooms, &people)
            .await;
        for (store, _) in stores {
            store.close().await.unwrap();
        }
    }

    /// Rooms, and two people for each task: one whose calls are waited for, and one whose calls may be dropped.
    async fn prepare(&self) -> (Vec<RoomId>, Vec<[UserId; 2]>) {
        let pool = connect::open(&as_service(&self.url), &ConnectSettings::default().without_limits()).await;
        let pool = pool.unwrap();
        Migrator::up(&pool, None).await.unwrap();
        pool.close().await.unwrap();
        let (store, _) = self.open().await;
        let system = store.acting(&Actor::system("chaos"));
        let owner = register(&store, "owner".to_owned()).await;
        let mut rooms = Vec::new();
        for number in 0..ROOMS {
            let title = format!("Room {number}");
            let room = NewRoom {
                max_participants: 1_000,
                ..NewRoom::titled(owner, &title)
            };
            rooms.push(system.rooms().create(room).await.unwrap().id);
        }
        let mut people = Vec::new();
        for number in 0..STORES * TASKS_OF_A_STORE {
            let mut pair = Vec::new();
            for kind in ["patient", "hasty"] {
                pair.push(register(&store, format!("{kind}{number}")).await);
            }
            people.push([pair[0], pair[1]]);
        }
        store.close().await.unwrap();
        (rooms, people)
    }

    async fn open(&self) -> (Store, AuditWriter) {
        let connect = ConnectSettings {
            max_connections: Some(CONNECTIONS_OF_A_STORE),
            acquire_timeout: Duration::from_secs(30),
            lock_timeout: Duration::from_secs(30),
            statement_timeout: Duration::from_secs(60),
            ..ConnectSettings::default()
        };
        let settings = StoreSettings {
            connect,
            ..StoreSettings::default()
        };
        let store = Store::connect_with(&as_service(&self.url), settings).await.unwrap();
        let writer = store.audit_writer(WriterSettings::default()).unwrap();
        (store, writer)
    }

    /// Until enough statements have passed. Gives the most connections that were seen.
    async fn watch(&self, before: Totals) -> Pool {
        let mut most = Pool::default();
        let mut gauge = self.gauge.lock().await;
        loop {
            let pool = gauge.pool(&self.name).await;
            most.clients = most.clients.max(pool.clients + pool.waiting);
            most.waiting = most.waiting.max(pool.waiting);
            most.servers = most.servers.max(pool.servers);
            let passed = gauge.totals(&self.name).await.statements - before.statements;
            if passed >= statements() {
                return most;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Until the server has done what was dropped, and no transaction is open.
    async fn until_quiet(&self) {
        let open = format!(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = '{}' AND state <> 'idle'",
            self.name
        );
        let begun = Instant::now();
        while number(&self.raw, &open).await > 0 {
            assert!(begun.elapsed() < PATIENCE, "a transaction stays open");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Every connection of every client answers, with the right answer, and no session of the server has kept a setting.
    async fn assert_connections_are_sound(&self, stores: &[(Store, AuditWriter)], rooms: &[RoomId], sessions: i64) {
        let mut reads = Vec::new();
        for (store, _) in stores {
            for number in 0..usize::try_from(CONNECTIONS_OF_A_STORE).unwrap() * 20 {
                let (store, room) = (store.clone(), rooms[number % rooms.len()]);
                reads.push(tokio::spawn(async move {
                    (room, store.rooms().get(room).await.unwrap().id)
                }));
            }
        }
        for read in reads {
            let (asked, answered) = read.await.unwrap();
            assert_eq!(asked, answered);
        }
        let settings = ConnectSettings::default().without_limits();
        let pool = connect::open(&as_service(&self.url), &settings).await.unwrap();
        let kept = "SELECT count(*) FROM pg_settings WHERE source = 'session'
            AND name IN ('lock_timeout', 'statement_timeout', 'transaction_isolation', 'client_min_messages')";
        let mut all = Vec::new();
        // Open at once, so that each has a session of its own, and all of them are asked.
        for _ in 0..sessions {
            let open = pool.begin().await.unwrap();
            assert_eq!(number(&open, kept).await, 0, "a session has kept a setting");
            all.push(open);
        }
        for open in all {
            open.rollback().await.unwrap();
        }
        pool.close().await.unwrap();
    }

    async fn assert_is_what_was_acknowledged(
        &self,
        report: &Report,
        stores: &[(Store, AuditWriter)],
        rooms: &[RoomId],
        people: &[[UserId; 2]],
    ) {
        // Whoever dropped a call leaves, so that what they left behind is known.
        for ((number, &[_, hasty]), room) in (0..).zip(people).zip(rooms.iter().cycle()) {
            let (store, _) = &stores[number % stores.len()];
            let left = store
                .acting(&Actor::system("chaos"))
                .participants()
                .leave(*room, hasty)
                .await;
            let is_out = matches!(left, Ok(_) | Err(Error::Rejected(Rejected::NotPresent { .. })));
            assert!(is_out, "{left:?}");
        }
        let db = ledger::raw(&self.url).await;
        report.ledger.assert_is_what_the_audit_log_has(&db).await;
        for (promise, broken) in BROKEN {
            assert_eq!(number(&db, broken).await, 0, "{promise}");
        }
        for (what, table) in [("event", "audit_logs"), ("stay", "room_participants")] {
            // The whole of a partitioned table has no pages of its own, and an ordinary one no partitions.
            let size = format!(
                "SELECT (pg_total_relation_size('{table}')
                    + (SELECT coalesce(sum(pg_total_relation_size(relid)), 0) FROM pg_partition_tree('{table}')))
                    / (SELECT count(*) FROM {table})"
            );
            println!(
                "bytes on disk for each {what}, indexes included: {}",
                number(&db, &size).await
            );
        }
        for (user, visits) in &report.visits {
            for (what, expected, sql) in [
                (
                    "stays",
                    visits.joins,
                    "SELECT count(*) FROM room_participants WHERE user_id = ",
                ),
                (
                    "ended stays",
                    visits.leaves,
                    "SELECT count(left_at) FROM room_participants WHERE user_id = ",
                ),
                (
                    "events",
                    visits.joins + visits.leaves,
                    "SELECT count(*) FROM audit_logs WHERE action IN ('USER_JOINED', 'USER_LEFT') AND target_user_id = ",
                ),
            ] {
                assert_eq!(
                    number(&db, &format!("{sql}'{user}'")).await,
                    expected,
                    "{what} of {user}"
                );
            }
        }
        db.close().await.unwrap();
    }
}

/// What must never be, and how many of it there are.
const BROKEN: [(&str, &str); 4] = [
    (
        "both halves of a unit or neither",
        "SELECT count(*) FROM (
            SELECT left(metadata->>'producer_id', -2) FROM audit_logs
            WHERE action = 'PRODUCER_CLOSED' AND metadata->>'producer_id' LIKE 'pair-%'
            GROUP BY 1 HAVING count(*) <> 2
        ) AS halves",
    ),
    (
        "one seat a person and room",
        "SELECT count(*) FROM (
            SELECT FROM room_participants WHERE left_at IS NULL GROUP BY room_id, user_id HAVING count(*) > 1
        ) AS doubled",
    ),
    (
        "a room counts who is present",
        "SELECT count(*) FROM rooms WHERE active_participants <>
            (SELECT count(*) FROM room_participants WHERE room_id = rooms.id AND left_at IS NULL)",
    ),
    (
        "an event for each stay's begin and end",
        "SELECT abs((SELECT count(*) + count(left_at) FROM room_participants)
            - (SELECT count(*) FROM audit_logs WHERE action IN ('USER_JOINED', 'USER_LEFT')))",
    ),
];

fn tell(report: &Report, most: Pool, before: Totals, after: Totals, took: Duration) {
    println!(
        "statements {}, transactions {}, in {:.1} s",
        after.statements - before.statements,
        after.transactions - before.transactions,
        took.as_secs_f64()
    );
    println!(
        "connections: {} of clients, {} to the server, at most {} clients waiting",
        most.clients, most.servers, most.waiting
    );
    if let (Some(clients), Some(servers)) = (after.client_parses, after.server_parses) {
        println!("statements prepared: {clients} by clients, {servers} on the server");
    }
    println!(
        "calls {}, dropped half way {}, appends acknowledged {}, joins and leaves acknowledged {}",
        report.calls,
        report.dropped,
        report.ledger.acknowledged(),
        report
            .visits
            .values()
            .map(|visits| visits.joins + visits.leaves)
            .sum::<i64>(),
    );
    println!(
        "errors {}",
        report.faults.len() + report.ledger.errors().values().sum::<usize>()
    );
}

async fn register(store: &Store, name: String) -> UserId {
    let hash = Secret::new("$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHQ$aGFzaGhhc2g");
    let system = store.acting(&Actor::system("chaos"));
    system
        .users()
        .register(NewUser::named(&name, &name, hash))
        .await
        .unwrap()
        .id
}

async fn number(db: &impl ConnectionTrait, sql: &str) -> i64 {
    let statement = Statement::from_string(DbBackend::Postgres, format!("SELECT CAST(({sql}) AS bigint)"));
    db.query_one_raw(statement)
        .await
        .unwrap()
        .unwrap()
        .try_get_by_index(0)
        .unwrap()
}
