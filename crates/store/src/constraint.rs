//! Every constraint, unique index and refusing trigger of the schema by name, and what its violation means.
//!
//! The statements of this store avoid violations (`ON CONFLICT DO NOTHING`, guards), so most entries are what stands
//! behind them. A test compares this list with the migrated schema of both backends: an unlisted name fails it.

/// What a violated constraint says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// Two rows that may not both be. SQLite names the columns, not the index; they are given here as it prints them.
    Unique {
        /// `table.column, table.column`, or `index 'name'` for an index over expressions.
        sqlite: &'static str,
    },
    /// A row that points at nothing, or the delete of a row that is pointed at. SQLite names none of these.
    Reference,
    /// A row that contradicts itself.
    Check,
    /// A change that a trigger refuses.
    Trigger,
}

use Meaning::{Check, Reference, Trigger, Unique};

/// Name and meaning, sorted by table.
pub const CONSTRAINTS: &[(&str, Meaning)] = &[
    ("pk_users", Unique { sqlite: "users.id" }),
    (
        "uq_users_username",
        Unique {
            sqlite: "index 'uq_users_username'",
        },
    ),
    (
        "uq_users_email",
        Unique {
            sqlite: "index 'uq_users_email'",
        },
    ),
    ("tr_users_kept", Trigger),
    ("ck_users_username", Check),
    ("ck_users_email", Check),
    ("ck_users_lengths", Check),
    ("ck_users_ids", Check),
    ("ck_users_flags", Check),
    ("ck_users_times", Check),
    (
        "pk_auth_providers",
        Unique {
            sqlite: "auth_providers.id",
        },
    ),
    (
        "uq_auth_providers_account",
        Unique {
            sqlite: "auth_providers.provider_type, auth_providers.provider_id",
        },
    ),
    ("fk_auth_providers_user", Reference),
    ("ck_auth_providers_provider_id", Check),
    ("ck_auth_providers_provider_type", Check),
    ("ck_auth_providers_metadata", Check),
    ("ck_auth_providers_lengths", Check),
    ("ck_auth_providers_ids", Check),
    ("ck_auth_providers_times", Check),
    ("pk_rooms", Unique { sqlite: "rooms.id" }),
    (
        "uq_rooms_room_code",
        Unique {
            sqlite: "rooms.room_code",
        },
    ),
    ("fk_rooms_owner", Reference),
    ("ck_rooms_room_code", Check),
    ("ck_rooms_max_participants", Check),
    ("ck_rooms_capacity", Check),
    ("ck_rooms_counters", Check),
    ("ck_rooms_present_only_live", Check),
    ("ck_rooms_schedule", Check),
    ("ck_rooms_lifecycle", Check),
    ("ck_rooms_not_deleted_live", Check),
    ("ck_rooms_status", Check),
    ("ck_rooms_lengths", Check),
    ("ck_rooms_ids", Check),
    ("ck_rooms_flags", Check),
    ("ck_rooms_times", Check),
    ("tr_rooms_status", Trigger),
    ("tr_rooms_kept", Trigger),
    (
        "pk_media_nodes",
        Unique {
            sqlite: "media_nodes.id",
        },
    ),
    (
        "uq_media_nodes_name",
        Unique {
            sqlite: "media_nodes.name",
        },
    ),
    ("ck_media_nodes_name", Check),
    ("ck_media_nodes_beat", Check),
    ("ck_media_nodes_lengths", Check),
    ("ck_media_nodes_ids", Check),
    ("ck_media_nodes_times", Check),
    ("tr_media_nodes_lost", Trigger),
    ("tr_media_nodes_kept", Trigger),
    (
        "pk_room_participants",
        Unique {
            sqlite: "room_participants.id",
        },
    ),
    (
        "uq_room_participants_joined",
        Unique {
            sqlite: "room_participants.user_id, room_participants.joined_at, room_participants.room_id",
        },
    ),
    (
        "uq_room_participants_current",
        Unique {
            sqlite: "room_participants.room_id, room_participants.user_id",
        },
    ),
    (
        "uq_room_participants_host",
        Unique {
            sqlite: "room_participants.room_id",
        },
    ),
    ("fk_room_participants_user", Reference),
    ("fk_room_participants_room", Reference),
    ("fk_room_participants_kicked_by", Reference),
    ("fk_room_participants_banned_by", Reference),
    ("fk_room_participants_node", Reference),
    ("ck_room_participants_role", Check),
    ("ck_room_participants_left", Check),
    ("ck_room_participants_kick", Check),
    ("ck_room_participants_ban", Check),
    ("ck_room_participants_ban_expiry", Check),
    ("ck_room_participants_lengths", Check),
    ("ck_room_participants_ids", Check),
    ("ck_room_participants_flags", Check),
    ("ck_room_participants_times", Check),
    ("tr_room_participants_node", Trigger),
    (
        "pk_recordings",
        Unique {
            sqlite: "recordings.id",
        },
    ),
    (
        "uq_recordings_storage_key",
        Unique {
            sqlite: "recordings.storage_key",
        },
    ),
    (
        "uq_recordings_egress",
        Unique {
            sqlite: "recordings.egress_id",
        },
    ),
    ("fk_recordings_room", Reference),
    ("fk_recordings_owner", Reference),
    ("ck_recordings_measures", Check),
    ("ck_recordings_retry_count", Check),
    ("ck_recordings_lifecycle", Check),
    ("ck_recordings_stopped", Check),
    ("ck_recordings_purge", Check),
    ("ck_recordings_egress", Check),
    ("ck_recordings_status", Check),
    ("ck_recordings_lengths", Check),
    ("ck_recordings_ids", Check),
    ("ck_recordings_flags", Check),
    ("ck_recordings_times", Check),
    ("tr_recordings_status", Trigger),
    ("tr_recordings_purged", Trigger),
    (
        "pk_inbox",
        Unique {
            sqlite: "inbox.source, inbox.event_id",
        },
    ),
    ("ck_inbox_source", Check),
    ("ck_inbox_event_id", Check),
    ("ck_inbox_lengths", Check),
    ("ck_inbox_times", Check),
    (
        "pk_feed_checkpoints",
        Unique {
            sqlite: "feed_checkpoints.consumer",
        },
    ),
    ("ck_feed_checkpoints_consumer", Check),
    ("ck_feed_checkpoints_lengths", Check),
    ("ck_feed_checkpoints_times", Check),
    (
        "pk_audit_logs",
        Unique {
            sqlite: "audit_logs.timestamp, audit_logs.id",
        },
    ),
    ("fk_audit_logs_user", Reference),
    ("fk_audit_logs_room", Reference),
    ("fk_audit_logs_target_user", Reference),
    ("ck_audit_logs_action", Check),
    ("ck_audit_logs_metadata", Check),
    ("ck_audit_logs_lengths", Check),
    ("ck_audit_logs_ids", Check),
    ("ck_audit_logs_times", Check),
    ("tr_audit_logs_immutable", Trigger),
];

