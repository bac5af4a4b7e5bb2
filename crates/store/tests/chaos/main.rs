//! Long runs against servers that are not alone, or do not stay as they are. `scripts/chaos` starts what each needs, and then one of
//! them; elsewhere they are shown as ignored. docs/RELIABILITY.md has what they counted.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, and looks past the store"
)]

#[path = "../support/address.rs"]
mod address;
mod feed;
mod gauge;
#[path = "../crash/ledger.rs"]
mod ledger;
mod pooler;
#[path = "../support/runtime.rs"]
mod runtime;
#[path = "../support/through.rs"]
mod through;
mod traffic;

use std::future::Future;
use std::pin::Pin;
use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};

use runtime::block_on;

struct Case {
    name: &'static str,
    /// Whether what it needs was started.
    is_prepared: fn() -> bool,
    run: fn() -> Pin<Box<dyn Future<Output = ()> + Send>>,
}

const CASES: &[Case] = &[
    Case {
        name: "pooler::dropped_calls_with_limits_of_each_transaction",
        is_prepared: pooler::is_prepared,
        run: || Box::pin(pooler::run(pooler::Limits::OfTransactions)),
    },
    Case {
        name: "pooler::dropped_calls_with_limits_of_the_database",
        is_prepared: pooler::is_prepared,
        run: || Box::pin(pooler::run(pooler::Limits::OfTheDatabase)),
    },
    Case {
        name: "feed::a_unit_that_stays_open_by_the_clock",
        is_prepared: feed::is_prepared,
        run: || Box::pin(feed::run()),
    },
];

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // They print what they count, and want the machine for themselves.
    arguments.nocapture = true;
    arguments.test_threads = Some(1);
    let trials = CASES.iter().map(|case| {
        let body = || {
            block_on((case.run)());
            Ok(())
        };
        Trial::test(case.name, body).with_ignored_flag(!(case.is_prepared)())
    });
    libtest_mimic::run(&arguments, trials.collect()).exit_code()
}

/// A whole number that a variable may set.
fn number_of(variable: &str, otherwise: u64) -> u64 {
    let set = std::env::var(variable).ok().filter(|value| !value.is_empty());
    set.map_or(otherwise, |value| value.parse().unwrap())
}
