//! A PostgreSQL server as all tests of this process use it: a thread that makes and drops their databases over a connection of its own.
//!
//! The thread outlives the runtimes of the tests. Its session holds an advisory lock for as long as the process lives; databases carry the
//! lock's number in their names, so that the next process sees which of them nobody has any more, and drops these. PostgreSQL has the locks
//! of each database apart, and the address may name any, so what another session holds is looked up for the whole server.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, PoisonError, mpsc as blocking};
use std::thread;
use std::time::Duration;

use conferencing_store::connect::{self, ConnectSettings};
use sea_orm::{ConnectionTrait, DatabaseConnection, DbBackend, DbErr, Statement};
use tokio::sync::{mpsc, oneshot};
use url::Url;

use super::ServerChoice;
use super::migrations::Migrations;
use super::templates;
use crate::error::SetUpError;

/// What databases of tests begin with. The word `test` in it makes them ones that may be emptied.
const PREFIX: &str = "conferencing_test_";
/// The first half of the advisory locks by which processes are seen to be alive.
const ALIVE: i32 = 0x636f_6e66;
/// How long the drop of a database is waited for. It goes on afterwards, as long as the process does.
const DROP_WAIT: Duration = Duration::from_secs(30);

enum Job {
    Make(Migrations, oneshot::Sender<Result<Made, SetUpError>>),
    Drop(String, Option<blocking::Sender<()>>),
}

/// A database that is there and migrated.
pub(super) struct Made {
    pub(super) name: String,
    pub(super) url: String,
}

/// The way to the thread.
pub(super) struct Server {
    jobs: mpsc::UnboundedSender<Job>,
    /// The server goes with this process.
    is_own: bool,
}

/// Those of this process, by how they were chosen.
static SERVERS: Mutex<Option<HashMap<ServerChoice, Arc<Server>>>> = Mutex::new(None);

impl Server {
    /// The one that was chosen, which is started or connected to when it is first asked for something.
    pub(super) fn of(choice: &ServerChoice) -> Arc<Self> {
        let mut servers = SERVERS.lock().unwrap_or_else(PoisonError::into_inner);
        let servers = servers.get_or_insert_default();
        let server = servers.entry(choice.clone()).or_insert_with(|| {
            let (jobs, work) = mpsc::unbounded_channel();
            let (choice, is_own) = (choice.clone(), *choice == ServerChoice::Own);
            thread::spawn(move || serve(&choice, work));
            Arc::new(Self { jobs, is_own })
        });
        Arc::clone(server)
    }

    pub(super) async fn make(&self, migrations: Migrations) -> Result<Made, SetUpError> {
        let (reply, answer) = oneshot::channel();
        let gone = || SetUpError::Database {
            reason: "the thread that makes databases has ended".to_owned(),
        };
        self.jobs.send(Job::Make(migrations, reply)).map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }

    /// Drops it; whoever is connected is thrown out. On a server that stays it waits until that is done, and blocks the thread meanwhile: nobody
    /// knows whether the process lives on.
    pub(super) fn drop_database(&self, name: String) {
        if self.is_own {
            let _ = self.jobs.send(Job::Drop(name, None));
            return;
        }
        let (done, wait) = blocking::channel();
        if self.jobs.send(Job::Drop(name, Some(done))).is_ok() {
            let _ = wait.recv_timeout(DROP_WAIT);
        }
    }
}

fn serve(choice: &ServerChoice, mut work: mpsc::UnboundedReceiver<Job>) {
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else {
        return;
    };
    runtime.block_on(async {
        let mut host = None;
        while let Some(job) = work.recv().await {
            match job {
                Job::Make(migrations, reply) => {
                    let made = match open(&mut host, choice).await {
                        Ok(host) => host.take(&migrations).await,
                        Err(error) => Err(error),
                    };
                    let Some(host) = &mut host else {
                        let _ = reply.send(made);
                        continue;
                    };
                    // Whoever gave up waiting has nobody else to drop it.
                    if let Err(Ok(unwanted)) = reply.send(made) {
                        host.drop_database(&unwanted.name).await;
                    }
                    // On a server that stays it would be left over.
                    if *choice == ServerChoice::Own && work.is_empty() {
                        host.make_spare(&migrations).await;
                    }
                }
                Job::Drop(name, done) => {
                    if let Some(host) = &host {
                        host.drop_database(&name).await;
                    }
                    if let Some(done) = done {
                        let _ = done.send(());
                    }
                }
            }
        }
    });
}

