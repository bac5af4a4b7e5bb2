//! The contract: one suite of behaviours, run on SQLite and on PostgreSQL. docs/TESTING.md says how to add a case.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, and looks past the store"
)]

mod accounts_support;
#[path = "../support/address.rs"]
mod address;
mod catalog;
mod checks;
mod collector;
mod declared;
mod harness;
mod hot_rooms_support;
mod metering;
mod past_pooler;
mod pooler;
mod rows;
#[path = "../support/runtime.rs"]
mod runtime;
#[path = "../support/through.rs"]
mod through;
mod violations;
mod webhooks;
mod wire;

mod accounts;
mod atomicity;
mod audit;
mod audit_export;
mod audit_pages;
mod audit_plans;
mod back_office;
mod back_office_plans;
mod bans;
mod cancellation;
mod codes;
mod column_types;
mod connecting;
mod constraints;
mod costs;
mod costs_growth;
mod doctor;
mod doctor_rights;
mod doctor_sqlite;
mod durability;
mod erasure;
mod export;
mod feed;
mod feed_checkpoints;
mod fingerprint;
mod grants;
mod guests;
mod health;
mod hot_rooms;
mod hot_rooms_answers;
mod hot_rooms_failures;
mod immutability;
mod inbox;
mod input;
mod leave_stay;
mod lifecycle;
mod limits;
mod logged;
mod logins;
mod migrations;
mod migrations_at_once;
mod migrations_document;
mod migrations_indexes;
mod migrations_online;
mod model;
mod moderation;
mod names;
mod nodes;
mod nodes_sweeps;
mod own_sql;
mod paging;
mod participants;
mod partitioning;
mod presence;
mod presence_plans;
mod privacy;
mod races;
mod reconcile;
mod recordings;
mod recordings_purges;
mod recordings_races;
mod recordings_reports;
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
mod rooms_sweeps;
mod schema;
mod secrets;
mod sign_in_methods;
mod standing;
mod statements;
mod stays;
mod telemetry;
mod tls;
mod tokens;
mod traffic;
mod unit;
mod upkeep;
mod usage;
mod user_lists;
mod users;
mod writer;

fn main() -> std::process::ExitCode {
    let cases = [
        accounts::cases(),
        atomicity::cases(),
        audit::cases(),
        audit_export::cases(),
        back_office::cases(),
        back_office_plans::cases(),
        bans::cases(),
        cancellation::cases(),
        codes::cases(),
        column_types::cases(),
        connecting::cases(),
        constraints::cases(),
        costs::cases(),
        costs_growth::cases(),
        doctor::cases(),
        doctor_rights::cases(),
        doctor_sqlite::cases(),
        durability::cases(),
        erasure::cases(),
        export::cases(),
        feed::cases(),
        feed_checkpoints::cases(),
        fingerprint::cases(),
        grants::cases(),
        guests::cases(),
        health::cases(),
        hot_rooms::cases(),
        hot_rooms_answers::cases(),
        hot_rooms_failures::cases(),
        immutability::cases(),
        inbox::cases(),
        input::cases(),
        leave_stay::cases(),
        lifecycle::cases(),
        limits::cases(),
        logged::cases(),
        logins::cases(),
        migrations::cases(),
        migrations_at_once::cases(),
        migrations_document::cases(),
        migrations_indexes::cases(),
        migrations_online::cases(),
        model::cases(),
        moderation::cases(),
        names::cases(),
        nodes::cases(),
        nodes_sweeps::cases(),
        own_sql::cases(),
        paging::cases(),
        participants::cases(),
        partitioning::cases(),
        presence::cases(),
        presence_plans::cases(),
        privacy::cases(),
        races::cases(),
        reconcile::cases(),
        recordings::cases(),
        recordings_purges::cases(),
        recordings_races::cases(),
        recordings_reports::cases(),
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
        rooms_sweeps::cases(),
        schema::cases(),
        sign_in_methods::cases(),
        secrets::cases(),
        standing::cases(),
        statements::cases(),
        stays::cases(),
        telemetry::cases(),
        tls::cases(),
        tokens::cases(),
        traffic::cases(),
        audit_plans::cases(),
        audit_pages::cases(),
        unit::cases(),
        upkeep::cases(),
        usage::cases(),
        user_lists::cases(),
        users::cases(),
        webhooks::cases(),
        writer::cases(),
    ];
    collector::install();
    harness::run(cases.into_iter().flatten().collect())
}
