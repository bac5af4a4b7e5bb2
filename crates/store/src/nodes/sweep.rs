//! `sweep_silent`: nodes that fell silent are lost, and the seats of lost nodes are closed.

use std::time::Duration;

use entity::MediaNodeId;
use sea_orm::{ColumnType, DbErr, QueryResult};

use super::register::each_lost;
use super::{LostSeat, Nodes};
use crate::authority::Operation as Asked;
use crate::database::Dialect;
use crate::error::Result;
use crate::event::{LeaveReason, NodeLossReason};
use crate::input;
use crate::operation::{Answer, Moment, Operation, Plan, column, json};
use crate::rules::{CLOSED, SHARED, count_all_out, each_left, end_participation_with_node};
use crate::unit::Sink;

/// What a sweep of lost nodes did.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[cfg_attr(feature = "schemars", derive(schemars::JsonSchema))]
pub struct NodeSweep {
    /// The nodes that it found silent, and that are lost now, in no order.
    pub lost: Vec<MediaNodeId>,
    /// The seats that it closed, of these and of nodes that were lost before, in no order.
    pub closed: Vec<LostSeat>,
    /// Whether it left seats of lost nodes open, beyond the limit or because others are at it: then sweep again at once.
    pub remaining: bool,
}

impl<S: Sink> Nodes<'_, S> {
    /// Takes nodes out of service that gave no sign of life for longer than `silent_for`, a second or more, and closes seats whose
    /// node is lost, however that came about: at most `limit` (1 to [`MAX_SWEEP`](super::MAX_SWEEP)). Whoever took a seat on a node in the
    /// very moment in which it was found lost is found by the next sweep: so sweep every few seconds, and at once while
    /// [`NodeSweep::remaining`] says so.
    ///
    /// A participation ends with the last sign of life of its node, or when it began, if that is later, and keeps the node
    /// ([`Nodes::lost_seats`]). Rooms stay LIVE, under either [`EmptyRoomPolicy`](crate::EmptyRoomPolicy): those that this empties are left
    /// to [`sweep_empty`](crate::rooms::Rooms::sweep_empty), so that people can come back by another node.
    ///
    /// Appends MEDIA_NODE_LOST ([`NodeLossReason::Silent`]) for each node, and a USER_LEFT ([`LeaveReason::NodeLost`]) for each seat in its
    /// room. Two statements on PostgreSQL, each a commit: one locks nodes, the other rooms by ascending id. Each waits for nobody, so any
    /// number of sweepers share the work; only where every room in question was taken it asks a third time, and waits. By the system.
    /// Served by `uq_media_nodes_name` and `ix_room_participants_node`: what it costs grows with the nodes in service, not with the seats.
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] for limit or time; [`Rejected::NotAllowed`](crate::Rejected::NotAllowed).
    pub async fn sweep_silent(&self, silent_for: Duration, limit: u16) -> Result<NodeSweep> {
        let limit = input::sweep_limit(limit)?;
        let silence = input::age("silent_for", silent_for)?;
        let lost = self.source.perform(MarkSilent { silence }).await?;
        let close = |waits| CloseSeats { limit, waits };
        let mut closed = self.source.perform(close(false)).await?;
        if closed.due > 0 && closed.seats.is_empty() {
            closed = self.source.perform(close(true)).await?;
        }
        let closed_now = i64::try_from(closed.seats.len()).unwrap_or(i64::MAX);
        Ok(NodeSweep {
            lost,
            remaining: closed.due > closed_now,
            closed: closed.seats,
        })
    }
}

/// The one row of the plan that finds silent nodes: their ids, as JSON.
impl Answer for Vec<MediaNodeId> {
    fn read(row: &QueryResult) -> Result<Self, DbErr> {
        json(row, "lost_nodes")
    }

    fn columns() -> Vec<(String, ColumnType)> {
        vec![column::<String>("lost_nodes")]
    }
}

pub(crate) struct MarkSilent {
    pub(crate) silence: Duration,
}

impl Operation for MarkSilent {
    const NAME: &'static str = "nodes.sweep_silent";
    type Output = Vec<MediaNodeId>;

    /// A node whose row somebody has is about to be in service, or lost by another's doing.
    fn plan(&self, at: &Moment<'_>) -> Plan {
        let dialect = at.dialect;
        let silent = "lost_at IS NULL AND beat_at < :before";
        let plan = Plan::new(at, "result")
            .denied(at.only_the_system(Asked::KeepPresence))
            .bind("before", at.back(self.silence))
            .lookup(
                "due",
                &["id"],
                format!(
                    "SELECT id FROM media_nodes WHERE {silent}{} ORDER BY id{}",
                    dialect.only_by_index("lost_at IS NULL", "id"),
                    dialect.for_change_of_free()
                ),
            )
            .lookup(
                "lost",
                &["id", "name"],
                format!(
                    "UPDATE media_nodes SET lost_at = {} WHERE {} AND {silent} RETURNING id, name",
                    dialect.later(":now", "beat_at"),
                    dialect.among("id", "SELECT id FROM due")
                ),
            )
            .step(
                "result",
                &["lost_nodes"],
                format!(
                    "SELECT {} AS lost_nodes FROM lost",
                    dialect.json_list(&dialect.uuid_text("id"))
                ),
            );
        each_lost(at, plan, "lost", NodeLossReason::Silent)
    }
}

