//! The audit trail of a room, for those who lead it.

use axum::extract::State;
use chrono::{DateTime, Utc};
use conferencing_store::authority::ActorRole;
use conferencing_store::entity::{AuditLogId, RecordedAction, UserId};
use conferencing_store::page::Order;
use conferencing_store::{AuditFilter, NamedEntry};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use super::extract::{Json, Path, Query};
use super::views::{PageView, Paging, PersonView};
use crate::app::App;
use crate::auth::Caller;
use crate::problem::Problem;

/// An event. From where people acted is not told: it is for those who run the platform.
#[derive(Serialize, ToSchema)]
pub(crate) struct TrailEntry {
    #[schema(value_type = Uuid)]
    id: AuditLogId,
    at: DateTime<Utc>,
    /// Such as `USER_KICKED`.
    action: String,
    /// Who did it; none for the system.
    actor: Option<PersonView>,
    /// Which part of the system did it.
    system: Option<String>,
    /// To whom.
    target: Option<PersonView>,
    /// What goes with the action.
    #[schema(value_type = Object)]
    details: Value,
}

/// An event's details, without whom they are about, which stands beside them.
pub(crate) fn details(event: &conferencing_store::AuditEvent) -> Value {
    let mut event = serde_json::to_value(event).unwrap_or_default();
    let mut details = event.get_mut("details").map(Value::take).unwrap_or_default();
    if let Some(details) = details.as_object_mut() {
        details.remove("target");
    }
    details
}

impl From<NamedEntry> for TrailEntry {
    fn from(named: NamedEntry) -> Self {
        let entry = named.entry;
        Self {
            id: entry.id,
            at: entry.at,
            action: entry.event.action(),
            actor: named.actor_name.map(Into::into),
            system: entry.system,
            target: named.target_name.map(Into::into),
            details: details(&entry.event),
        }
    }
}

/// Which events.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Asked {
    /// One of these, with commas between: `USER_KICKED,USER_BANNED`.
    actions: Option<String>,
    /// Done by this user.
    #[param(value_type = Option<Uuid>)]
    actor: Option<UserId>,
    /// Done to this user.
    #[param(value_type = Option<Uuid>)]
    target: Option<UserId>,
    /// At this time or later.
    since: Option<DateTime<Utc>>,
    /// Before this time.
    until: Option<DateTime<Utc>>,
    /// `newest` first, or `oldest`.
    #[serde(default)]
    #[param(inline)]
    order: Direction,
    /// At most so many, 1 to 500; 50 if it is not said.
    size: Option<u16>,
    /// The `next` of the page before.
    cursor: Option<String>,
}

#[derive(Clone, Copy, Default, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum Direction {
    #[default]
    Newest,
    Oldest,
}

/// What happened in a room, page by page. A page may come back short, even empty: the last one is that without `next`. For the owner and
/// the host.
#[utoipa::path(get, path = "/rooms/{code}/trail", tag = "trail", params(("code" = String, Path), Asked), responses(
    (status = 200, body = PageView<TrailEntry>), (status = 403, body = Problem), (status = 404, body = Problem), (status = 422, body = Problem)))]
pub(crate) async fn list(
    State(app): State<App>,
    caller: Caller,
    Path(code): Path<String>,
    Query(asked): Query<Asked>,
) -> Result<Json<PageView<TrailEntry>>, Problem> {
    let room = app.room(&code).await?;
    let role = app.role_in(&caller, room.id).await?;
    if !matches!(role, ActorRole::Owner | ActorRole::Host) {
        return Err(Problem::forbidden("only the owner and the host see what happened"));
    }
    let mut filter = AuditFilter {
        actor: asked.actor,
        target: asked.target,
        since: asked.since,
        until: asked.until,
        ..AuditFilter::of_room(room.id)
    };
    for name in asked.actions.iter().flat_map(|names| names.split(',')) {
        match RecordedAction::from(name.trim()) {
            RecordedAction::Known(action) => filter.actions.push(action),
            RecordedAction::Unknown(name) => {
                let status = axum::http::StatusCode::UNPROCESSABLE_ENTITY;
                return Err(Problem::new(
                    status,
                    "unknown_action",
                    format!("there is no action {name:?}"),
                ));
            }
        }
    }
    let order = match asked.order {
        Direction::Newest => Order::NewestFirst,
        Direction::Oldest => Order::OldestFirst,
    };
    let (size, cursor) = (asked.size, asked.cursor);
    let page = Paging { size, cursor }.request(order)?;
    let events = app.store().audit().list_with_names(&filter, &page).await?;
    Ok(Json(PageView::of(events)))
}
