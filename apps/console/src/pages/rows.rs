//! Rows of tables that several pages show.

use chrono::{DateTime, TimeDelta, Utc};
use conferencing_store::entity::{ParticipantRole, room, room_participant};
use conferencing_store::participants::RoomName;
use conferencing_store::{AuditEvent, LoginOutcome, LoginRecord, NamedEntry};
use maud::{Markup, html};
use serde_json::Value as Json;

use crate::view;

pub(crate) const ROOMS: [&str; 7] = ["Room", "Title", "Status", "#Present", "#Seats", "Since", "#Joins"];

pub(crate) fn of_room(room: &room::Model) -> Markup {
    html! {
        td.code { (view::room_link(room.id, &room.room_code)) }
        td { (room.title) @if !room.is_public { " " (view::tag("quiet", "private")) } }
        td { (view::status(room.status)) }
        td.number { (room.active_participants) }
        td.number { (room.max_participants) }
        td { (view::maybe_time(room.started_at.or(room.scheduled_start))) }
        td.number { (room.total_joins) }
    }
}

pub(crate) fn of_room_name(room: &RoomName) -> Markup {
    html! { (view::room_link(room.id, &room.room_code)) " " span.quiet { (room.title) } }
}

pub(crate) fn role(role: ParticipantRole) -> Markup {
    let (class, name) = match role {
        ParticipantRole::Host => ("host", "host"),
        ParticipantRole::CoHost => ("cohost", "co-host"),
        ParticipantRole::Participant => ("quiet", "participant"),
    };
    view::tag(class, name)
}

/// From when to when, for how long and how it ended: the cells after whose or where.
pub(crate) fn of_stay(stay: &room_participant::Model, now: DateTime<Utc>) -> Markup {
    let lasted = match stay.duration_seconds {
        Some(seconds) => TimeDelta::seconds(seconds.into()),
        None => now - stay.joined_at,
    };
    html! {
        td { (role(stay.role)) }
        td { (view::time(stay.joined_at)) }
        td { @match stay.left_at { Some(at) => (view::time(at)), None => (view::tag("live", "present")) } }
        td.number { (view::length(lasted)) }
        td {
            @if stay.banned_at.is_some() {
                (view::tag("error", "banned")) " " (view::maybe(stay.ban_reason.as_ref()))
            } @else if stay.is_kicked {
                (view::tag("error", "kicked")) " " (view::maybe(stay.kick_reason.as_ref()))
            }
        }
    }
}

pub(crate) const LOGINS: [&str; 4] = ["When", "How", "From", "With"];

pub(crate) fn of_login(login: &LoginRecord) -> Markup {
    html! {
        td { (view::time(login.at)) }
        td {
            @match &login.outcome {
                LoginOutcome::Succeeded { provider } => { (view::tag("live", "signed in")) " " (view::plain(provider)) }
                LoginOutcome::Failed { login } => { (view::tag("error", "failed")) " as " (login) }
                _ => { "unknown" }
            }
        }
        td.code { (view::maybe(login.address)) }
        td.agent { (view::maybe(login.user_agent.as_ref())) }
    }
}

pub(crate) const TRAIL: [&str; 6] = ["When", "Action", "By", "To", "Where", "Details"];

pub(crate) fn of_event(named: &NamedEntry) -> Markup {
    let entry = &named.entry;
    html! {
        td { (view::time(entry.at)) }
        td.code { (entry.event.action()) }
        td {
            @match (&named.actor_name, entry.actor, &entry.system) {
                (Some(person), ..) => (view::user_link(person.id, &person.username)),
                (None, Some(id), _) => (view::id_link(id)),
                (None, None, Some(system)) => span.quiet { (system) },
                (None, None, None) => (view::nothing()),
            }
            @if let Some(address) = entry.address { " " span.quiet { (address) } }
        }
        td { @match &named.target_name { Some(person) => (view::user_link(person.id, &person.username)), None => (view::nothing()) } }
        td { @match &named.room_name { Some(room) => (view::room_link(room.id, &room.room_code)), None => (view::nothing()) } }
        td.details { (details(&entry.event)) }
    }
}

/// What is known beside who, whom and where, each by its name.
fn details(event: &AuditEvent) -> Markup {
    let whole = match event {
        AuditEvent::Unrecognized { metadata, .. } => metadata.clone().unwrap_or(Json::Null),
        known => serde_json::to_value(known).map_or(Json::Null, |mut whole| whole["details"].take()),
    };
    let Json::Object(members) = whole else {
        return html! {};
    };
    let shown = members
        .iter()
        .filter(|(name, value)| *name != "target" && !value.is_null());
    html! {
        @for (name, value) in shown {
            span.detail { span.quiet { (name) } " " (text(value)) } " "
        }
    }
}

fn text(value: &Json) -> String {
    match value {
        Json::String(text) => text.clone(),
        other => other.to_string(),
    }
}
