//! The contract: one suite of behaviours, run on SQLite and on PostgreSQL. docs/TESTING.md says how to add a case.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, and looks past the store"
)]

mod catalog;
mod declared;
mod harness;
mod rows;
mod violations;
mod wire;

mod audit;
mod column_types;
mod constraints;
mod durability;
mod migrations;
mod migrations_at_once;
mod names;
mod participants;
mod rooms;
mod schema;
mod unit;
mod users;

fn main() -> std::process::ExitCode {
    let cases = [
        audit::cases(),
        column_types::cases(),
        constraints::cases(),
        durability::cases(),
        migrations::cases(),
        migrations_at_once::cases(),
        names::cases(),
        participants::cases(),
        rooms::cases(),
        schema::cases(),
        unit::cases(),
        users::cases(),
    ];
    harness::run(cases.into_iter().flatten().collect())
}
