//! A seeded platform with an operator on it, and a console before it that listens on a port of its own. The platform is seeded once for all
//! tests of a backend; each has a copy of the SQLite file, or a clone of the database.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use argon2::Argon2;
use argon2::password_hash::PasswordHasher;
use argon2::password_hash::phc::PasswordHash;
use chrono::TimeDelta;
use conferencing_console::{App, ConsoleSettings, router};
use conferencing_seed::{SeedSettings, Size, connect_settings, seed};
use conferencing_store::clock::{Clock, SystemClock};
use conferencing_store::entity::{RoomStatus, Secret, room, user};
use conferencing_store::{
    Acting, Actor, ConnectSettings, Durability, NewUser, Order, PageRequest, Store, StoreSettings, UserSearch, connect,
};
use sea_orm::{ConnectionTrait, DatabaseConnection, DbBackend, Statement};
use tempfile::TempDir;
use tokio::sync::OnceCell;

pub const OPERATOR: &str = "ada.operator";
pub const PASSWORD: &str = "correct horse battery staple";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    Sqlite,
    Postgres,
}

pub struct Platform {
    pub store: Store,
    pub operator: user::Model,
    db: DatabaseConnection,
    address: SocketAddr,
    client: reqwest::Client,
    serving: tokio::task::JoinHandle<()>,
    /// The server, and the database's name there.
    on_server: Option<(String, String)>,
    _folder: TempDir,
}

/// What came back.
pub struct Answer {
    pub status: u16,
    headers: reqwest::header::HeaderMap,
    pub body: String,
}

impl Answer {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

/// Whether there is a server to test on; where there must be one, a missing one is a failure.
pub fn server_is_there() -> bool {
    let there = std::env::var_os("TEST_DATABASE_URL").is_some();
    let required = std::env::var_os("REQUIRE_POSTGRES").is_some();
    assert!(there || !required, "TEST_DATABASE_URL names no server");
    there
}

static MADE: AtomicUsize = AtomicUsize::new(0);
static FILE: OnceCell<(TempDir, PathBuf)> = OnceCell::const_new();
static TEMPLATE: OnceCell<String> = OnceCell::const_new();

fn server() -> String {
    std::env::var("TEST_DATABASE_URL").unwrap()
}

fn database(server: &str, name: &str) -> String {
    let (head, parameters) = server.split_once('?').unwrap_or((server, ""));
    let (head, _) = head.rsplit_once('/').unwrap();
    format!("{head}/{name}?{parameters}")
}

/// Once no case runs any more: they have copies.
pub fn remove_templates() {
    if let Some(name) = TEMPLATE.get() {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(on_server(&format!("DROP DATABASE {name} WITH (FORCE)")));
    }
    if let Some((folder, _)) = FILE.get() {
        let _ = std::fs::remove_dir_all(folder.path());
    }
}

async fn on_server(sql: &str) {
    let admin = connect::open(&server(), &ConnectSettings::default()).await.unwrap();
    admin.execute_unprepared(sql).await.unwrap();
    admin.close().await.unwrap();
}

/// Fills a database, and makes the operator.
async fn fill(url: &str) {
    let db = connect::open(url, &connect_settings(4, ConnectSettings::default()))
        .await
        .unwrap();
    conferencing_migration::migrate(&db).await.unwrap();
    let hash: PasswordHash = Argon2::default().hash_password(PASSWORD.as_bytes()).unwrap();
    let hash = Secret::new(hash.to_string());
    let settings = SeedSettings {
        users: Some(120),
        days: 20,
        password_hash: hash.clone(),
        ..SeedSettings::new(Size::Events(6_000), 42, SystemClock.now() - TimeDelta::minutes(1))
    };
    seed(&db, &settings, settings_of_store(), |_| {}).await.unwrap();
    let store = Store::from_connection(db.clone(), settings_of_store()).await.unwrap();
    let new = NewUser::named(OPERATOR, "Ada, who operates", hash);
    store.acting(&Actor::anonymous()).users().register(new).await.unwrap();
    if db.get_database_backend() == DbBackend::Sqlite {
        db.execute_unprepared("PRAGMA wal_checkpoint(TRUNCATE)").await.unwrap();
    }
    db.close().await.unwrap();
}

fn settings_of_store() -> StoreSettings {
    StoreSettings {
        durability: Durability::AsConfigured,
        ..StoreSettings::default()
    }
}

fn a_long_page() -> PageRequest {
    PageRequest::first(500, Order::OldestFirst).unwrap()
}

impl Platform {
    pub async fn new(backend: Backend) -> Self {
        Self::with(backend, ConsoleSettings::for_operators([OPERATOR])).await
    }

    /// With a console that is run so.
    pub async fn with(backend: Backend, settings: ConsoleSettings) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (url, on_server) = match backend {
            Backend::Sqlite => {
                let (_, template) = FILE
                    .get_or_init(|| async {
                        let folder = tempfile::tempdir().unwrap();
                        let file = folder.path().join("template.sqlite");
                        fill(&format!("sqlite://{}?mode=rwc", file.display())).await;
                        (folder, file)
                    })
                    .await;
                let file = folder.path().join("console.sqlite");
                std::fs::copy(template, &file).unwrap();
                (format!("sqlite://{}", file.display()), None)
            }
            Backend::Postgres => {
                let prefix = format!("console_{}", std::process::id());
                let template = TEMPLATE
                    .get_or_init(|| async {
                        let name = format!("{prefix}_template");
                        on_server(&format!("CREATE DATABASE {name}")).await;
                        fill(&database(&server(), &name)).await;
                        name
                    })
                    .await;
                let name = format!("{prefix}_{}", MADE.fetch_add(1, Ordering::Relaxed));
                on_server(&format!("CREATE DATABASE {name} TEMPLATE {template}")).await;
                (database(&server(), &name), Some((server(), name)))
            }
        };
        let db = connect::open(&url, &ConnectSettings::default()).await.unwrap();
        let store = Store::from_connection(db.clone(), settings_of_store()).await.unwrap();
        let operator = store.users().find_for_login(OPERATOR).await.unwrap().unwrap().user;
        let app = App::new(store.clone(), settings).await.unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let service = router(app).into_make_service_with_connect_info::<SocketAddr>();
        let serving = tokio::spawn(async move { axum::serve(listener, service).await.unwrap() });
        let client = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .unwrap();
        Self {
            store,
            operator,
            db,
            address,
            client,
            serving,
            on_server,
            _folder: folder,
        }
    }

