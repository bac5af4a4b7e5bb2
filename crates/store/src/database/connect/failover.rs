//! Several servers, of which one takes writes: finding it, and finding it again after a failover. The pool is turned to another server by
//! changing where it opens connections; those that it has already are closed when they are next asked for. (One that is kept at hand, see
//! `lease.rs`, is used for up to 50 ms more.)

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use sea_orm::SqlxError;
use sea_orm::sqlx::pool::PoolOptions;
use sea_orm::sqlx::postgres::PgConnectOptions;
use sea_orm::sqlx::{self, ConnectOptions as _, Connection as _, PgConnection, PgPool, Postgres};

use tokio::sync::Notify;

use super::{Background, is_alive, pool_options};
use crate::database::connect::ConnectSettings;
use crate::telemetry;

/// How often the server in use is asked whether it still takes writes.
const PROBE: Duration = Duration::from_millis(500);
/// How long a server may take to answer that, the way to it included.
const PROBE_LIMIT: Duration = Duration::from_secs(1);
/// The pause before all servers are asked again.
const SEARCH_PAUSE: Duration = Duration::from_millis(100);

/// Neither a standby, nor set to read only.
const TAKES_WRITES: &str = "SELECT current_setting('transaction_read_only') = 'off'";

/// One of several servers.
pub(super) struct Server {
    /// Its host and port.
    pub(super) name: String,
    pub(super) options: PgConnectOptions,
}

/// When the pool last turned to another server: what was opened before leads to the one before.
#[derive(Debug, Default)]
struct Turn {
    at: Mutex<Option<Instant>>,
    /// Told by who met a server that takes no writes.
    doubted: Notify,
}

impl Turn {
    fn happens(&self) {
        *self.at.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// Whether a connection of that age is from before.
    fn outdates(&self, age: Duration) -> bool {
        let at = *self.at.lock().unwrap_or_else(PoisonError::into_inner);
        at.is_some_and(|at| age >= at.elapsed())
    }
}

/// Opens a pool on the server that takes writes, and keeps it on the one that does. None if no server does within the time for a
/// connection.
pub(super) async fn open(
    servers: Vec<Server>,
    settings: &ConnectSettings,
    connections: u32,
) -> Result<Option<(PgPool, Background)>, SqlxError> {
    let found = tokio::time::timeout(settings.acquire_timeout, find(&servers, 0)).await;
    let Ok(current) = found else {
        return Ok(None);
    };
    let turn = Arc::<Turn>::default();
    let options = servers[current].options.clone();
    let pool = hooked(pool_options(settings, connections), &turn)
        .connect_with(options)
        .await?;
    let supervision = Supervision {
        pool: pool.clone(),
        servers,
        current,
        turn,
        probe: None,
    };
    Ok(Some((pool, Background::run(supervision.run()))))
}

/// A pool whose connections lead to a server that takes writes, and to that in use.
fn hooked(options: PoolOptions<Postgres>, turn: &Arc<Turn>) -> PoolOptions<Postgres> {
    let (connected, acquired) = (Arc::clone(turn), Arc::clone(turn));
    options
        .after_connect(move |connection, _| {
            let turn = Arc::clone(&connected);
            Box::pin(async move {
                // Who writes waits for a server that takes it, instead of being refused by one that does not.
                if takes_writes(connection).await? {
                    return Ok(());
                }
                turn.doubted.notify_one();
                Err(SqlxError::Protocol("the server takes no writes".to_owned()))
            })
        })
        .before_acquire(move |connection, known| {
            let is_outdated = acquired.outdates(known.age);
            Box::pin(async move {
                if is_outdated {
                    return Ok(false);
                }
                is_alive(connection, known).await
            })
        })
}

struct Supervision {
    pool: PgPool,
    servers: Vec<Server>,
    current: usize,
    turn: Arc<Turn>,
    /// A connection to the server in use, beside the pool's.
    probe: Option<PgConnection>,
}

impl Supervision {
    /// Until the pool is closed.
    async fn run(mut self) {
        while !self.pool.is_closed() {
            tokio::select! {
                () = tokio::time::sleep(PROBE) => {}
                () = self.turn.doubted.notified() => {}
            }
            if !self.is_well().await {
                self.turn_to_another().await;
            }
        }
    }

    async fn is_well(&mut self) -> bool {
        let options = &self.servers[self.current].options;
        let probe = self.probe.take();
        let asked = tokio::time::timeout(PROBE_LIMIT, async move {
            let mut probe = match probe {
                Some(probe) => probe,
                None => options.connect().await?,
            };
            let answer = takes_writes(&mut probe).await;
            answer.map(|is_well| (is_well, probe))
        });
        match asked.await {
            Ok(Ok((true, probe))) => {
                self.probe = Some(probe);
                true
            }
            _ => false,
        }
    }

    async fn turn_to_another(&mut self) {
        let (before, begun) = (self.current, Instant::now());
        // The one in use first: it may have been restarted.
        let found = find(&self.servers, before);
        tokio::select! {
            found = found => self.current = found,
            () = self.pool.close_event() => return,
        }
        if self.current == before {
            return;
        }
        let server = &self.servers[self.current];
        self.pool.set_connect_options(server.options.clone());
        self.turn.happens();
        telemetry::failed_over(&self.servers[before].name, &server.name, begun.elapsed());
    }
}

/// Asks one server after the other, beginning with `first`, until one takes writes.
async fn find(servers: &[Server], first: usize) -> usize {
    loop {
        for offset in 0..servers.len() {
            let index = (first + offset) % servers.len();
            let asked = tokio::time::timeout(PROBE_LIMIT, async {
                let mut connection = servers[index].options.connect().await?;
                let answer = takes_writes(&mut connection).await;
                let _ = connection.close().await;
                answer
            });
            if let Ok(Ok(true)) = asked.await {
                return index;
            }
        }
        tokio::time::sleep(SEARCH_PAUSE).await;
    }
}

async fn takes_writes(connection: &mut PgConnection) -> Result<bool, SqlxError> {
    sqlx::query_scalar(TAKES_WRITES).fetch_one(connection).await
}
