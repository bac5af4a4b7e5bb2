//! `register`, `beat`, `retire`: the life of a media node, as it tells it itself.

use chrono::{DateTime, Utc};
use entity::{MediaNodeId, media_node};
use uuid::Uuid;

use super::Nodes;
use crate::authority::Operation as Asked;
use crate::error::{Error, Rejected, Result};
use crate::event::{Change, NodeLossReason};
use crate::input;
use crate::operation::{Columns, Event, Moment, Operation, Plan};
use crate::rules::in_service;
use crate::unit::Sink;

/// What a sign of life is answered with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Heartbeat {
    /// The node is in service.
    Alive,
    /// It was found lost before this, and nothing was written: its seats are closed or will be. What it lost is in
    /// [`Nodes::lost_seats`]; to be in service again it registers anew.
    Lost {
        /// When.
        since: DateTime<Utc>,
    },
}

impl<S: Sink> Nodes<'_, S> {
    /// Makes a media server known by a name of 1 to 100 characters. Each start of a server is a node of its own: where there is one of
    /// that name in service, its process is taken to be gone, it is lost now, and a sweep closes its seats. Of several that register by
    /// one name at once the last one stays.
    ///
    /// Appends MEDIA_NODE_REGISTERED, and MEDIA_NODE_LOST ([`NodeLossReason::Replaced`]) before it for the former. Locks the former's row
    /// alone; one statement on PostgreSQL. By the system.
    ///
    /// # Errors
    /// [`Error::Invalid`] for the name; [`Rejected::NotAllowed`].
    pub async fn register(&self, name: &str) -> Result<media_node::Model> {
        let name = input::line("name", name, 100)?;
        self.source.perform(Register(name)).await
    }

    /// Says that the node is there: every few seconds, a third of the silence that the sweep allows or more often. One UPDATE of one row
    /// in place, and no event: the audit log would be full of them.
    ///
    /// By the system. On PostgreSQL one statement, and two where the node is lost.
    ///
    /// # Errors
    /// [`Error::NotFound`] when there never was such a node; [`Rejected::NotAllowed`].
    pub async fn beat(&self, node: MediaNodeId) -> Result<Heartbeat> {
        match self.source.perform(Beat(node)).await {
            Ok(_) => Ok(Heartbeat::Alive),
            Err(Error::Rejected(Rejected::NodeLost { since, .. })) => Ok(Heartbeat::Lost { since }),
            Err(error) => Err(error),
        }
    }

    /// Takes a node out of service at once, so that the next sweep closes its seats without waiting for a silence. For a server that
    /// stops: it moves or disconnects whom it serves first. A node that is lost already stays as it is, and is returned so.
    ///
    /// Appends MEDIA_NODE_LOST ([`NodeLossReason::Retired`]). One statement on PostgreSQL. By the system.
    ///
    /// # Errors
    /// [`Error::NotFound`] when there never was such a node; [`Rejected::NotAllowed`].
    pub async fn retire(&self, node: MediaNodeId) -> Result<media_node::Model> {
        match self.source.perform(Retire(node)).await {
            // Once lost, always lost.
            Err(Error::Rejected(Rejected::NodeLost { .. })) => self.get(node).await,
            outcome => outcome,
        }
    }
}

/// Tells of each node that the step `lost` took out of service, which yields `id` and `name`.
pub(super) fn each_lost(at: &Moment<'_>, plan: Plan, lost: &'static str, reason: NodeLossReason) -> Plan {
    let change = Change::MediaNodeLost {
        node: MediaNodeId::from_uuid(Uuid::nil()),
        name: String::new(),
        reason,
    };
    plan.event(
        at,
        &Event::of(&change, format!("{lost} AS lost_node"))
            .computed("node", at.dialect.uuid_text("lost_node.id"))
            .computed("name", "lost_node.name")
            .for_each("lost_node.id"),
    )
}

pub(crate) struct Register(pub(crate) String);

impl Operation for Register {
    const NAME: &'static str = "nodes.register";
    type Output = media_node::Model;

    /// Where somebody else registers the name at the same moment, the unique index lets one row in and the other plan does nothing, to
    /// be run again, when it finds a former. It has not taken one out of service by then: only who has the former's lock does, and
    /// nobody else's row of the name can be there before that.
    fn plan(&self, at: &Moment<'_>) -> Plan {
        let id = at.id();
        let registered = Change::MediaNodeRegistered {
            node: MediaNodeId::from_uuid(id),
            name: self.0.clone(),
        };
        let plan = Plan::new(at, "node")
            .denied(at.only_the_system(Asked::KeepPresence))
            .bind("node", id)
            .bind("name", self.0.clone())
            .update_if_there::<media_node::Entity>(
                "former",
                &["id", "name"],
                format!("lost_at = {}", at.dialect.later(":now", "beat_at")),
                "name = :name AND lost_at IS NULL",
            )
            .insert::<media_node::Entity>(
                "node",
                at.dialect,
                "INSERT INTO media_nodes (id, name, registered_at, beat_at) SELECT :node, :name, :now, :now
                WHERE (SELECT count(*) FROM former) >= 0 ON CONFLICT DO NOTHING",
            );
        each_lost(at, plan, "former", NodeLossReason::Replaced).event(at, &Event::of(&registered, "node"))
    }
}

pub(crate) struct Beat(pub(crate) MediaNodeId);

impl Operation for Beat {
    const NAME: &'static str = "nodes.beat";
    type Output = media_node::Model;

    fn plan(&self, at: &Moment<'_>) -> Plan {
        let plan = Plan::new(at, "node")
            .denied(at.only_the_system(Asked::KeepPresence))
            .bind("node", self.0)
            .update::<media_node::Entity>(
                "node",
                Columns::All,
                format!("beat_at = {}", at.dialect.later(":now", "beat_at")),
                "id = :node",
            );
        in_service(plan, "node", self.0)
    }
}

pub(crate) struct Retire(pub(crate) MediaNodeId);

impl Operation for Retire {
    const NAME: &'static str = "nodes.retire";
    type Output = media_node::Model;

    /// That it says so is its last sign of life.
    fn plan(&self, at: &Moment<'_>) -> Plan {
        let last = at.dialect.later(":now", "beat_at");
        let plan = Plan::new(at, "lost")
            .denied(at.only_the_system(Asked::KeepPresence))
            .bind("node", self.0)
            .update::<media_node::Entity>(
                "lost",
                Columns::All,
                format!("beat_at = {last}, lost_at = {last}"),
                "id = :node",
            );
        each_lost(at, in_service(plan, "lost", self.0), "lost", NodeLossReason::Retired)
    }
}
