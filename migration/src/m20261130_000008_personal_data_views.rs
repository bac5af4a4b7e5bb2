//! An action for what a service's operators look at: personal data of others. None of those that there were says so; an export is another
//! matter, since what is exported leaves the platform.

use sea_orm_migration::prelude::*;

use crate::lock::in_transaction;
use crate::values;

#[derive(DeriveMigrationName)]
pub struct Migration;

const ADDED: [&str; 1] = ["PERSONAL_DATA_VIEWED"];

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    fn use_transaction(&self) -> Option<bool> {
        in_transaction()
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        values::add_audit_actions(manager.get_connection(), &ADDED).await
    }

    /// Fails, and changes nothing, when a row of the audit log has this action: the audit log is never cut.
    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        values::remove_audit_actions(manager.get_connection(), &ADDED).await
    }
}
