//! Gives each case a migrated database of its own on each backend.
//!
//! SQLite: a copy of a migrated file. PostgreSQL: a clone of a migrated template on the server that TEST_DATABASE_URL names.
//! Without such a server the PostgreSQL cases are shown as ignored, or fail where REQUIRE_POSTGRES is set.
//!
//! Where TEST_POOLER names a pooler before that server, every store goes through it, and so do migrations; SQL by hand does not.

use std::collections::BTreeSet;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};

use chrono::{DateTime, Utc};
use conferencing_migration::{Migrator, MigratorTrait};
use conferencing_store::clock::{Clock, ManualClock};
use conferencing_store::connect::{self, ConnectSettings};
use conferencing_store::entity::{ParticipantRole, Secret, room, room_participant, user};
use conferencing_store::{Actor, NewRoom, NewUser, Store, StoreSettings};
use libtest_mimic::{Arguments, Failed, Trial};
use sea_orm::{ConnectionTrait, Database, DatabaseConnection, DbBackend, ExecResult, QueryResult, Statement};
use tempfile::TempDir;
use tokio::sync::Barrier;
use uuid::Uuid;

use crate::address::with_database;
use crate::past_pooler;
use crate::runtime::block_on;
use crate::through::{as_service, pooler};

/// A case's body: it fails by panicking.
pub type Body = fn(TestDb) -> Pin<Box<dyn Future<Output = ()> + Send>>;

/// A behaviour, named `module::function`.
pub struct Case {
    pub name: String,
    /// Where it runs, if not on both backends.
    pub only: Option<Only>,
    pub body: Body,
}

