//! What processes do to each other, and leave behind.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use conferencing_store::connect::{self, ConnectSettings};
use conferencing_testing::TestStore;
use sea_orm::{ConnectionTrait, DatabaseConnection, DbBackend, Statement};

use crate::migrations::Other;
use crate::number;

/// What a child does, in this variable. It says the address of its database, and waits until its input ends.
const ROLE: &str = "KIT_TEST_CHILD";

/// Runs in a child alone: see [`child`].
#[tokio::test]
async fn as_a_child() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let kit = match role.as_str() {
        "own" => TestStore::builder().postgres_of_its_own().open().await.unwrap(),
        "shared" => TestStore::builder()
            .postgres()
            .migrations::<Other>()
            .open()
            .await
            .unwrap(),
        other => panic!("no role {other}"),
    };
    kit.user("ada").await;
    println!("\nURL {}", kit.url());
    let waiting = tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new()));
    waiting.await.unwrap().unwrap();
}

struct Started {
    process: Child,
    url: String,
}

fn start(role: &str, server: &str) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "processes::as_a_child", "--nocapture"])
        .env(ROLE, role)
        .env("TEST_DATABASE_URL", server)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap()
}

fn started(mut process: Child) -> Started {
    let lines = BufReader::new(process.stdout.as_mut().unwrap()).lines();
    let line = lines.map(Result::unwrap).find(|line| line.starts_with("URL "));
    let url = line.expect("the child did not come so far")[4..].to_owned();
    Started { process, url }
}

/// Until it is so. Nothing tells when another process has noticed an end, so it is looked at again and again.
fn until(what: &str, is_so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < Duration::from_secs(60), "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn folder_of(url: &str) -> &Path {
    Path::new(url.split_once("host=").unwrap().1)
}

/// A process is listed as long as there is such a folder.
#[cfg(target_os = "linux")]
fn runs(pid: &str) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // One that has ended, and that nobody has asked how, is a Z.
    !status.is_empty() && !status.contains(") Z ")
}

#[cfg(target_os = "linux")]
#[test]
fn a_server_ends_with_its_process_however_that_ends() {
    for is_killed in [true, false] {
        let mut child = started(start("own", ""));
        let folder = folder_of(&child.url);
        let pid_file = std::fs::read_to_string(folder.join("data/postmaster.pid")).unwrap();
        let postmaster = pid_file.lines().next().unwrap();
        assert!(runs(postmaster));
        if is_killed {
            child.process.kill().unwrap();
        } else {
            drop(child.process.stdin.take());
        }
        assert_eq!(child.process.wait().unwrap().success(), !is_killed);
        until("the server runs on", || !runs(postmaster));
        until("its folder is still there", || !folder.exists());
    }
}

async fn names(db: &DatabaseConnection, prefix: &str) -> Vec<String> {
    let sql =
        format!("SELECT CAST(datname AS text) FROM pg_database WHERE starts_with(datname, '{prefix}') ORDER BY 1");
    let rows = db
        .query_all_raw(Statement::from_string(DbBackend::Postgres, sql))
        .await
        .unwrap();
    rows.iter().map(|row| row.try_get_by_index(0).unwrap()).collect()
}

fn database_of(url: &str) -> String {
    let path = url.rsplit_once('/').unwrap().1;
    let path = url
        .split("host=")
        .next()
        .and_then(|head| head.split('?').next())
        .map_or(path, |head| head.rsplit('/').next().unwrap());
    path.to_owned()
}

/// A database on a server that no other case and no other process knows of. The server is a child's, and goes with it.
struct Alone {
    kit: TestStore,
    db: DatabaseConnection,
    url: String,
    _server: Started,
}

impl Alone {
    async fn start() -> Self {
        let server = started(start("own", ""));
        let url = server.url.replace(&database_of(&server.url), "postgres");
        let db = connect::open(&url, &ConnectSettings::default()).await.unwrap();
        Self {
            kit: TestStore::builder().postgres_at(&url).open().await.unwrap(),
            db,
            url,
            _server: server,
        }
    }

