//! The primary is killed and another server promoted, again and again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use conferencing_store::entity::{Secret, UserId};
use conferencing_store::{Actor, ConnectSettings, Error, NewRoom, ReplicaSettings, RetryPolicy, Store, StoreSettings};
use sea_orm::{ConnectionTrait, DbBackend, Statement};

use crate::PATIENCE;
use crate::appending::{Run, one_by_one};
use crate::cluster::{Cluster, named};
use crate::follower::{Follower, kick_for_ever};
use crate::ledger::raw;

const TASKS: usize = 16;
/// What must be acknowledged before each kill.
const EVENTS_A_ROUND: usize = 300;

/// The address with all servers in it.
fn every_host(urls: &[String]) -> String {
    let hosts: Vec<&str> = urls.iter().map(|url| url.split(['@', '/']).nth(3).unwrap()).collect();
    let database = urls[0].rsplit_once('/').unwrap().1;
    format!("postgres://postgres@{}/{database}", hosts.join(","))
}

/// A server that was the primary answers, but takes no writes. Who has no other server is told so; who knows several waits for one.
pub async fn an_answer_that_is_read_only_is_transient(cluster: &mut Cluster) {
    let urls = cluster.database().await;
    let settings = StoreSettings {
        connect: ConnectSettings {
            acquire_timeout: PATIENCE,
            max_connections: Some(1),
            ..ConnectSettings::default()
        },
        retry: RetryPolicy {
            attempts: 1,
            ..RetryPolicy::default()
        },
        ..StoreSettings::default()
    };
    let several = Store::connect_with(&every_host(&urls), settings.clone()).await.unwrap();
    let one = Store::connect_with(&urls[cluster.primary], settings).await.unwrap();
    only_reads(cluster, cluster.primary, "on").await;
    let register = async |store: &Store, name: &'static str| {
        let system = store.acting(&Actor::system("test"));
        system.users().register(named(name)).await
    };
    for store in [&one, &several] {
        let refused = register(store, "refused").await;
        assert!(matches!(refused, Err(Error::Transient { .. })), "{refused:?}");
    }
    // The connection that was refused is gone, and the next one is refused as well.
    let refused = register(&one, "refused").await;
    assert!(matches!(refused, Err(Error::Transient { .. })), "{refused:?}");
    let waiting = {
        let several = several.clone();
        tokio::spawn(async move {
            let system = several.acting(&Actor::system("test"));
            system.users().register(named("waits")).await.map(drop)
        })
    };
    crate::until("its connection", async || {
        several.pool_usage().in_use > 0 || waiting.is_finished()
    })
    .await;
    only_reads(cluster, cluster.primary, "off").await;
    waiting.await.unwrap().unwrap();
    register(&one, "again").await.unwrap();
    several.close().await.unwrap();
    one.close().await.unwrap();
}

async fn only_reads(cluster: &Cluster, server: usize, value: &str) {
    let admin = cluster.admin(server).await;
    let set = format!("ALTER SYSTEM SET default_transaction_read_only = {value}");
    for sql in [set.as_str(), "SELECT pg_reload_conf()"] {
        admin.execute_unprepared(sql).await.unwrap();
    }
    admin.close().await.unwrap();
    crate::until("the setting", async || {
        cluster.ask(server, "SHOW default_transaction_read_only").await == value
    })
    .await;
}

/// The primary is told to take no writes and another server is promoted, while the former goes on answering reads.
pub async fn nobody_reads_from_the_server_before(cluster: &mut Cluster) {
    let urls = cluster.database().await;
    let store = Store::connect_with(&every_host(&urls), StoreSettings::default())
        .await
        .unwrap();
    let system = store.acting(&Actor::system("test"));
    let before = system.users().register(named("before")).await.unwrap();
    let read_by_many = async |user: UserId| {
        let reads = (0..40).map(|_| {
            let store = store.clone();
            tokio::spawn(async move { store.users().get(user).await.map(|user| user.id) })
        });
        for read in futures_util::future::join_all(reads).await {
            assert_eq!(read.unwrap().unwrap(), user);
        }
    };
    read_by_many(before.id).await;
    let former = cluster.primary;
    only_reads(cluster, former, "on").await;
    cluster.fail_over().await;
    // Connections to the former are used all the while.
    let reading = {
        let store = store.clone();
        tokio::spawn(async move {
            loop {
                let _ = store.users().get(before.id).await;
            }
        })
    };
    let after = loop {
        match system.users().register(named("after")).await {
            Ok(user) => break user,
            Err(Error::Transient { .. }) => {}
            Err(other) => panic!("{other}"),
        }
    };
    read_by_many(after.id).await;
    reading.abort();
    // It had answered, but does not know.
    let known = format!("SELECT CAST(count(*) AS text) FROM users WHERE id = '{}'", after.id);
    let db = raw(&urls[former]).await;
    let known = db
        .query_one_raw(Statement::from_string(DbBackend::Postgres, known))
        .await
        .unwrap();
    assert_eq!(known.unwrap().try_get_by_index::<String>(0).unwrap(), "0");
    db.close().await.unwrap();
    store.close().await.unwrap();
    tokio::task::block_in_place(|| {
        cluster.kill(former);
        cluster.follow(former);
    });
}

