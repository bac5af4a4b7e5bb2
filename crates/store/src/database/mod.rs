//! The database below everything else: how it is opened, what PostgreSQL and SQLite spell differently, how a statement is
//! put together, and what the driver's errors mean. Nothing here knows a table of the schema.

mod bounded;
pub mod connect;
mod dialect;
pub(crate) mod durability;
pub(crate) mod fault;
pub(crate) mod lease;
pub(crate) mod replicas;
#[cfg(feature = "postgres")]
mod session;
pub(crate) mod statement;
mod transaction;

pub(crate) use bounded::Bounded;
pub(crate) use dialect::{Dialect, LookUp, Rows};
pub(crate) use replicas::{PRIMARY_POSITION, Replicas, position};
pub use replicas::{ReplicaSettings, ReplicaState, ReplicaStatus};
pub use transaction::Executor;
pub(crate) use transaction::Transaction;
