//! Databases of a test's own, services on free ports, and clients that speak HTTP and WebSocket.

use std::future::Future;
use std::pin::Pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use conferencing_migration::{Migrator, MigratorTrait};
use conferencing_signaling::{App, Config};
use conferencing_store::entity::RoomId;
use conferencing_store::sea_orm::{ConnectionTrait, DatabaseTransaction, Statement, TransactionTrait};
use conferencing_store::{Acting, Actor, StoreSettings};
use conferencing_testing::{Builder, TestStore};
use futures_util::StreamExt;
use libtest_mimic::{Arguments, Trial};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

pub use conferencing_testing::Backend;

/// The server that PostgreSQL's half of the suite makes its databases on, as in the contract suite.
const SERVER: &str = "TEST_DATABASE_URL";

pub type Body = fn(Database) -> Pin<Box<dyn Future<Output = ()> + Send>>;

/// The cases of a file: each `async fn(Database)` runs once on each backend.
#[macro_export]
macro_rules! cases {
    ($($name:ident),+ $(,)?) => {
        pub fn cases() -> Vec<(String, $crate::harness::Body)> {
            let module = module_path!().rsplit("::").next().unwrap();
            vec![$((format!("{module}::{}", stringify!($name)), |db| Box::pin($name(db)))),+]
        }
    };
}

static RUNTIME: std::sync::LazyLock<Runtime> = std::sync::LazyLock::new(|| Runtime::new().unwrap());

