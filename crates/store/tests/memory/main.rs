//! How much memory the long reads and the audit writer hold. A binary of its own, because what counts is the whole process; its
//! cases run one after the other. SQLite's own memory, which has a limit of its own, is not counted.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, and looks past the store"
)]

#[path = "../support/address.rs"]
mod address;

use std::future::Future;
use std::io::Write;
use std::process::ExitCode;

use address::with_database;
use conferencing_migration::{Migrator, MigratorTrait};
use conferencing_store::entity::{RoomId, Secret, UserId};
use conferencing_store::{
    Actor, AuditFilter, ConnectSettings, Error, NewRoom, NewUser, Observation, Store, StoreSettings, WriterSettings,
};
use futures_util::TryStreamExt;
use libtest_mimic::{Arguments, Trial};
use peak_alloc::PeakAlloc;
use sea_orm::{ConnectionTrait, Database, DatabaseConnection, DbBackend, TransactionTrait};
use tempfile::TempDir;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

const KIB: usize = 1024;
/// What an export may hold: two pages of 500 rows on their way from the driver's rows to lines, some two kilobytes each.
const EXPORT: usize = 2 * KIB * KIB;
/// What may differ between exports of different length: nothing by design, so this is what else happens in the process.
const NOISE: usize = KIB * KIB / 2;

/// A database of a case's own.
struct Stage {
    db: DatabaseConnection,
    store: Store,
    user: UserId,
    room: RoomId,
    /// On PostgreSQL, what is dropped at the end: the server and the database.
    created: Option<(String, String)>,
    _folder: Option<TempDir>,
}

impl Stage {
    async fn set(backend: DbBackend) -> Self {
        let (url, created, folder) = match backend {
            DbBackend::Postgres => {
                let server = std::env::var("TEST_DATABASE_URL").expect("TEST_DATABASE_URL names a server");
                let name = format!("memory_{}", std::process::id());
                let admin = Database::connect(&server).await.unwrap();
                let again = format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)");
                admin.execute_unprepared(&again).await.unwrap();
                admin
                    .execute_unprepared(&format!("CREATE DATABASE {name}"))
                    .await
                    .unwrap();
                admin.close().await.unwrap();
                (with_database(&server, &name), Some((server, name)), None)
            }
            _ => {
                let folder = tempfile::tempdir().unwrap();
                let url = format!("sqlite://{}?mode=rwc", folder.path().join("memory.sqlite").display());
                (url, None, Some(folder))
            }
        };
        let db = conferencing_store::connect::open(&url, &ConnectSettings::default())
            .await
            .unwrap();
        Migrator::up(&db, None).await.unwrap();
        let store = Store::connect_with(&url, StoreSettings::default()).await.unwrap();
        let system = store.acting(&Actor::system("test"));
        let ada = NewUser::named(
            "ada",
            "Ada",
            Secret::new("$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHQ$aGFzaGhhc2g"),
        );
        let user = system.users().register(ada).await.unwrap().id;
        let room = system.rooms().create(NewRoom::titled(user, "A room")).await.unwrap().id;
        Self {
            db,
            store,
            user,
            room,
            created,
            _folder: folder,
        }
    }

    /// So many events more, from this number on, each with details of some two hundred bytes, and every fifth the user's.
    async fn fill(&self, first: u32, last: u32) {
        let (user, room) = (self.user.as_uuid().simple(), self.room.as_uuid().simple());
        let details =
            r#"{"kind": "video", "codec": "VP9", "bitrate": 2500000, "note": "%"}"#.replace('%', &"n".repeat(140));
        let sql = match self.db.get_database_backend() {
            DbBackend::Postgres => format!(
                "INSERT INTO audit_logs (id, action, user_id, room_id, metadata, user_agent, timestamp)
                SELECT lpad(to_hex(n), 32, '0')::uuid, 'USER_LOGOUT', CASE WHEN n % 5 = 0 THEN uuid '{user}' END, '{room}', '{details}', 'Agent/1.0',
                    TIMESTAMPTZ '2026-03-01 00:00:00+00' + n * INTERVAL '1 second'
                FROM generate_series({first}, {last}) AS n"
            ),
            _ => format!(
                "WITH RECURSIVE c(n) AS (SELECT {first} UNION ALL SELECT n + 1 FROM c WHERE n < {last})
                INSERT INTO audit_logs (id, action, user_id, room_id, metadata, user_agent, timestamp)
                SELECT unhex(printf('%032X', n)), 'USER_LOGOUT', CASE WHEN n % 5 = 0 THEN X'{user}' END, X'{room}', '{details}', 'Agent/1.0',
                    strftime('%Y-%m-%dT%H:%M:%S', '2026-03-01 00:00:00', n || ' seconds') || '+00:00' FROM c"
            ),
        };
        self.db.execute_unprepared(&sql).await.unwrap();
    }

    async fn strike(self) {
        self.store.close().await.unwrap();
        self.db.close().await.unwrap();
        if let Some((server, name)) = self.created {
            let admin = Database::connect(&server).await.unwrap();
            admin
                .execute_unprepared(&format!("DROP DATABASE {name} WITH (FORCE)"))
                .await
                .unwrap();
            admin.close().await.unwrap();
        }
    }
}

