//! The way in and out.

use axum::extract::{Form, Request, State};
use axum::http::header::{COOKIE, HOST, ORIGIN, SET_COOKIE};
use axum::http::{Extensions, HeaderMap, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Redirect, Response};
use conferencing_store::entity::AuthProviderType;
use conferencing_store::{Actor, Error, Observation};

use crate::access::{Viewer, from_machine};
use crate::app::App;
use crate::error::Failure;
use crate::passwords::Guess;
use crate::sessions::same;
use crate::view;

const NAME: &str = "console_session";
/// The same for a wrong name, a wrong password, somebody who is no operator, and an operator by whose other name too many have failed.
const WRONG: &str = "That is not the name and password of an operator, or too many have failed: then wait ten minutes.";
const HELD_OFF: &str = "Too many have failed by this name. Wait ten minutes.";

#[derive(serde::Deserialize)]
pub(crate) struct Credentials {
    username: String,
    password: String,
}

pub(crate) async fn form() -> Response {
    view::sign_in(None).into_response()
}

/// Checks the name and the password. Whatever is wrong is recorded as a login that failed; what is right, as a login.
pub(crate) async fn sign_in(
    State(app): State<App>,
    headers: HeaderMap,
    extensions: Extensions,
    Form(Credentials { username, password }): Form<Credentials>,
) -> Result<Response, Failure> {
    if is_from_elsewhere(&headers) {
        return Err(Failure::Forged);
    }
    let held_off = || (StatusCode::TOO_MANY_REQUESTS, view::sign_in(Some(HELD_OFF))).into_response();
    let behind_tls = app.settings.behind_tls;
    let anybody = from_machine(Actor::anonymous(), behind_tls, &extensions, &headers);
    // Before the queue, so that it does not grow by those who are refused anyway.
    if app.passwords.is_held_off(&username) {
        return Ok(held_off());
    }
    let candidate = match app.store.users().find_for_login(&username).await {
        Ok(candidate) => candidate,
        // What no name can be is nobody's.
        Err(Error::Invalid(_)) => None,
        Err(error) => return Err(error.into()),
    };
    let candidate = candidate.filter(|found| {
        let user = &found.user;
        app.operators.contains_key(&user.id) && user.is_active && user.deleted_at.is_none()
    });
    let local = candidate.as_ref().and_then(|found| {
        let is_local = |provider: &&conferencing_store::entity::auth_provider::Model| {
            provider.provider_type == AuthProviderType::Local
        };
        found.providers.iter().find(is_local).map(|provider| provider.id)
    });
    let operator = candidate.as_ref().map(|found| {
        (
            found.user.id,
            found.user.password_hash.clone().filter(|_| local.is_some()),
        )
    });
    let guess = app.passwords.check(&username, password, operator).await;
    if guess == Guess::HeldOff {
        return Ok(held_off());
    }
    let (Some(found), Some(local), Guess::Right) = (candidate, local, guess) else {
        let acting = app.store.acting(&anybody);
        acting.users().record_failed_login(&username).await?;
        if guess == (Guess::Wrong { is_limit: true }) {
            let limit = "console sign-in".to_owned();
            acting
                .audit()
                .append(None, Observation::RateLimitExceeded { limit })
                .await?;
        }
        return Ok((StatusCode::FORBIDDEN, view::sign_in(Some(WRONG))).into_response());
    };
    let system = from_machine(Actor::system("console"), behind_tls, &extensions, &headers);
    app.store
        .acting(&system)
        .users()
        .record_login(found.user.id, local)
        .await?;
    let value = app.sessions.begin(found.user.id, found.user.username);
    Ok(([(SET_COOKIE, cookie(&app, &value, ""))], Redirect::to("/")).into_response())
}

/// Ends the session.
pub(crate) async fn sign_out(
    State(app): State<App>,
    headers: HeaderMap,
    viewer: Viewer,
    Form(form): Form<Token>,
) -> Result<Response, Failure> {
    form.check(&viewer)?;
    app.store
        .acting(&viewer.actor)
        .audit()
        .append(None, Observation::UserLogout {})
        .await?;
    if let Some(value) = session_of(&headers) {
        app.sessions.end(value);
    }
    let gone = cookie(&app, "", "; Max-Age=0");
    Ok(([(SET_COOKIE, gone)], Redirect::to("/sign-in")).into_response())
}

