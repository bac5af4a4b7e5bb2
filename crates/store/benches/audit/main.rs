//! What the audit log costs: appends, one by one and in batches, and pages far down a long audit log.
//!
//! `scripts/bench` runs it, on a PostgreSQL server of its own; docs/PERFORMANCE.md says what the numbers mean. Whatever is told as
//! a ratio was measured on both sides in the same run, in turns. Progress goes to the standard error, tables in markdown to the
//! standard output.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a benchmark ends with the first thing that goes wrong"
)]

mod appends;
mod measure;
mod pages;
mod server;
mod settings;
mod world;

use std::process::ExitCode;
use std::time::Duration;

/// How much is measured.
#[derive(Clone, Copy)]
struct Scale {
    /// Of each measurement; odd, so that the median is one of them.
    rounds: usize,
    /// How long something is measured in a round.
    time: Duration,
    /// Events of the audit log whose pages are read.
    events: u32,
    /// How far down the deep page is.
    depth: usize,
}

const FULL: Scale = Scale {
    rounds: 7,
    time: Duration::from_secs(2),
    events: 1_000_000,
    depth: 1_000,
};

/// Shows that everything runs, and nothing else.
const QUICK: Scale = Scale {
    rounds: 1,
    time: Duration::from_millis(300),
    events: 20_000,
    depth: 10,
};

const USAGE: &str = "usage: scripts/bench [--quick] [appends] [server] [pages] [sqlite] [settings]";

/// All but the last are measured when none is named.
const PARTS: [&str; 5] = ["appends", "server", "pages", "sqlite", "settings"];

fn main() -> ExitCode {
    let mut scale = FULL;
    let (mut asked, mut parts) = (false, Vec::new());
    for argument in std::env::args().skip(1) {
        match argument.as_str() {
            // What `cargo bench` says, and `cargo test` does not.
            "--bench" => asked = true,
            "--quick" => scale = QUICK,
            part if PARTS.contains(&part) => parts.push(argument),
            _ => {
                eprintln!("{USAGE}");
                return ExitCode::from(2);
            }
        }
    }
    if !asked {
        eprintln!("This measures only when run as a benchmark: scripts/bench");
        return ExitCode::SUCCESS;
    }
    if parts.is_empty() {
        parts.extend(PARTS[..4].iter().map(|part| (*part).to_owned()));
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    for part in parts {
        eprintln!("{part}");
        match part.as_str() {
            "appends" => runtime.block_on(appends::on_postgres(scale)),
            "server" => runtime.block_on(server::against_pgbench(scale)),
            "pages" => runtime.block_on(pages::near_and_far(scale)),
            "sqlite" => runtime.block_on(appends::on_sqlite(scale)),
            _ => runtime.block_on(settings::compared(scale)),
        }
    }
    ExitCode::SUCCESS
}
