//! Rooms: making, finding, changing, and their meetings' begin and end.

use axum::extract::State;
use axum::http::StatusCode;
use chrono::{DateTime, Utc};
use conferencing_store::entity::room;
use conferencing_store::page::Order;
use conferencing_store::{Acting, NewRoom, RoomChanges, RoomFilter, Schedule};
use serde::{Deserialize, Deserializer};
use utoipa::{IntoParams, ToSchema};

use super::extract::{Json, Path, Query};
use super::views::{PageView, Paging, RoomView};
use crate::app::App;
use crate::auth::Caller;
use crate::problem::Problem;

impl App {
    /// The room with this code, as people type it.
    pub(crate) async fn room(&self, code: &str) -> Result<room::Model, Problem> {
        let found = self.store().rooms().find_by_code(code).await?;
        found.ok_or_else(Problem::no_such_room)
    }

    /// The room with this code, and the store in the caller's name.
    pub(crate) async fn acting_in(&self, caller: &Caller, code: &str) -> Result<(room::Model, Acting), Problem> {
        let room = self.room(code).await?;
        Ok((room, self.store().acting(&caller.actor())))
    }
}

/// A new room.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Plan {
    title: String,
    description: Option<String>,
    scheduled_start: Option<DateTime<Utc>>,
    scheduled_end: Option<DateTime<Utc>>,
    /// 100 if it is not said.
    max_participants: Option<i32>,
    /// Listed for everybody; false if it is not said.
    is_public: Option<bool>,
    /// True if it is not said.
    is_recordable: Option<bool>,
    /// Guests are not let in; true if it is not said.
    require_auth: Option<bool>,
}

/// What to change; what is not there stays.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Changes {
    title: Option<String>,
    /// Null takes it away.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>)]
    description: Option<Option<String>>,
    /// Null takes it away.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<Times>)]
    schedule: Option<Option<Times>>,
    max_participants: Option<i32>,
    is_public: Option<bool>,
    is_recordable: Option<bool>,
    require_auth: Option<bool>,
}

/// Planned times.
#[derive(Clone, Copy, Deserialize, ToSchema)]
pub(crate) struct Times {
    start: DateTime<Utc>,
    end: Option<DateTime<Utc>>,
}

/// Null is a value here, and no value is none.
fn given<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

/// Which rooms.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Which {
    /// `mine` (the caller's own), `attended` (where they are present), `live` (public ones that run) or `upcoming` (the caller's planned ones).
    #[serde(default)]
    #[param(inline)]
    filter: Listed,
    // Flattened, numbers would be read as texts.
    size: Option<u16>,
    cursor: Option<String>,
}

#[derive(Clone, Copy, Default, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum Listed {
    #[default]
    Mine,
    Attended,
    Live,
    Upcoming,
}

/// Makes a room, with a code of its own.
#[utoipa::path(post, path = "/rooms", tag = "rooms", request_body = Plan, responses(
    (status = 201, body = RoomView), (status = 403, body = Problem), (status = 422, body = Problem)))]
pub(crate) async fn create(
    State(app): State<App>,
    caller: Caller,
    Json(plan): Json<Plan>,
) -> Result<(StatusCode, Json<RoomView>), Problem> {
    let usual = NewRoom::titled(caller.id(), &plan.title);
    let new = NewRoom {
        description: plan.description.as_deref(),
        scheduled_start: plan.scheduled_start,
        scheduled_end: plan.scheduled_end,
        max_participants: plan.max_participants.unwrap_or(usual.max_participants),
        is_public: plan.is_public.unwrap_or(usual.is_public),
        is_recordable: plan.is_recordable.unwrap_or(usual.is_recordable),
        require_auth: plan.require_auth.unwrap_or(usual.require_auth),
        ..usual
    };
    let room = app.store().acting(&caller.actor()).rooms().create(new).await?;
    Ok((StatusCode::CREATED, Json(room.into())))
}

/// Lists rooms, page by page.
#[utoipa::path(get, path = "/rooms", tag = "rooms", params(Which), responses(
    (status = 200, body = PageView<RoomView>), (status = 401, body = Problem), (status = 422, body = Problem)))]
