//! How a plan appends its events to the audit log.

use std::borrow::Cow;

use entity::ClientAddress;
use serde_json::Value as Json;

use super::Moment;
use super::plan::{Body, Plan};
use crate::actor::Actor;
use crate::database::Dialect;
use crate::database::statement::Bind;
use crate::event::{Change, EventColumns};

/// Member of the metadata that names the part of the system which acted.
pub(crate) const SYSTEM: &str = "system";

/// The columns that an event's row is inserted with, in the order of [`Plan::append`]'s SELECT.
pub(crate) const COLUMNS: &str =
    r#"id, action, user_id, room_id, target_user_id, metadata, ip_address, user_agent, "timestamp""#;

/// One event, or one for each row of what it is made from.
#[derive(Debug)]
pub(crate) struct Event {
    columns: EventColumns,
    from: Cow<'static, str>,
    room: &'static str,
    done_to: Option<&'static str>,
    computed: Vec<(&'static str, String)>,
    each_by: Option<&'static str>,
    whatever_exists: bool,
}

impl Event {
    /// An event that is appended when the steps in `from` (what follows FROM) have yielded a row. What only the database
    /// knows of `change` is given as anything and overwritten by [`Event::computed`].
    pub(crate) fn of(change: &Change, from: impl Into<Cow<'static, str>>) -> Self {
        Self::of_columns(change.to_columns(), from)
    }

    pub(crate) fn of_columns(columns: EventColumns, from: impl Into<Cow<'static, str>>) -> Self {
        Self {
            columns,
            from: from.into(),
            room: "NULL",
            done_to: None,
            computed: Vec::new(),
            each_by: None,
            whatever_exists: false,
        }
    }

    /// SQL for the room's id.
    pub(crate) fn room(mut self, room: &'static str) -> Self {
        self.room = room;
        self
    }

    /// SQL for the user that it was done to, instead of the change's own target. It is left out where it is the actor, as
    /// [`crate::actor::Actor::other_than_self`] leaves it out.
    pub(crate) fn done_to(mut self, user: &'static str) -> Self {
        self.done_to = Some(user);
        self
    }

    /// A detail that the database knows: a member's name and SQL for it.
    pub(crate) fn computed(mut self, member: &'static str, sql: impl Into<String>) -> Self {
        self.computed.push((member, sql.into()));
        self
    }

    /// Leaves out users that do not exist, instead of failing.
    pub(crate) fn with_whatever_exists(mut self) -> Self {
        self.whatever_exists = true;
        self
    }

    /// One event for each row, however many, in the order of `by`. Their ids are counted up from one of the application's,
    /// see [`crate::clock::Ids::uuid`].
    pub(crate) fn for_each(mut self, by: &'static str) -> Self {
        self.each_by = Some(by);
        self
    }
}

/// Of the step that appends an event: its name, and its parameters as SQL has them.
#[derive(Clone, Copy)]
struct Names {
    name: &'static str,
    id: &'static str,
    action: &'static str,
    target: &'static str,
    details: &'static str,
}

/// The steps of a plan that append, in their order.
const NAMES: [Names; 8] = {
    macro_rules! names {
        ($($name:literal),*) => {
            [$(Names {
                name: $name,
                id: concat!(":", $name, "_id"),
                action: concat!(":", $name, "_action"),
                target: concat!(":", $name, "_target"),
                details: concat!(":", $name, "_details"),
            }),*]
        };
    }
    names!(
        "event_1", "event_2", "event_3", "event_4", "event_5", "event_6", "event_7", "event_8"
    )
};

impl Plan {
    /// Appends an event. Of several the first gets the smallest id, and so comes first in the audit log.
    pub(crate) fn event(self, at: &Moment<'_>, event: &Event) -> Self {
        self.append(at, event, |sql| sql, Self::effect)
    }

    /// Appends an event as the step `name`, which yields its `id`.
    pub(crate) fn event_as(self, at: &Moment<'_>, name: &'static str, event: &Event) -> Self {
        self.append(
            at,
            event,
            |sql| format!("{sql}{RETURNING}"),
            |plan, _, sql| plan.step(name, &["id"], sql),
        )
    }

    fn append(
        mut self,
        at: &Moment<'_>,
        event: &Event,
        end: impl FnOnce(String) -> String,
        add: impl FnOnce(Self, &'static str, String) -> Self,
    ) -> Self {
        let number = self.next_event();
        let Names {
            name,
            id,
            action,
            target,
            details,
        } = NAMES[number - 1];
        let address = at.actor.address().map(|address| ClientAddress(address).to_string());
        let mut plan = self
            .bind("audit_user", at.actor.user_id())
            .bind("audit_address", Bind::text_as("inet", address))
            .bind("audit_user_agent", at.actor.user_agent().map(str::to_owned))
            .bind("audit_at", at.now)
            .bind(&id[1..], at.id())
            .bind(&action[1..], Bind::of_enum(&event.columns.action))
            .bind(&target[1..], event.columns.target)
            .bind(&details[1..], stored_details(at.actor, &event.columns));
        let id = match event.each_by {
            None => Cow::Borrowed(id),
            Some(by) => at
                .dialect
                .counted_id(id, &format!("row_number() OVER (ORDER BY {by})"))
                .into(),
        };
        let id = match number.checked_sub(2) {
            Some(before) if at.dialect == Dialect::Postgres => plan.appended_after(NAMES[before].name, &id).into(),
            _ => id,
        };
        let computed: Vec<(&str, &str)> = event.computed.iter().map(|(name, sql)| (*name, sql.as_str())).collect();
        let metadata = at.dialect.json_with(details, &computed);
        let user = |bind: &'static str| {
            if event.whatever_exists {
                Cow::Owned(format!("(SELECT id FROM users WHERE id = {bind})"))
            } else {
                Cow::Borrowed(bind)
            }
        };
        let actor = user(":audit_user");
        let target = match event.done_to {
            None => user(target),
            Some(done_to) => format!("NULLIF({done_to}, :audit_user)").into(),
        };
        let sql = format!(
            "INSERT INTO audit_logs ({COLUMNS})
            SELECT {id}, {action}, {actor}, {room}, {target}, {metadata}, :audit_address,
                :audit_user_agent, :audit_at
            FROM {from}",
            room = event.room,
            from = event.from,
        );
        add(plan, name, end(sql))
    }
}

impl Plan {
    /// The id of an event that PostgreSQL appends after another of the same statement: else it does so in an order of its own, and
    /// the feed has the order in which events were appended.
    fn appended_after(&mut self, before: &'static str, id: &str) -> String {
        if let Some(step) = self.steps.iter_mut().find(|step| step.name == before)
            && let Body::Sql(sql) = &mut step.body
            && !sql.contains(RETURNING)
        {
            sql.push_str(RETURNING);
        }
        format!("CASE WHEN (SELECT count(*) FROM {before}) >= 0 THEN {id} END")
    }
}

const RETURNING: &str = " RETURNING id";

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
