//! The contract: one suite of behaviours, run on SQLite and on PostgreSQL. docs/TESTING.md says how to add a case.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, and looks past the store"
)]

mod catalog;
mod checks;
mod declared;
mod harness;
mod rows;
mod violations;
mod wire;

mod atomicity;
mod audit;
mod audit_export;
mod bans;
mod cancellation;
mod codes;
mod column_types;
mod connecting;
mod constraints;
mod durability;
mod erasure;
mod export;
mod grants;
mod identity;
mod immutability;
mod input;
mod lifecycle;
mod migrations;
mod migrations_at_once;
mod model;
mod moderation;
mod names;
mod paging;
mod participants;
mod partitioning;
mod presence;
mod races;
mod recordings;
mod recordings_races;
mod recordings_rules;
mod recordings_start;
mod recordings_sweeps;
mod recordings_visibility;
mod refusals;
mod retention;
mod retries;
mod roles;
mod room_settings;
mod rooms;
mod schema;
mod secrets;
mod tokens;
mod traffic;
mod trail_plans;
mod trails;
mod unit;
mod upkeep;
mod users;
mod writer;

fn main() -> std::process::ExitCode {
    let cases = [
        atomicity::cases(),
        audit::cases(),
        audit_export::cases(),
        bans::cases(),
        cancellation::cases(),
        codes::cases(),
        column_types::cases(),
        connecting::cases(),
        constraints::cases(),
        durability::cases(),
        erasure::cases(),
        export::cases(),
        grants::cases(),
        identity::cases(),
        immutability::cases(),
        input::cases(),
        lifecycle::cases(),
        migrations::cases(),
        migrations_at_once::cases(),
        model::cases(),
        moderation::cases(),
        names::cases(),
        paging::cases(),
        participants::cases(),
        partitioning::cases(),
        presence::cases(),
        races::cases(),
        recordings::cases(),
        recordings_races::cases(),
        recordings_rules::cases(),
        recordings_start::cases(),
        recordings_sweeps::cases(),
        recordings_visibility::cases(),
        refusals::cases(),
        retention::cases(),
        retries::cases(),
        roles::cases(),
        room_settings::cases(),
        rooms::cases(),
        schema::cases(),
        secrets::cases(),
        tokens::cases(),
        traffic::cases(),
        trail_plans::cases(),
        trails::cases(),
        unit::cases(),
        upkeep::cases(),
        users::cases(),
        writer::cases(),
    ];
    harness::run(cases.into_iter().flatten().collect())
}
