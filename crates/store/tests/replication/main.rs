//! A real primary and two servers that follow it: reads from those that follow while they are paused, killed and started again, and
//! failovers, in which nothing that was acknowledged is lost.
//!
//! The servers are those of `scripts/replicated-postgres`. `scripts/chaos failover ROUNDS` runs more rounds of the last case.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, and looks past the store"
)]

#[path = "../crash/appending.rs"]
mod appending;
mod cluster;
mod failover;
#[path = "../crash/follower.rs"]
mod follower;
#[path = "../crash/ledger.rs"]
mod ledger;
mod reads;
#[path = "../support/runtime.rs"]
mod runtime;
#[path = "../support/script.rs"]
mod script;

use std::process::ExitCode;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use libtest_mimic::{Arguments, Trial};
use metrics_util::debugging::{DebugValue, DebuggingRecorder, Snapshotter};

use cluster::Cluster;
use runtime::block_on;

/// Far longer than anything that is waited for takes; after it a case fails instead of waiting for ever.
const PATIENCE: Duration = Duration::from_secs(60);

static METRICS: OnceLock<Snapshotter> = OnceLock::new();

/// How many reads were answered by a replica, and how many by the primary, since this was last asked.
fn served() -> (u64, u64) {
    let (mut by_replicas, mut by_the_primary) = (0, 0);
    for (key, _, _, value) in METRICS.get().unwrap().snapshot().into_vec() {
        let DebugValue::Counter(count) = value else {
            continue;
        };
        if key.key().name() == "store_replica_reads_total" {
            let by = key.key().labels().next().unwrap();
            match by.value() {
                "replica" => by_replicas = count,
                _ => by_the_primary = count,
            }
        }
    }
    (by_replicas, by_the_primary)
}

/// Asks again and again until it is so.
async fn until<F: Future<Output = bool>>(what: &str, mut is_so: impl FnMut() -> F) {
    let waited = tokio::time::timeout(PATIENCE, async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    if waited.await.is_err() {
        panic!("{what} does not come");
    }
}

type Case = fn(&mut Cluster);

macro_rules! cases {
    ($($module:ident::$case:ident),+ $(,)?) => {{
        let cases: Vec<(&str, Case)> = vec![$((
            concat!(stringify!($module), "::", stringify!($case)),
            |cluster| { block_on($module::$case(cluster)); },
        )),+];
        cases
    }};
}

fn main() -> ExitCode {
    if let Some(orders) = follower::orders_of_environment() {
        return block_on(follower::follow(orders));
    }
    let mut arguments = Arguments::from_args();
    // They share the servers.
    arguments.test_threads = Some(1);
    let recorder = DebuggingRecorder::new();
    let _ = METRICS.set(recorder.snapshotter());
    recorder.install().unwrap();
    let unset = |name| std::env::var_os(name).is_none_or(|value| value.is_empty());
    // The same rule as in the contract suite, though the servers are not that of TEST_DATABASE_URL.
    let ignored = unset("TEST_DATABASE_URL") && std::env::var_os("REQUIRE_POSTGRES").is_none();
    let cases = cases![
        reads::lag_is_tolerated_where_it_is_asked_for,
        reads::a_token_is_waited_for_and_then_the_primary_is_asked,
        reads::who_lags_is_left_out_and_comes_back,
        reads::who_dies_is_left_out_and_comes_back,
        reads::who_falls_silent_is_not_waited_for,
        failover::an_answer_that_is_read_only_is_transient,
        failover::nobody_reads_from_the_server_before,
        failover::nothing_acknowledged_is_lost,
    ];
    let cluster = Arc::<Mutex<Option<Cluster>>>::default();
    let trials = cases.into_iter().map(|(name, case)| {
        let cluster = Arc::clone(&cluster);
        let run = move || {
            // A case that failed may have left anything: the next one gets servers of its own.
            let taken = cluster.lock().unwrap().take();
            let mut mine = taken.unwrap_or_else(Cluster::start);
            case(&mut mine);
            *cluster.lock().unwrap() = Some(mine);
            Ok(())
        };
        Trial::test(format!("postgres::replication::{name}"), run).with_ignored_flag(ignored)
    });
    let conclusion = libtest_mimic::run(&arguments, trials.collect());
    drop(cluster.lock().unwrap().take());
    conclusion.exit_code()
}
