//! The writer with other settings, against its defaults.

use std::time::Duration;

use conferencing_store::WriterSettings;

use crate::Scale;
use crate::appends::{feed, mean_batch, wait};
use crate::measure::{Rounds, header, row};
use crate::world::World;

/// Measures what the defaults are chosen by.
pub async fn compared(scale: Scale) {
    let world = World::on_postgres("settings").await;
    let usual = WriterSettings::default();
    let linger = |millis| WriterSettings {
        linger: Duration::from_millis(millis),
        ..usual
    };
    let of = |batch, lanes| WriterSettings { batch, lanes, ..usual };
    let tried = [
        ("default", usual),
        ("batch 256", of(256, usual.lanes)),
        ("batch 1,024", of(1_024, usual.lanes)),
        ("batch 2,048", of(2_048, usual.lanes)),
        ("1 lane", of(usual.batch, 1)),
        ("4 lanes", of(usual.batch, 4)),
        ("no linger", linger(0)),
        ("linger 2 ms", linger(2)),
        ("linger 5 ms", linger(5)),
    ];
    // There are many: less of each.
    let (rounds, time) = (scale.rounds, scale.time / 3);
    feed(&world, usual, time).await;
    let mut fed = vec![Rounds::default(); tried.len()];
    let mut waited = fed.clone();
    let mut batches = fed.clone();
    for round in 1..=rounds {
        eprintln!("  round {round}");
        for (place, (_, settings)) in tried.iter().enumerate() {
            fed[place].push(feed(&world, *settings, time).await.0);
            let (rate, stats) = wait(&world, *settings, time).await;
            waited[place].push(rate);
            batches[place].push(mean_batch(&stats));
        }
    }
    header(&[
        "settings",
        "fed, events/s",
        "to the default",
        "64 tasks await, events/s",
        "events in a batch",
        "to the default",
    ]);
    for (place, (name, _)) in tried.iter().enumerate() {
        row(&[
            name,
            &fed[place].shown(0),
            &fed[place].over(&fed[0]).shown(2),
            &waited[place].shown(0),
            &format!("{:.0}", batches[place].median()),
            &waited[place].over(&waited[0]).shown(2),
        ]);
    }
}