/// Lists the cases of a module: functions `async fn(TestDb)`. One that is not listed is dead code, which CI refuses.
/// `@Postgres name` is a case for that backend alone, of what the other has not; `@Alone name` one for PostgreSQL while no other runs.
#[macro_export]
macro_rules! cases {
    ($($(@$only:ident)? $name:ident),+ $(,)?) => {
        pub fn cases() -> Vec<$crate::harness::Case> {
            let module = module_path!().rsplit("::").next().unwrap_or_default();
            vec![$($crate::harness::Case {
                name: format!("{module}::{}", stringify!($name)),
                only: None$(.or(Some($crate::harness::Only::$only)))?,
                body: |db| Box::pin($name(db)),
            }),+]
        }
    };
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    Sqlite,
    Postgres,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Only {
    Sqlite,
    Postgres,
    /// PostgreSQL, while no other case runs: of what is counted for the whole server.
    Alone,
}

impl Only {
    fn includes(self, backend: Backend) -> bool {
        (self == Self::Sqlite) == (backend == Backend::Sqlite)
    }
}

/// Held shared by each case, and exclusively by those that run alone.
static RUNNING: RwLock<()> = RwLock::new(());

/// A database of the case's own.
pub struct TestDb {
    /// A store on it with the machine's clock and a pool of 32 (SQLite: 5).
    pub store: Store,
    pub backend: Backend,
    /// Past any pooler: for SQL by hand, and for what stands before the server. A store's is [`TestDb::service_url`].
    pub url: String,
    _folder: Option<Arc<TempDir>>,
}

impl TestDb {
    /// A database that is there and migrated.
    pub async fn on_postgres(url: String) -> Self {
        let mut settings = settings();
        settings.connect.max_connections = Some(32);
        Self {
            store: open_store(&url, settings).await,
            backend: Backend::Postgres,
            url,
            _folder: None,
        }
    }

    /// For other processes and pools, as a service would be given it.
    pub fn service_url(&self) -> String {
        as_service(&self.url)
    }

    /// Another store on the same database.
    pub async fn store_with(&self, settings: StoreSettings) -> Store {
        open_store(&self.url, settings).await
    }

    /// Another store on the same database at another address.
    pub async fn store_at(&self, url: &str, settings: StoreSettings) -> Store {
        open_store(url, settings).await
    }

    /// Another store, whose clock the case moves by hand, and which begins at the present.
    pub async fn with_manual_clock(&self) -> (Store, Arc<ManualClock>) {
        self.with_clock_at(conferencing_store::clock::SystemClock.now()).await
    }

    /// Another store, whose clock the case moves by hand, and which begins at `start`.
    pub async fn with_clock_at(&self, start: DateTime<Utc>) -> (Store, Arc<ManualClock>) {
        let clock = Arc::new(ManualClock::at(start));
        let settings = StoreSettings {
            clock: clock.clone(),
            ..settings()
        };
        (self.store_with(settings).await, clock)
    }

    /// A connection for SQL by hand, past the store.
    pub async fn raw(&self) -> Raw {
        raw_of(&self.url).await
    }

    /// A registered user called `name`.
    pub async fn user(&self, name: &str) -> user::Model {
        let new = NewUser::named(name, name, password_hash());
        self.system().users().register(new).await.unwrap()
    }

    /// Registered users called `name0`, `name1` and so on.
    pub async fn users(&self, name: &str, count: usize) -> Vec<user::Model> {
        let mut users = Vec::with_capacity(count);
        for number in 0..count {
            users.push(self.user(&format!("{name}{number}")).await);
        }
        users
    }

    /// A room of `owner`'s with so many seats, in status CREATED.
    pub async fn room(&self, owner: &user::Model, seats: i32) -> room::Model {
        let new = NewRoom {
            max_participants: seats,
            ..NewRoom::titled(owner.id, "A room")
        };
        self.system().rooms().create(new).await.unwrap()
    }

    /// Seats somebody as a participant, by the system.
    pub async fn seat(&self, room: &room::Model, user: &user::Model) -> room_participant::Model {
        self.system()
            .participants()
            .join(room.id, user.id, ParticipantRole::Participant)
            .await
            .unwrap()
    }

    /// Acts as the system itself.
    pub fn system(&self) -> conferencing_store::Acting {
        self.store.acting(&Actor::system("test"))
    }

    /// Acts as a user.
    pub fn acting(&self, user: &user::Model) -> conferencing_store::Acting {
        self.store.acting(&Actor::user(user.id))
    }
}

/// What looks like a password's hash.
pub fn password_hash() -> Secret {
    Secret::new("$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHQ$aGFzaGhhc2g")
}

/// SQL by hand.
pub struct Raw {
    pub db: DatabaseConnection,
}

impl Raw {
    pub fn backend(&self) -> DbBackend {
        self.db.get_database_backend()
    }

    pub async fn execute(&self, sql: &str) -> Result<ExecResult, sea_orm::DbErr> {
        self.db.execute_unprepared(sql).await
    }

    /// Runs what must succeed.
    pub async fn run(&self, sql: &str) {
        if let Err(error) = self.execute(sql).await {
            panic!("{error}: {sql}");
        }
    }

    /// A key as SQL writes it.
    pub fn id(&self, id: Uuid) -> String {
        match self.backend() {
            DbBackend::Sqlite => format!("X'{}'", id.simple()),
            _ => format!("CAST('{id}' AS uuid)"),
        }
    }

    pub async fn rows(&self, sql: &str) -> Vec<QueryResult> {
        let statement = Statement::from_string(self.backend(), sql);
        self.db.query_all_raw(statement).await.unwrap()
    }

    /// Has a pooler open new sessions, with the settings that the database has by now. It is for a pool of one.
    pub async fn end_other_sessions(&self) {
        if pooler().is_none() {
            return;
        }
        let others = "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()";
        self.rows(&format!("SELECT pg_terminate_backend(pid) {others}")).await;
        while self.number(&format!("SELECT count(*) {others}")).await > 0 {}
    }

    /// The first column of the first row, a whole number.
    pub async fn number(&self, sql: &str) -> i64 {
        let rows = self.rows(&format!("SELECT CAST(({sql}) AS bigint) AS n")).await;
        rows[0].try_get_by("n").unwrap()
    }

    /// The first column of all rows, text.
    pub async fn texts(&self, sql: &str) -> Vec<String> {
        let rows = self.rows(sql).await;
        rows.iter().map(|row| row.try_get_by_index(0).unwrap()).collect()
    }
}

/// A connection for SQL by hand to the database at `url`.
pub async fn raw_of(url: &str) -> Raw {
    let settings = ConnectSettings {
        acquire_timeout: std::time::Duration::from_secs(60),
        ..ConnectSettings::default().without_limits()
    };
    Raw {
        db: connect::open(url, &settings).await.unwrap(),
    }
}

/// A pool to migrate the database at `url` with: through the pooler, if there is one.
pub async fn to_migrate(url: &str) -> Raw {
    raw_of(&as_service(url)).await
}

/// A connection for SQL by hand through a pooler.
pub async fn raw_at(url: &str) -> Raw {
    let settings = ConnectSettings {
        pgbouncer: true,
        ..ConnectSettings::default()
    };
    Raw {
        db: connect::open(url, &settings).await.unwrap(),
    }
}

/// What the cases' stores have sent, by backend.
static SENT: Mutex<BTreeSet<(&'static str, String)>> = Mutex::new(BTreeSet::new());

/// A store of which every statement is noted.
async fn open_store(url: &str, settings: StoreSettings) -> Store {
    let mut db = connect::open(&as_service(url), &settings.connect).await.unwrap();
    // On PostgreSQL the store tells of each itself, see `note_sent`.
    if db.get_database_backend() == DbBackend::Sqlite {
        db.set_metric_callback(|info| {
            note("sqlite", &info.statement.sql);
        });
    }
    Store::from_connection(db, settings).await.unwrap()
}

fn note(backend: &'static str, sql: &str) {
    // What a case sends as a service would, to read and write a table of its own, is not the store's.
    if !sql.contains("own_deliveries") && !sql.contains("own_of_nobody") {
        SENT.lock().unwrap().insert((backend, as_listed(sql)));
    }
}

/// Notes a statement that a store has sent to PostgreSQL with values, or to read.
pub fn note_sent(sql: &str) {
    note("postgres", sql);
}

/// Notes a statement that a store has sent to SQLite past SeaORM.
pub fn note_examining(sql: &str) {
    SENT.lock().unwrap().insert(("sqlite", as_listed(sql)));
}

/// How a statement is listed: without EXPLAIN, and of the audit log instead of one of its detached partitions.
fn as_listed(sql: &str) -> String {
    let explained = sql.strip_prefix("EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) ");
    let sql = explained.or(sql.strip_prefix("EXPLAIN QUERY PLAN ")).unwrap_or(sql);
    match sql.split_once("\"audit_logs_detached_") {
        Some((before, after)) => {
            let after = after.split_once('"').map_or("", |(_, after)| after);
            format!("{before}\"audit_logs\"{after}")
        }
        None => sql.to_owned(),
    }
}

/// The statements that were sent and that `conferencing_store::statements` does not list.
async fn unlisted() -> Vec<String> {
    let mut unlisted = Vec::new();
    for (name, backend) in [("sqlite", DbBackend::Sqlite), ("postgres", DbBackend::Postgres)] {
        let listed = conferencing_store::statements::list(backend).await;
        let listed: BTreeSet<&str> = listed.iter().map(|one| one.statement.sql.as_str()).collect();
        let sent = SENT.lock().unwrap();
        let sent = sent.iter().filter(|(backend, _)| *backend == name);
        unlisted.extend(
            sent.filter(|(_, sql)| !listed.contains(sql.as_str()))
                .map(|(backend, sql)| format!("{backend}: {sql}")),
        );
    }
    unlisted
}

/// Runs all at once and gives what each returned, in their order. None begins before all are ready.
pub async fn race<F>(tasks: impl IntoIterator<Item = F>) -> Vec<F::Output>
where
    F: Future<Output: Send> + Send + 'static,
{
    let tasks: Vec<F> = tasks.into_iter().collect();
    let start = Arc::new(Barrier::new(tasks.len()));
    let running: Vec<_> = tasks
        .into_iter()
        .map(|task| {
            let start = Arc::clone(&start);
            tokio::spawn(async move {
                start.wait().await;
                task.await
            })
        })
        .collect();
    let mut outputs = Vec::with_capacity(running.len());
    for task in running {
        outputs.push(task.await.unwrap());
    }
    outputs
}

/// The settings that the cases' stores have.
pub fn settings() -> StoreSettings {
    StoreSettings {
        connect: ConnectSettings {
            acquire_timeout: std::time::Duration::from_secs(30),
            // Hundreds wait for each other on a busy machine.
            lock_timeout: std::time::Duration::from_secs(60),
            statement_timeout: std::time::Duration::from_secs(120),
            ..ConnectSettings::default()
        },
        ..StoreSettings::default()
    }
}

/// Runs every case on every backend.
pub fn run(cases: Vec<Case>) -> ExitCode {
    let arguments = Arguments::from_args();
    let server = std::env::var("TEST_DATABASE_URL").ok().filter(|url| !url.is_empty());
    let ignore_postgres = server.is_none() && std::env::var_os("REQUIRE_POSTGRES").is_none();
    let names: Vec<&str> = cases.iter().map(|case| case.name.as_str()).collect();
    let stale = past_pooler::stale(&names);
    assert!(stale.is_empty(), "no cases: {stale:?}");
    let mut trials = Vec::new();
    for case in cases {
        let body = case.body;
        for (backend, prefix, ignore) in [
            (Backend::Sqlite, "sqlite", false),
            (Backend::Postgres, "postgres", ignore_postgres),
        ] {
            if case.only.is_none_or(|only| only.includes(backend)) {
                let name = format!("{prefix}::{}", case.name);
                let exception = past_pooler::reason(&case.name).filter(|_| backend == Backend::Postgres);
                let alone = case.only == Some(Only::Alone);
                let trial = Trial::test(name, move || {
                    // A case that failed has spoilt nothing.
                    let _alone = alone.then(|| RUNNING.write().unwrap_or_else(PoisonError::into_inner));
                    let _beside = (!alone).then(|| RUNNING.read().unwrap_or_else(PoisonError::into_inner));
                    run_case(body, backend)
                });
                let trial = trial.with_kind(exception.unwrap_or_default());
                trials.push(trial.with_ignored_flag(ignore || exception.is_some()));
            }
        }
    }
    let conclusion = libtest_mimic::run(&arguments, trials);
    if let Some(server) = server {
        block_on(drop_databases(&server));
    }
    if let Some(folder) = SQLITE_TEMPLATE.get().and_then(|template| template.parent()) {
        std::fs::remove_dir_all(folder).unwrap();
    }
    let unlisted = block_on(unlisted());
    if !unlisted.is_empty() {
        println!(
            "{} statements were sent that are not listed:\n{}",
            unlisted.len(),
            unlisted.join("\n\n")
        );
        return ExitCode::FAILURE;
    }
    conclusion.exit_code()
}

fn run_case(body: Body, backend: Backend) -> Result<(), Failed> {
    block_on(async move {
        let db = match backend {
            Backend::Sqlite => sqlite_database().await,
            Backend::Postgres => postgres_database().await?,
        };
        body(db).await;
        Ok(())
    })
}

static NUMBER: AtomicUsize = AtomicUsize::new(0);

fn next_number() -> usize {
    NUMBER.fetch_add(1, Ordering::Relaxed)
}

async fn sqlite_database() -> TestDb {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("test.sqlite");
    std::fs::copy(sqlite_template().await, &file).unwrap();
    let url = format!("sqlite://{}?mode=rwc", file.display());
    TestDb {
        store: open_store(&url, settings()).await,
        backend: Backend::Sqlite,
        url,
        _folder: Some(Arc::new(folder)),
    }
}

/// The migrated file that SQLite's databases are copies of. A static is never dropped, so `run` removes the folder.
static SQLITE_TEMPLATE: tokio::sync::OnceCell<PathBuf> = tokio::sync::OnceCell::const_new();

async fn sqlite_template() -> &'static Path {
    SQLITE_TEMPLATE
        .get_or_init(|| async {
            let path = tempfile::tempdir().unwrap().keep().join("template.sqlite");
            let db = Database::connect(format!("sqlite://{}?mode=rwc", path.display()))
                .await
                .unwrap();
            Migrator::up(&db, None).await.unwrap();
            db.close().await.unwrap();
            path
        })
        .await
}

/// Databases of this run begin with this, so that they can be recorded from everybody else's.
fn prefix() -> &'static str {
    static PREFIX: OnceLock<String> = OnceLock::new();
    PREFIX.get_or_init(|| format!("contract_{}_", std::process::id()))
}

