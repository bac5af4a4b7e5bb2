//! A console for those who operate a conferencing platform: what is going on, who was in which room when, what became of an account, what
//! the audit log says. It reads, and changes nothing but the audit log, in which it records who signed in and what they looked at.
//!
//! Pages are made on the server, without scripts. docs/CONSOLE.md says how it is run and what keeps it safe.

mod access;
mod app;
mod cached;
mod error;
mod filter;
mod pages;
mod passwords;
mod sessions;
mod sign_in;
mod svg;
mod view;

pub use app::{App, ConsoleSettings, StartError, router};
