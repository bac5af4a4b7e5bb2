//! Appends one by one, and through the audit writer.

use std::future::Future;
use std::time::{Duration, Instant};

use conferencing_store::{AuditWriter, Store, WriterSettings, WriterStats};

use crate::Scale;
use crate::measure::{Rounds, header, row};
use crate::world::{World, observation};

pub const TASKS: usize = 64;

/// How many appends a task of [`feed`] gives before it awaits them: in all tasks together half of what the queue holds.
const WINDOW: usize = 128;

/// Runs 64 tasks, each of which says how many events it has appended by the given moment; events a second, until the last has
/// ended.
async fn rate<F>(time: Duration, task: impl Fn(Instant) -> F) -> f64
where
    F: Future<Output = u32> + Send + 'static,
{
    let begun = Instant::now();
    let tasks: Vec<_> = (0..TASKS).map(|_| tokio::spawn(task(begun + time))).collect();
    let mut events = 0.0;
    for task in tasks {
        events += f64::from(task.await.unwrap());
    }
    events / begun.elapsed().as_secs_f64()
}

/// Each task awaits its own append before the next, a unit of work each.
async fn one_by_one(world: &World, store: &Store, time: Duration) -> f64 {
    let (acting, room) = (store.acting(&world.actor()), world.room);
    rate(time, move |end| {
        let acting = acting.clone();
        async move {
            let mut events = 0;
            while Instant::now() < end {
                acting.audit().append(Some(room), observation()).await.unwrap();
                events += 1;
            }
            events
        }
    })
    .await
}

/// The same, through the writer: no batch can be larger than there are tasks.
async fn awaited(world: &World, writer: &AuditWriter, time: Duration) -> f64 {
    let (actor, room) = (world.actor(), world.room);
    rate(time, |end| {
        let (writer, actor) = (writer.clone(), actor.clone());
        async move {
            let mut events = 0;
            while Instant::now() < end {
                writer.append(&actor, Some(room), observation()).await.unwrap();
                events += 1;
            }
            events
        }
    })
    .await
}

/// Each task appends a window of events without waiting, and then awaits them. All windows together fit the queue, so that nobody
/// spins before a full one: what that costs would be taken from the server.
async fn fed(world: &World, writer: &AuditWriter, time: Duration) -> f64 {
    let (actor, room) = (world.actor(), world.room);
    rate(time, |end| {
        let (writer, actor) = (writer.clone(), actor.clone());
        async move {
            let mut events = 0;
            while Instant::now() < end {
                let window: Vec<_> = (0..WINDOW)
                    .map(|_| writer.try_append(&actor, Some(room), &observation()).unwrap())
                    .collect();
                for appending in window {
                    appending.await.unwrap();
                    events += 1;
                }
            }
            events
        }
    })
    .await
}

/// What a writer of its own makes of being fed.
pub async fn feed(world: &World, settings: WriterSettings, time: Duration) -> (f64, WriterStats) {
    let writer = world.store.audit_writer(settings).unwrap();
    let rate = fed(world, &writer, time).await;
    (rate, close(writer).await)
}

/// As [`feed`], awaited.
pub async fn wait(world: &World, settings: WriterSettings, time: Duration) -> (f64, WriterStats) {
    let writer = world.store.audit_writer(settings).unwrap();
    let rate = awaited(world, &writer, time).await;
    (rate, close(writer).await)
}

/// A batch that had to be tried again would explain a slow round.
async fn close(writer: AuditWriter) -> WriterStats {
    let stats = writer.close().await;
    if stats.retries > 0 {
        eprintln!("  {stats:?}");
    }
    stats
}

/// Events in a batch, on average.
pub fn mean_batch(stats: &WriterStats) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "for show")]
    let (written, batches) = (stats.written as f64, stats.batches.max(1) as f64);
    written / batches
}

pub async fn on_postgres(scale: Scale) {
    let world = World::on_postgres("appends").await;
    let wide = world.with_connections(64).await;
    compare("PostgreSQL", &world, Some(&wide), scale).await;
}

pub async fn on_sqlite(scale: Scale) {
    let folder = tempfile::tempdir().unwrap();
    let world = World::on_sqlite(folder.path()).await;
    compare("SQLite", &world, None, scale).await;
}

async fn compare(backend: &str, world: &World, wide: Option<&Store>, scale: Scale) {
    let settings = WriterSettings::default();
    let warm_up = scale.time / 3;
    one_by_one(world, &world.store, warm_up).await;
    feed(world, settings, warm_up).await;
    if let Some(wide) = wide {
        one_by_one(world, wide, warm_up).await;
    }
    let (mut single, mut spread, mut waited, mut fed) = (
        Rounds::default(),
        Rounds::default(),
        Rounds::default(),
        Rounds::default(),
    );
    let (mut batch_waited, mut batch_fed) = (Rounds::default(), Rounds::default());
    for round in 1..=scale.rounds {
        let rate = one_by_one(world, &world.store, scale.time).await;
        single.push(rate);
        let (rate_waited, stats) = wait(world, settings, scale.time).await;
        waited.push(rate_waited);
        batch_waited.push(mean_batch(&stats));
        let (rate_fed, stats) = feed(world, settings, scale.time).await;
        fed.push(rate_fed);
        batch_fed.push(mean_batch(&stats));
        eprintln!(
            "  round {round}: single {rate:.0}, writer awaited {rate_waited:.0}, writer fed {rate_fed:.0} events/s"
        );
        if let Some(wide) = wide {
            spread.push(one_by_one(world, wide, scale.time).await);
        }
    }
    header(&[
        &format!("{backend}, 64 tasks"),
        "events/s",
        "events in a batch",
        "ratio to single appends",
    ]);
    row(&["single appends", &single.shown(0), "1", "1"]);
    if wide.is_some() {
        let ratio = spread.over(&single).shown(2);
        row(&["single appends, 64 connections", &spread.shown(0), "1", &ratio]);
    }
    let batch = format!("{:.0}", batch_waited.median());
    let ratio = waited.over(&single).shown(1);
    row(&["writer, each task awaits its append", &waited.shown(0), &batch, &ratio]);
    let batch = format!("{:.0}", batch_fed.median());
    let ratio = fed.over(&single).shown(1);
    row(&["writer, fed without waiting", &fed.shown(0), &batch, &ratio]);
    if wide.is_some() {
        let ratio = fed.over(&spread).shown(1);
        row(&["the same, to single appends over 64 connections", "", "", &ratio]);
    }
}
