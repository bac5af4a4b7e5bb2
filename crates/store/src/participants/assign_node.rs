//! `assign_node`: a seat is served by a media node, or by another one than before.

use entity::{MediaNodeId, ParticipantId, media_node, room_participant};

use super::Participants;
use super::leave_stay::over;
use crate::authority::Operation as Asked;
use crate::error::{Error, Rejected, Result, Subject};
use crate::operation::{Columns, Lock, Moment, Operation, Plan};
use crate::rules::in_service;
use crate::unit::Sink;

impl<S: Sink> Participants<'_, S> {
    /// Says which media node serves a participation from now on: for services that learn it after the join, and for those that move
    /// people from one node to another. Said again it changes nothing. A participation that has ended stays as it is, and is returned so:
    /// what tells of a connection may come late.
    ///
    /// Appends nothing: who is in the room stays the same. Locks the seat alone; one statement on PostgreSQL. By the system.
    ///
    /// # Errors
    /// [`Error::NotFound`] for participation or node; [`Rejected::NodeLost`]; [`Rejected::NotAllowed`].
    pub async fn assign_node(&self, stay: ParticipantId, node: MediaNodeId) -> Result<room_participant::Model> {
        match self.source.perform(AssignNode { stay, node }).await {
            // It does not begin again: what is read now is what was found then.
            Err(Error::Rejected(Rejected::NotPresent { .. })) => self.get(stay).await,
            outcome => outcome,
        }
    }
}

pub(crate) struct AssignNode {
    pub(crate) stay: ParticipantId,
    pub(crate) node: MediaNodeId,
}

impl Operation for AssignNode {
    const NAME: &'static str = "participants.assign_node";
    type Output = room_participant::Model;

    /// The room's lock is not needed: no counter changes, and whoever closes the seat asks of its row again that it goes on.
    fn plan(&self, at: &Moment<'_>) -> Plan {
        let Self { stay, node } = *self;
        let plan = Plan::new(at, "seat")
            .denied(at.only_the_system(Asked::KeepPresence))
            .bind("stay", stay)
            .bind("node", node)
            .lock::<room_participant::Entity>("named", Lock::None, &["id"], "id = :stay")
            .lock::<media_node::Entity>("node", Lock::None, &["id"], "id = :node")
            .update::<room_participant::Entity>(
                "seat",
                Columns::All,
                "node_id = :node",
                "id = :stay AND left_at IS NULL AND EXISTS (SELECT 1 FROM node)",
            )
            .found("named", Error::NotFound(Subject::Participant(stay)))
            .guard("named", "left_at IS NULL", over());
        in_service(plan, "node", node)
    }
}
