//! Servers that follow the primary: how far each is behind, and which may be read from.
//!
//! Lag is measured without any server's clock. Once a second the primary is asked for its position in the write-ahead log, and every
//! replica for what it has replayed. A replica has what the primary had when it was last seen at a position not beyond the replica's; the
//! time from then to the newest look at the primary is the lag, at most. While the primary does not answer, nobody gets further behind.

mod settings;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use entity::Secret;
use sea_orm::{ConnectionTrait, DbErr, QueryResult, Statement};
use tokio::sync::watch;

use super::lease::Connections;
use super::{Dialect, connect, fault};
use crate::error::{Error, Result};
use crate::telemetry;

pub use settings::ReplicaSettings;

/// How long a server may take to tell its position.
const PROBE_LIMIT: Duration = Duration::from_secs(1);

/// How far the primary's log is written through; where commits do not wait for that, how far it goes.
pub(crate) const PRIMARY_POSITION: &str = "SELECT CAST((CASE WHEN current_setting('synchronous_commit') = 'off' \
     THEN pg_current_wal_insert_lsn() ELSE pg_current_wal_flush_lsn() END) - '0/0' AS bigint) AS position";

/// Whether a server follows another, and what it has replayed.
pub(crate) const REPLICA_POSITION: &str = "SELECT pg_is_in_recovery() AS follows, \
     CAST(COALESCE(pg_last_wal_replay_lsn(), '0/0') - '0/0' AS bigint) AS position";

/// How a replica stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[cfg_attr(feature = "schemars", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum ReplicaState {
    /// Nobody has looked yet.
    Unknown,
    /// It is read from.
    Serving,
    /// It is too far behind, and left out until it has caught up.
    Lagging,
    /// It does not answer, and is left out until it does.
    Unreachable,
    /// It follows nobody: it has become a primary, or its address is that of one. It is left out.
    NotAReplica,
}

impl ReplicaState {
    fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Serving => "serving",
            Self::Lagging => "lagging",
            Self::Unreachable => "unreachable",
            Self::NotAReplica => "not_a_replica",
        }
    }
}

/// A replica as it was when it was last looked at.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[cfg_attr(feature = "schemars", derive(schemars::JsonSchema))]
pub struct ReplicaStatus {
    /// Its host and port.
    pub server: String,
    /// How it stands.
    pub state: ReplicaState,
    /// How far it is behind, at most; no finer than the time between two looks. None while that is not known.
    pub lag: Option<Duration>,
}

#[derive(Debug)]
struct Replica {
    server: String,
    connections: Connections,
    /// What it was last seen to have replayed.
    position: AtomicU64,
    state: watch::Sender<(ReplicaState, Option<Duration>)>,
}

/// The replicas of a store.
#[derive(Debug)]
pub(crate) struct Replicas {
    all: Vec<Replica>,
    settings: ReplicaSettings,
    /// Which is asked first, in turn.
    turn: AtomicUsize,
    seen: Mutex<Seen>,
}

/// Where the primary was seen, and when; the newest last.
#[derive(Debug, Default)]
struct Seen(VecDeque<(Instant, u64)>);

/// How often the primary's positions are kept.
const KEPT: usize = 4096;

impl Seen {
    fn enter(&mut self, at: Instant, position: u64) {
        // The log is shorter than it was: it is that of another server, after a failover that lost some of it.
        if self.0.back().is_some_and(|(_, last)| position < *last) {
            self.0.clear();
        }
        // Of a time without news its begin and its end tell all.
        if self.0.len() >= 2 && self.0.iter().rev().take(2).all(|(_, known)| *known == position) {
            self.0.pop_back();
        }
        if self.0.len() == KEPT {
            self.0.pop_front();
        }
        self.0.push_back((at, position));
    }

    /// None when the primary was never seen so far back.
    fn lag_of(&self, position: u64) -> Option<Duration> {
        let (newest, _) = self.0.back()?;
        let had = self.0.iter().rev().find(|(_, known)| *known <= position);
        had.map(|(at, _)| newest.duration_since(*at))
    }
}

impl Replicas {
    /// None where there are none. They are reached with `connect`, and what their own addresses say.
    pub(crate) fn open(settings: &ReplicaSettings, connect: &connect::ConnectSettings) -> Result<Option<Self>> {
        if settings.addresses.is_empty() {
            return Ok(None);
        }
        let settings = settings.checked()?.clone();
        let open = |address: &Secret| {
            let address = address.expose();
            let connect = connect.clone().with_address(address)?;
            let (db, server) = connect::open_lazily(address, &connect)?;
            Ok(Replica {
                server,
                connections: Connections::of(db, connect.patience()),
                position: AtomicU64::new(0),
                state: watch::Sender::new((ReplicaState::Unknown, None)),
            })
        };
        Ok(Some(Self {
            all: settings.addresses.iter().map(open).collect::<Result<_>>()?,
            settings,
            turn: AtomicUsize::new(0),
            seen: Mutex::default(),
        }))
    }

    pub(crate) fn status(&self) -> Vec<ReplicaStatus> {
        let status = |replica: &Replica| {
            let (state, lag) = *replica.state.borrow();
            ReplicaStatus {
                server: replica.server.clone(),
                state,
                lag,
            }
        };
        self.all.iter().map(status).collect()
    }

