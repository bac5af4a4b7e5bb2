//! Who a request comes from.

pub mod migrations;
pub(crate) mod passwords;
pub mod sessions;

use std::net::{IpAddr, SocketAddr};

use axum::extract::{ConnectInfo, FromRequestParts};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, header};
use conferencing_store::Actor;
use conferencing_store::entity::{UserId, user};

use crate::app::App;
use crate::problem::Problem;
use sessions::SessionKey;

/// The cookie's name.
pub(crate) const COOKIE: &str = "signaling_session";

/// Where a request comes from, whoever sent it.
pub(crate) struct Client {
    address: Option<IpAddr>,
    user_agent: Option<String>,
}

impl Client {
    fn of(app: &App, parts: &Parts) -> Self {
        let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>();
        let user_agent = parts.headers.get(header::USER_AGENT);
        Self {
            address: client_address(
                &parts.headers,
                peer.map(|ConnectInfo(peer)| peer.ip()),
                app.config().proxy_hops,
            ),
            user_agent: user_agent.and_then(|text| text.to_str().ok()).map(str::to_owned),
        }
    }

    /// The actor, with where they act from.
    pub(crate) fn acts(&self, actor: Actor) -> Actor {
        let actor = match self.address {
            Some(address) => actor.from_address(address),
            None => actor,
        };
        match &self.user_agent {
            Some(user_agent) => actor.with_user_agent(user_agent),
            None => actor,
        }
    }
}

/// Each proxy appends the address that it was called from: the one that the outermost of ours saw stands so many from the right. What is left
/// of it the client may have written itself. An address that is missing is nobody's.
fn client_address(headers: &HeaderMap, peer: Option<IpAddr>, hops: usize) -> Option<IpAddr> {
    if hops == 0 {
        return peer.map(|peer| peer.to_canonical());
    }
    let lines = headers.get_all("x-forwarded-for").into_iter();
    // Whatever bytes the client wrote: what the proxies appended behind them counts.
    let addresses: Vec<&[u8]> = lines
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b','))
        .collect();
    let address = addresses.len().checked_sub(hops).and_then(|at| addresses.get(at))?;
    std::str::from_utf8(address).ok()?.trim().parse().ok()
}

impl FromRequestParts<App> for Client {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Self::Rejection> {
        Ok(Self::of(app, parts))
    }
}

/// Somebody who is signed in, or a guest on their visit.
pub(crate) struct Caller {
    pub(crate) user: user::Model,
    pub(crate) session: SessionKey,
    client: Client,
}

impl Caller {
    pub(crate) fn id(&self) -> UserId {
        self.user.id
    }

    pub(crate) fn actor(&self) -> Actor {
        self.client.acts(Actor::user(self.user.id))
    }

    pub(crate) fn of_session(
        app: &App,
        parts: &Parts,
        found: Option<(SessionKey, user::Model)>,
    ) -> Result<Self, Problem> {
        let (session, user) = found.ok_or_else(Problem::not_signed_in)?;
        let client = Client::of(app, parts);
        Ok(Self { user, session, client })
    }
}

impl FromRequestParts<App> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let token = match bearer(&parts.headers) {
            Some(token) => token.to_owned(),
            None => {
                let token = cookie(&parts.headers).ok_or_else(Problem::not_signed_in)?;
                // Whoever sends a header of their own is no form on another site; whoever sends a cookie may be.
                require_same_origin(&parts.method, &parts.headers)?;
                token.to_owned()
            }
        };
        let found = sessions::find(&app.store().sql(), &token, app.now()).await?;
        Self::of_session(app, parts, found)
    }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}

fn cookie(headers: &HeaderMap) -> Option<&str> {
    let lines = headers.get_all(header::COOKIE).into_iter();
    let pairs = lines
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(';'));
    let mut pairs = pairs.filter_map(|pair| pair.trim().split_once('='));
    pairs.find_map(|(name, value)| (name == COOKIE).then_some(value))
}

/// Refuses what another site's page has a browser send with our cookie, beside `SameSite`.
pub(crate) fn require_same_origin(method: &Method, headers: &HeaderMap) -> Result<(), Problem> {
    let is_upgrade = headers.contains_key(header::UPGRADE);
    if method.is_safe() && !is_upgrade {
        return Ok(());
    }
    let Some(origin) = headers.get(header::ORIGIN) else {
        return Ok(());
    };
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let origin = origin.to_str().ok().and_then(|origin| origin.split_once("://"));
    match (origin, host) {
        (Some((_, origin)), Some(host)) if origin.eq_ignore_ascii_case(host) => Ok(()),
        _ => Err(Problem::new(
            axum::http::StatusCode::FORBIDDEN,
            "foreign_origin",
            "another site's page may not do this",
        )),
    }
}

/// The cookie of a session, or with none the one that ends it.
pub(crate) fn set_cookie(app: &App, token: Option<&str>, seconds: i64) -> String {
    let secure = if app.config().cookie_secure { "; Secure" } else { "" };
    let (token, seconds) = match token {
        Some(token) => (token, seconds),
        None => ("", 0),
    };
    format!("{COOKIE}={token}; Path=/; HttpOnly; SameSite=Strict; Max-Age={seconds}{secure}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn forwarded(lines: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append("x-forwarded-for", line.parse().unwrap());
        }
        headers
    }

    #[test]
    fn the_client_is_whom_the_outermost_proxy_saw() {
        let peer: Option<IpAddr> = Some([10, 0, 0, 1].into());
        let (of, ip) = (forwarded(&["1.1.1.1, 2.2.2.2", "3.3.3.3"]), |n: u8| {
            Some(IpAddr::from([n, n, n, n]))
        });
        assert_eq!(client_address(&of, peer, 0), peer);
        for (hops, address) in [(1, ip(3)), (2, ip(2)), (3, ip(1)), (4, None)] {
            assert_eq!(client_address(&of, peer, hops), address);
        }
        assert_eq!(client_address(&forwarded(&["rubbish"]), peer, 1), None);
        let mut headers = HeaderMap::new();
        let value = header::HeaderValue::from_bytes(b"\xff, 2.2.2.2").unwrap();
        headers.append("x-forwarded-for", value);
        assert_eq!(
            (client_address(&headers, peer, 1), client_address(&headers, peer, 2)),
            (ip(2), None)
        );
        assert_eq!(client_address(&HeaderMap::new(), peer, 1), None);
    }

    #[test]
    fn another_sites_page_may_read_and_do_nothing_else() {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, "meet.example".parse().unwrap());
        assert!(require_same_origin(&Method::POST, &headers).is_ok());
        headers.insert(header::ORIGIN, "https://MEET.example".parse().unwrap());
        assert!(require_same_origin(&Method::POST, &headers).is_ok());
        for foreign in ["https://evil.example", "null", "https://meet.example.evil"] {
            headers.insert(header::ORIGIN, foreign.parse().unwrap());
            assert!(require_same_origin(&Method::POST, &headers).is_err(), "{foreign}");
            assert!(require_same_origin(&Method::GET, &headers).is_ok(), "{foreign}");
            let mut upgrade = headers.clone();
            upgrade.insert(header::UPGRADE, "websocket".parse().unwrap());
            assert!(require_same_origin(&Method::GET, &upgrade).is_err(), "{foreign}");
        }
    }

    #[test]
    fn the_cookie_is_found_among_others() {
        let mut headers = HeaderMap::new();
        headers.append(header::COOKIE, "a=b; signaling_session=token".parse().unwrap());
        assert_eq!(cookie(&headers), Some("token"));
        assert_eq!(cookie(&HeaderMap::new()), None);
    }
}
