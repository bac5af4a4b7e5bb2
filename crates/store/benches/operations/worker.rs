//! A process that does operations when it is told to: this tree's, or that of the tree before.

use std::collections::HashMap;
use std::io::{BufRead, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use conferencing_migration::{Migrator, MigratorTrait};
use conferencing_store::{Actor, ConnectSettings, PageRequest, Store, StoreSettings, WriterSettings};
use sea_orm::{ConnectionTrait, DatabaseConnection, Statement as Sql};
use serde_json::{Value as Json, json};

use crate::calls::{Calls, observation, requesting, room, user};
use crate::entities::Entities;
use crate::operation::{AppendBatch, Operation};
use crate::protocol::{BEGINS, Capture, Command, Done, ENDS, Prepared, Run, Statement, percentile};

/// Events that a task of a fed writer gives before it awaits them: in all tasks together half of what the queue holds.
const WINDOW: usize = 512;

type Failure = Box<dyn std::error::Error + Send + Sync>;

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Side {
    Store,
    Entities,
}

/// Reads commands until there are no more.
pub fn serve(side: Side, url: &str) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    let mut worker = Worker {
        side,
        url: url.to_owned(),
        pools: HashMap::new(),
        far: None,
    };
    for line in std::io::stdin().lock().lines() {
        let command: Command = serde_json::from_str(&line.unwrap()).unwrap();
        let answer = match runtime.block_on(worker.answer(command)) {
            Ok(answer) => json!({ "done": answer }),
            Err(failure) => json!({ "failed": failure.to_string() }),
        };
        println!("{answer}");
        std::io::stdout().flush().unwrap();
    }
}

struct Worker {
    side: Side,
    url: String,
    /// By their size.
    pools: HashMap<u32, DatabaseConnection>,
    /// The audit log's far page, once it was walked to.
    far: Option<PageRequest>,
}

/// Who does the operations.
#[derive(Clone)]
enum Doer {
    Store(Calls),
    Entities(Entities),
}

impl Doer {
    async fn perform(&self, operation: Operation, n: u64) -> Result<(), Failure> {
        match self {
            Self::Store(calls) => Ok(Box::pin(calls.perform(operation, n)).await?),
            Self::Entities(entities) => Ok(Box::pin(entities.perform(operation, n)).await?),
        }
    }
}

pub async fn open(url: &str, connections: u32) -> DatabaseConnection {
    let settings = ConnectSettings {
        max_connections: Some(connections),
        acquire_timeout: Duration::from_secs(30),
        ..ConnectSettings::default()
    };
    conferencing_store::connect::open(url, &settings).await.unwrap()
}

impl Worker {
    async fn answer(&mut self, command: Command) -> Result<Json, Failure> {
        match command {
            Command::Migrate {} => {
                let db = open(&self.url, 2).await;
                Migrator::up(&db, None).await?;
                db.close().await?;
                Ok(Json::Null)
            }
            Command::Run(run) if run.operation == AppendBatch => Ok(serde_json::to_value(self.feed(run).await?)?),
            Command::Run(run) => Ok(serde_json::to_value(self.run(run).await?)?),
            Command::Capture(capture) => Ok(serde_json::to_value(self.capture(capture).await?)?),
        }
    }

    async fn pool(&mut self, connections: u32) -> DatabaseConnection {
        if !self.pools.contains_key(&connections) {
            let pool = open(&self.url, connections).await;
            self.pools.insert(connections, pool);
        }
        self.pools[&connections].clone()
    }

    async fn store(&mut self, connections: u32) -> Result<Store, Failure> {
        let db = self.pool(connections).await;
        Ok(Store::from_connection(db, StoreSettings::default()).await?)
    }

    async fn doer(&mut self, operation: Operation, connections: u32, depth: u64) -> Result<Doer, Failure> {
        Ok(match self.side {
            Side::Entities => Doer::Entities(Entities {
                db: self.pool(connections).await,
                depth,
            }),
            Side::Store => {
                let store = self.store(connections).await?;
                Doer::Store(Calls::new(store, operation, depth, &mut self.far).await?)
            }
        })
    }