/// What [`CloseSeats`] found and did.
pub(crate) struct Closed {
    /// How many seats it looked at.
    due: i64,
    seats: Vec<LostSeat>,
}

impl Answer for Closed {
    fn read(row: &QueryResult) -> Result<Self, DbErr> {
        let due = row.try_get_by("due_seats")?;
        let seats = json(row, "closed_seats")?;
        Ok(Self { due, seats })
    }

    fn columns() -> Vec<(String, ColumnType)> {
        vec![column::<i64>("due_seats"), column::<String>("closed_seats")]
    }
}

pub(crate) struct CloseSeats {
    pub(crate) limit: u16,
    /// For rooms that somebody has at the moment, instead of leaving them to a later sweep.
    pub(crate) waits: bool,
}

impl Operation for CloseSeats {
    const NAME: &'static str = "nodes.close_seats";
    type Output = Closed;

    /// What is due is read without a lock; then rooms are locked, as many as the limit is likely to fill; then the seats in these are
    /// closed by their ids, where their rows still say that they go on and by which node. New ones are the next sweep's.
    fn plan(&self, at: &Moment<'_>) -> Plan {
        let dialect = at.dialect;
        let lock = if self.waits {
            dialect.for_change()
        } else {
            dialect.for_change_of_free()
        };
        let rooms = "(:limit * count(DISTINCT room_id) + count(*) - 1) / NULLIF(count(*), 0)";
        let last_beat = "(SELECT beat_at FROM media_nodes WHERE media_nodes.id = room_participants.node_id)";
        let members = [
            ("stay", "id"),
            ("room", "room_id"),
            ("user", "user_id"),
            ("node", "node_id"),
        ];
        let members = members.map(|(name, column)| (name, dialect.uuid_text(column)));
        let members = members.each_ref().map(|(name, sql)| (*name, sql.as_str()));
        let plan = Plan::new(at, "result")
            .denied(at.only_the_system(Asked::KeepPresence))
            .bind("limit", i64::from(self.limit))
            .bind("looked_at", i64::from(self.limit) * SHARED)
            .lookup("lost", &["id"], lost_and_serving(dialect))
            .lookup(
                "due",
                &["id", "room_id"],
                format!(
                    "SELECT id, room_id FROM room_participants WHERE {} AND left_at IS NULL AND node_id IS NOT NULL{}
                    LIMIT {}",
                    dialect.among("node_id", "SELECT id FROM lost"),
                    dialect.among_served(),
                    dialect.limit_of_walk(":looked_at")
                ),
            )
            .lookup(
                "free",
                &["id"],
                format!(
                    "SELECT id FROM rooms WHERE {} ORDER BY id LIMIT (SELECT {} FROM due){lock}",
                    dialect.among("id", "SELECT room_id FROM due"),
                    dialect.later("1", &format!("COALESCE({rooms}, 1)"))
                ),
            )
            .lookup(
                "closed",
                &["id", "user_id", "room_id", "duration_seconds", "node_id"],
                format!(
                    "UPDATE room_participants SET {} WHERE {} AND left_at IS NULL AND node_id IS NOT NULL{} AND {}
                    RETURNING {}, node_id",
                    end_participation_with_node(dialect, last_beat),
                    dialect.among(
                        "id",
                        "SELECT due.id FROM due WHERE due.room_id IN (SELECT free.id FROM free) LIMIT :limit"
                    ),
                    dialect.among_served(),
                    dialect.among("node_id", "SELECT id FROM lost"),
                    CLOSED.join(", ")
                ),
            )
            .step(
                "result",
                &["due_seats", "closed_seats"],
                format!(
                    "SELECT (SELECT count(*) FROM due) AS due_seats, (SELECT {} FROM closed) AS closed_seats",
                    dialect.json_rows(&members)
                ),
            );
        each_left(at, count_all_out(plan, "closed"), "closed", LeaveReason::NodeLost)
    }
}

/// A select of the nodes that are lost and have open seats. It steps from one node to the next along `ix_room_participants_node`: one
/// look for each node that serves anybody, however many seats it has, and none for those that were lost long ago.
fn lost_and_serving(dialect: Dialect) -> String {
    let first_beyond = |beyond: &str| {
        format!(
            "(SELECT node_id FROM room_participants WHERE left_at IS NULL AND node_id IS NOT NULL{beyond}{}
            ORDER BY node_id LIMIT 1)",
            dialect.among_served()
        )
    };
    let serving = format!(
        "SELECT node_id FROM (WITH RECURSIVE serving (node_id) AS (
            SELECT {} UNION ALL SELECT {} FROM serving WHERE serving.node_id IS NOT NULL
        ) SELECT node_id FROM serving) AS each_node",
        first_beyond(""),
        first_beyond(" AND room_participants.node_id > serving.node_id")
    );
    format!(
        "SELECT id FROM media_nodes WHERE lost_at IS NOT NULL AND {}",
        dialect.among("id", &serving)
    )
}

/// For the list of all statements: the parts of a sweep.
pub(crate) async fn list_statements<S: Sink>(on: &S) {
    let silence = Duration::from_secs(10);
    let _ = on.perform(MarkSilent { silence }).await;
    for waits in [false, true] {
        let _ = on.perform(CloseSeats { limit: 10, waits }).await;
    }
}
