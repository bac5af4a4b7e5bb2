//! Whoever looks at personal data is recorded, before they see it.

use std::net::{IpAddr, SocketAddr};

use axum::extract::{ConnectInfo, FromRequestParts};
use axum::http::request::Parts;
use axum::http::{Extensions, HeaderMap, header};
use conferencing_store::entity::{RoomId, UserId};
use conferencing_store::{Actor, Observation};

use crate::app::App;
use crate::error::Failure;
use crate::sessions::Operator;

/// Somebody who is signed in, at their machine.
#[derive(Clone)]
pub(crate) struct Viewer {
    pub(crate) operator: Operator,
    pub(crate) actor: Actor,
}

impl Viewer {
    pub(crate) fn new(operator: Operator, behind_tls: bool, extensions: &Extensions, headers: &HeaderMap) -> Self {
        let actor = from_machine(Actor::user(operator.id), behind_tls, extensions, headers);
        Self { operator, actor }
    }

    /// Records that they look at what `by` names, of one user or in one room, if it is. Nothing is shown where that fails.
    pub(crate) async fn looks_at(
        &self,
        app: &App,
        by: &str,
        target: Option<UserId>,
        room: Option<RoomId>,
    ) -> Result<(), Failure> {
        let acting = app.store.acting(&self.actor);
        let by = format!("console: {by}");
        acting
            .audit()
            .append(room, Observation::PersonalDataViewed { target, by })
            .await?;
        Ok(())
    }
}

/// The middleware has put it there: no page is shown without.
impl<S: Send + Sync> FromRequestParts<S> for Viewer {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Failure> {
        parts.extensions.get::<Self>().cloned().ok_or(Failure::Forged)
    }
}

/// The actor with what is known of the machine.
pub(crate) fn from_machine(actor: Actor, behind_tls: bool, extensions: &Extensions, headers: &HeaderMap) -> Actor {
    let peer = extensions.get::<ConnectInfo<SocketAddr>>();
    let actor = match client_address(headers, peer.map(|ConnectInfo(peer)| peer.ip()), behind_tls) {
        Some(address) => actor.from_address(address),
        None => actor,
    };
    match headers.get(header::USER_AGENT).and_then(|agent| agent.to_str().ok()) {
        Some(agent) => actor.with_user_agent(agent),
        None => actor,
    }
}

/// The address of the connection, never what a header says; but behind a proxy that is the proxy's, which appends the one that it was called
/// from. What is left of that the client may have written itself. An address that is missing is nobody's.
fn client_address(headers: &HeaderMap, peer: Option<IpAddr>, behind_proxy: bool) -> Option<IpAddr> {
    let address = match behind_proxy {
        false => peer?,
        true => {
            let line = headers.get_all("x-forwarded-for").into_iter().next_back()?;
            let addresses = line.to_str().ok()?;
            addresses.rsplit(',').next()?.trim().parse().ok()?
        }
    };
    Some(address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn behind_a_proxy_the_address_is_the_one_that_it_saw() {
        let seen = |lines: &[&str], behind_proxy| {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append("x-forwarded-for", line.parse().unwrap());
            }
            let peer = Some("::ffff:127.0.0.1".parse().unwrap());
            client_address(&headers, peer, behind_proxy).map(|address| address.to_string())
        };
        let own = Some("127.0.0.1".to_owned());
        assert_eq!(seen(&[], false), own);
        assert_eq!(seen(&["203.0.113.7"], false), own);
        let client = Some("203.0.113.7".to_owned());
        for lines in [
            &["203.0.113.7"][..],
            &["198.51.100.9, ::ffff:203.0.113.7"],
            &["198.51.100.9", "192.0.2.1,203.0.113.7 "],
        ] {
            assert_eq!(seen(lines, true), client, "{lines:?}");
        }
        for lines in [&[][..], &["unknown"], &["203.0.113.7, "], &["203.0.113.7", "nothing"]] {
            assert_eq!(seen(lines, true), None, "{lines:?}");
        }
    }
}