/// Opens the server, unless it is open. What failed is tried again for the next who asks.
async fn open<'a>(host: &'a mut Option<Host>, choice: &ServerChoice) -> Result<&'a mut Host, SetUpError> {
    if host.is_none() {
        *host = Some(Host::open(choice).await?);
    }
    host.as_mut().ok_or_else(|| SetUpError::Database {
        reason: "the server is not open".to_owned(),
    })
}

/// A server, and a session on it.
pub(super) struct Host {
    url: String,
    /// A pool of one connection, that is never let go: its session holds locks.
    pub(super) db: DatabaseConnection,
    run: i32,
    made: u32,
    /// By the key of the migrations.
    templates: HashMap<String, String>,
    /// Made before anybody asked, by the key of the migrations.
    spare: HashMap<String, Made>,
    #[cfg(unix)]
    _server: Option<super::own_server::OwnServer>,
}

/// A pool that keeps its one connection.
pub(super) fn one_connection() -> ConnectSettings {
    ConnectSettings {
        max_connections: Some(1),
        min_connections: 1,
        idle_timeout: Duration::ZERO,
        max_lifetime: Duration::ZERO,
        application_name: "conferencing-testing".to_owned(),
        ..ConnectSettings::default().without_limits()
    }
}

impl Host {
    async fn open(choice: &ServerChoice) -> Result<Self, SetUpError> {
        #[cfg(unix)]
        let server = match choice {
            ServerChoice::Own => Some(super::own_server::OwnServer::start()?),
            ServerChoice::At(_) => None,
        };
        let url = match choice {
            ServerChoice::At(url) => url.clone(),
            #[cfg(unix)]
            ServerChoice::Own => server.as_ref().map(|server| server.url.clone()).unwrap_or_default(),
            #[cfg(not(unix))]
            ServerChoice::Own => {
                let reason = "none is started on this system".to_owned();
                return Err(SetUpError::NoServer { reason });
            }
        };
        let db = connect::open(&url, &one_connection()).await?;
        let mut host = Self {
            url,
            db,
            run: 0,
            made: 0,
            templates: HashMap::new(),
            spare: HashMap::new(),
            #[cfg(unix)]
            _server: server,
        };
        host.take_a_number().await?;
        host.sweep().await?;
        Ok(host)
    }

    /// How long is waited before a lock is tried again. Those who let it go for each other do not meet again and again.
    pub(super) fn pause(&self) -> Duration {
        Duration::from_millis(15) + Duration::from_micros(u64::from(self.run.unsigned_abs() % 10_000))
    }

    /// A number that no other process on this server has.
    async fn take_a_number(&mut self) -> Result<(), DbErr> {
        loop {
            let drawn = RandomState::new().hash_one(std::process::id()) & 0x7fff_ffff;
            self.run = i32::try_from(drawn).unwrap_or(1);
            if self.try_lock(ALIVE, self.run).await? {
                return Ok(());
            }
        }
    }

    /// Whether this session has the lock now, and nobody else on this server has it, in whichever database.
    pub(super) async fn try_lock(&self, class: i32, number: i32) -> Result<bool, DbErr> {
        let rows = self
            .rows(&format!("SELECT pg_try_advisory_lock({class}, {number})"))
            .await?;
        if !rows.first().map_or(Ok(false), |row| row.try_get_by_index(0))? {
            return Ok(false);
        }
        // In this order: of two who come at once in two databases both may let it go again, but they never both have it. 2 is for locks of
        // two numbers.
        let elsewhere = format!(
            "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND classid = {class} AND objid = {number} AND objsubid = 2
                AND granted AND pid <> pg_backend_pid()"
        );
        let is_alone = self.rows(&elsewhere).await?.is_empty();
        if !is_alone {
            self.unlock(class, number).await?;
        }
        Ok(is_alone)
    }

