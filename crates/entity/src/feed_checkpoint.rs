//! `feed_checkpoints`: how far consumers of the feed have come.

use sea_orm::entity::prelude::*;

/// A consumer's place in the feed.
#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel, serde::Serialize)]
#[sea_orm(table_name = "feed_checkpoints")]
pub struct Model {
    /// The consumer's name.
    #[sea_orm(primary_key, auto_increment = false, column_type = "String(StringLen::N(100))")]
    pub consumer: String,
    /// The place, as `FeedPosition` is written.
    #[sea_orm(column_type = "Text")]
    pub position: String,
    /// When it was last moved.
    pub updated_at: DateTimeUtc,
}

read_only!("feed_checkpoints");
