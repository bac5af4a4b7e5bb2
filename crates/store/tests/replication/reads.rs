//! Reads from servers that follow.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use conferencing_store::entity::{RoomId, Secret};
use conferencing_store::{CommitToken, ReplicaReads, ReplicaSettings, ReplicaState};

use tokio::task::JoinHandle;

use crate::cluster::{Cluster, Stage};
use crate::{PATIENCE, served, until};

/// Looks often, and takes any lag.
fn patient() -> ReplicaSettings {
    ReplicaSettings {
        probe: Duration::from_millis(20),
        max_lag: Duration::from_secs(600),
        ..ReplicaSettings::default()
    }
}

async fn present(reads: &ReplicaReads, room: RoomId) -> usize {
    let page = conferencing_store::PageRequest::first(100, conferencing_store::Order::OldestFirst).unwrap();
    reads
        .participants()
        .list_present(room, &page)
        .await
        .unwrap()
        .items
        .len()
}

pub async fn lag_is_tolerated_where_it_is_asked_for(cluster: &mut Cluster) {
    let mut stage = cluster.stage(patient()).await;
    let room = stage.room.id;
    let reads = stage.store.replica_reads();
    stage.join().await;
    until("the seat, on the replicas", async || present(&reads, room).await == 1).await;
    cluster.replay(false).await;
    stage.join().await;
    served();
    for _ in 0..4 {
        assert_eq!(present(&reads, room).await, 1);
    }
    assert_eq!(served(), (4, 0));
    // Without asking for it, nobody gets it.
    assert_eq!(stage.system.rooms().get(room).await.unwrap().active_participants, 2);
    assert_eq!(served(), (0, 0));
    cluster.replay(true).await;
    until("the other seat", async || present(&reads, room).await == 2).await;
    stage.store.close().await.unwrap();
}

pub async fn a_token_is_waited_for_and_then_the_primary_is_asked(cluster: &mut Cluster) {
    let mut stage = cluster
        .stage(ReplicaSettings {
            wait: Duration::from_secs(60),
            ..patient()
        })
        .await;
    let room = stage.room.id;
    let impatient = conferencing_store::Store::connect_with(&stage.urls[cluster.primary], {
        let addresses = cluster.followers();
        let addresses = addresses.iter().map(|server| Secret::new(stage.urls[*server].as_str()));
        conferencing_store::StoreSettings {
            replicas: ReplicaSettings {
                addresses: addresses.collect(),
                wait: Duration::from_millis(50),
                ..patient()
            },
            ..Default::default()
        }
    });
    let impatient = impatient.await.unwrap();
    until("the other store's replicas", async || {
        impatient
            .replica_status()
            .iter()
            .all(|one| one.state == ReplicaState::Serving)
    })
    .await;
    cluster.replay(false).await;
    stage.join().await;
    let token = stage.store.commit_token().await.unwrap();
    // As it goes to another process.
    let token: CommitToken = serde_json::from_str(&serde_json::to_string(&token).unwrap()).unwrap();
    served();
    assert_eq!(present(&impatient.replica_reads(), room).await, 0);
    assert_eq!(served(), (1, 0));
    assert_eq!(present(&impatient.replica_reads().after(token), room).await, 1);
    assert_eq!(served(), (0, 1), "the primary is asked when the time is over");
    let waiting = {
        let reads = stage.store.replica_reads().after(token);
        tokio::spawn(async move { present(&reads, room).await })
    };
    // Its look at the replica has come to nothing at least once.
    until("the read that waits", async || {
        let sql = "SELECT CAST(count(*) AS text) FROM pg_stat_activity WHERE query LIKE '%pg_last_wal_replay_lsn%' AND datname LIKE 'meet%'";
        let mut asked = 0;
        for server in cluster.followers() {
            asked += cluster.ask(server, sql).await.parse::<usize>().unwrap();
        }
        asked > 0
    })
    .await;
    assert!(!waiting.is_finished());
    cluster.replay(true).await;
    assert_eq!(waiting.await.unwrap(), 1);
    assert_eq!(served(), (1, 0), "the replica has caught up in time");
    // Everybody who reads behind a token of the moment sees what was there then, whichever server answers.
    for seats in 2..30 {
        stage.join().await;
        let reads = stage
            .store
            .replica_reads()
            .after(stage.store.commit_token().await.unwrap());
        assert_eq!(present(&reads, room).await, seats);
    }
    assert_eq!(served(), (28, 0));
    impatient.close().await.unwrap();
    stage.store.close().await.unwrap();
}

