//! `nodes()`: the media servers, each a row from its registration until it is lost. They say that they are there by one small write a
//! node, not a seat; when one falls silent, a sweep closes the seats that it served.

mod register;
mod sweep;

use chrono::{DateTime, Utc};
use entity::{MediaNodeId, ParticipantId, RoomId, UserId, media_node, room_participant};
use sea_orm::{ColumnTrait, QueryFilter};

use crate::database::Dialect;
use crate::database::statement::Query;
use crate::error::{Error, Result, Subject};
use crate::page::{ByTime, Page, PageRequest};
use crate::read::{self, ByHand, Fetch, FetchEntity};
use crate::scope;
use crate::unit::Source;

pub(crate) use sweep::list_statements;

pub use crate::input::MAX_SWEEP;
pub use register::Heartbeat;
pub use sweep::NodeSweep;

/// The repository of `media_nodes`. Rows are never deleted.
#[derive(Debug)]
pub struct Nodes<'a, S> {
    source: &'a S,
}

/// A seat that was closed because its media node is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[cfg_attr(feature = "schemars", derive(schemars::JsonSchema))]
pub struct LostSeat {
    /// The participation that ended.
    pub stay: ParticipantId,
    /// Where.
    pub room: RoomId,
    /// Whose it was.
    pub user: UserId,
    /// The node that served it.
    pub node: MediaNodeId,
}

impl<'a, S: Source> Nodes<'a, S> {
    pub(crate) fn new(source: &'a S) -> Self {
        Self { source }
    }

    /// The node with this id, lost or not.
    ///
    /// # Errors
    /// None beyond the database's own.
    pub async fn find(&self, id: MediaNodeId) -> Result<Option<media_node::Model>> {
        scope::find_undeletable::<media_node::Entity>()
            .filter(media_node::Column::Id.eq(id))
            .fetch_one(self.source, "nodes.find")
            .await
    }

    /// The node with this id, lost or not.
    ///
    /// # Errors
    /// [`Error::NotFound`] when there is none.
    pub async fn get(&self, id: MediaNodeId) -> Result<media_node::Model> {
        self.find(id).await?.ok_or(Error::NotFound(Subject::MediaNode(id)))
    }

    /// Nodes that are not lost, by (registered_at, id). Some of them may have fallen silent since the last sweep: `beat_at` tells.
    ///
    /// # Errors
    /// None beyond the database's own.
    pub async fn list_alive(&self, page: &PageRequest) -> Result<Page<media_node::Model>> {
        let alive = scope::find_undeletable::<media_node::Entity>().filter(media_node::Column::LostAt.is_null());
        let page = page.by_time()?;
        let rows = page
            .apply(alive, media_node::Column::RegisteredAt, media_node::Column::Id)
            .fetch_all(self.source, "nodes.list_alive")
            .await?;
        Ok(page.page(rows, |node| (node.registered_at, node.id.as_uuid())))
    }

    /// The seats that a node serves at the moment, by (joined_at, id): what a server compares with those that it knows of, to find the ones whose
    /// join it was not told the end of ([`Error::Indeterminate`]). One statement, served by `ix_room_participants_node`, that sorts the seats
    /// of the node.
    ///
    /// # Errors
    /// None beyond the database's own; a node that does not exist serves nobody.
    pub async fn seats(&self, node: MediaNodeId, page: &PageRequest) -> Result<Page<room_participant::Model>> {
        let (dialect, page) = (self.source.context().dialect(), page.by_time()?);
        let rows = ByHand(served_seats(dialect, node, page).statement(dialect))
            .fetch_with(self.source, "nodes.seats", |cells| {
                cells.read::<room_participant::Model>()
            })
            .await?;
        Ok(page.page(rows, |seat| (seat.joined_at, seat.id.as_uuid())))
    }

    /// The seats that were closed because this node is lost, by (left_at, id): what a server that comes back has lost, to disconnect
    /// whom it still holds. Complete once the sweep has come to all of them, see [`NodeSweep::remaining`]. One statement, served by
    /// `ix_room_participants_lost`.
    ///
    /// # Errors
    /// None beyond the database's own; a node that does not exist, or is not lost, has lost nobody.
    pub async fn lost_seats(&self, node: MediaNodeId, page: &PageRequest) -> Result<Page<LostSeat>> {
        let (dialect, page) = (self.source.context().dialect(), page.by_time()?);
        let rows = ByHand(lost_seats(dialect, node, page).statement(dialect))
            .fetch_with(self.source, "nodes.lost_seats", |cells| {
                let stay = cells.next("id")?;
                let (room, user) = (cells.next("room_id")?, cells.next("user_id")?);
                let left_at: DateTime<Utc> = cells.next("left_at")?;
                Ok((LostSeat { stay, room, user, node }, left_at))
            })
            .await?;
        let page = page.page(rows, |(seat, left_at)| (*left_at, seat.stay.as_uuid()));
        Ok(page.map(|(seat, _)| seat))
    }
}

fn served_seats(dialect: Dialect, node: MediaNodeId, page: ByTime) -> Query {
    let ((_, direction), beyond) = (page.order().in_sql(), page.beyond("joined_at", "id"));
    let query = Query::new(format!(
        "SELECT {} FROM room_participants WHERE node_id = :node AND left_at IS NULL{} {beyond}
        ORDER BY joined_at {direction}, id {direction} LIMIT :limit",
        dialect.columns_of::<room_participant::Entity>(),
        dialect.among_served(),
    ));
    read::page_of(query.bind("node", node), page)
}

fn lost_seats(dialect: Dialect, node: MediaNodeId, page: ByTime) -> Query {
    let ((_, direction), beyond) = (page.order().in_sql(), page.beyond("left_at", "id"));
    let query = Query::new(format!(
        "SELECT id, room_id, user_id, left_at FROM room_participants
        WHERE node_id = :node AND left_at IS NOT NULL{} {beyond}
        ORDER BY left_at {direction}, id {direction} LIMIT {}",
        dialect.only_by_index("left_at IS NOT NULL AND node_id IS NOT NULL", "id"),
        dialect.limit_of_walk(":limit")
    ));
    read::page_of(query.bind("node", node), page)
}
