//! The audit log as JSON Lines, for auditors and for what comes after the database. docs/AUDIT_EXPORT.md describes the lines.

use std::net::IpAddr;

use chrono::{DateTime, Utc};
use entity::{AuditLogId, RecordedAction, RoomId, UserId, audit_log};
use futures_util::stream::{Stream, StreamExt};
use serde_json::Value as Json;

use super::log::rows;
use super::{Audit, AuditFilter, Change};
use crate::authority::Operation as Asked;
use crate::error::Result;
use crate::notice::Notice;
use crate::operation::SYSTEM;
use crate::page::{Cursor, Order, Place};
use crate::unit::Sink;
use crate::unit::only_the_system;

/// Version of the lines' shape. A member may be added within it; none is renamed, removed or given another meaning.
pub const EXPORT_VERSION: u8 = 1;

/// An event in the shape of a line. Its members are in this order, and all of them are there.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct ExportedEvent {
    /// [`EXPORT_VERSION`].
    pub v: u8,
    /// The event's id, by which a line that came twice is known.
    pub id: AuditLogId,
    /// When it happened, to the microsecond, in UTC.
    pub at: DateTime<Utc>,
    /// What happened, such as `USER_KICKED`; also one that this build does not know.
    pub action: RecordedAction,
    /// Which user did it.
    pub actor: Option<UserId>,
    /// Which part of the system did it.
    pub system: Option<String>,
    /// In which room.
    pub room: Option<RoomId>,
    /// To which user.
    pub target: Option<UserId>,
    /// The rest of what is known, as stored; each action has its own.
    pub details: Json,
    /// Where the request came from.
    pub address: Option<IpAddr>,
    /// With what.
    pub user_agent: Option<String>,
}

impl From<audit_log::Model> for ExportedEvent {
    fn from(row: audit_log::Model) -> Self {
        let audit_log::Model {
            id,
            action,
            user_id,
            room_id,
            target_user_id,
            metadata,
            ip_address,
            user_agent,
            timestamp,
            ..
        } = row;
        let mut details = metadata.unwrap_or(Json::Null);
        let system = details.as_object_mut().and_then(|members| members.remove(SYSTEM));
        Self {
            v: EXPORT_VERSION,
            id,
            at: timestamp,
            action,
            actor: user_id,
            system: system.and_then(|name| name.as_str().map(str::to_owned)),
            room: room_id,
            target: target_user_id,
            details,
            address: ip_address.map(|address| address.0),
            user_agent,
        }
    }
}

impl ExportedEvent {
    /// The line, without the line break. It has none inside.
    pub fn to_json_line(&self) -> String {
        // Ids, texts, times and JSON: nothing in it can fail to become JSON.
        serde_json::to_string(self).unwrap_or_else(|error| unreachable!("an event is JSON: {error}"))
    }

    /// Where to go on behind it, should the export break off.
    pub fn cursor(&self) -> Cursor {
        Cursor::at(self.at, self.id.as_uuid())
    }

    /// The same, for a walk through a partition.
    pub(crate) fn place(&self) -> Place {
        Place {
            at: self.at,
            id: self.id.as_uuid(),
        }
    }
}

/// An export that has begun.
#[derive(Debug)]
pub struct AuditExport<Events> {
    /// It ends before this time: that of the filter, or when it began. A later one takes this as its `since`.
    pub until: DateTime<Utc>,
    /// The events, oldest first.
    pub events: Events,
}

impl<'a, S: Sink> Audit<'a, S> {
    /// Exports what the filter names, oldest first, from behind `after` on: a cursor of [`ExportedEvent::cursor`], kept beside the file
    /// by whoever may have to go on. Appends AUDIT_EXPORTED with the filter before this returns. By the system alone.
    ///
    /// Rows are read in pages as the stream is polled, so a few hundred are in memory however many there are, and no connection is
    /// held in between. The stream ends with the first error.
    ///
    /// Without an `until` it ends at the present. An event has the time of its unit of work and is there when that commits:
    /// whoever exports bit by bit should set `until` a little into the past, further than any unit stays open.
    ///
    /// ```
    /// # use futures_util::TryStreamExt;
    /// # use conferencing_store::{Actor, AuditFilter, Error, Store};
    /// # async fn example(store: Store) -> Result<(), Error> {
    /// let acting = store.acting(&Actor::system("auditor"));
    /// let audit = acting.audit();
    /// let export = audit.export(AuditFilter::default(), None).await?;
    /// let mut events = std::pin::pin!(export.events);
    /// while let Some(event) = events.try_next().await? {
    ///     println!("{}", event.to_json_line());
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] when the filter's times make no window; [`crate::Rejected::NotAllowed`].
    pub async fn export(
        &self,
        filter: AuditFilter,
        after: Option<Cursor>,
    ) -> Result<AuditExport<impl Stream<Item = Result<ExportedEvent>> + Send + use<'a, S>>> {
        let filter = filter.checked()?;
        after.as_ref().map(Cursor::in_time).transpose()?;
        only_the_system(self.source, Asked::ExportAuditLog).await?;
        let until = filter.until.unwrap_or_else(|| self.source.context().now());
        let filter = AuditFilter {
            until: Some(until),
            ..filter
        };
        // Asking for a room that never was is an export of nothing, which is recorded as well.
        let notice = Notice::of(filter.room, &filter.as_exported(until, after.is_some()));
        self.source.perform(notice).await?;
        let events = rows(self.source, filter, Order::OldestFirst, after, "audit.export");
        Ok(AuditExport {
            until,
            events: events.map(|row| row.map(ExportedEvent::from)),
        })
    }
}

impl AuditFilter {
    fn as_exported(&self, until: DateTime<Utc>, resumed: bool) -> Change {
        Change::AuditExported {
            target: self.target,
            actor: self.actor,
            actions: self.actions.clone(),
            since: self.since,
            until,
            address: self.address,
            resumed,
        }
    }
}