/// What each form of a session says.
#[derive(serde::Deserialize)]
pub(crate) struct Token {
    #[serde(default)]
    token: String,
}

impl Token {
    pub(crate) fn check(&self, viewer: &Viewer) -> Result<(), Failure> {
        match same(&self.token, &viewer.operator.form_token) {
            true => Ok(()),
            false => Err(Failure::Forged),
        }
    }
}

/// Lets in whoever is signed in and whose account is still good, and sends all others to the form.
pub(crate) async fn only_signed_in(State(app): State<App>, mut request: Request, next: Next) -> Response {
    let cookie = session_of(request.headers()).map(str::to_owned);
    let session = cookie.and_then(|value| app.sessions.find(&value).map(|operator| (value, operator)));
    let Some((value, operator)) = session else {
        return Redirect::to("/sign-in").into_response();
    };
    match app.store.users().find(operator.id).await {
        Ok(Some(user)) if user.is_active => {}
        Ok(_) => {
            app.sessions.end(&value);
            return Redirect::to("/sign-in").into_response();
        }
        Err(error) => return Failure::from(error).into_response(),
    }
    if request.method() == Method::POST && is_from_elsewhere(request.headers()) {
        return Failure::Forged.into_response();
    }
    let behind_tls = app.settings.behind_tls;
    let viewer = Viewer::new(operator, behind_tls, request.extensions(), request.headers());
    request.extensions_mut().insert(viewer);
    next.run(request).await
}

/// Not to be read by scripts, nor sent along from other sites.
fn cookie(app: &App, value: &str, more: &str) -> String {
    let secure = if app.settings.behind_tls { "; Secure" } else { "" };
    format!("{NAME}={value}; Path=/; HttpOnly; SameSite=Strict{secure}{more}")
}

fn session_of(headers: &HeaderMap) -> Option<&str> {
    let cookies = headers
        .get_all(COOKIE)
        .into_iter()
        .filter_map(|cookies| cookies.to_str().ok());
    cookies
        .flat_map(|cookies| cookies.split(';'))
        .find_map(|cookie| cookie.trim().strip_prefix(NAME)?.strip_prefix('='))
}

/// Whether a browser says that a form came from another site. What is no browser says nothing.
fn is_from_elsewhere(headers: &HeaderMap) -> bool {
    let text = |name| {
        headers
            .get(name)
            .and_then(|value: &axum::http::HeaderValue| value.to_str().ok())
    };
    if let Some(site) = text(axum::http::HeaderName::from_static("sec-fetch-site")) {
        return site != "same-origin" && site != "none";
    }
    let Some(origin) = text(ORIGIN) else {
        return false;
    };
    let authority = origin.split_once("://").map(|(_, authority)| authority);
    authority != text(HOST)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn forms_of_other_sites_are_known_by_what_browsers_say() {
        let host = ("host", "127.0.0.1:8090");
        assert!(!is_from_elsewhere(&headers(&[host])));
        assert!(!is_from_elsewhere(&headers(&[host, ("sec-fetch-site", "same-origin")])));
        assert!(!is_from_elsewhere(&headers(&[
            host,
            ("origin", "http://127.0.0.1:8090")
        ])));
        for other in ["http://evil.example", "null", "http://127.0.0.1:80"] {
            assert!(is_from_elsewhere(&headers(&[host, ("origin", other)])), "{other}");
        }
        for site in ["cross-site", "same-site"] {
            assert!(is_from_elsewhere(&headers(&[host, ("sec-fetch-site", site)])), "{site}");
        }
    }

    #[test]
    fn the_session_is_found_among_other_cookies() {
        assert_eq!(
            session_of(&headers(&[("cookie", "a=1; console_session=xyz; b=2")])),
            Some("xyz")
        );
        assert_eq!(
            session_of(&headers(&[("cookie", "a=1"), ("cookie", "console_session=xyz")])),
            Some("xyz")
        );
        assert_eq!(
            session_of(&headers(&[("cookie", "console_sessions=xyz; xconsole_session=1")])),
            None
        );
    }
}
