//! Statements that append to the trail.

use entity::{AuditAction, ClientAddress, RoomId};
use sea_orm::ActiveEnum;
use serde_json::Value as Json;

use super::plan::{Bind, Plan, Step};
use crate::actor::Actor;
use crate::audit::{Change, EventColumns};
use crate::operation::Moment;

/// Member of the metadata that names the part of the platform which acted.
pub(crate) const SYSTEM: &str = "system";

/// One event that a plan appends when its guards have yielded.
pub(crate) struct Entry<'a> {
    /// Name of the step; the binds are named after it.
    pub(crate) name: &'static str,
    /// What follows FROM: the guards whose rows the event needs. One row of it makes one event.
    pub(crate) from: &'a str,
    /// SQL for the room's id.
    pub(crate) room: &'a str,
    /// The event. Details that only the database knows are given here as anything and overwritten by `computed`.
    pub(crate) event: &'a Change,
    /// Details that the database knows: a member's name and SQL for it.
    pub(crate) computed: &'a [(&'a str, &'a str)],
}

/// Names of the binds of one event.
struct Names {
    id: &'static str,
    action: &'static str,
    target: &'static str,
    details: &'static str,
}

/// The operation's own event, and up to two that it brings with it.
const FIRST: Names = Names {
    id: "audit_id",
    action: "audit_action",
    target: "audit_target",
    details: "audit_details",
};

const BROUGHT: [Names; 2] = [
    Names {
        id: "audit2_id",
        action: "audit2_action",
        target: "audit2_target",
        details: "audit2_details",
    },
    Names {
        id: "audit3_id",
        action: "audit3_action",
        target: "audit3_target",
        details: "audit3_details",
    },
];

/// An event of which there is one for each row.
const EACH: Names = Names {
    id: "each_id",
    action: "each_action",
    target: "each_target",
    details: "each_details",
};

impl Plan {
    /// Appends the operation's own event.
    pub(crate) fn audit(self, at: &Moment<'_>, entry: &Entry<'_>) -> Self {
        self.bind_actor(at).append_event(at, &FIRST, entry)
    }

    /// Appends further events, for changes that the operation brings with it; two at most, before [`Plan::audit`], so that
    /// their ids are the smaller and the trail tells them first.
    pub(crate) fn audit_brought(mut self, at: &Moment<'_>, entries: [Option<&Entry<'_>>; 2]) -> Self {
        for (names, entry) in BROUGHT.iter().zip(entries) {
            if let Some(entry) = entry {
                self = self.append_event(at, names, entry);
            }
        }
        self
    }

    /// Appends an event for each row of the entry's `from`, however many there are, in the order of the column `by`. Their ids
    /// are counted up from one that the application made, see [`crate::clock::Ids::uuid`].
    pub(crate) fn audit_each(self, at: &Moment<'_>, by: &str, entry: &Entry<'_>) -> Self {
        let number = format!("row_number() OVER (ORDER BY {by})");
        let id = at.dialect.counted_id(":each_id", &number);
        let columns = entry.event.to_columns();
        let metadata = at.dialect.json_with(":each_details", entry.computed);
        let insert = insert(&id, &EACH, entry.room, &metadata, &format!("FROM {}", entry.from));
        // Where the plan has an event of its own too, the actor is bound twice, alike.
        self.bind_actor(at)
            .bind_event(at, &EACH, &columns)
            .step(Step::effect(entry.name, insert))
    }

    fn bind_actor(self, at: &Moment<'_>) -> Self {
        let address = at.actor.address().map(|address| ClientAddress(address).to_string());
        self.bind("audit_user", at.actor.user_id())
            .bind("audit_address", Bind::text_as("inet", address))
            .bind("audit_user_agent", at.actor.user_agent().map(str::to_owned))
            .bind("audit_at", at.now)
    }

    fn append_event(self, at: &Moment<'_>, names: &Names, entry: &Entry<'_>) -> Self {
        let columns = entry.event.to_columns();
        let metadata = at.dialect.json_with(&format!(":{}", names.details), entry.computed);
        let id = format!(":{}", names.id);
        let insert = insert(&id, names, entry.room, &metadata, &format!("FROM {}", entry.from));
        self.bind_event(at, names, &columns)
            .step(Step::effect(entry.name, insert))
    }

    fn bind_event(self, at: &Moment<'_>, names: &Names, event: &EventColumns) -> Self {
        self.bind(names.id, at.id())
            .bind(names.action, action(event.action))
            .bind(names.target, event.target)
            .bind(names.details, stored_details(at.actor, event))
    }
}