    pub(super) async fn unlock(&self, class: i32, number: i32) -> Result<(), DbErr> {
        self.rows(&format!("SELECT pg_advisory_unlock({class}, {number})"))
            .await
            .map(drop)
    }

    pub(super) async fn rows(&self, sql: &str) -> Result<Vec<sea_orm::QueryResult>, DbErr> {
        self.db
            .query_all_raw(Statement::from_string(DbBackend::Postgres, sql))
            .await
    }

    pub(super) async fn run(&self, sql: &str) -> Result<(), DbErr> {
        self.db.execute_unprepared(sql).await.map(drop)
    }

    /// Drops what processes have left that are not there any more.
    async fn sweep(&self) -> Result<(), DbErr> {
        let all = format!("SELECT CAST(datname AS text) FROM pg_database WHERE starts_with(datname, '{PREFIX}')");
        let mut names = Vec::new();
        for row in self.rows(&all).await? {
            names.push(row.try_get_by_index::<String>(0)?);
        }
        for name in names {
            let number = name.strip_prefix(PREFIX).and_then(|rest| rest.split('_').next());
            let Some(run) = number.and_then(|hex| i32::from_str_radix(hex, 16).ok()) else {
                continue;
            };
            if run != self.run && self.try_lock(ALIVE, run).await? {
                self.drop_database(&name).await;
                self.unlock(ALIVE, run).await?;
            }
        }
        Ok(())
    }

    async fn take(&mut self, migrations: &Migrations) -> Result<Made, SetUpError> {
        match self.spare.remove(&migrations.key()) {
            Some(spare) => Ok(spare),
            None => self.make(migrations).await,
        }
    }

    /// For the next test, while this one runs.
    async fn make_spare(&mut self, migrations: &Migrations) {
        let key = migrations.key();
        if !self.spare.contains_key(&key)
            && let Ok(made) = self.make(migrations).await
        {
            self.spare.insert(key, made);
        }
    }

    async fn make(&mut self, migrations: &Migrations) -> Result<Made, SetUpError> {
        let key = migrations.key();
        self.made += 1;
        let name = format!("{PREFIX}{:x}_{}", self.run, self.made);
        // Another process may drop a template that it takes for forgotten; then it is made once more.
        for _ in 0..3 {
            let template = match self.templates.get(&key) {
                Some(template) => template.clone(),
                None => templates::ensure(self, &key, migrations).await?,
            };
            let template = self.templates.entry(key.clone()).or_insert(template).clone();
            match self.run(&format!("CREATE DATABASE {name} TEMPLATE {template}")).await {
                Ok(()) => {
                    let url = self.url_of(&name);
                    return Ok(Made { name, url });
                }
                Err(error) if is_missing(&error) => drop(self.templates.remove(&key)),
                Err(error) => return Err(error.into()),
            }
        }
        Err(SetUpError::Database {
            reason: "its template is dropped again and again".to_owned(),
        })
    }

    async fn drop_database(&self, name: &str) {
        let dropped = self.run(&format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)")).await;
        if let Err(error) = dropped {
            tracing::warn!(%error, database = name, "a test's database could not be dropped");
        }
    }

    /// The address of another database of this server.
    pub(super) fn url_of(&self, name: &str) -> String {
        match Url::parse(&self.url) {
            Ok(mut url) => {
                url.set_path(name);
                url.to_string()
            }
            Err(_) => self.url.clone(),
        }
    }
}

/// 3D000, invalid_catalog_name.
fn is_missing(error: &DbErr) -> bool {
    let (DbErr::Exec(sea_orm::RuntimeErr::SqlxError(error)) | DbErr::Query(sea_orm::RuntimeErr::SqlxError(error))) =
        error
    else {
        return false;
    };
    error
        .as_database_error()
        .is_some_and(|refusal| refusal.code().as_deref() == Some("3D000"))
}
