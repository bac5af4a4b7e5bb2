//! Registering, signing in and out.

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{AppendHeaders, IntoResponse};
use chrono::{DateTime, TimeDelta, Utc};
use conferencing_store::entity::{AuthProviderType, Secret};
use conferencing_store::users::LoginCandidate;
use conferencing_store::{Actor, Error, NewUser, Unit};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::extract::Json;
use super::views::UserView;
use crate::app::App;
use crate::auth::{Caller, Client, sessions, set_cookie};
use crate::problem::Problem;

/// A new account.
#[derive(Deserialize, ToSchema)]
pub(crate) struct Registration {
    /// To sign in with; no white space, no `@`.
    username: String,
    /// Unique without regard to case.
    email: Option<String>,
    display_name: String,
    /// 8 to 256 bytes.
    password: String,
}

/// A login.
#[derive(Deserialize, ToSchema)]
pub(crate) struct Login {
    /// Username or e-mail address.
    login: String,
    password: String,
}

/// Somebody who is signed in.
#[derive(Serialize, ToSchema)]
pub(crate) struct SessionView {
    /// For `Authorization: Bearer`; browsers get it as a cookie too.
    pub(crate) token: String,
    pub(crate) expires_at: DateTime<Utc>,
    pub(crate) user: UserView,
}

/// Opens one WebSocket.
#[derive(Serialize, ToSchema)]
pub(crate) struct TicketView {
    ticket: String,
    expires_at: DateTime<Utc>,
}

/// The answer that begins a session.
pub(crate) fn with_cookie<T: Serialize>(
    app: &App,
    token: &str,
    expires_at: DateTime<Utc>,
    body: T,
) -> impl IntoResponse + use<T> {
    // To the nearest: a moment has passed since.
    let seconds = ((expires_at - app.now()).num_milliseconds() + 500) / 1000;
    let cookie = set_cookie(app, Some(token), seconds);
    (
        StatusCode::CREATED,
        AppendHeaders([(header::SET_COOKIE, cookie)]),
        Json(body),
    )
}

/// Makes an account. It is not signed in.
#[utoipa::path(post, path = "/accounts", tag = "accounts", request_body = Registration, responses(
    (status = 201, body = UserView), (status = 409, body = Problem), (status = 422, body = Problem), (status = 503, body = Problem)))]
pub(crate) async fn register(
    State(app): State<App>,
    client: Client,
    Json(new): Json<Registration>,
) -> Result<(StatusCode, Json<UserView>), Problem> {
    let password_hash = app.passwords().hash(new.password).await?;
    let acting = app.store().acting(&client.acts(Actor::anonymous()));
    let user = acting
        .users()
        .register(NewUser {
            email: new.email.as_deref(),
            ..NewUser::named(&new.username, &new.display_name, password_hash)
        })
        .await?;
    Ok((StatusCode::CREATED, Json(user.into())))
}

/// Signs in: sets the cookie, and returns the token for clients that are no browsers.
#[utoipa::path(post, path = "/sessions", tag = "accounts", request_body = Login, responses(
    (status = 201, body = SessionView), (status = 401, body = Problem), (status = 503, body = Problem)))]
pub(crate) async fn login(
    State(app): State<App>,
    client: Client,
    Json(login): Json<Login>,
) -> Result<impl IntoResponse, Problem> {
    let candidate = app.store().users().find_for_login(&login.login).await?;
    let hash = candidate.as_ref().and_then(|one| one.user.password_hash.as_ref());
    // Nobody learns from how long it takes whether there is such a user.
    let is_right = app.passwords().verify(login.password, hash).await?;
    let Some(candidate) = candidate.filter(|_| is_right) else {
        let acting = app.store().acting(&client.acts(Actor::anonymous()));
        acting.users().record_failed_login(&login.login).await?;
        return Err(Problem::new(
            StatusCode::UNAUTHORIZED,
            "wrong_credentials",
            "there is no such user, or this is not their password",
        ));
    };
    let session = open_session(&app, &client, &candidate).await?;
    let (token, expires_at) = (session.token.clone(), session.expires_at);
    Ok(with_cookie(&app, &token, expires_at, session))
}

/// The login and its session are one transaction: the audit log has all that were opened and no others.
async fn open_session(app: &App, client: &Client, candidate: &LoginCandidate) -> Result<SessionView, Problem> {
    let user = candidate.user.id;
    let local = candidate
        .providers
        .iter()
        .find(|provider| provider.provider_type == AuthProviderType::Local);
    let local = local.map(|provider| provider.id).ok_or_else(Problem::not_signed_in)?;
    let time = TimeDelta::from_std(app.config().session_time()).unwrap_or(TimeDelta::days(1));
    let now = app.now();
    let work = |unit: Unit| async move {
        let user = unit.users().record_login(user, local).await?;
        let (token, expires_at) = opened(&unit, user.id, now, time).await?;
        Ok::<_, Error>((user, token, expires_at))
    };
    let (user, token, expires_at) = app
        .store()
        .transact(&client.acts(Actor::system("logins")), work)
        .await?;
    Ok(SessionView {
        token: token.expose().to_owned(),
        expires_at,
        user: user.into(),
    })
}

/// A session as part of a unit.
pub(crate) async fn opened(
    unit: &Unit,
    user: conferencing_store::entity::UserId,
    now: DateTime<Utc>,
    time: TimeDelta,
) -> Result<(Secret, DateTime<Utc>), Error> {
    let sql = unit.sql();
    let opened = sessions::open(&sql, user, now, time).await;
    opened.map_err(|error| sql.error(&error))
}

/// Signs out. The token is void from now on, in every process; WebSockets of the session are closed within a minute.
#[utoipa::path(delete, path = "/sessions/current", tag = "accounts", responses((status = 204), (status = 401, body = Problem)))]
pub(crate) async fn logout(State(app): State<App>, caller: Caller) -> Result<impl IntoResponse, Problem> {
    sessions::close(&app.store().sql(), &caller.session).await?;
    let cookie = set_cookie(&app, None, 0);
    Ok((StatusCode::NO_CONTENT, AppendHeaders([(header::SET_COOKIE, cookie)])))
}

/// Who is signed in.
#[utoipa::path(get, path = "/me", tag = "accounts", responses((status = 200, body = UserView), (status = 401, body = Problem)))]
pub(crate) async fn me(caller: Caller) -> Json<UserView> {
    Json(caller.user.into())
}

/// A ticket that opens one WebSocket, within half a minute: for clients that can send neither cookie nor header with it.
#[utoipa::path(post, path = "/tickets", tag = "accounts", responses((status = 201, body = TicketView), (status = 401, body = Problem)))]
pub(crate) async fn issue_ticket(
    State(app): State<App>,
    caller: Caller,
) -> Result<(StatusCode, Json<TicketView>), Problem> {
    let (ticket, expires_at) = sessions::issue_ticket(&app.store().sql(), &caller.session, app.now()).await?;
    let ticket = ticket.expose().to_owned();
    Ok((StatusCode::CREATED, Json(TicketView { ticket, expires_at })))
}
