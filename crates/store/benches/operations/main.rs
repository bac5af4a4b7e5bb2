//! Every operation beside its limit: this tree's, that of the tree before, the same statements sent by pgbench, and the same done
//! with SeaORM's entities. And what grows with the rows that are there.
//!
//! `scripts/bench operations` and `scripts/bench growth` run it, on a PostgreSQL server of its own; docs/PERFORMANCE.md says what
//! the numbers mean. Progress goes to the standard error, tables in markdown to the standard output.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::enum_glob_use,
    reason = "a benchmark ends with the first thing that goes wrong"
)]

mod calls;
mod capture;
mod compare;
mod contestants;
mod counts;
mod entities;
mod growth;
#[path = "../audit/measure.rs"]
mod measure;
mod operation;
mod pgbench;
mod plot;
mod protocol;
mod remote;
mod seed;
mod subject;
mod worker;

use std::process::ExitCode;

use operation::Operation;
use sea_orm::Iterable;

/// How much is measured.
#[derive(Clone, Copy)]
struct Scale {
    /// Of each row; odd, so that the median is one of them.
    rounds: usize,
    /// How long each contestant's turn is.
    millis: u64,
    /// How far down the audit log's far page is.
    depth: u64,
    /// How many operations are counted for what one costs.
    counted: u64,
}

const FULL: Scale = Scale {
    rounds: 7,
    millis: 1_500,
    depth: 1_000,
    counted: 200,
};

/// Shows that everything runs, and nothing else.
const QUICK: Scale = Scale {
    rounds: 1,
    millis: 300,
    depth: 20,
    counted: 20,
};

const USAGE: &str = "usage: scripts/bench [--no-fsync] [--quick] [--rounds=N] operations [OPERATION...]
       scripts/bench [--quick] [--large] growth";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [worker, side, url] = arguments.as_slice()
        && worker == "--worker"
    {
        let side = match side.as_str() {
            "entities" => worker::Side::Entities,
            _ => worker::Side::Store,
        };
        worker::serve(side, url);
        return ExitCode::SUCCESS;
    }
    let (mut scale, mut growth) = (FULL, growth::FULL);
    let (mut asked, mut part, mut operations) = (false, None, Vec::new());
    for argument in &arguments {
        let rounds = argument
            .strip_prefix("--rounds=")
            .and_then(|rounds| rounds.parse().ok());
        match (argument.as_str(), Operation::named(argument), rounds) {
            // What `cargo bench` says, and `cargo test` does not.
            ("--bench", ..) => asked = true,
            ("--quick", ..) => (scale, growth) = (QUICK, growth::QUICK),
            ("--large", ..) => growth = growth::LARGE,
            (_, _, Some(rounds)) => scale.rounds = rounds,
            ("operations" | "growth", ..) if part.is_none() => part = Some(argument.as_str()),
            (_, Some(operation), _) => operations.push(operation),
            _ => {
                let names: Vec<_> = Operation::iter().map(Operation::name).collect();
                eprintln!("{USAGE}\noperations: {}", names.join(", "));
                return ExitCode::from(2);
            }
        }
    }
    if !asked {
        eprintln!("This measures only when run as a benchmark: scripts/bench operations");
        return ExitCode::SUCCESS;
    }
    if operations.is_empty() {
        operations.extend(Operation::iter());
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    if part == Some("growth") {
        eprintln!("growth");
        runtime.block_on(Box::pin(growth::measure(growth)));
    } else {
        eprintln!("operations");
        runtime.block_on(Box::pin(beside_limits(&operations, scale)));
    }
    ExitCode::SUCCESS
}

async fn beside_limits(operations: &[Operation], scale: Scale) {
    let server = contestants::Server::new().await;
    let mut contestants = server.contestants(scale.depth).await;
    compare::operations(&mut contestants, operations, scale).await;
    counts::exact(&server, &mut contestants, operations, scale).await;
}
