//! What a crash leaves of the audit log: everything that was acknowledged, once. And what another process hears by the feed meanwhile:
//! all of it, once.
//!
//! On PostgreSQL the server is killed, on SQLite the process that has the file open; both ten times, while 32 tasks append.
//! docs/TESTING.md says how to add something else that appends.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, and looks past the store"
)]

mod appending;
mod follower;
mod ledger;
mod postgres;
#[path = "../support/runtime.rs"]
mod runtime;
#[path = "../support/script.rs"]
mod script;
mod sqlite;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use conferencing_migration::{Migrator, MigratorTrait};
use conferencing_store::entity::{RoomId, Secret, UserId};
use conferencing_store::{Actor, ConnectSettings, NewRoom, NewUser, Store, WriterSettings};
use libtest_mimic::{Arguments, Trial};

use appending::{Append, observation, one_by_one};
use runtime::block_on;

const ROUNDS: usize = 10;
const TASKS: usize = 32;
/// What must be acknowledged before each crash.
const EVENTS_A_ROUND: usize = 200;

/// Far longer than anything that is waited for takes; after it a case fails instead of waiting for ever.
const PATIENCE: Duration = Duration::from_secs(60);

/// A case for both backends: its name, and what appends to a room's audit log in it.
#[derive(Clone, Copy)]
struct Case {
    name: &'static str,
    appends: fn(&Store, RoomId) -> Append,
    /// On PostgreSQL, where those who append live on.
    crash_is: Seen,
}

/// Who hears of the server's death.
#[derive(Clone, Copy)]
enum Seen {
    /// Those whose append was under way: they do not know what became of it.
    ByCallers,
    /// What appends tries again by itself, until it has succeeded.
    ByNobody,
}

const CASES: &[Case] = &[
    Case {
        name: "what_was_acknowledged_is_there_exactly_once",
        appends: one_by_one,
        crash_is: Seen::ByCallers,
    },
    Case {
        name: "what_the_writer_acknowledged_is_there_exactly_once",
        appends: in_batches,
        crash_is: Seen::ByNobody,
    },
];

/// The audit writer, which writes those of all tasks together.
fn in_batches(store: &Store, room: RoomId) -> Append {
    let (writer, actor) = (
        store.audit_writer(WriterSettings::default()).unwrap(),
        Actor::system("test"),
    );
    Arc::new(move |text| {
        let (writer, actor) = (writer.clone(), actor.clone());
        Box::pin(async move { writer.append(&actor, Some(room), observation(text)).await })
    })
}

fn main() -> ExitCode {
    if let Some(orders) = follower::orders_of_environment() {
        return block_on(follower::follow(orders));
    }
    if let Some(child) = sqlite::Child::of_environment() {
        return block_on(child.append_until_killed());
    }
    let arguments = Arguments::from_args();
    let unset = |name| std::env::var_os(name).is_none_or(|value| value.is_empty());
    // The same rule as in the contract suite, though the server of TEST_DATABASE_URL is not the one that is killed.
    let ignore_postgres = unset("TEST_DATABASE_URL") && std::env::var_os("REQUIRE_POSTGRES").is_none();
    let mut trials = Vec::new();
    for &case in CASES {
        let on_sqlite = move || {
            block_on(sqlite::crash(case));
            Ok(())
        };
        let on_postgres = move || {
            block_on(postgres::crash(case));
            Ok(())
        };
        trials.push(Trial::test(format!("sqlite::crash::{}", case.name), on_sqlite));
        trials.push(
            Trial::test(format!("postgres::crash::{}", case.name), on_postgres).with_ignored_flag(ignore_postgres),
        );
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// Migrates the database at `url`, and makes a room and a guest in it.
async fn prepare(url: &str) -> (RoomId, UserId) {
    let db = conferencing_store::connect::open(url, &ConnectSettings::default())
        .await
        .unwrap();
    Migrator::up(&db, None).await.unwrap();
    let store = Store::from_connection(db, conferencing_store::StoreSettings::default())
        .await
        .unwrap();
    let system = store.acting(&Actor::system("test"));
    let mut users = Vec::new();
    for name in ["owner", "guest"] {
        let hash = Secret::new("$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHQ$aGFzaGhhc2g");
        let user = system.users().register(NewUser::named(name, name, hash)).await;
        users.push(user.unwrap().id);
    }
    let room = system
        .rooms()
        .create(NewRoom::titled(users[0], "A room"))
        .await
        .unwrap();
    store.close().await.unwrap();
    (room.id, users[1])
}
