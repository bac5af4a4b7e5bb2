//! Who is compared: each has a database of its own on one server.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use conferencing_store::WriterSettings;
use sea_orm::{ConnectionTrait, DatabaseConnection, Statement as Sql};

use crate::capture::{Sent, log_length, sent_since};
use crate::operation::{AppendBatch, Operation};
use crate::pgbench::Script;
use crate::protocol::{Capture, Command, Done, Run};
use crate::remote::Remote;
use crate::subject::Kind;
use crate::worker::open;
use crate::{entities, seed};

/// Of each pool, and the most clients of pgbench.
pub const CONNECTIONS: u32 = 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    This,
    Before,
    Pgbench,
    Entities,
}

impl Who {
    pub fn name(self) -> &'static str {
        match self {
            Self::This => "this",
            Self::Before => "before",
            Self::Pgbench => "pgbench",
            Self::Entities => "entities",
        }
    }

    /// Of the database.
    fn database(self) -> String {
        format!("operations_{}", self.name())
    }
}

pub struct Contestant {
    pub who: Who,
    url: String,
    db: DatabaseConnection,
    /// Does the operations; none for pgbench.
    worker: Option<Remote>,
    script: Option<Script>,
    folder: tempfile::TempDir,
    /// The number of each operation that is next.
    next: HashMap<Operation, u64>,
    /// Up to where there are rows that operations use up.
    made: HashMap<Kind, u64>,
    /// Operations a second, as last seen.
    seen: HashMap<(Operation, usize), f64>,
}

pub struct Server {
    pub db: DatabaseConnection,
    place: String,
}

pub async fn number(db: &DatabaseConnection, sql: &str) -> f64 {
    let sql = format!("SELECT CAST(({sql}) AS double precision)");
    let row = db.query_one_raw(Sql::from_string(db.get_database_backend(), sql)).await;
    row.unwrap()
        .unwrap()
        .try_get_by_index::<Option<f64>>(0)
        .unwrap()
        .unwrap_or(0.0)
}

impl Server {
    /// That of `TEST_DATABASE_URL`, which is a new one for each run.
    pub async fn new() -> Self {
        let url = std::env::var("TEST_DATABASE_URL").expect("scripts/bench sets TEST_DATABASE_URL");
        let db = open(&url, 2).await;
        for setting in ["fsync", "full_page_writes"] {
            let sql = format!("SELECT CASE current_setting('{setting}') WHEN 'on' THEN 1 ELSE 0 END");
            let on = number(&db, &sql).await > 0.0 || std::env::var_os("BENCH_NO_FSYNC").is_some();
            assert!(on, "{setting} must be on: run scripts/bench");
        }
        let (place, _) = url.rsplit_once('/').unwrap();
        let place = place.to_owned();
        Self { db, place }
    }

    pub fn url(&self, database: &str) -> String {
        format!("{}/{database}", self.place)
    }

    pub async fn execute(&self, sql: &str) {
        self.db.execute_unprepared(sql).await.unwrap();
    }

    /// All who can take part: `before` only where it was built.
    pub async fn contestants(&self, depth: u64) -> Vec<Contestant> {
        let this = std::env::current_exe().unwrap();
        let mut all = vec![self.filled(Who::This, &this, depth).await];
        match std::env::var_os("BENCH_BEFORE_PROGRAM") {
            Some(program) => all.push(self.filled(Who::Before, &PathBuf::from(program), depth).await),
            None => eprintln!("  without the tree before: scripts/bench did not build it"),
        }
        // The same schema and rows as this tree's.
        all[0].db.close_by_ref().await.unwrap();
        for who in [Who::Pgbench, Who::Entities] {
            let (from, to) = (Who::This.database(), who.database());
            self.execute(&format!("CREATE DATABASE {to} TEMPLATE {from}")).await;
            let url = self.url(&to);
            let worker = (who == Who::Entities).then(|| Remote::start(&this, "entities", &url));
            all.push(Contestant::new(who, url, worker).await);
        }
        all[0].db = open(&all[0].url, 2).await;
        all[0].worker = Some(Remote::start(&this, "store", &all[0].url));
        self.execute("CHECKPOINT").await;
        all
    }