/// Runs them all. Without a server PostgreSQL's are shown as ignored, never as passed; with `REQUIRE_POSTGRES` they fail.
pub fn run(cases: Vec<(String, Body)>) -> ExitCode {
    let mut arguments = Arguments::from_args();
    // Each has services and databases of its own, and the machine is small.
    arguments.test_threads = arguments.test_threads.or(Some(4));
    let server = std::env::var(SERVER).ok();
    let required = std::env::var_os("REQUIRE_POSTGRES").is_some();
    let mut trials = Vec::new();
    let with_load = std::env::var_os("SIGNALING_LOAD").is_some();
    for (name, body) in cases {
        // Not one that could run and is left out, but one of another run.
        if name.starts_with("load::") && !with_load {
            continue;
        }
        for backend in [Backend::Sqlite, Backend::Postgres] {
            let missing = backend == Backend::Postgres && server.is_none();
            let full = format!("{}::{name}", format!("{backend:?}").to_lowercase());
            let trial = Trial::test(full, move || {
                if missing {
                    return Err(format!("{SERVER} names no server").into());
                }
                RUNTIME.block_on(async move {
                    let case = tokio::spawn(async move {
                        let db = Database::make(backend).await;
                        body(db).await;
                    });
                    case.await.map_err(|error| format!("{error}").into())
                })
            });
            trials.push(trial.with_ignored_flag(missing && !required));
        }
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// A migrated database of a test's own, the testing kit's.
#[derive(Clone)]
pub struct Database {
    pub backend: Backend,
    pub url: String,
    kit: Arc<TestStore>,
}

impl Database {
    async fn make(backend: Backend) -> Self {
        let builder = TestStore::builder();
        Self::of(
            backend,
            builder.migrations::<conferencing_signaling::auth::migrations::Migrator>(),
        )
        .await
    }

    /// One without a schema.
    pub async fn empty(backend: Backend) -> Self {
        let db = Self::of(backend, TestStore::builder()).await;
        Migrator::reset(db.kit.db()).await.unwrap();
        db
    }

    async fn of(backend: Backend, builder: Builder) -> Self {
        let builder = match backend {
            Backend::Sqlite => builder.sqlite_file(),
            Backend::Postgres => builder.postgres(),
        };
        let kit = builder.open().await.unwrap();
        Self {
            backend,
            url: kit.url().to_owned(),
            kit: Arc::new(kit),
        }
    }

    /// SQL past the store.
    pub async fn run(&self, sql: &str) {
        self.kit.db().execute_unprepared(sql).await.unwrap();
    }

    /// Every room's row is held until this ends: on SQLite all that changes waits for it, on PostgreSQL what changes a room.
    pub async fn hold_rooms(&self) -> DatabaseTransaction {
        let held = self.kit.db().begin().await.unwrap();
        held.execute_unprepared("UPDATE rooms SET title = title").await.unwrap();
        held
    }

    pub async fn number(&self, sql: &str) -> i64 {
        let statement = Statement::from_string(self.kit.db().get_database_backend(), sql);
        let row = self.kit.db().query_one_raw(statement).await.unwrap().unwrap();
        row.try_get_by_index(0).unwrap()
    }
}

/// The key of the webhooks.
pub const WEBHOOKS: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// The settings of a test: cheap passwords, short times.
pub fn config(db: &Database) -> Config {
    let mut config = Config::with_database(&db.url).unwrap();
    config.password_memory_kib = 8;
    config.seat_grace_seconds = 60;
    config.webhook_secret = Some(conferencing_store::entity::Secret::new(WEBHOOKS));
    config
}

/// A service on a port of its own.
pub struct Service {
    pub app: App,
    pub base: String,
    stop: Option<oneshot::Sender<()>>,
    serving: Option<JoinHandle<()>>,
}

impl Service {
    pub async fn start(db: &Database) -> Self {
        Self::with(config(db), StoreSettings::default()).await
    }

    pub async fn with(config: Config, settings: StoreSettings) -> Self {
        let app = App::start_with(config, settings).await.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let (stop, stopped) = oneshot::channel::<()>();
        let serving = app.clone();
        let serving = tokio::spawn(async move {
            let stop = async move { drop(stopped.await) };
            serving.serve(listener, stop).await.unwrap();
        });
        Self {
            app,
            base,
            stop: Some(stop),
            serving: Some(serving),
        }
    }

    pub async fn stop(mut self) {
        drop(self.stop.take());
        soon(self.serving.take().unwrap()).await.unwrap();
    }

    /// Past the service, in the name of the system.
    pub fn system(&self) -> Acting {
        self.app.store().acting(&Actor::system("test"))
    }

    pub async fn room_id(&self, code: &str) -> RoomId {
        let room = self.app.store().rooms().find_by_code(code).await.unwrap();
        room.unwrap().id
    }

    /// Somebody who is not signed in.
    pub fn nobody(&self) -> Client {
        Client {
            http: reqwest::Client::new(),
            base: self.base.clone(),
            token: None,
            id: String::new(),
        }
    }

    /// Somebody who has registered and signed in.
    pub async fn user(&self, name: &str) -> Client {
        let nobody = self.nobody();
        let account = json!({"username": name, "display_name": name.to_uppercase(), "password": "a long password"});
        nobody.ok(Method::POST, "/accounts", account).await;
        nobody.signed_in(name).await
    }

    /// Several, by their names.
    pub async fn users<const COUNT: usize>(&self, names: [&str; COUNT]) -> [Client; COUNT] {
        let mut users = Vec::with_capacity(COUNT);
        for name in names {
            users.push(self.user(name).await);
        }
        users.try_into().unwrap_or_else(|_| unreachable!("one for each name"))
    }
}

/// Fails instead of hanging.
pub async fn soon<F: Future>(what: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(60), what)
        .await
        .expect("it hangs")
}

/// Somebody.
#[derive(Clone)]
pub struct Client {
    pub http: reqwest::Client,
    pub base: String,
    pub token: Option<String>,
    pub id: String,
}

impl Client {
    pub async fn signed_in(&self, name: &str) -> Self {
        let login = json!({"login": name, "password": "a long password"});
        let session = self.ok(Method::POST, "/sessions", login).await;
        self.of_session(&session)
    }

    pub fn of_session(&self, session: &Value) -> Self {
        Self {
            token: session["token"].as_str().map(str::to_owned),
            id: session["user"]["id"].as_str().unwrap().to_owned(),
            ..self.clone()
        }
    }

    /// The same person at another process.
    pub fn at(&self, service: &Service) -> Self {
        Self {
            base: service.base.clone(),
            ..self.clone()
        }
    }

    pub fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.base));
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    /// Status and body; null where there is none.
    pub async fn send(&self, method: Method, path: &str, body: Value) -> (u16, Value) {
        let mut request = self.request(method, path);
        if !body.is_null() {
            request = request.json(&body);
        }
        let response = soon(request.send()).await.unwrap();
        let status = response.status().as_u16();
        let kind = response
            .headers()
            .get("content-type")
            .map(|kind| kind.to_str().unwrap().to_owned());
        let text = response.text().await.unwrap();
        if status >= 400 {
            assert_eq!(kind.as_deref(), Some("application/problem+json"), "{path}: {text}");
        }
        let body: Value = serde_json::from_str(&text).unwrap_or_default();
        if status >= 400 {
            assert_eq!(body["status"], status, "{path}: {body}");
        }
        (status, body)
    }

    #[track_caller]
    pub fn ok(&self, method: Method, path: &str, body: Value) -> impl Future<Output = Value> + Send + use<> {
        let (this, path, caller) = (self.clone(), path.to_owned(), std::panic::Location::caller());
        async move {
            let (status, body) = this.send(method, &path, body).await;
            assert!(status < 400, "{caller}: {path}: {status} {body}");
            body
        }
    }

    pub async fn get(&self, path: &str) -> Value {
        self.ok(Method::GET, path, Value::Null).await
    }

    pub async fn post(&self, path: &str) -> Value {
        self.ok(Method::POST, path, Value::Null).await
    }

    #[track_caller]
    pub fn refused(
        &self,
        method: Method,
        path: &str,
        body: Value,
        (status, code): (u16, &'static str),
    ) -> impl Future<Output = Value> + Send + use<> {
        let (this, path, caller) = (self.clone(), path.to_owned(), std::panic::Location::caller());
        async move {
            let (got, body) = this.send(method, &path, body).await;
            assert_eq!(
                (got, body["code"].as_str()),
                (status, Some(code)),
                "{caller}: {path}: {body}"
            );
            body
        }
    }

    /// A room of theirs, by its code.
    pub async fn room(&self, what: Value) -> String {
        let mut room = json!({"title": "A room"});
        room.as_object_mut().unwrap().extend(what.as_object().unwrap().clone());
        let room = self.ok(Method::POST, "/rooms", room).await;
        room["code"].as_str().unwrap().to_owned()
    }

    pub async fn join(&self, code: &str) -> Value {
        self.post(&format!("/rooms/{code}/join")).await
    }

    /// The room's WebSocket, after its hello.
    pub async fn listen(&self, code: &str) -> Socket {
        let mut socket = self.open(&format!("/rooms/{code}/events")).await.unwrap();
        socket.hello = socket.next().await;
        assert_eq!(socket.hello["type"], "hello", "{}", socket.hello);
        socket
    }

    pub async fn open(&self, path: &str) -> Result<Socket, (u16, Value)> {
        let url = format!("{}{path}", self.base.replacen("http", "ws", 1));
        let mut request = url.into_client_request().unwrap();
        if let Some(token) = &self.token {
            let value = format!("Bearer {token}").parse().unwrap();
            request.headers_mut().insert("authorization", value);
        }
        match soon(tokio_tungstenite::connect_async(request)).await {
            Ok((stream, _)) => Ok(Socket {
                stream,
                hello: Value::Null,
            }),
            Err(tungstenite::Error::Http(response)) => {
                let body = response.body().as_deref().unwrap_or_default();
                Err((
                    response.status().as_u16(),
                    serde_json::from_slice(body).unwrap_or_default(),
                ))
            }
            Err(error) => panic!("{error}"),
        }
    }
}