    pub async fn close(self) {
        self.serving.abort();
        self.store.close().await.unwrap();
        if let Some((_, name)) = self.on_server {
            on_server(&format!("DROP DATABASE {name} WITH (FORCE)")).await;
        }
    }

    pub fn system(&self) -> Acting {
        self.store.acting(&Actor::system("test"))
    }

    /// Everybody, by their usernames.
    pub async fn people(&self) -> Vec<user::Model> {
        let everybody = UserSearch::username("");
        let found = self.store.users().search(&everybody, &a_long_page()).await;
        found.unwrap().items
    }

    /// A room that ended, in which somebody was recorded or put out, and whose owner is still there.
    pub async fn some_room(&self) -> room::Model {
        let page = a_long_page();
        let people = self.people().await;
        for user in people.iter().filter(|user| user.is_active && user.email.is_some()) {
            let filter = conferencing_store::RoomFilter::OwnedBy(user.id);
            let rooms = self.store.rooms().list(filter, &page).await.unwrap();
            let ended = rooms
                .items
                .into_iter()
                .find(|room| room.status == RoomStatus::Ended && room.peak_participants > 2);
            if let Some(room) = ended {
                return room;
            }
        }
        panic!("there is no such room");
    }

    /// Somebody with a password who is no operator.
    pub async fn somebody_else(&self) -> user::Model {
        let mut others = self.people().await.into_iter();
        others
            .find(|user| {
                user.is_active && user.password_hash.is_some() && user.email.is_some() && user.username != OPERATOR
            })
            .unwrap()
    }

    /// The cookie of a session that has just begun.
    pub async fn sign_in(&self) -> String {
        let answer = self
            .post_as("", "/sign-in", &[("username", OPERATOR), ("password", PASSWORD)])
            .await;
        assert_eq!(answer.status, 303, "{}", answer.body);
        answer.header("set-cookie").split_once(';').unwrap().0.to_owned()
    }

    /// What the forms of a session say.
    pub async fn token(&self, cookie: &str) -> String {
        let page = self.get_as(cookie, "/rooms").await.body;
        let (_, rest) = page.split_once("name=\"token\" value=\"").unwrap();
        rest.split_once('"').unwrap().0.to_owned()
    }

    pub async fn get_as(&self, cookie: &str, path: &str) -> Answer {
        let request = self.client.get(format!("http://{}{path}", self.address));
        answer(request.header("cookie", cookie)).await
    }

    pub async fn post_as(&self, cookie: &str, path: &str, fields: &[(&str, &str)]) -> Answer {
        self.post_from(&[], cookie, path, fields).await
    }

    pub async fn post_from(
        &self,
        headers: &[(&str, &str)],
        cookie: &str,
        path: &str,
        fields: &[(&str, &str)],
    ) -> Answer {
        let mut request = self.client.post(format!("http://{}{path}", self.address));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        answer(request.header("cookie", cookie).form(fields)).await
    }

    /// Of each table, how many rows there are and what is in them.
    pub async fn digests(&self) -> BTreeMap<String, (usize, Vec<String>)> {
        let (tables, row): (_, fn(&str, &[String]) -> String) = match self.db.get_database_backend() {
            DbBackend::Sqlite => (
                "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'",
                |table, columns| {
                    let quoted: Vec<String> = columns.iter().map(|name| format!("quote(\"{name}\")")).collect();
                    format!(
                        "SELECT {} AS row FROM \"{table}\" ORDER BY 1",
                        quoted.join(" || '|' || ")
                    )
                },
            ),
            _ => (
                "SELECT CAST(tablename AS text) FROM pg_tables WHERE schemaname = 'public' AND tablename NOT LIKE 'audit_logs_%'",
                |table, _| format!("SELECT CAST(to_jsonb(t) AS text) FROM \"{table}\" AS t ORDER BY 1"),
            ),
        };
        let mut digests = BTreeMap::new();
        for table in self.texts(tables).await {
            let columns = match self.db.get_database_backend() {
                DbBackend::Sqlite => {
                    self.texts(&format!("SELECT name FROM pragma_table_info('{table}') ORDER BY cid"))
                        .await
                }
                _ => Vec::new(),
            };
            let rows = self.texts(&row(&table, &columns)).await;
            digests.insert(table, (rows.len(), rows));
        }
        digests
    }

    async fn texts(&self, sql: &str) -> Vec<String> {
        let statement = Statement::from_string(self.db.get_database_backend(), sql);
        let rows = self.db.query_all_raw(statement).await.unwrap();
        rows.iter().map(|row| row.try_get_by_index(0).unwrap()).collect()
    }
}

async fn answer(request: reqwest::RequestBuilder) -> Answer {
    let response = request.send().await.unwrap();
    Answer {
        status: response.status().as_u16(),
        headers: response.headers().clone(),
        body: response.text().await.unwrap(),
    }
}
