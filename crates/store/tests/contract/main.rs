//! The contract: one suite of behaviours, run on SQLite and on PostgreSQL. docs/TESTING.md says how to add a case.

mod catalog;
mod declared;
mod harness;
mod wire;

mod audit;
mod migrations;
mod participants;
mod rooms;
mod schema;
mod unit;
mod users;

fn main() -> std::process::ExitCode {
    let cases = [
        audit::cases(),
        migrations::cases(),
        participants::cases(),
        rooms::cases(),
        schema::cases(),
        unit::cases(),
        users::cases(),
    ];
    harness::run(cases.into_iter().flatten().collect())
}
