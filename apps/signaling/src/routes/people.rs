//! Who is in a room: coming, going, and being put out.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use chrono::{DateTime, TimeDelta, Utc};
use conferencing_store::authority::ActorRole;
use conferencing_store::entity::{ParticipantRole, RoomId, UserId};
use conferencing_store::page::Order;
use conferencing_store::{Actor, Error, Unit};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::accounts::{SessionView, opened, with_cookie};
use super::extract::{Json, Path, Query};
use super::views::{BanView, PageView, Paging, PresentView, SeatView};
use crate::app::App;
use crate::auth::{Caller, Client};
use crate::problem::Problem;

/// A guest.
#[derive(Deserialize, ToSchema)]
pub(crate) struct GuestName {
    display_name: String,
}

/// A guest's seat, and the session of their visit.
#[derive(Serialize, ToSchema)]
pub(crate) struct Visit {
    #[serde(flatten)]
    session: SessionView,
    seat: SeatView,
}

/// Why.
#[derive(Default, Deserialize, ToSchema)]
pub(crate) struct Reason {
    /// At most 500 characters.
    reason: Option<String>,
}

/// A ban.
#[derive(Default, Deserialize, ToSchema)]
pub(crate) struct NewBan {
    /// At most 500 characters.
    reason: Option<String>,
    /// None bans for good.
    until: Option<DateTime<Utc>>,
}

impl App {
    /// What the caller is to the room; those who are nothing to it see nobody.
    pub(crate) async fn role_in(&self, caller: &Caller, room: RoomId) -> Result<ActorRole, Problem> {
        let acting = self.store().acting(&caller.actor());
        Ok(acting.participants().actor_role(room).await?)
    }
}

/// Takes a seat. A WebSocket is to follow in time, or the seat is given up.
#[utoipa::path(post, path = "/rooms/{code}/join", tag = "people", params(("code" = String, Path)), responses(
    (status = 200, body = SeatView), (status = 403, body = Problem), (status = 404, body = Problem), (status = 409, body = Problem)))]
pub(crate) async fn join(
    State(app): State<App>,
    caller: Caller,
    Path(code): Path<String>,
) -> Result<Json<SeatView>, Problem> {
    let (room, acting) = app.acting_in(&caller, &code).await?;
    let user = caller.id();
    let service = app.clone();
    let taken = async move {
        let take = |node| {
            let acting = acting.clone();
            async move {
                let role = ParticipantRole::Participant;
                acting.participants().join_on(room.id, user, role, node).await
            }
        };
        let seat = service.on_our_node(take).await?;
        service.expect_socket(seat.id);
        Ok::<_, Error>(seat)
    };
    let seat = app.to_its_end(taken).await?;
    Ok(Json(SeatView::from(&seat)))
}

/// Comes in as a guest, without an account, where the room asks for none: a session for the visit, and a seat.
#[utoipa::path(post, path = "/rooms/{code}/guests", tag = "people", params(("code" = String, Path)), request_body = GuestName, responses(
    (status = 201, body = Visit), (status = 403, body = Problem), (status = 404, body = Problem), (status = 409, body = Problem),
    (status = 422, body = Problem)))]
pub(crate) async fn visit(
    State(app): State<App>,
    client: Client,
    Path(code): Path<String>,
    Json(name): Json<GuestName>,
) -> Result<impl IntoResponse, Problem> {
    let room = app.room(&code).await?.id;
    let time = TimeDelta::from_std(app.config().guest_time()).unwrap_or(TimeDelta::hours(1));
    let (actor, now, service) = (client.acts(Actor::system("door")), app.now(), app.clone());
    // Guest, seat and session are there together or not at all: who is not let in leaves no guest behind.
    let admitted = async move {
        let name = &name.display_name;
        let admit = |node| {
            service.store().transact(&actor, move |unit: Unit| async move {
                let guest = unit.users().admit_guest(name).await?;
                let role = ParticipantRole::Participant;
                let seat = unit.participants().join_on(room, guest.id, role, node).await?;
                let session = opened(&unit, guest.id, now, time).await?;
                Ok::<_, Error>((guest, seat, session))
            })
        };
        let admitted = service.on_our_node(admit).await?;
        service.expect_socket(admitted.1.id);
        Ok::<_, Error>(admitted)
    };
    let (guest, seat, (token, expires_at)) = app.to_its_end(admitted).await?;
    let session = SessionView {
        token: token.expose().to_owned(),
        expires_at,
        user: guest.into(),
    };
    let seat = SeatView::from(&seat);
    let token = session.token.clone();
    Ok(with_cookie(&app, &token, expires_at, Visit { session, seat }))
}

/// Gives the seat up.
#[utoipa::path(post, path = "/rooms/{code}/leave", tag = "people", params(("code" = String, Path)), responses(
    (status = 204), (status = 404, body = Problem), (status = 409, body = Problem)))]
pub(crate) async fn leave(
    State(app): State<App>,
    caller: Caller,
    Path(code): Path<String>,
) -> Result<StatusCode, Problem> {
    let (room, acting) = app.acting_in(&caller, &code).await?;
    let seat = acting.participants().leave(room.id, caller.id()).await?;
    app.presence().over(seat.id);
    Ok(StatusCode::NO_CONTENT)
}

/// Who is present. For those who are in the room, and its owner.
#[utoipa::path(get, path = "/rooms/{code}/participants", tag = "people", params(("code" = String, Path), Paging), responses(
    (status = 200, body = PageView<PresentView>), (status = 403, body = Problem), (status = 404, body = Problem)))]
