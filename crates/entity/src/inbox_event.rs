//! `inbox`: what was received from elsewhere and must be acted on once.

use sea_orm::entity::prelude::*;

/// An event that another system delivered, perhaps more than once. Rows are never changed, only purged.
#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel, serde::Serialize)]
#[sea_orm(table_name = "inbox")]
pub struct Model {
    /// Who delivered it, such as `livekit`.
    #[sea_orm(primary_key, auto_increment = false, column_type = "String(StringLen::N(100))")]
    pub source: String,
    /// Its id there.
    #[sea_orm(primary_key, auto_increment = false, column_type = "String(StringLen::N(255))")]
    pub event_id: String,
    /// When the unit that acted on it began.
    pub received_at: DateTimeUtc,
}

read_only!("inbox");
