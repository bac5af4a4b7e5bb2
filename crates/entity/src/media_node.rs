//! `media_nodes`: the media servers that say that they are there.

use sea_orm::entity::prelude::*;

use crate::MediaNodeId;

/// One incarnation of a media server, from its registration until it is lost. A server that starts again is another row, of the same
/// name; at most one of a name is not lost. A row whose node is lost is final, and stays: participations point at it.
#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel, serde::Serialize)]
#[sea_orm(table_name = "media_nodes")]
pub struct Model {
    /// UUIDv7 of the application.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: MediaNodeId,
    /// What the server is called.
    #[sea_orm(column_type = "String(StringLen::N(100))")]
    pub name: String,
    /// When it registered.
    pub registered_at: DateTimeUtc,
    /// Its last sign of life, not before its registration.
    pub beat_at: DateTimeUtc,
    /// When it was found silent, retired or replaced by another of its name; none while it is in service.
    pub lost_at: Option<DateTimeUtc>,
}

read_only!("media_nodes");
