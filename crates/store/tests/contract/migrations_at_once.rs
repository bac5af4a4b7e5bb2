//! Any number of processes may migrate one database at once: one does it, the others wait and find it done.

use std::ffi::OsStr;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use conferencing_migration::{MigrateError, MigrateSettings, Migrator, MigratorTrait, apply, migrate};
use conferencing_store::connect::{self, ConnectSettings};
use sea_orm::{
    ConnectionTrait, DatabaseTransaction, DbErr, SqliteTransactionMode, TransactionOptions, TransactionTrait,
};
use tokio::sync::Barrier;

use crate::catalog;
use crate::declared::Facts;
use crate::harness::{Backend, Raw, TestDb, raw_of, to_migrate};
use crate::migrations::{Empty, all, applied, empty};

crate::cases![
    concurrent_pools_migrate_once,
    concurrent_processes_migrate_once,
    a_look_at_the_status_disturbs_nobody,
    the_program_tells_how_it_went,
    a_database_that_is_away_is_one_sentence,
    whoever_waits_gets_the_lock_when_its_holder_dies,
    whoever_waits_for_too_long_says_so,
];

async fn is_migrated_once(empty: &Empty, model: &TestDb) {
    let count = empty.raw.number("SELECT count(*) FROM conferencing_migrations").await;
    assert_eq!(count, i64::try_from(all().len()).unwrap());
    assert_eq!(applied(&empty.raw).await, all());
    let schema = catalog::snapshot(&model.raw().await).await;
    assert_eq!(catalog::snapshot(&empty.raw).await, schema);
}

/// A pool of one connection.
pub async fn narrow(url: &str) -> Raw {
    let settings = ConnectSettings {
        max_connections: Some(1),
        acquire_timeout: Duration::from_secs(60),
        ..ConnectSettings::default()
    };
    Raw {
        db: connect::open(url, &settings).await.unwrap(),
    }
}