    async fn run(&mut self, run: Run) -> Result<Done, Failure> {
        let doer = self.doer(run.operation, run.connections, run.depth).await?;
        let next = Arc::new(AtomicU64::new(run.from));
        let begun = Instant::now();
        let deadline = begun + Duration::from_millis(run.millis);
        let client = |_| {
            let (doer, next) = (doer.clone(), Arc::clone(&next));
            tokio::spawn(async move {
                let mut times = Vec::<u32>::new();
                loop {
                    let asked = Instant::now();
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    if asked >= deadline || n >= run.from + run.limit {
                        return Ok::<_, Failure>(times);
                    }
                    doer.perform(run.operation, n).await?;
                    times.push(u32::try_from(asked.elapsed().as_micros()).unwrap_or(u32::MAX));
                }
            })
        };
        let clients: Vec<_> = (0..run.clients).map(client).collect();
        let mut times = Vec::new();
        for client in clients {
            times.extend(client.await??);
        }
        let seconds = begun.elapsed().as_secs_f64();
        times.sort_unstable();
        Ok(Done {
            operations: times.len() as u64,
            seconds,
            p50: percentile(&times, 0.50),
            p99: percentile(&times, 0.99),
        })
    }

    /// A writer that always has a queue.
    async fn feed(&mut self, run: Run) -> Result<Done, Failure> {
        let store = self.store(run.connections).await?;
        let writer = store.audit_writer(WriterSettings::default())?;
        let begun = Instant::now();
        let deadline = begun + Duration::from_millis(run.millis);
        let window = WINDOW.min(usize::try_from(run.limit)?);
        let client = |number: usize| {
            let writer = writer.clone();
            tokio::spawn(async move {
                let (operation, n) = (run.operation, run.from + number as u64);
                let actor = requesting(Actor::user(user(operation, "user", n)));
                let room = Some(room(operation, n));
                let mut events = 0;
                while Instant::now() < deadline && events < run.limit {
                    let given: Result<Vec<_>, _> = (0..window)
                        .map(|_| writer.try_append(&actor, room, &observation()))
                        .collect();
                    for appending in given? {
                        appending.await?;
                        events += 1;
                    }
                }
                Ok::<_, Failure>(events)
            })
        };
        let clients: Vec<_> = (0..run.clients).map(client).collect();
        let mut operations = 0;
        for client in clients {
            operations += client.await??;
        }
        let seconds = begun.elapsed().as_secs_f64();
        writer.close().await;
        Ok(Done {
            operations,
            seconds,
            ..Done::default()
        })
    }

    async fn capture(&mut self, capture: Capture) -> Result<Prepared, Failure> {
        let Capture { operation, from, depth } = capture;
        // A pool of its own, so that what is prepared is the operation's.
        let db = open(&self.url, 1).await;
        self.pools.insert(1, db.clone());
        if operation == AppendBatch {
            let run = Run {
                operation,
                clients: 1,
                connections: 1,
                millis: 60_000,
                from,
                limit: 512,
                depth,
            };
            self.feed(run).await?;
            db.execute_unprepared(BEGINS).await?;
            self.feed(run).await?;
        } else {
            let doer = self.doer(operation, 1, depth).await?;
            doer.perform(operation, from).await?;
            db.execute_unprepared(BEGINS).await?;
            doer.perform(operation, from + 1).await?;
        }
        db.execute_unprepared(ENDS).await?;
        let sql = "SELECT name, statement, CAST(to_json(CAST(parameter_types AS text[])) AS text) FROM pg_prepared_statements";
        let rows = db
            .query_all_raw(Sql::from_string(db.get_database_backend(), sql))
            .await?;
        let mut prepared = Prepared::new();
        for row in rows {
            let (text, types) = (row.try_get_by_index(1)?, row.try_get_by_index::<String>(2)?);
            let types = serde_json::from_str(&types)?;
            prepared.insert(row.try_get_by_index(0)?, Statement { text, types });
        }
        self.pools.remove(&1);
        db.close().await?;
        Ok(prepared)
    }
}