/// A WebSocket.
pub struct Socket {
    pub stream: WebSocketStream<MaybeTlsStream<TcpStream>>,
    pub hello: Value,
}

impl Socket {
    /// The next message; a close frame as `{"close": code}`.
    pub async fn next(&mut self) -> Value {
        soon(self.message()).await
    }

    /// As [`Self::next`], but it waits for as long as pings come.
    pub async fn message(&mut self) -> Value {
        loop {
            match self.stream.next().await {
                Some(Ok(Message::Text(text))) => return serde_json::from_str(&text).unwrap(),
                Some(Ok(Message::Close(Some(frame)))) => return json!({"close": u16::from(frame.code)}),
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                other => return json!({"end": format!("{other:?}")}),
            }
        }
    }

    /// The next event, which must be this one.
    #[track_caller]
    pub fn event(&mut self, action: &'static str) -> impl Future<Output = Value> + Send + '_ {
        let caller = std::panic::Location::caller();
        async move {
            let event = self.next().await;
            assert_eq!(event["action"], action, "{caller}: {event}");
            event
        }
    }

    /// Up to an event that fulfils this.
    pub async fn until(&mut self, fulfils: impl Fn(&Value) -> bool) -> Value {
        loop {
            let message = self.next().await;
            assert!(message.get("end").is_none(), "{message}");
            if fulfils(&message) {
                return message;
            }
        }
    }

    /// Why it is closed: the reason, and the code.
    pub async fn closed(&mut self) -> (String, i64) {
        let closing = self.until(|message| message["type"] == "closing").await;
        let close = self.next().await;
        (
            closing["reason"].as_str().unwrap().to_owned(),
            close["close"].as_i64().unwrap(),
        )
    }
}