/// Opens so many pools of one connection each, lets them all begin at the same moment, and expects every one to succeed.
async fn at_once<F>(empty: &Empty, count: usize, act: impl Fn(usize, Raw) -> F)
where
    F: Future<Output = Result<(), DbErr>> + Send + 'static,
{
    let mut pools = Vec::new();
    for _ in 0..count {
        pools.push(narrow(&empty.url).await);
    }
    let together = Arc::new(Barrier::new(count));
    let tasks: Vec<_> = pools
        .into_iter()
        .enumerate()
        .map(|(number, pool)| {
            let (acting, together) = (act(number, pool), Arc::clone(&together));
            tokio::spawn(async move {
                together.wait().await;
                acting.await
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap().unwrap();
    }
}

async fn concurrent_pools_migrate_once(db: TestDb) {
    let empty = empty(db.backend).await;
    let applied = Arc::new(Mutex::new(Vec::new()));
    at_once(&empty, 8, |_, pool| {
        let applied = Arc::clone(&applied);
        async move {
            let migrated = migrate(&pool.db).await?;
            applied.lock().unwrap().extend(migrated.applied);
            Ok(())
        }
    })
    .await;
    // Each by one of them.
    let mut applied = applied.lock().unwrap().clone();
    applied.sort();
    assert_eq!(applied, all());
    is_migrated_once(&empty, &db).await;
}

async fn concurrent_processes_migrate_once(db: TestDb) {
    let empty = empty(db.backend).await;
    let programs: Vec<Child> = (0..8).map(|_| start(&empty.url, "up")).collect();
    for program in programs {
        let output = program.wait_with_output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }
    is_migrated_once(&empty, &db).await;
}

async fn a_look_at_the_status_disturbs_nobody(db: TestDb) {
    let empty = empty(db.backend).await;
    at_once(&empty, 16, |number, pool| async move {
        match number {
            0 => Migrator::up(&pool.db, None).await,
            _ => Migrator::status(&pool.db).await,
        }
    })
    .await;
    is_migrated_once(&empty, &db).await;
}

async fn the_program_tells_how_it_went(db: TestDb) {
    let empty = empty(db.backend).await;
    for (command, after) in [
        ("status", "Pending"),
        ("up", "Applied"),
        ("down", "Pending"),
        ("fresh", "Applied"),
        ("refresh", "Applied"),
        ("reset", "Pending"),
    ] {
        let done = finished(start(&empty.url, command));
        assert!(done.status.success(), "{done:?}");
        let recorded = finished(start(&empty.url, "status"));
        let recorded = String::from_utf8(recorded.stdout).unwrap();
        let newest = all().pop();
        for name in all() {
            // One step down reverts the newest alone.
            let kept = command == "down" && Some(&name) != newest.as_ref();
            let line = format!("Migration '{name}'... {}", if kept { "Applied" } else { after });
            assert!(recorded.contains(&line), "after {command}: {recorded}");
        }
    }
    empty.raw.execute("CREATE TABLE rooms (id integer)").await.unwrap();
    let failed = finished(start(&empty.url, "up"));
    assert_eq!(failed.status.code(), Some(1), "{failed:?}");
    assert!(
        String::from_utf8_lossy(&failed.stderr).contains("already exists"),
        "{failed:?}"
    );
}

pub fn finished(program: Child) -> Output {
    program.wait_with_output().unwrap()
}

/// Starts the program of the migration package.
pub fn start(url: &str, command: &str) -> Child {
    Command::new(program())
        .arg(command)
        .env("DATABASE_URL", url)
        .current_dir(std::env::temp_dir())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Cargo names a package's programs to that package's tests alone, so it is asked; what is built already is not built again.
fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let mut cargo = Command::new(env!("CARGO"));
        cargo
            .args([
                "build",
                "--locked",
                "--package",
                "conferencing-migration",
                "--bin",
                "conferencing-migration",
            ])
            .args(["--message-format", "json-render-diagnostics"])
            .current_dir(env!("CARGO_MANIFEST_DIR"));
        // What cargo tells a test about the test's package would make build scripts run again.
        let recorded = |name: &OsStr| {
            let name = name.to_string_lossy();
            ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_"]
                .iter()
                .any(|prefix| name.starts_with(prefix))
        };
        for (name, _) in std::env::vars_os().filter(|(name, _)| recorded(name)) {
            cargo.env_remove(name);
        }
        let built = cargo.stderr(Stdio::inherit()).output().unwrap();
        assert!(built.status.success());
        let lines = String::from_utf8(built.stdout).unwrap();
        let messages = lines
            .lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        let mut programs = messages.filter_map(|message| message["executable"].as_str().map(PathBuf::from));
        programs.next().unwrap()
    })
}

/// The key of the advisory lock, part of what old and new versions of the program agree on: "conferen" in ASCII.
fn lock_key() -> i64 {
    i64::from_be_bytes(*b"conferen")
}

/// Asks until the answer is 1.
async fn until(raw: &Raw, sql: &str) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while raw.number(sql).await != 1 {
        assert!(Instant::now() < deadline, "in vain: {sql}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn whoever_waits_gets_the_lock_when_its_holder_dies(db: TestDb) {
    let empty = empty(db.backend).await;
    let other = raw_of(&empty.url).await;
    let holder = hold_lock(&other, db.backend).await;
    let waiting = {
        let url = empty.url.clone();
        tokio::spawn(async move { Migrator::up(&to_migrate(&url).await.db, None).await })
    };
    match db.backend {
        // A waiting SQLite shows nowhere; the lock is the file's, and goes with the transaction.
        Backend::Sqlite => holder.rollback().await.unwrap(),
        Backend::Postgres => {
            // It has no transaction open between two tries.
            let waits = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query = 'ROLLBACK' AND state = 'idle'";
            until(&empty.raw, waits).await;
            assert!(!waiting.is_finished());
            assert_eq!(catalog::snapshot(&empty.raw).await, Facts::new());
            let kill = "SELECT count(pg_terminate_backend(pid)) FROM pg_locks
                WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
            assert_eq!(empty.raw.number(kill).await, 1);
        }
    }
    waiting.await.unwrap().unwrap();
    is_migrated_once(&empty, &db).await;
}

async fn hold_lock(raw: &Raw, backend: Backend) -> DatabaseTransaction {
    match backend {
        Backend::Sqlite => {
            let immediate = TransactionOptions {
                sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
                ..Default::default()
            };
            raw.db.begin_with_options(immediate).await.unwrap()
        }
        Backend::Postgres => {
            let transaction = raw.db.begin().await.unwrap();
            let sql = format!("SELECT pg_advisory_xact_lock({})", lock_key());
            transaction.execute_unprepared(&sql).await.unwrap();
            transaction
        }
    }
}

async fn whoever_waits_for_too_long_says_so(db: TestDb) {
    let empty = empty(db.backend).await;
    let other = raw_of(&empty.url).await;
    let holder = hold_lock(&other, db.backend).await;
    let settings = ConnectSettings {
        max_connections: Some(1),
        // SQLite's patience with whoever writes is the connection's.
        acquire_timeout: Duration::from_millis(200),
        ..ConnectSettings::default()
    };
    let pool = connect::open(&empty.url, &settings).await.unwrap();
    let impatient = MigrateSettings {
        wait_for_others: Duration::from_millis(200),
        ..MigrateSettings::default()
    };
    let refused = apply::<Migrator>(&pool, &impatient).await.unwrap_err();
    assert!(matches!(refused, MigrateError::Locked { .. }), "{refused:?}");
    assert_eq!(catalog::snapshot(&empty.raw).await, Facts::new());
    holder.rollback().await.unwrap();
    apply::<Migrator>(&pool, &impatient).await.unwrap();
    is_migrated_once(&empty, &db).await;
}

async fn a_database_that_is_away_is_one_sentence(db: TestDb) {
    let url = match db.backend {
        Backend::Postgres => {
            let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let port = nobody.local_addr().unwrap().port();
            drop(nobody);
            format!("postgres://meet:secret@127.0.0.1:{port}/meet")
        }
        Backend::Sqlite => "sqlite:///nowhere/secret.sqlite".to_owned(),
    };
    for url in [url, "mysql://meet:secret@127.0.0.1/meet".to_owned()] {
        for command in ["up", "status"] {
            let output = finished(start(&url, command));
            assert_eq!(output.status.code(), Some(1));
            let said = String::from_utf8(output.stderr).unwrap();
            assert_eq!(said.lines().count(), 1, "{said}");
            assert!(
                said.starts_with("Migration Error: cannot open the database: "),
                "{said}"
            );
            assert!(!said.contains("secret"), "{said}");
        }
    }
}
