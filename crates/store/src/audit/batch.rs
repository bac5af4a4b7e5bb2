//! One statement that appends many events.

use std::collections::HashSet;
use std::net::IpAddr;

use chrono::SecondsFormat;
use entity::{AuditAction, AuditLogId, RoomId, UserId};
use sea_orm::{ColumnType, DbErr, QueryResult};
use serde_json::Value as Json;
use uuid::Uuid;

use super::PreparedEvent;
use crate::database::Dialect;
use crate::database::statement::Bind;
use crate::operation::{Answer, COLUMNS, Moment, Plan, column, json};

/// An event as the list has it.
#[derive(serde::Serialize)]
struct Item<'a> {
    id: AuditLogId,
    action: AuditAction,
    user_id: Option<UserId>,
    room_id: Option<RoomId>,
    target_user_id: Option<UserId>,
    metadata: &'a Json,
    ip_address: Option<IpAddr>,
    user_agent: Option<&'a str>,
    timestamp: String,
}

/// The events as one bound list, so that the statement's text is the same for any number of them. Written as text at once: a tree of
/// values would be made of each batch, and copied whole for each try.
pub(crate) fn list<'a>(events: impl Iterator<Item = &'a PreparedEvent>) -> Result<String, DbErr> {
    let item = |event: &'a PreparedEvent| Item {
        id: event.id,
        action: event.action,
        user_id: event.actor,
        room_id: event.room,
        target_user_id: event.target,
        metadata: &event.metadata,
        ip_address: event.address,
        user_agent: event.user_agent.as_deref(),
        // As the driver writes times into SQLite.
        timestamp: event.at.to_rfc3339_opts(SecondsFormat::AutoSi, false),
    };
    let items: Vec<Item<'_>> = events.map(item).collect();
    serde_json::to_string(&items).map_err(|error| DbErr::Json(error.to_string()))
}

/// A list of [`list`] as a value. PostgreSQL reads it as `jsonb`.
fn bound(events: &str) -> Bind {
    Bind::text_as("jsonb", Some(events.to_owned()))
}

/// To follow FROM: the list's events as rows `event`.
fn rows(dialect: Dialect) -> String {
    match dialect {
        Dialect::Postgres => {
            r#"jsonb_to_recordset(:events) AS event(id uuid, action audit_action, user_id uuid, room_id uuid,
            target_user_id uuid, metadata jsonb, ip_address inet, user_agent text, "timestamp" timestamptz)"#
                .to_owned()
        }
        Dialect::Sqlite => {
            let key = |name: &str| format!("unhex(replace(item.value->>'{name}', '-', '')) AS {name}");
            format!(
                r#"(SELECT {}, {}, {}, {}, item.value->>'action' AS action, item.value->'metadata' AS metadata,
                    item.value->>'ip_address' AS ip_address, item.value->>'user_agent' AS user_agent,
                    item.value->>'timestamp' AS "timestamp" FROM json_each(:events) AS item) AS event"#,
                key("id"),
                key("user_id"),
                key("room_id"),
                key("target_user_id"),
            )
        }
    }
}

/// Appends those that are not there yet and that point at nothing which does not exist: 1 statement. Yields `ids`, a JSON list,
/// of those that it appended.
pub(crate) fn append(at: &Moment<'_>, events: &str) -> Plan {
    let dialect = at.dialect;
    // SQLite's trigger refuses a second row of the same key before ON CONFLICT is asked; but nobody else writes meanwhile.
    let (unless_there, on_conflict) = match dialect {
        Dialect::Postgres => ("", "ON CONFLICT DO NOTHING"),
        Dialect::Sqlite => (
            r#"AND NOT EXISTS (SELECT 1 FROM audit_logs WHERE id = event.id AND "timestamp" = event."timestamp")"#,
            "",
        ),
    };
    let ids = dialect.json_rows(&[("id", &dialect.readable_uuid("id"))]);
    Plan::new(at, "result")
        .bind("events", bound(events))
        .lookup(
            "appended",
            &["id"],
            format!(
                r#"INSERT INTO audit_logs ({COLUMNS})
                SELECT event.id, event.action, event.user_id, event.room_id, event.target_user_id, event.metadata,
                    event.ip_address, event.user_agent, event."timestamp"
                FROM {}
                WHERE (event.user_id IS NULL OR EXISTS (SELECT 1 FROM users WHERE id = event.user_id))
                    AND (event.room_id IS NULL OR EXISTS (SELECT 1 FROM rooms WHERE id = event.room_id))
                    AND (event.target_user_id IS NULL OR EXISTS (SELECT 1 FROM users WHERE id = event.target_user_id))
                    {unless_there} {on_conflict} RETURNING id"#,
                rows(dialect)
            ),
        )
        .step("result", &["ids"], format!("SELECT {ids} AS ids FROM appended"))
}

/// Which of the events are in the audit log: yields `ids`, a JSON list.
pub(crate) fn find(at: &Moment<'_>, events: &str) -> Plan {
    let dialect = at.dialect;
    let ids = dialect.json_rows(&[("id", &dialect.readable_uuid("audit_logs.id"))]);
    Plan::new(at, "result").bind("events", bound(events)).step(
        "result",
        &["ids"],
        format!(
            r#"SELECT {ids} AS ids FROM {} JOIN audit_logs
            ON audit_logs.id = event.id AND audit_logs."timestamp" = event."timestamp""#,
            rows(dialect)
        ),
    )
}

/// The events that were appended, or found.
pub(crate) struct AppendedIds(pub(crate) HashSet<AuditLogId>);

impl Answer for AppendedIds {
    fn read(row: &QueryResult) -> Result<Self, DbErr> {
        #[derive(serde::Deserialize)]
        struct Item {
            id: Uuid,
        }
        let items: Vec<Item> = json(row, "ids")?;
        let ids = items.into_iter().map(|item| AuditLogId::from_uuid(item.id));
        Ok(Self(ids.collect()))
    }

    fn columns() -> Vec<(String, ColumnType)> {
        vec![column::<String>("ids")]
    }
}