pub async fn who_lags_is_left_out_and_comes_back(cluster: &mut Cluster) {
    let mut stage = cluster
        .stage(ReplicaSettings {
            max_lag: Duration::from_millis(300),
            ..patient()
        })
        .await;
    let room = stage.room.id;
    let reads = stage.store.replica_reads();
    cluster.replay(false).await;
    stage.join().await;
    stage.all_are(ReplicaState::Lagging).await;
    assert!(
        stage
            .store
            .replica_status()
            .iter()
            .all(|one| one.lag > Some(Duration::from_millis(300)))
    );
    served();
    assert_eq!(present(&reads, room).await, 1);
    assert_eq!(served(), (0, 1));
    cluster.replay(true).await;
    stage.all_are(ReplicaState::Serving).await;
    assert_eq!(present(&reads, room).await, 1);
    assert_eq!(served(), (1, 0));
    stage.store.close().await.unwrap();
}

/// Eight tasks that read all the while; none of their reads fails.
struct Readers {
    over: Arc<AtomicBool>,
    read: Arc<AtomicUsize>,
    tasks: Vec<JoinHandle<()>>,
}

impl Readers {
    fn of(stage: &Stage) -> Self {
        let (over, read) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let room = stage.room.id;
        let task = |_| {
            let (reads, over, read) = (stage.store.replica_reads(), Arc::clone(&over), Arc::clone(&read));
            tokio::spawn(async move {
                while !over.load(Ordering::SeqCst) {
                    assert_eq!(present(&reads, room).await, 0);
                    read.fetch_add(1, Ordering::SeqCst);
                }
            })
        };
        let tasks = (0..8).map(task).collect();
        Self { over, read, tasks }
    }

    /// Waits for more reads to have come to their end.
    async fn more(&self) {
        let target = self.read.load(Ordering::SeqCst) + 100;
        until("more reads", async || self.read.load(Ordering::SeqCst) >= target).await;
    }

    async fn end(self) {
        self.over.store(true, Ordering::SeqCst);
        for task in self.tasks {
            tokio::time::timeout(PATIENCE, task).await.unwrap().unwrap();
        }
        eprintln!("{} reads, none failed", self.read.load(Ordering::SeqCst));
    }
}

impl Stage {
    async fn one_is(&self, index: usize, state: ReplicaState) {
        until(&format!("{state:?}"), async || {
            self.store.replica_status()[index].state == state
        })
        .await;
    }
}

pub async fn who_dies_is_left_out_and_comes_back(cluster: &mut Cluster) {
    let stage = cluster.stage(patient()).await;
    let readers = Readers::of(&stage);
    let followers = cluster.followers();
    for round in 0..2 {
        readers.more().await;
        for (index, server) in followers.iter().enumerate() {
            tokio::task::block_in_place(|| cluster.kill(*server));
            stage.one_is(index, ReplicaState::Unreachable).await;
            readers.more().await;
        }
        served();
        readers.more().await;
        let (by_replicas, by_the_primary) = served();
        assert!(by_replicas == 0 && by_the_primary > 0, "round {round}: {by_replicas}");
        for (index, server) in followers.iter().enumerate() {
            tokio::task::block_in_place(|| cluster.start_again(*server));
            stage.one_is(index, ReplicaState::Serving).await;
        }
        served();
        readers.more().await;
        assert!(served().0 > 0);
    }
    readers.end().await;
    stage.store.close().await.unwrap();
}

/// Its connections are there, but no answer comes.
pub async fn who_falls_silent_is_not_waited_for(cluster: &mut Cluster) {
    let stage = cluster.stage(patient()).await;
    let readers = Readers::of(&stage);
    readers.more().await;
    let followers = cluster.followers();
    for (index, server) in followers.iter().enumerate() {
        tokio::task::block_in_place(|| cluster.freeze(*server));
        stage.one_is(index, ReplicaState::Unreachable).await;
    }
    readers.more().await;
    // Also those who were waiting for an answer.
    readers.end().await;
    for (index, server) in followers.iter().enumerate() {
        tokio::task::block_in_place(|| cluster.thaw(*server));
        stage.one_is(index, ReplicaState::Serving).await;
    }
    served();
    assert_eq!(present(&stage.store.replica_reads(), stage.room.id).await, 0);
    assert_eq!(served(), (1, 0));
    stage.store.close().await.unwrap();
}