/// An event's details as they are stored.
pub(crate) fn stored_details(actor: &Actor, event: &EventColumns) -> Json {
    let mut details = event.details.clone();
    if let Some(system) = actor.system_name() {
        details.insert(SYSTEM.to_owned(), system.into());
    }
    without_nul(Json::Object(details))
}

/// Texts of events come from clients as well. `jsonb` cannot hold a NUL; the event must not be lost for it.
fn without_nul(details: Json) -> Json {
    match details {
        Json::String(text) => Json::String(text.replace('\0', "\u{fffd}")),
        Json::Array(items) => Json::Array(items.into_iter().map(without_nul).collect()),
        Json::Object(members) => Json::Object(
            members
                .into_iter()
                .map(|(name, value)| (name, without_nul(value)))
                .collect(),
        ),
        other => other,
    }
}

fn action(action: AuditAction) -> Bind {
    Bind::text_as("audit_action", Some(action.to_value().value.into_owned()))
}

fn insert(id: &str, names: &Names, room: &str, metadata: &str, from: &str) -> String {
    let Names { action, target, .. } = names;
    format!(
        r#"INSERT INTO audit_logs (id, action, user_id, room_id, target_user_id, metadata, ip_address, user_agent, "timestamp")
        SELECT {id}, :{action}, :audit_user, {room}, :{target}, {metadata}, :audit_address, :audit_user_agent, :audit_at
        {from}"#
    )
}

/// Events of one kind that a plan appends beside its own, one for each row of `from`.
pub(crate) struct Each<'a> {
    /// Name of the step.
    pub(crate) name: &'static str,
    /// Name of its bind.
    pub(crate) details: &'static str,
    /// What follows FROM. It has a column `event_id`, made by the store.
    pub(crate) from: &'a str,
    /// SQL for the room's id.
    pub(crate) room: &'a str,
    /// The event, without a target.
    pub(crate) event: &'a Change,
    /// Details that the database knows: a member's name and SQL for it.
    pub(crate) computed: &'a [(&'a str, &'a str)],
}

impl Plan {
    /// Appends events for what the operation brings with it. The plan must have an event of its own as well.
    pub(crate) fn audit_listed(self, at: &Moment<'_>, each: &Each<'_>) -> Self {
        let event = each.event.to_columns();
        let metadata = at.dialect.json_with(&format!(":{}", each.details), each.computed);
        let action = format!("'{}'", event.action.to_value().value);
        let insert = format!(
            r#"INSERT INTO audit_logs (id, action, user_id, room_id, metadata, ip_address, user_agent, "timestamp")
            SELECT event_id, {action}, :audit_user, {room}, {metadata}, :audit_address, :audit_user_agent, :audit_at
            FROM {from}"#,
            action = at.dialect.as_enum(&action, "audit_action"),
            room = each.room,
            from = each.from,
        );
        self.bind(each.details, stored_details(at.actor, &event))
            .step(Step::effect(each.name, insert))
    }
}

/// An event by itself, if all that it points at is there: 1 statement.
pub(crate) fn append(at: &Moment<'_>, room: Option<RoomId>, event: &EventColumns) -> Plan {
    let there = "WHERE (:room IS NULL OR EXISTS (SELECT 1 FROM rooms WHERE id = :room))
        AND (:audit_target IS NULL OR EXISTS (SELECT 1 FROM users WHERE id = :audit_target))
        AND (:audit_user IS NULL OR EXISTS (SELECT 1 FROM users WHERE id = :audit_user))
        RETURNING id";
    Plan::yielding("audited")
        .bind_actor(at)
        .bind_event(at, &FIRST, event)
        .bind("room", room)
        .step(Step::guard(
            "audited",
            &[],
            insert(":audit_id", &FIRST, ":room", ":audit_details", there),
        ))
}

/// An event that is appended whatever it points at: what does not exist is left out. 1 statement.
pub(crate) fn append_always(at: &Moment<'_>, room: Option<RoomId>, event: &EventColumns) -> Plan {
    let Names {
        id, action, details, ..
    } = FIRST;
    Plan::yielding("audited")
        .bind_actor(at)
        .bind_event(at, &FIRST, event)
        .bind("room", room)
        .step(Step::guard(
            "audited",
            &[],
            format!(
                r#"INSERT INTO audit_logs (id, action, user_id, room_id, target_user_id, metadata, ip_address, user_agent, "timestamp")
                SELECT :{id}, :{action}, (SELECT id FROM users WHERE id = :audit_user), (SELECT id FROM rooms WHERE id = :room),
                    (SELECT id FROM users WHERE id = :audit_target), :{details}, :audit_address, :audit_user_agent, :audit_at
                WHERE TRUE RETURNING id"#
            ),
        ))
}