    async fn filled(&self, who: Who, program: &Path, depth: u64) -> Contestant {
        eprintln!("  filling the database of {}", who.name());
        self.execute(&format!("CREATE DATABASE {}", who.database())).await;
        let url = self.url(&who.database());
        let mut worker = Remote::start(program, "store", &url);
        worker.ask(&Command::Migrate {}).unwrap();
        let made = Contestant::new(who, url, (who != Who::This).then_some(worker)).await;
        seed::world(&made.db, depth).await;
        made
    }
}

impl Contestant {
    async fn new(who: Who, url: String, worker: Option<Remote>) -> Self {
        let db = open(&url, 2).await;
        Self {
            who,
            url,
            db,
            worker,
            script: None,
            folder: tempfile::tempdir().unwrap(),
            next: HashMap::new(),
            made: HashMap::new(),
            seen: HashMap::new(),
        }
    }

    pub fn takes_part(&self, operation: Operation) -> bool {
        match self.who {
            Who::Entities => entities::DONE.contains(&operation),
            Who::Pgbench => self.script.is_some(),
            _ => true,
        }
    }

    pub fn database(&self) -> String {
        self.who.database()
    }

    /// Takes numbers for `count` operations, and sees that there are rows for them.
    async fn take(&mut self, operation: Operation, count: u64) -> u64 {
        let next = self.next.entry(operation).or_default();
        let from = *next;
        *next += count;
        if let Some(kind) = operation.uses_up() {
            let made = self.made.entry(kind).or_default();
            if from + count > *made {
                seed::more(&self.db, kind, *made, from + count).await;
                *made = from + count;
            }
        }
        from
    }

    /// What one operation of this contestant sends.
    pub async fn sent(&mut self, operation: Operation, depth: u64) -> Result<(u64, Vec<Sent>), String> {
        let from = self.take(operation, 2).await;
        let database = self.database();
        let set = |to: &str| format!("ALTER DATABASE {database} SET log_statement = '{to}'");
        self.db.execute_unprepared(&set("all")).await.unwrap();
        let start = log_length();
        let capture = Capture { operation, from, depth };
        let answer = self.worker.as_mut().unwrap().ask(&Command::Capture(capture));
        self.db.execute_unprepared(&set("none")).await.unwrap();
        let prepared = serde_json::from_value(answer?).unwrap();
        let n = if operation == AppendBatch { from } else { from + 1 };
        Ok((n, sent_since(start, &prepared)))
    }

    /// Has pgbench do what `this` does.
    pub async fn learn(&mut self, operation: Operation, n: u64, sent: &[Sent]) {
        // A fed writer's batches differ in size: the fullest is what it is about.
        let fullest = |sent: &&Sent| match sent {
            Sent::Prepared(_, values) => values.iter().flatten().map(String::len).max(),
            Sent::Simple(_) => None,
        };
        let batch: Vec<Sent> = sent.iter().max_by_key(fullest).into_iter().cloned().collect();
        let sent = if operation == AppendBatch { &batch } else { sent };
        let script = Script::write(operation, n, sent, self.folder.path(), &self.db).await;
        if let Err(reason) = &script {
            eprintln!("  {}: not with pgbench: {reason}", operation.name());
        }
        self.script = script.ok();
    }

    /// Makes what the next turn will use up.
    pub async fn prepare(&mut self, turn: Turn) {
        self.reserve(turn.operation, self.likely(turn)).await;
    }

    /// Makes what the next so many operations will use up.
    pub async fn reserve(&mut self, operation: Operation, count: u64) {
        let from = self.take(operation, count).await;
        // Taken back, to be taken by the turn.
        self.next.insert(operation, from);
    }

