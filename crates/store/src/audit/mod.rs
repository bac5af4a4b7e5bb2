//! `audit()`: the audit log of what happened. Operations append their own events; services append what they observe.

pub(crate) mod batch;
mod export;
mod log;
pub mod partitions;
pub(crate) mod search;
pub mod writer;

use std::net::IpAddr;

use chrono::{DateTime, Utc};
use entity::{AuditAction, AuditLogId, RoomId, UserId, audit_log};
use sea_orm::{ColumnTrait, QueryFilter};
use serde_json::Value as Json;
use uuid::Uuid;

use crate::actor::Actor;

use crate::error::{Error, Result, Subject};
use crate::operation::{Event, Moment, Operation, Plan, SYSTEM, stored_details};
use crate::read::FetchEntity;
use crate::scope;
use crate::unit::{Sink, Source};

pub(crate) use crate::event::EventColumns;
pub use crate::event::{
    AuditEvent, Change, EgressPhase, LeaveReason, MAX_DETAILS, MediaKind, NodeLossReason, Observation,
};
pub use crate::person::RoomName;
pub use export::{AuditExport, EXPORT_VERSION, ExportedEvent};
pub(crate) use log::read;
pub use log::{AuditFilter, NamedEntry};

/// The repository of `audit_logs`. There is no way to change or remove what is in it.
#[derive(Debug)]
pub struct Audit<'a, S> {
    source: &'a S,
}

/// One event of the audit log.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct AuditEntry {
    /// Grows with time within a process.
    pub id: AuditLogId,
    /// When it happened: the time of its unit of work.
    pub at: DateTime<Utc>,
    /// Who did it; none for the system and for people who had not signed in.
    pub actor: Option<UserId>,
    /// Which part of the system did it.
    pub system: Option<String>,
    /// In which room.
    pub room: Option<RoomId>,
    /// What happened, and to whom.
    pub event: AuditEvent,
    /// Where the request came from.
    pub address: Option<IpAddr>,
    /// With what.
    pub user_agent: Option<String>,
}

impl From<audit_log::Model> for AuditEntry {
    fn from(row: audit_log::Model) -> Self {
        let system = row.metadata.as_ref().and_then(|metadata| metadata.get(SYSTEM));
        Self {
            id: row.id,
            at: row.timestamp,
            actor: row.user_id,
            system: system.and_then(|name| name.as_str()).map(str::to_owned),
            room: row.room_id,
            event: AuditEvent::from_columns(&row.action, row.target_user_id, row.metadata.as_ref()),
            address: row.ip_address.map(|address| address.0),
            user_agent: row.user_agent,
        }
    }
}

impl<'a, S: Source> Audit<'a, S> {
    pub(crate) fn new(source: &'a S) -> Self {
        Self { source }
    }
}

impl<S: Sink> Audit<'_, S> {
    /// Appends something that was observed. It is durable when this returns, or when the unit it is part of commits.
    ///
    /// # Errors
    /// [`Error::Invalid`] when its details are larger than [`MAX_DETAILS`]; [`Error::NotFound`] when there never was such a room, or the
    /// target or the acting user does not exist; deleted ones are fine.
    pub async fn append(&self, room: Option<RoomId>, observation: Observation) -> Result<AuditLogId> {
        let event = observation.checked_columns()?;
        self.source.perform(Append { room, event }).await
    }
}

struct Append {
    room: Option<RoomId>,
    event: EventColumns,
}

impl Operation for Append {
    const NAME: &'static str = "audit.append";
    type Output = AuditLogId;

    fn plan(&self, at: &Moment<'_>) -> Plan {
        let not_found =
            |user: Option<UserId>| Error::NotFound(Subject::User(user.unwrap_or(UserId::from_uuid(Uuid::nil()))));
        let no_room = Error::NotFound(Subject::Room(self.room.unwrap_or(RoomId::from_uuid(Uuid::nil()))));
        let all = format!("(SELECT 1 AS one) AS one_row WHERE ({ROOM_THERE}) AND ({TARGET_THERE}) AND ({ACTOR_THERE})");
        let event = Event::of_columns(self.event.clone(), all).room(":room");
        Plan::new(at, "event_1")
            .bind("room", self.room)
            .event_as(at, "event_1", &event)
            .explained(ROOM_THERE, no_room)
            .explained(TARGET_THERE, not_found(self.event.target))
            .explained(ACTOR_THERE, not_found(at.actor.user_id()))
    }
}

/// SQL that is true when what the event points at is there, deleted or not.
const ROOM_THERE: &str = ":room IS NULL OR EXISTS (SELECT 1 FROM rooms WHERE id = :room)";
const TARGET_THERE: &str = ":event_1_target IS NULL OR EXISTS (SELECT 1 FROM users WHERE id = :event_1_target)";
const ACTOR_THERE: &str = ":audit_user IS NULL OR EXISTS (SELECT 1 FROM users WHERE id = :audit_user)";

/// What an event points at and there never was.
async fn missing_reference<S: Source>(
    source: &S,
    room: Option<RoomId>,
    users: [Option<UserId>; 2],
) -> Result<Option<Error>> {
    use entity::{room, user};
    let during = "audit_writer.append";
    if let Some(id) = room {
        let room = scope::find::<room::Entity, scope::Any>().filter(room::Column::Id.eq(id));
        if !room.fetch_any(source, during).await? {
            return Ok(Some(Error::NotFound(Subject::Room(id))));
        }
    }
    for id in users.into_iter().flatten() {
        let user = scope::find::<user::Entity, scope::Any>().filter(user::Column::Id.eq(id));
        if !user.fetch_any(source, during).await? {
            return Ok(Some(Error::NotFound(Subject::User(id))));
        }
    }
    Ok(None)
}

/// An observation with all that its row will have, for a batch.
#[derive(Clone, Debug)]
pub(crate) struct PreparedEvent {
    pub(crate) id: AuditLogId,
    pub(crate) at: DateTime<Utc>,
    pub(crate) action: AuditAction,
    pub(crate) actor: Option<UserId>,
    pub(crate) room: Option<RoomId>,
    pub(crate) target: Option<UserId>,
    pub(crate) metadata: Json,
    pub(crate) address: Option<IpAddr>,
    pub(crate) user_agent: Option<String>,
}

impl PreparedEvent {
    fn new(id: AuditLogId, at: DateTime<Utc>, actor: &Actor, room: Option<RoomId>, event: &EventColumns) -> Self {
        Self {
            id,
            at,
            action: event.action,
            actor: actor.user_id(),
            room,
            target: event.target,
            metadata: stored_details(actor, event),
            address: actor.address(),
            user_agent: actor.user_agent().map(str::to_owned),
        }
    }
}
