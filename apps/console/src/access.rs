//! Whoever looks at personal data is recorded, before they see it.

use std::net::SocketAddr;

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
    pub(crate) fn new(operator: Operator, extensions: &Extensions, headers: &HeaderMap) -> Self {
        let actor = from_machine(Actor::user(operator.id), extensions, headers);
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

/// The actor with what is known of the machine: the address of the connection, never what a header says.
pub(crate) fn from_machine(actor: Actor, extensions: &Extensions, headers: &HeaderMap) -> Actor {
    let actor = match extensions.get::<ConnectInfo<SocketAddr>>() {
        Some(ConnectInfo(address)) => actor.from_address(address.ip().to_canonical()),
        None => actor,
    };
    match headers.get(header::USER_AGENT).and_then(|agent| agent.to_str().ok()) {
        Some(agent) => actor.with_user_agent(agent),
        None => actor,
    }
}