/// The most that was held at once beyond what was held before.
async fn peak_of<T>(work: impl Future<Output = T>) -> (T, usize) {
    MEMORY.reset_peak_usage();
    let before = MEMORY.current_usage();
    let output = work.await;
    (output, MEMORY.peak_usage().saturating_sub(before))
}

/// Exports the audit log, and says how many lines came.
async fn export_audit_log(stage: &Stage) -> usize {
    let acting = stage.store.acting(&Actor::system("test"));
    let audit = acting.audit();
    let export = audit.export(AuditFilter::of_room(stage.room), None).await.unwrap();
    let mut events = std::pin::pin!(export.events);
    let (mut lines, mut sink) = (0, std::io::sink());
    while let Some(event) = events.try_next().await.unwrap() {
        writeln!(sink, "{}", event.to_json_line()).unwrap();
        lines += 1;
    }
    lines
}

/// Exports all that there is about the user, and says how many lines came.
async fn export_user(stage: &Stage) -> usize {
    let acting = stage.store.acting(&Actor::system("test"));
    let users = acting.users();
    let mut records = std::pin::pin!(users.export(stage.user).await.unwrap());
    let (mut lines, mut sink) = (0, std::io::sink());
    while let Some(record) = records.try_next().await.unwrap() {
        writeln!(sink, "{}", record.to_json_line()).unwrap();
        lines += 1;
    }
    lines
}

/// An export of ten times as many events holds as much.
async fn exports_hold_a_page(backend: DbBackend) {
    let stage = Stage::set(backend).await;
    stage.fill(1, 20_000).await;
    // The connections and their statements come to be.
    Box::pin(export_audit_log(&stage)).await;
    Box::pin(export_user(&stage)).await;
    let (lines, short) = peak_of(Box::pin(export_audit_log(&stage))).await;
    assert!(lines >= 20_000, "{lines}");
    let (lines, of_user) = peak_of(Box::pin(export_user(&stage))).await;
    assert!(lines >= 4_000, "{lines}");
    stage.fill(20_001, 200_000).await;
    let (lines, long) = peak_of(Box::pin(export_audit_log(&stage))).await;
    assert!(lines >= 200_000, "{lines}");
    let (lines, long_of_user) = peak_of(Box::pin(export_user(&stage))).await;
    assert!(lines >= 40_000, "{lines}");
    for (what, short, long) in [("audit_log", short, long), ("user", of_user, long_of_user)] {
        assert!(short <= EXPORT && long <= EXPORT, "{what}: {short} and {long} bytes");
        assert!(long <= short + NOISE, "{what}: {short} bytes grew to {long}");
    }
    stage.strike().await;
}

/// Nothing drains it meanwhile: somebody else has the audit log.
async fn a_full_queue_holds_what_its_settings_say(backend: DbBackend) {
    let stage = Stage::set(backend).await;
    let holding = stage.db.begin().await.unwrap();
    let hold = match backend {
        DbBackend::Postgres => "LOCK TABLE audit_logs IN ACCESS EXCLUSIVE MODE",
        _ => "UPDATE rooms SET title = title",
    };
    holding.execute_unprepared(hold).await.unwrap();
    let settings = WriterSettings::default();
    let writer = stage.store.audit_writer(settings).unwrap();
    let actor = Actor::user(stage.user)
        .from_address("2001:db8::7".parse().unwrap())
        .with_user_agent(&"Agent/1.0 ".repeat(12));
    let before = MEMORY.current_usage();
    let mut taken = 0;
    loop {
        let observation = Observation::ProducerClosed {
            producer_id: format!("{taken:036}"),
        };
        match writer.try_append(&actor, Some(stage.room), &observation) {
            Ok(appending) => drop(appending),
            Err(Error::QueueFull { .. }) => break,
            Err(error) => panic!("{error}"),
        }
        taken += 1;
    }
    let each = (MEMORY.current_usage() - before) / taken;
    assert!(taken >= settings.queue, "{taken}");
    assert!(each <= EACH, "{each} bytes an event");
    holding.rollback().await.unwrap();
    assert_eq!(writer.close().await.written, taken as u64);
    stage.strike().await;
}

/// What an event takes while it waits, as [`WriterSettings::queue`] says.
const EACH: usize = 3 * KIB / 2;

type Body = fn(DbBackend) -> std::pin::Pin<Box<dyn Future<Output = ()>>>;

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads = Some(1);
    let unset = |name| std::env::var_os(name).is_none_or(|value| value.is_empty());
    let ignore_postgres = unset("TEST_DATABASE_URL") && unset("REQUIRE_POSTGRES");
    let cases: [(&str, Body); 2] = [
        ("exports_hold_a_page", |backend| Box::pin(exports_hold_a_page(backend))),
        ("a_full_queue_holds_what_its_settings_say", |backend| {
            Box::pin(a_full_queue_holds_what_its_settings_say(backend))
        }),
    ];
    let mut trials = Vec::new();
    for (name, body) in cases {
        for (backend, prefix) in [(DbBackend::Sqlite, "sqlite"), (DbBackend::Postgres, "postgres")] {
            let run = move || {
                tokio::runtime::Runtime::new().unwrap().block_on(body(backend));
                Ok(())
            };
            let ignored = backend == DbBackend::Postgres && ignore_postgres;
            trials.push(Trial::test(format!("{prefix}::memory::{name}"), run).with_ignored_flag(ignored));
        }
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}
