//! The service over HTTP, on SQLite and on PostgreSQL: a real listener on a free port, and clients that know nothing of its inside.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test fails by panicking"
)]

#[macro_use]
mod harness;

mod accounts;
mod guests;
mod load;
mod people;
mod rooms;
mod service;
mod shutdown;
mod sockets;
mod webhooks;

fn main() -> std::process::ExitCode {
    let cases = [
        accounts::cases(),
        guests::cases(),
        load::cases(),
        people::cases(),
        rooms::cases(),
        service::cases(),
        shutdown::cases(),
        sockets::cases(),
        webhooks::cases(),
    ];
    harness::run(cases.into_iter().flatten().collect())
}