/// How often the primary is killed.
fn rounds() -> usize {
    std::env::var("FAILOVER_ROUNDS").map_or(3, |rounds| rounds.parse().expect("FAILOVER_ROUNDS is a number"))
}

pub async fn nothing_acknowledged_is_lost(cluster: &mut Cluster) {
    let urls = cluster.database().await;
    let settings = StoreSettings {
        connect: ConnectSettings {
            max_connections: Some(16),
            ..ConnectSettings::default()
        },
        replicas: ReplicaSettings {
            addresses: urls.iter().map(|url| Secret::new(url.as_str())).collect(),
            probe: Duration::from_millis(100),
            max_lag: Duration::from_secs(600),
            ..ReplicaSettings::default()
        },
        ..StoreSettings::default()
    };
    let store = Store::connect_with(&every_host(&urls), settings).await.unwrap();
    let system = store.acting(&Actor::system("test"));
    let owner = system.users().register(named("owner")).await.unwrap();
    let room = system
        .rooms()
        .create(NewRoom::titled(owner.id, "A room"))
        .await
        .unwrap();
    let over = Arc::<AtomicBool>::default();
    let db = raw(&urls[cluster.primary]).await;
    let follower = Follower::start(&every_host(&urls), &db, room.id).await;
    db.close().await.unwrap();
    let moderator = {
        let guest = system.users().register(named("guest")).await.unwrap();
        let over = Arc::clone(&over);
        tokio::spawn(kick_for_ever(store.clone(), room.id, guest.id, over))
    };
    let run = Arc::new(Run::of(one_by_one(&store, room.id), Arc::clone(&over)));
    let tasks: Vec<_> = (0..TASKS)
        .map(|task| {
            let run = Arc::clone(&run);
            tokio::spawn(async move { run.append(task).await })
        })
        .collect();
    let mut away = Vec::new();
    for _ in 0..rounds() {
        run.more(EVENTS_A_ROUND).await;
        let killed = cluster.primary;
        let begun = Instant::now();
        tokio::task::block_in_place(|| cluster.kill(killed));
        // Reads that tolerate lag go on without a primary.
        let reads = store.replica_reads();
        let read = reads.rooms().get(room.id).await.unwrap();
        assert_eq!(read.id, room.id);
        cluster.fail_over().await;
        run.more(1).await;
        away.push(begun.elapsed());
        // On a new copy: what it has that the others lack was never acknowledged.
        tokio::task::block_in_place(|| cluster.follow(killed));
    }
    run.more(EVENTS_A_ROUND).await;
    over.store(true, Ordering::SeqCst);
    for task in tasks {
        task.await.unwrap();
    }
    moderator.await.unwrap();
    let ledger = run.take_ledger();
    let longest = away.iter().max().unwrap();
    eprintln!(
        "{} failovers, {} acknowledged, errors: {:?}; without service from the kill on: {away:.1?}, at most {longest:.1?}",
        away.len(),
        ledger.acknowledged(),
        ledger.errors()
    );
    let db = raw(&urls[cluster.primary]).await;
    ledger.assert_is_what_the_audit_log_has(&db).await;
    let (events, kicks) = follower.heard_all(&db).await;
    eprintln!("{events} events were heard by another process, {kicks} of them kicks; each once");
    assert!(kicks > 0);
    db.close().await.unwrap();
    // Otherwise no kill hit an append under way.
    assert!(ledger.errors().contains_key("indeterminate"), "{:?}", ledger.errors());
    store.close().await.unwrap();
}
