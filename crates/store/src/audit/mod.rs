//! `audit()`: the trail of what happened. Operations append their own events; services append what they observe.

mod event;
mod export;
pub mod partitions;
mod trail;
pub mod writer;

use std::net::IpAddr;

use chrono::{DateTime, Utc};
use entity::{AuditAction, AuditLogId, RoomId, UserId, audit_log};
use sea_orm::{ColumnTrait, DatabaseExecutor, DbErr, QueryFilter, QueryResult};
use serde_json::Value as Json;

use crate::actor::Actor;

use crate::backend::audit as sql;
use crate::backend::plan::Plan;
use crate::error::{Error, Rejected, Result, Subject};
use crate::operation::{Moment, Operation};
use crate::scope;
use crate::unit::{Sink, Source};

pub(crate) use event::EventColumns;
pub use event::{AuditEvent, Change, MAX_DETAILS, MediaKind, Observation};
pub use export::{AuditExport, EXPORT_VERSION, ExportedEvent};
pub use trail::{AuditFilter, NamedEntry, RoomName};

/// The repository of `audit_logs`. There is no way to change or remove what is in it.
#[derive(Debug)]
pub struct Audit<'a, S> {
    source: &'a S,
}

/// One event of the trail.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct AuditEntry {
    /// Grows with time within a process.
    pub id: AuditLogId,
    /// When it happened: the time of its unit of work.
    pub at: DateTime<Utc>,
    /// Who did it; none for the platform and for people who had not signed in.
    pub actor: Option<UserId>,
    /// Which part of the platform did it.
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
        let system = row.metadata.as_ref().and_then(|metadata| metadata.get(sql::SYSTEM));
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
        sql::append(at, self.room, &self.event)
    }

    fn read(&self, row: &QueryResult) -> Result<AuditLogId, DbErr> {
        row.try_get_by("id")
    }

    async fn refusal(&self, db: &DatabaseExecutor<'_>, at: &Moment<'_>) -> Result<Option<Error>, DbErr> {
        missing_reference(db, self.room, [self.event.target, at.actor.user_id()]).await
    }
}

/// What an event points at and there never was.
async fn missing_reference(
    db: &DatabaseExecutor<'_>,
    room: Option<RoomId>,
    users: [Option<UserId>; 2],
) -> Result<Option<Error>, DbErr> {
    use entity::{room, user};
    if let Some(id) = room {
        let room = scope::find::<room::Entity, scope::Any>().filter(room::Column::Id.eq(id));
        if room.one(db).await?.is_none() {
            return Ok(Some(Error::NotFound(Subject::Room(id))));
        }
    }
    for id in users.into_iter().flatten() {
        let user = scope::find::<user::Entity, scope::Any>().filter(user::Column::Id.eq(id));
        if user.one(db).await?.is_none() {
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
            metadata: sql::stored_details(actor, event),
            address: actor.address(),
            user_agent: actor.user_agent().map(str::to_owned),
        }
    }
}

/// Something to be told whether or not what it is about exists: what does not is left out.
#[derive(Debug)]
pub(crate) struct Notice {
    room: Option<RoomId>,
    event: EventColumns,
}

impl Notice {
    pub(crate) fn of(room: Option<RoomId>, event: &Change) -> Self {
        Self {
            room,
            event: event.to_columns(),
        }
    }

    /// Of a refusal for want of authority.
    pub(crate) fn of_attempt(error: &Error) -> Option<Self> {
        let Error::Rejected(Rejected::NotAllowed {
            operation,
            standing,
            room,
            user,
        }) = error
        else {
            return None;
        };
        let attempted = serde_json::to_value(operation).ok()?.as_str()?.to_owned();
        let observation = Observation::UnauthorizedAccessAttempt {
            target: *user,
            attempted,
            standing: Some(*standing),
        };
        Some(Self {
            room: *room,
            event: observation.to_columns(),
        })
    }
}

impl Operation for Notice {
    const NAME: &'static str = "audit.append";
    type Output = ();

    fn plan(&self, at: &Moment<'_>) -> Plan {
        sql::append_always(at, self.room, &self.event)
    }

    fn read(&self, _: &QueryResult) -> Result<(), DbErr> {
        Ok(())
    }

    async fn refusal(&self, _: &DatabaseExecutor<'_>, _: &Moment<'_>) -> Result<Option<Error>, DbErr> {
        Ok(None)
    }
}