    /// Reads from a replica that has replayed `after`. None where the primary must be asked: no replica serves, or none was so far within
    /// the time for that.
    pub(crate) async fn rows(&self, statement: &Statement, after: u64) -> Option<Result<Vec<QueryResult>, DbErr>> {
        let until = Instant::now() + self.settings.wait;
        for replica in self.serving(after) {
            let read = replica.connections.query_all_after(statement.clone(), after, until);
            let mut state = replica.state.subscribe();
            let lost = state.wait_for(|(state, _)| *state == ReplicaState::Unreachable);
            let read = tokio::select! {
                read = read => read,
                _ = lost => continue,
            };
            match read {
                Ok(Some(rows)) => {
                    replica.position.fetch_max(after, Ordering::Relaxed);
                    return Some(Ok(rows));
                }
                // The time for that is over.
                Ok(None) => return None,
                Err(error) => match fault::read(Dialect::Postgres, &error, "read", false) {
                    // It goes away, or its reads give way to what it replays: the next one may well answer.
                    Error::Transient { .. } | Error::Unreachable { .. } => {
                        replica.turn_to(ReplicaState::Unreachable, None);
                    }
                    // It has not replayed a migration yet.
                    Error::Unmigrated { .. } => {}
                    _ => return Some(Err(error)),
                },
            }
        }
        None
    }

    /// Those that may be asked, in turn; who has `after`, as far as known, before those who have not.
    fn serving(&self, after: u64) -> Vec<&Replica> {
        let first = self.turn.fetch_add(1, Ordering::Relaxed);
        let count = self.all.len();
        let mut serving: Vec<&Replica> = (0..count)
            .map(|offset| &self.all[first.wrapping_add(offset) % count])
            .filter(|replica| replica.state.borrow().0 == ReplicaState::Serving)
            .collect();
        serving.sort_by_key(|replica| std::cmp::Reverse(replica.position.load(Ordering::Relaxed).min(after)));
        serving
    }

    /// Looks at the primary and at every replica, again and again.
    pub(crate) async fn watch(self: Arc<Self>, primary: Connections) {
        loop {
            if let Some((_, position)) = position_of(&primary, PRIMARY_POSITION).await {
                let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
                seen.enter(Instant::now(), position);
            }
            futures_util::future::join_all(self.all.iter().map(|replica| self.look_at(replica))).await;
            tokio::time::sleep(self.settings.probe).await;
        }
    }

    async fn look_at(&self, replica: &Replica) {
        let Some((follows, position)) = position_of(&replica.connections, REPLICA_POSITION).await else {
            return replica.turn_to(ReplicaState::Unreachable, None);
        };
        if !follows {
            return replica.turn_to(ReplicaState::NotAReplica, None);
        }
        replica.position.store(position, Ordering::Relaxed);
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let lag = seen.lag_of(position);
        let state = match lag {
            Some(lag) if lag <= self.settings.max_lag => ReplicaState::Serving,
            _ => ReplicaState::Lagging,
        };
        replica.turn_to(state, lag);
    }

    pub(crate) async fn close(&self) {
        for replica in &self.all {
            replica.connections.give_back();
            let _ = replica.connections.db().close_by_ref().await;
        }
    }
}

impl Replica {
    fn turn_to(&self, state: ReplicaState, lag: Option<Duration>) {
        if let Some(lag) = lag {
            telemetry::replica_lag(&self.server, lag);
        }
        let (before, _) = self.state.send_replace((state, lag));
        if before != state {
            telemetry::replica_turned(&self.server, state.name());
        }
    }
}

/// Whether a server follows another, and its position. None if it does not answer in time.
async fn position_of(server: &Connections, question: &'static str) -> Option<(bool, u64)> {
    let statement = Statement::from_string(Dialect::Postgres.backend(), question);
    let asked = tokio::time::timeout(PROBE_LIMIT, server.query_one_raw(statement)).await;
    let row = asked.ok()?.ok()??;
    let follows = row.try_get_by("follows").unwrap_or(false);
    position(&row).ok().map(|position| (follows, position))
}

/// The position in a row of one of the two questions.
pub(crate) fn position(row: &QueryResult) -> Result<u64, DbErr> {
    let position: i64 = row.try_get_by("position")?;
    Ok(u64::try_from(position).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lag_is_the_time_since_the_primary_was_where_the_replica_is() {
        let begin = Instant::now();
        let at = |seconds| begin + Duration::from_secs(seconds);
        let mut seen = Seen::default();
        assert_eq!(seen.lag_of(5), None);
        for (second, position) in [(0, 10), (1, 20), (2, 20), (3, 20), (4, 30)] {
            seen.enter(at(second), position);
        }
        for (position, lag) in [
            (9, None),
            (10, Some(4)),
            (19, Some(4)),
            (20, Some(1)),
            (29, Some(1)),
            (30, Some(0)),
            (99, Some(0)),
        ] {
            assert_eq!(seen.lag_of(position), lag.map(Duration::from_secs), "{position}");
        }
        assert_eq!(seen.0.len(), 4);
        // After a failover that lost something.
        seen.enter(at(5), 25);
        assert_eq!((seen.lag_of(24), seen.lag_of(25)), (None, Some(Duration::ZERO)));
    }
}