    async fn templates(&self) -> Vec<String> {
        names(&self.db, "conferencing_template_test_").await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_at_once_make_one_template_and_the_next_one_sweeps_behind_the_dead() {
    let alone = Alone::start().await;
    let (kit, db) = (&alone.kit, &alone.db);
    let templates = alone.templates().await.len();
    let children: Vec<Child> = (0..4).map(|_| start("shared", &alone.url)).collect();
    let mut children: Vec<Started> = children.into_iter().map(started).collect();
    let made = alone.templates().await;
    assert_eq!(made.len(), templates + 1, "{made:?}");
    assert_eq!(
        number(db, "SELECT count(*) FROM pg_database WHERE datname LIKE '%unfinished%'").await,
        0
    );

    // One dies, the others end as they should; each drops its own, and nobody else's.
    let mut dead = children.pop().unwrap();
    dead.process.kill().unwrap();
    dead.process.wait().unwrap();
    for child in &mut children {
        drop(child.process.stdin.take());
        assert!(child.process.wait().unwrap().success());
    }
    let left = names(db, "conferencing_test_").await;
    assert!(
        left.contains(&database_of(&dead.url)) && left.contains(&database_of(kit.url())),
        "{left:?}"
    );
    for child in &children {
        assert!(!left.contains(&database_of(&child.url)), "{left:?}");
    }
    until_swept(&alone, &dead);
}

/// The dead one's lock goes when the server notices; the next process to come then drops what it left, and nothing of the living.
fn until_swept(alone: &Alone, dead: &Started) {
    until("the dead child's session is still there", || {
        let mut next = started(start("shared", &alone.url));
        let own = database_of(&next.url);
        drop(next.process.stdin.take());
        next.process.wait().unwrap().success() && own != database_of(&dead.url) && {
            let found = tokio::task::block_in_place(|| {
                tokio::runtime::Handle::current().block_on(names(&alone.db, "conferencing_test_"))
            });
            assert!(found.contains(&database_of(alone.kit.url())), "{found:?}");
            !found.contains(&database_of(&dead.url))
        }
    });
}

/// PostgreSQL's advisory locks are of one database each.
#[tokio::test(flavor = "multi_thread")]
async fn processes_whose_addresses_name_other_databases_of_the_server_live_too() {
    let alone = Alone::start().await;
    alone.db.execute_unprepared("CREATE DATABASE app").await.unwrap();
    let app = alone.url.replace("/postgres?", "/app?");
    let other = TestStore::builder().postgres_at(&app).open().await.unwrap();
    alone.kit.user("ben").await;
    let templates = alone.templates().await.len();
    let children: Vec<Child> = (0..4)
        .map(|child| start("shared", if child % 2 == 0 { &app } else { &alone.url }))
        .collect();
    let mut children: Vec<Started> = children.into_iter().map(started).collect();
    let made = alone.templates().await;
    assert_eq!(made.len(), templates + 1, "{made:?}");
    let there = names(&alone.db, "conferencing_test_").await;
    let urls = children.iter().map(|child| &*child.url);
    for url in urls.chain([alone.kit.url(), other.url()]) {
        assert!(there.contains(&database_of(url)), "{url} in {there:?}");
    }
    alone.kit.user("eve").await;
    other.user("eve").await;

    // What a dead one has left is dropped from there as well.
    let mut dead = children.swap_remove(0);
    dead.process.kill().unwrap();
    dead.process.wait().unwrap();
    until_swept(&alone, &dead);
    for child in &mut children {
        drop(child.process.stdin.take());
        assert!(child.process.wait().unwrap().success());
    }
}

#[tokio::test]
async fn a_template_that_is_dropped_is_made_again() {
    let alone = Alone::start().await;
    let made = alone.templates().await;
    for name in &made {
        let dropped = alone.db.execute_unprepared(&format!("DROP DATABASE {name}")).await;
        dropped.unwrap();
    }
    let next = TestStore::builder().postgres_at(&alone.url).open().await.unwrap();
    assert_ne!(next.url(), alone.kit.url());
    next.user("ada").await;
    assert_eq!(alone.templates().await, made);
}

#[tokio::test]
async fn a_template_that_nobody_used_for_a_day_is_dropped() {
    let alone = Alone::start().await;
    let forgotten = "conferencing_template_test_0123456789abcdef";
    for sql in [
        format!("CREATE DATABASE {forgotten}"),
        format!("COMMENT ON DATABASE {forgotten} IS 'used at 1000000000'"),
    ] {
        alone.db.execute_unprepared(&sql).await.unwrap();
    }
    TestStore::builder()
        .postgres_at(&alone.url)
        .migrations::<crate::migrations::Migrator>()
        .open()
        .await
        .unwrap();
    assert!(!alone.templates().await.contains(&forgotten.to_owned()));
}