pub(crate) async fn list(
    State(app): State<App>,
    caller: Caller,
    Path(code): Path<String>,
    Query(paging): Query<Paging>,
) -> Result<Json<PageView<PresentView>>, Problem> {
    let room = app.room(&code).await?;
    if app.role_in(&caller, room.id).await? == ActorRole::Outsider {
        return Err(Problem::forbidden("only those who are in the room see who else is"));
    }
    let page = paging.request(Order::OldestFirst)?;
    let present = app.store().participants().list_present(room.id, &page).await?;
    Ok(Json(PageView::of(present)))
}

/// Puts somebody out; they may come back. By the owner, the host, or a co-host.
#[utoipa::path(post, path = "/rooms/{code}/participants/{user}/kick", tag = "people",
    params(("code" = String, Path), ("user" = Uuid, Path)), request_body = Reason, responses(
    (status = 204), (status = 403, body = Problem), (status = 404, body = Problem), (status = 409, body = Problem)))]
pub(crate) async fn kick(
    State(app): State<App>,
    caller: Caller,
    Path((code, user)): Path<(String, UserId)>,
    Json(why): Json<Reason>,
) -> Result<StatusCode, Problem> {
    let (room, acting) = app.acting_in(&caller, &code).await?;
    acting.participants().kick(room.id, user, why.reason.as_deref()).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Puts somebody out, if they are present, and keeps them out. By the owner, the host, or a co-host.
#[utoipa::path(put, path = "/rooms/{code}/bans/{user}", tag = "people",
    params(("code" = String, Path), ("user" = Uuid, Path)), request_body = NewBan, responses(
    (status = 204), (status = 403, body = Problem), (status = 404, body = Problem), (status = 409, body = Problem)))]
pub(crate) async fn ban(
    State(app): State<App>,
    caller: Caller,
    Path((code, user)): Path<(String, UserId)>,
    Json(ban): Json<NewBan>,
) -> Result<StatusCode, Problem> {
    let (room, acting) = app.acting_in(&caller, &code).await?;
    let reason = ban.reason.as_deref();
    acting.participants().ban(room.id, user, reason, ban.until).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Lets somebody in again. By the owner or the host.
#[utoipa::path(delete, path = "/rooms/{code}/bans/{user}", tag = "people",
    params(("code" = String, Path), ("user" = Uuid, Path)), responses(
    (status = 204), (status = 403, body = Problem), (status = 404, body = Problem), (status = 409, body = Problem)))]
pub(crate) async fn unban(
    State(app): State<App>,
    caller: Caller,
    Path((code, user)): Path<(String, UserId)>,
) -> Result<StatusCode, Problem> {
    let (room, acting) = app.acting_in(&caller, &code).await?;
    acting.participants().unban(room.id, user).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Who is banned. For the owner, the host and co-hosts.
#[utoipa::path(get, path = "/rooms/{code}/bans", tag = "people", params(("code" = String, Path), Paging), responses(
    (status = 200, body = PageView<BanView>), (status = 403, body = Problem), (status = 404, body = Problem)))]
pub(crate) async fn bans(
    State(app): State<App>,
    caller: Caller,
    Path(code): Path<String>,
    Query(paging): Query<Paging>,
) -> Result<Json<PageView<BanView>>, Problem> {
    let room = app.room(&code).await?;
    let role = app.role_in(&caller, room.id).await?;
    if !matches!(role, ActorRole::Owner | ActorRole::Host | ActorRole::CoHost) {
        return Err(Problem::forbidden("only those who may ban see who is banned"));
    }
    let page = paging.request(Order::OldestFirst)?;
    let bans = app.store().participants().list_bans(room.id, &page).await?;
    Ok(Json(PageView::of(bans)))
}

/// Makes a participant co-host. By the owner or the host.
#[utoipa::path(post, path = "/rooms/{code}/participants/{user}/promote", tag = "people",
    params(("code" = String, Path), ("user" = Uuid, Path)), responses(
    (status = 200, body = SeatView), (status = 403, body = Problem), (status = 404, body = Problem), (status = 409, body = Problem)))]
pub(crate) async fn promote(
    State(app): State<App>,
    caller: Caller,
    Path((code, user)): Path<(String, UserId)>,
) -> Result<Json<SeatView>, Problem> {
    let (room, acting) = app.acting_in(&caller, &code).await?;
    let seat = acting.participants().promote(room.id, user).await?;
    Ok(Json(SeatView::from(&seat)))
}

/// Makes a co-host a participant again. By the owner or the host.
#[utoipa::path(post, path = "/rooms/{code}/participants/{user}/demote", tag = "people",
    params(("code" = String, Path), ("user" = Uuid, Path)), responses(
    (status = 200, body = SeatView), (status = 403, body = Problem), (status = 404, body = Problem), (status = 409, body = Problem)))]
pub(crate) async fn demote(
    State(app): State<App>,
    caller: Caller,
    Path((code, user)): Path<(String, UserId)>,
) -> Result<Json<SeatView>, Problem> {
    let (room, acting) = app.acting_in(&caller, &code).await?;
    let seat = acting.participants().demote(room.id, user).await?;
    Ok(Json(SeatView::from(&seat)))
}

/// Makes somebody host; the former host is co-host then. By the owner or the host.
#[utoipa::path(post, path = "/rooms/{code}/participants/{user}/host", tag = "people",
    params(("code" = String, Path), ("user" = Uuid, Path)), responses(
    (status = 200, body = SeatView), (status = 403, body = Problem), (status = 404, body = Problem), (status = 409, body = Problem)))]
pub(crate) async fn hand_over(
    State(app): State<App>,
    caller: Caller,
    Path((code, user)): Path<(String, UserId)>,
) -> Result<Json<SeatView>, Problem> {
    let (room, acting) = app.acting_in(&caller, &code).await?;
    let seat = acting.participants().hand_over_host(room.id, user).await?;
    Ok(Json(SeatView::from(&seat)))
}
