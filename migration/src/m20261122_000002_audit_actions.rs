//! Actions for what the base schema has no name for. Additive: rows keep their meaning, older builds read the new ones as
//! unknown.

use sea_orm_migration::prelude::*;

use crate::lock::in_transaction;
use crate::values;

#[derive(DeriveMigrationName)]
pub struct Migration;

const ADDED: [&str; 27] = [
    "USER_PROFILE_CHANGED",
    "USER_PASSWORD_CHANGED",
    "USER_VERIFIED",
    "USER_DEACTIVATED",
    "USER_REACTIVATED",
    "USER_DATA_EXPORTED",
    "PROVIDER_LINKED",
    "PROVIDER_UNLINKED",
    "PROVIDER_TOKENS_STORED",
    "PROVIDER_TOKENS_REENCRYPTED",
    "ROOM_UPDATED",
    "ROOM_OWNERSHIP_TRANSFERRED",
    "ROOM_DELETED",
    "ROOM_RESTORED",
    "USER_UNBANNED",
    "USER_STAY_CORRECTED",
    "RECORDING_PROGRESSED",
    "RECORDING_FAILED",
    "RECORDING_PROCESSING",
    "RECORDING_READY",
    "RECORDING_RETRIED",
    "RECORDING_RESTORED",
    "RECORDING_EXPIRY_CHANGED",
    "RECORDING_REPORTED",
    "MEDIA_NODE_REGISTERED",
    "MEDIA_NODE_LOST",
    "GUEST_ADMITTED",
];

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    fn use_transaction(&self) -> Option<bool> {
        in_transaction()
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        values::add_audit_actions(manager.get_connection(), &ADDED).await
    }

    /// Fails, and changes nothing, when a row of the audit log has one of these actions: the audit log is never cut.
    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        values::remove_audit_actions(manager.get_connection(), &ADDED).await
    }
}
