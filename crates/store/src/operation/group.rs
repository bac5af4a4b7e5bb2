//! Operations of which several that wait for the same room are done by one statement.

use entity::{AuditAction, ClientAddress, RoomId, UserId};
use serde_json::{Value as Json, json};

use super::append::{COLUMNS, stored_details};
use super::{Moment, Operation, Plan};
use crate::actor::Actor;
use crate::database::statement::{Bind, enum_text};
use crate::event::Change;

/// An operation on a room that may be done together with others of its kind, each by its own actor, with its own answer and its
/// own event.
pub trait Grouped: Operation + Sized + 'static {
    /// The room that it waits for.
    fn room(&self) -> RoomId;

    /// Whom it is about: a group has one operation of a user at most.
    fn user(&self) -> UserId;

    /// Whether it can be one of a group. What is denied, or out of the ordinary, stands alone.
    fn is_ordinary(&self, actor: &Actor) -> bool;

    /// On PostgreSQL, one plan for all of `those`, in their order. It yields a row for each that it did: the columns of the
    /// answer, and `place`, its index. One that it cannot do is left out and spoils no other: it stands alone afterwards.
    fn together(at: &Moment<'_>, room: RoomId, those: &[Member<'_, Self>]) -> Plan;
}

/// The step that a group's plan yields.
pub(crate) const DONE: &str = "members";

/// One of a group.
pub struct Member<'a, O> {
    pub(crate) operation: &'a O,
    pub(crate) actor: &'a Actor,
}

/// The list that a group's plan is made from: a row `asked` for each member, with its event.
pub(crate) struct AskedList {
    action: AuditAction,
    rows: Vec<Json>,
}

impl AskedList {
    pub(crate) fn of(action: AuditAction) -> Self {
        let rows = Vec::new();
        Self { action, rows }
    }

    /// Adds a member, of whom `more` has what else its row is made from.
    pub(crate) fn push(&mut self, at: &Moment<'_>, user: UserId, actor: &Actor, event: &Change, more: &[(&str, Json)]) {
        let columns = event.to_columns();
        let mut row = json!({
            "place": self.rows.len(),
            "about": user,
            "event": at.id(),
            "actor": actor.user_id(),
            "target": columns.target,
            "details": stored_details(actor, &columns),
            "address": actor.address().map(|address| ClientAddress(address).to_string()),
            "agent": actor.user_agent(),
        });
        for (name, value) in more {
            row[*name] = value.clone();
        }
        self.rows.push(row);
    }
}

impl Plan {
    /// The members as rows: step `asked`, with `columns` beside those of every member.
    pub(crate) fn asked(self, list: AskedList, columns: &'static str) -> Self {
        let rows = Json::Array(list.rows).to_string();
        self.bind("asked", Bind::text_as("jsonb", Some(rows)))
            .bind("asked_action", enum_text(&list.action))
            .lookup(
                "asked",
                &["place"],
                format!(
                    "SELECT * FROM jsonb_to_recordset(:asked) AS asked(place int, about uuid, event uuid, actor uuid,
                        target uuid, details jsonb, address inet, agent text{columns})"
                ),
            )
    }

    /// Ends a plan whose step `seat` has a row for each member that was done: counts them in the room by `counters`, SQL over
    /// `done.number`, appends their events, with the stay and `computed` (a member's name and SQL for it, each) added to an event's own
    /// details, and yields them: step [`DONE`].
    pub(crate) fn done_together(self, at: &Moment<'_>, counters: &str, computed: &[(&str, &str)]) -> Self {
        let stay = at.dialect.uuid_text("seat.id");
        let computed: Vec<_> = [("stay", stay.as_str())]
            .into_iter()
            .chain(computed.iter().copied())
            .collect();
        let details = at.dialect.json_with("asked.details", &computed);
        self.effect(
            "counted",
            format!(
                "UPDATE rooms SET {counters}, updated_at = :now
                FROM (SELECT room_id, CAST(count(*) AS integer) AS number FROM seat GROUP BY room_id) AS done
                WHERE rooms.id = done.room_id"
            ),
        )
        .effect(
            "events",
            format!(
                "INSERT INTO audit_logs ({COLUMNS})
                SELECT asked.event, CAST(:asked_action AS audit_action), asked.actor, seat.room_id, asked.target,
                    {details}, asked.address, asked.agent, :now
                FROM seat JOIN asked ON asked.about = seat.user_id ORDER BY asked.place"
            ),
        )
        .lookup(
            DONE,
            &["place"],
            "SELECT seat.*, asked.place FROM seat JOIN asked ON asked.about = seat.user_id",
        )
    }
}
