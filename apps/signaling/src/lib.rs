//! The signaling service of a conferencing platform: accounts, rooms, who is in them, and the WebSocket that tells of it, over HTTP. It is
//! made to be run, and to be read by those who build such services on the store. docs/SIGNALING.md has how to run it and what it serves.
//!
//! | module | what is in it |
//! |---|---|
//! | [`config`] | the settings |
//! | [`app`] | starting, serving, stopping; what every request works with |
//! | [`routes`] | one file a subject; the layers that every request passes |
//! | [`auth`] | passwords, sessions (the service's own tables), who a request comes from |
//! | `presence`, `upkeep` | seats without a socket; signs of life and sweeps |
//! | [`problem`] | refusals |

pub mod app;
pub mod auth;
pub mod config;
mod metering;
mod names;
mod presence;
pub mod problem;
pub mod routes;
mod upkeep;
pub mod webhook_signature;

pub use app::{App, StartError};
pub use config::Config;