pub(crate) async fn list(
    State(app): State<App>,
    caller: Caller,
    Query(which): Query<Which>,
) -> Result<Json<PageView<RoomView>>, Problem> {
    let (user, newest, oldest) = (caller.id(), Order::NewestFirst, Order::OldestFirst);
    let (filter, order) = match which.filter {
        Listed::Mine => (RoomFilter::OwnedBy(user), newest),
        Listed::Attended => (RoomFilter::AttendedBy(user), newest),
        Listed::Live => (RoomFilter::LivePublic, newest),
        Listed::Upcoming => (RoomFilter::Upcoming { owner: Some(user) }, oldest),
    };
    let (size, cursor) = (which.size, which.cursor);
    let page = Paging { size, cursor }.request(order)?;
    let rooms = app.store().rooms().list(filter, &page).await?;
    Ok(Json(PageView::of(rooms)))
}

/// The room with this code, as people type it: white space, dashes and case do not matter. For whoever has the code.
#[utoipa::path(get, path = "/rooms/{code}", tag = "rooms", params(("code" = String, Path)), responses(
    (status = 200, body = RoomView), (status = 404, body = Problem)))]
pub(crate) async fn get(State(app): State<App>, Path(code): Path<String>) -> Result<Json<RoomView>, Problem> {
    Ok(Json(app.room(&code).await?.into()))
}

/// Changes a room. By its owner.
#[utoipa::path(patch, path = "/rooms/{code}", tag = "rooms", params(("code" = String, Path)), request_body = Changes, responses(
    (status = 200, body = RoomView), (status = 403, body = Problem), (status = 404, body = Problem), (status = 409, body = Problem),
    (status = 422, body = Problem)))]
pub(crate) async fn update(
    State(app): State<App>,
    caller: Caller,
    Path(code): Path<String>,
    Json(changes): Json<Changes>,
) -> Result<Json<RoomView>, Problem> {
    let (room, acting) = app.acting_in(&caller, &code).await?;
    let schedule = |times: Times| Schedule {
        start: times.start,
        end: times.end,
    };
    let changes = RoomChanges {
        title: changes.title.as_deref(),
        description: changes.description.as_ref().map(Option::as_deref),
        schedule: changes.schedule.map(|times| times.map(schedule)),
        max_participants: changes.max_participants,
        is_public: changes.is_public,
        is_recordable: changes.is_recordable,
        require_auth: changes.require_auth,
    };
    Ok(Json(acting.rooms().update(room.id, changes).await?.into()))
}

/// Begins the meeting. By the owner; the first who joins begins it too.
#[utoipa::path(post, path = "/rooms/{code}/start", tag = "rooms", params(("code" = String, Path)), responses(
    (status = 200, body = RoomView), (status = 403, body = Problem), (status = 404, body = Problem), (status = 409, body = Problem)))]
pub(crate) async fn start(
    State(app): State<App>,
    caller: Caller,
    Path(code): Path<String>,
) -> Result<Json<RoomView>, Problem> {
    let (room, acting) = app.acting_in(&caller, &code).await?;
    Ok(Json(acting.rooms().start(room.id).await?.into()))
}

/// Ends the meeting, and everybody's participation. By the owner or the host.
#[utoipa::path(post, path = "/rooms/{code}/end", tag = "rooms", params(("code" = String, Path)), responses(
    (status = 200, body = RoomView), (status = 403, body = Problem), (status = 404, body = Problem), (status = 409, body = Problem)))]
pub(crate) async fn end(
    State(app): State<App>,
    caller: Caller,
    Path(code): Path<String>,
) -> Result<Json<RoomView>, Problem> {
    let (room, acting) = app.acting_in(&caller, &code).await?;
    Ok(Json(acting.rooms().end(room.id).await?.into()))
}

/// Calls a meeting off that has not begun. By the owner.
#[utoipa::path(post, path = "/rooms/{code}/cancel", tag = "rooms", params(("code" = String, Path)), responses(
    (status = 200, body = RoomView), (status = 403, body = Problem), (status = 404, body = Problem), (status = 409, body = Problem)))]
pub(crate) async fn cancel(
    State(app): State<App>,
    caller: Caller,
    Path(code): Path<String>,
) -> Result<Json<RoomView>, Problem> {
    let (room, acting) = app.acting_in(&caller, &code).await?;
    Ok(Json(acting.rooms().cancel(room.id).await?.into()))
}

/// Deletes a room that is not running. By the owner.
#[utoipa::path(delete, path = "/rooms/{code}", tag = "rooms", params(("code" = String, Path)), responses(
    (status = 204), (status = 403, body = Problem), (status = 404, body = Problem), (status = 409, body = Problem)))]
pub(crate) async fn delete(
    State(app): State<App>,
    caller: Caller,
    Path(code): Path<String>,
) -> Result<StatusCode, Problem> {
    let (room, acting) = app.acting_in(&caller, &code).await?;
    acting.rooms().delete(room.id).await?;
    Ok(StatusCode::NO_CONTENT)
}