async fn postgres_database() -> Result<TestDb, Failed> {
    let Some(server) = std::env::var("TEST_DATABASE_URL").ok().filter(|url| !url.is_empty()) else {
        return Err("REQUIRE_POSTGRES is set, but TEST_DATABASE_URL names no server".into());
    };
    let template = postgres_template(&server).await;
    let name = format!("{}{}", prefix(), next_number());
    create_database(&server, &name, &format!("TEMPLATE {template}")).await;
    Ok(TestDb::on_postgres(with_database(&server, &name)).await)
}

async fn postgres_template(server: &str) -> &'static str {
    static TEMPLATE: tokio::sync::OnceCell<String> = tokio::sync::OnceCell::const_new();
    TEMPLATE
        .get_or_init(|| async {
            let name = format!("{}template", prefix());
            admin(server, &format!("CREATE DATABASE {name}")).await;
            let db = to_migrate(&with_database(server, &name)).await.db;
            Migrator::up(&db, None).await.unwrap();
            db.close().await.unwrap();
            // A pooler keeps its own connections for a while, and what is copied must have none.
            let left = format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'");
            admin(server, &left).await;
            name
        })
        .await
}

/// An empty database, without schema.
pub async fn empty_database(backend: Backend) -> (String, Option<TempDir>) {
    match backend {
        Backend::Sqlite => {
            let folder = tempfile::tempdir().unwrap();
            let url = format!("sqlite://{}?mode=rwc", folder.path().join("empty.sqlite").display());
            (url, Some(folder))
        }
        Backend::Postgres => (empty_database_with("").await, None),
    }
}

