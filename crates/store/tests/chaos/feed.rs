//! A unit stays open for half a minute, by the clock, while 10,000 others commit; one process follows the feed live, one reads it in pages.
//! (The contract suite does the same without the clock.) PostgreSQL alone: on SQLite nobody commits while a unit is open.

use std::collections::BTreeSet;
use std::pin::pin;
use std::time::{Duration, Instant};

use conferencing_migration::{Migrator, MigratorTrait};
use conferencing_store::entity::{AuditLogId, audit_log};
use conferencing_store::{Acting, Actor, ConnectSettings, FeedFilter, FeedPosition, Observation, Store, connect};
use futures_util::TryStreamExt;
use sea_orm::{ConnectionTrait, Database, EntityTrait, QuerySelect};

use crate::address::with_database;

const OPEN: Duration = Duration::from_secs(30);
const UNITS: usize = 10_000;
const TASKS: usize = 8;
const PATIENCE: Duration = Duration::from_secs(60);

pub fn is_prepared() -> bool {
    std::env::var_os("CHAOS_FEED").is_some()
}

pub async fn run() {
    let server = std::env::var("TEST_DATABASE_URL").unwrap();
    let name = format!("chaos_feed_{}", std::process::id());
    let admin = Database::connect(&server).await.unwrap();
    admin
        .execute_unprepared(&format!("CREATE DATABASE {name}"))
        .await
        .unwrap();
    let url = with_database(&server, &name);
    let db = connect::open(&url, &ConnectSettings::default().without_limits())
        .await
        .unwrap();
    Migrator::up(&db, None).await.unwrap();
    db.close().await.unwrap();
    play(&url).await;
    let sql = format!("DROP DATABASE {name} WITH (FORCE)");
    admin.execute_unprepared(&sql).await.unwrap();
}

async fn play(url: &str) {
    let store = Store::connect(url).await.unwrap();
    let start = store.feed().now().await.unwrap();
    // A store of its own hears by asking the database, as another process does.
    let elsewhere = Store::connect(url).await.unwrap();
    let follower = tokio::spawn(follow(elsewhere.clone(), start.clone()));
    let system = store.acting(&Actor::system("test"));
    let unit = store.begin(&Actor::system("test")).await.unwrap();
    unit.audit().append(None, event()).await.unwrap();
    let begun = Instant::now();
    let tasks: Vec<_> = (0..TASKS).map(|_| tokio::spawn(work(system.clone(), begun))).collect();
    let mut committed = 0;
    for task in tasks {
        committed += task.await.unwrap();
    }
    let mut paged = read_on(&elsewhere, start).await;
    let before = paged.0.len();
    assert_eq!(before, committed, "the open unit is not seen");
    unit.audit().append(None, event()).await.unwrap();
    unit.commit().await.unwrap();
    let open = begun.elapsed();
    let late = read_on(&elsewhere, paged.1.clone()).await.0;
    assert_eq!(late.len(), 2, "the unit that was open is behind the position");
    paged.0.extend(late);
    // The last event of all, so that the follower knows that it has heard everything.
    let last = system.audit().append(None, event()).await.unwrap();
    paged.0.push(last);
    let followed = tokio::time::timeout(PATIENCE, async {
        while !follower.is_finished() && HEARD.lock().unwrap().last() != Some(&last) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    followed.await.unwrap();
    follower.abort();
    let followed = HEARD.lock().unwrap().clone();
    let db = Database::connect(url).await.unwrap();
    let all: BTreeSet<AuditLogId> = audit_log::Entity::find()
        .select_only()
        .column(audit_log::Column::Id)
        .into_tuple()
        .all(&db)
        .await
        .unwrap()
        .into_iter()
        .collect();
    db.close().await.unwrap();
    let once = |heard: &[AuditLogId]| heard.iter().copied().collect::<BTreeSet<_>>();
    let doubled = |heard: &[AuditLogId]| heard.len() - once(heard).len();
    let lost = |heard: &[AuditLogId]| all.difference(&once(heard)).count();
    println!(
        "a unit open for {:.1} s while {committed} others committed: of {} events {} lost and {} doubled by who follows, {} and {} by who reads pages",
        open.as_secs_f64(),
        all.len(),
        lost(&followed),
        doubled(&followed),
        lost(&paged.0),
        doubled(&paged.0)
    );
    assert!(open >= OPEN && committed >= UNITS);
    for heard in [&followed, &paged.0] {
        assert_eq!((lost(heard), doubled(heard), heard.len()), (0, 0, all.len()));
    }
    store.close().await.unwrap();
    elsewhere.close().await.unwrap();
}

static HEARD: std::sync::Mutex<Vec<AuditLogId>> = std::sync::Mutex::new(Vec::new());

async fn follow(store: Store, start: FeedPosition) {
    let events = store
        .feed()
        .subscribe(FeedFilter::default(), Some(start))
        .await
        .unwrap();
    let mut events = pin!(events);
    while let Some(event) = events.try_next().await.unwrap() {
        HEARD.lock().unwrap().push(event.entry.id);
    }
}

/// Appends, a commit each, until there are enough and the unit was open for long enough.
async fn work(system: Acting, begun: Instant) -> usize {
    let mut done = 0;
    while done < UNITS / TASKS || begun.elapsed() < OPEN {
        system.audit().append(None, event()).await.unwrap();
        done += 1;
    }
    done
}

async fn read_on(store: &Store, mut position: FeedPosition) -> (Vec<AuditLogId>, FeedPosition) {
    let mut read = Vec::new();
    loop {
        let batch = store.feed().read(&FeedFilter::default(), &position, 500).await.unwrap();
        if batch.events.is_empty() {
            return (read, batch.position);
        }
        read.extend(batch.events.iter().map(|event| event.entry.id));
        position = batch.position;
    }
}

fn event() -> Observation {
    Observation::UserLogout {}
}
