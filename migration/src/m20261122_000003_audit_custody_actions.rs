//! Actions for what is done with the audit log itself, exported and months of it archived, and for what operators look at.

use sea_orm_migration::prelude::*;

use crate::lock::in_transaction;
use crate::values;

#[derive(DeriveMigrationName)]
pub struct Migration;

const ADDED: [&str; 3] = ["AUDIT_EXPORTED", "AUDIT_ARCHIVED", "PERSONAL_DATA_VIEWED"];

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