/// An empty PostgreSQL database with these options of CREATE DATABASE.
pub async fn empty_database_with(options: &str) -> String {
    let server = std::env::var("TEST_DATABASE_URL").unwrap();
    let name = format!("{}{}", prefix(), next_number());
    create_database(&server, &name, options).await;
    with_database(&server, &name)
}

/// With TEST_POOLER_LIMITS=database its sessions have the limits of [`settings`], which they cannot be asked for through a pooler.
async fn create_database(server: &str, name: &str, options: &str) {
    admin(server, &format!("CREATE DATABASE {name} {options}")).await;
    if past_pooler::is_limited_by_the_database() {
        let connect = settings().connect;
        for (setting, value) in [
            ("lock_timeout", connect.lock_timeout.as_millis().to_string()),
            ("statement_timeout", connect.statement_timeout.as_millis().to_string()),
            ("client_min_messages", "error".to_owned()),
        ] {
            admin(server, &format!("ALTER DATABASE {name} SET {setting} = '{value}'")).await;
        }
    }
}

async fn admin(server: &str, sql: &str) {
    let db = Database::connect(server).await.unwrap();
    db.execute_unprepared(sql).await.unwrap();
    db.close().await.unwrap();
}

async fn drop_databases(server: &str) {
    let db = Database::connect(server).await.unwrap();
    let mine = format!(
        "SELECT datname::text FROM pg_database WHERE starts_with(datname, '{}')",
        prefix()
    );
    for row in db
        .query_all_raw(Statement::from_string(DbBackend::Postgres, mine))
        .await
        .unwrap()
    {
        let name: String = row.try_get_by_index(0).unwrap();
        db.execute_unprepared(&format!("DROP DATABASE {name} WITH (FORCE)"))
            .await
            .unwrap();
    }
    // They owned nothing but databases, and in them.
    let mine = format!(
        "SELECT CAST(rolname AS text) FROM pg_roles WHERE starts_with(rolname, '{}')",
        prefix()
    );
    for row in db
        .query_all_raw(Statement::from_string(DbBackend::Postgres, mine))
        .await
        .unwrap()
    {
        let name: String = row.try_get_by_index(0).unwrap();
        db.execute_unprepared(&format!("DROP ROLE {name}")).await.unwrap();
    }
}

/// The name of a login role of this case's own. Its password is to be the same; it is dropped at the end of the run.
pub fn role_name(what: &str) -> String {
    format!("{}{what}_{}", prefix(), next_number())
}

/// The same database for a role of [`role_name`].
pub fn with_role(url: &str, role: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap();
    let authority_end = rest.find('/').unwrap();
    let (authority, path) = rest.split_at(authority_end);
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    format!("{scheme}://{role}:{role}@{host}{path}")
}

/// An exact copy of a database that nobody is connected to, with the same owner.
pub async fn copy_of(url: &str, owner: &str) -> String {
    let server = std::env::var("TEST_DATABASE_URL").unwrap();
    let original = url.rsplit('/').next().unwrap().split('?').next().unwrap();
    let name = format!("{}{}", prefix(), next_number());
    create_database(&server, &name, &format!("TEMPLATE {original} OWNER {owner}")).await;
    with_database(&server, &name)
}
