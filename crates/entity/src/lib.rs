//! SeaORM entities of a conferencing platform's control plane: nine tables, five enums.
//!
//! One file a table, the enum that belongs to it beside it. [`ids`] has a key type for each table, so that a room's id
//! cannot be passed where a user's is meant. [`Secret`] holds what must never be printed or serialised.
//!
//! The tables are made by the `migration` package, never from these entities; a test of the store compares the two,
//! column by column, on both backends. Services use the `store` crate, which never forgets the deleted filter, the
//! audit row or the lock; these types are what it returns.
//!
//! # Read-only
//!
//! The entities are for reading and for joins with a service's own tables. `insert`, `update`, `save` and `delete` of their active models
//! answer an error and send nothing, on any connection: such a change would be in no audit log, could break what the store holds under a lock,
//! and is not what the grants of docs/OPERATIONS.md are for. SeaORM also has `Entity::insert`, `update_many` and `delete_many`, which ask no
//! model: through `Unit::sql` of the store they are refused as well, through a connection of one's own they are not. Do not.

#![allow(clippy::disallowed_methods, reason = "the derives' own code")]

/// The table that says which of our migrations a database has. SeaORM's own name for it, `seaql_migrations`, is left to the service that
/// links us: two migrators that share a table take each other's rows for files that are missing.
pub const MIGRATION_TABLE: &str = "conferencing_migrations";

/// The JSON schema of what is written as a text of its own form.
#[cfg(feature = "schemars")]
#[doc(hidden)]
#[macro_export]
macro_rules! text_in_json {
    ($type:ty, $name:literal) => {
        impl schemars::JsonSchema for $type {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                $name.into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({ "type": "string" })
            }
        }
    };
}

/// Our tables, each after those that it refers to. `audit_feed` is there on SQLite alone.
pub const TABLES: &[&str] = &[
    "users",
    "auth_providers",
    "rooms",
    "media_nodes",
    "room_participants",
    "recordings",
    "inbox",
    "feed_checkpoints",
    "audit_logs",
    "audit_feed",
];

/// Active models read and convert, and are not written: a change past the store is in no audit log and asks for no lock.
macro_rules! read_only {
    ($table:literal) => {
        #[async_trait::async_trait]
        impl ActiveModelBehavior for ActiveModel {
            async fn before_save<C: ConnectionTrait>(self, _: &C, _: bool) -> Result<Self, DbErr> {
                Err(crate::is_read_only($table))
            }

            async fn before_delete<C: ConnectionTrait>(self, _: &C) -> Result<Self, DbErr> {
                Err(crate::is_read_only($table))
            }
        }
    };
}

fn is_read_only(table: &str) -> sea_orm::DbErr {
    sea_orm::DbErr::Custom(format!(
        "a row of {table} is changed by the store alone, which records the change in the audit log"
    ))
}

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
