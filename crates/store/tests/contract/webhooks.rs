//! The example's webhooks: delivered late, twice and in any order they leave what they leave in the right one.

use std::sync::Arc;

use conferencing_store::clock::{ManualClock, SystemClock};
use conferencing_store::{Store, StoreSettings, clock::Clock, connect};
use rand::SeedableRng;
use rand::rngs::StdRng;

use crate::harness::{TestDb, race, settings};

#[path = "../../../../examples/src/webhooks/mod.rs"]
mod example;

use example::{EndState, Meeting, RecordingLeft, StayLeft, Timeline, delivered_badly, in_the_right_order};

crate::cases![a_thousand_bad_deliveries_leave_what_good_ones_do];

/// So many meetings go on at a time, each with a clock of its own.
const WORKERS: u64 = 8;
const MEETINGS: u64 = 1_000;

async fn a_thousand_bad_deliveries_leave_what_good_ones_do(db: TestDb) {
    let users = db.users("guest", 3).await;
    let users = [users[0].id, users[1].id, users[2].id];
    let pool = connect::open(&db.service_url(), &settings().connect).await.unwrap();
    let work = |worker: u64| {
        let pool = pool.clone();
        async move {
            let clock = Arc::new(ManualClock::at(SystemClock.now()));
            let settings = StoreSettings {
                clock: clock.clone(),
                ..settings()
            };
            let store = Store::from_connection(pool, settings).await.unwrap();
            let mut meeting = Meeting::prepare(&store, &clock, users).await.unwrap();
            let in_order: Timeline = in_the_right_order();
            let expected: EndState = meeting.play(&in_order).await.unwrap();
            assert!(expected.stays.iter().all(|stay: &StayLeft| stay.to.is_some()));
            assert!(expected.recordings.iter().all(|file: &RecordingLeft| file.to.is_some()));
            let mut duplicates = 0;
            for number in 0..MEETINGS / WORKERS {
                let seed = worker * MEETINGS + number;
                let mut random = StdRng::seed_from_u64(seed);
                let mut meeting = Meeting::prepare(&store, &clock, users).await.unwrap();
                let left = meeting.play(&delivered_badly(&mut random)).await.unwrap();
                assert_eq!(left, expected, "seed {seed}");
                duplicates += meeting.deliveries.1;
            }
            duplicates
        }
    };
    let duplicates: usize = race((0..WORKERS).map(work)).await.into_iter().sum();
    assert!(duplicates > 10_000, "{duplicates} deliveries were repeated");
    db.raw().await.assert_invariants().await;
}