    /// As many operations as there may be in a turn: more than there will be where time ends it.
    fn likely(&self, turn: Turn) -> u64 {
        let seen = self.seen.get(&(turn.operation, turn.clients));
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an estimate")]
        let count = seen.map_or(4_000.0 * turn.seconds(), |rate| 1.5 * rate * turn.seconds()) as u64;
        (count + 4 * turn.clients as u64).min(turn.operation.most_in_a_turn())
    }

    pub async fn turn(&mut self, turn: Turn) -> Result<Done, String> {
        let operation = turn.operation;
        let begun = number(&self.db, "extract(epoch FROM clock_timestamp())").await;
        let done = match self.who {
            Who::Pgbench => {
                let clients = match operation {
                    // As many as the writer has lanes.
                    AppendBatch => WriterSettings::default().lanes.into(),
                    _ => turn.clients.min(CONNECTIONS as usize),
                };
                let script = self.script.as_ref().unwrap();
                // It ends by number, not by time, of which it knows whole seconds only.
                let transactions = self.likely(turn) * 2 / 3 / script.size;
                let transactions = transactions.max(2 * clients as u64).next_multiple_of(clients as u64);
                let from = self.take(operation, transactions).await;
                let script = self.script.as_ref().unwrap();
                let done = script.run(&self.url, clients, from, transactions, self.folder.path())?;
                self.check(operation, begun, transactions).await;
                done
            }
            _ => {
                let endless = operation.uses_up().is_none() && operation.most_in_a_turn() == u64::MAX;
                let limit = if endless { u64::MAX >> 32 } else { self.likely(turn) };
                let from = self.take(operation, if endless { 0 } else { limit }).await;
                let run = Run {
                    operation,
                    clients: turn.clients,
                    connections: turn.connections,
                    millis: turn.millis,
                    from,
                    limit,
                    depth: turn.depth,
                };
                let answer = self.worker.as_mut().unwrap().ask(&Command::Run(run))?;
                let done: Done = serde_json::from_value(answer).unwrap();
                let next = from + done.operations + turn.clients as u64;
                self.next
                    .insert(operation, if endless { next } else { next.min(from + limit) });
                done
            }
        };
        self.seen.insert((operation, turn.clients), done.rate());
        Ok(done)
    }

    /// Runs exactly so many operations.
    pub async fn exactly(&mut self, turn: Turn, count: u64) -> Result<Done, String> {
        let from = self.take(turn.operation, count).await;
        let run = Run {
            operation: turn.operation,
            clients: turn.clients,
            connections: turn.connections,
            millis: turn.millis,
            from,
            limit: count,
            depth: turn.depth,
        };
        let answer = self.worker.as_mut().unwrap().ask(&Command::Run(run))?;
        Ok(serde_json::from_value(answer).unwrap())
    }

    /// A statement of pgbench that found nothing to do fails nowhere: its events are counted instead.
    async fn check(&self, operation: Operation, begun: f64, operations: u64) {
        if !operation.writes() {
            return;
        }
        let sql = format!("SELECT count(*) FROM audit_logs WHERE \"timestamp\" >= to_timestamp({begun})");
        let events = number(&self.db, &sql).await;
        #[expect(clippy::cast_precision_loss, reason = "for a warning")]
        let expected = operations as f64;
        if operation != AppendBatch && events < expected {
            eprintln!(
                "  pgbench did {expected} x {}, and there are {events} events",
                operation.name()
            );
        }
    }
}

/// What is measured at a time.
#[derive(Clone, Copy, Debug)]
pub struct Turn {
    pub operation: Operation,
    pub clients: usize,
    pub connections: u32,
    pub millis: u64,
    pub depth: u64,
}

impl Turn {
    fn seconds(self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "an estimate")]
        let millis = self.millis as f64;
        millis / 1_000.0
    }
}