/// The listed name of what PostgreSQL reports: each partition of the audit log has the key under a name of its own, since names of
/// indexes are not per table. Foreign keys and triggers are called there as they are on the whole.
pub fn listed_name(reported: &str) -> &str {
    match reported.strip_prefix("pk_audit_logs_") {
        Some(_) => "pk_audit_logs",
        None => reported,
    }
}

/// The constraint of that name, if it is one of ours.
pub(crate) fn by_name(name: &str) -> Option<&'static str> {
    CONSTRAINTS.iter().map(|(known, _)| *known).find(|known| *known == name)
}

/// The constraint that SQLite speaks of in an error's text.
pub(crate) fn by_sqlite_message(message: &str) -> Option<&'static str> {
    if let Some(columns) = message.split("UNIQUE constraint failed: ").nth(1) {
        return CONSTRAINTS.iter().find_map(|(name, meaning)| match meaning {
            Unique { sqlite } if *sqlite == columns => Some(*name),
            _ => None,
        });
    }
    // A CHECK is named after a colon; a trigger's RAISE is the name alone, behind what the driver puts before it.
    message.rsplit([' ', ':']).next().and_then(by_name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sqlite_messages_lead_to_names() {
        for (message, name) in [
            ("UNIQUE constraint failed: rooms.room_code", "uq_rooms_room_code"),
            ("UNIQUE constraint failed: index 'uq_users_email'", "uq_users_email"),
            ("CHECK constraint failed: ck_rooms_capacity", "ck_rooms_capacity"),
            ("tr_audit_logs_immutable", "tr_audit_logs_immutable"),
        ] {
            assert_eq!(by_sqlite_message(message), Some(name));
        }
        assert_eq!(by_sqlite_message("FOREIGN KEY constraint failed"), None);
    }

    #[test]
    fn keys_of_partitions_are_the_audit_logs() {
        for (reported, listed) in [
            ("pk_audit_logs_before", "pk_audit_logs"),
            ("pk_audit_logs_2027_01", "pk_audit_logs"),
            ("pk_audit_logs", "pk_audit_logs"),
            ("fk_audit_logs_user", "fk_audit_logs_user"),
            ("pk_users", "pk_users"),
        ] {
            assert_eq!(listed_name(reported), listed);
        }
    }
}
