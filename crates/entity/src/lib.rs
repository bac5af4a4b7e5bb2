//! SeaORM entities of a conferencing platform's control plane: nine tables, five enums.
//!
//! One file a table, the enum that belongs to it beside it. [`ids`] has a key type for each table, so that a room's id
//! cannot be passed where a user's is meant. [`Secret`] holds what must never be printed or serialised.
//!
//! The tables are made by the `migration` package, never from these entities; a test of the store compares the two,
//! column by column, on both backends. Services use the `store` crate, which never forgets the deleted filter, the
//! audit row or the lock; these types are what it returns.

#![allow(clippy::disallowed_methods, reason = "the derives' own code")]

/// The table that says which of our migrations a database has. SeaORM's own name for it, `seaql_migrations`, is left to the service that
/// links us: two migrators that share a table take each other's rows for files that are missing.
pub const MIGRATION_TABLE: &str = "conferencing_migrations";

pub mod audit_log;
pub mod auth_provider;
pub mod client_address;
pub mod feed_checkpoint;
pub mod ids;
pub mod inbox_event;
pub mod media_node;
pub mod recording;
pub mod room;
pub mod room_participant;
pub mod secret;
pub mod user;

pub use audit_log::{AuditAction, RecordedAction};
pub use auth_provider::AuthProviderType;
pub use client_address::ClientAddress;
pub use ids::{AuditLogId, AuthProviderId, MediaNodeId, ParticipantId, RecordingId, RoomId, UserId};
pub use recording::RecordingStatus;
pub use room::RoomStatus;
pub use room_participant::ParticipantRole;
pub use secret::Secret;
