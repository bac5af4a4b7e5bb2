//! Who acts, and from where.

use std::borrow::Cow;
use std::net::IpAddr;

use entity::UserId;

use crate::authority::ActorRole;

/// The most characters of a user agent that are kept; the rest is cut off.
pub const USER_AGENT_LENGTH: usize = 500;

/// Who does it, and where the request came from: every audit row of the unit of work carries this.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Actor {
    who: Who,
    address: Option<IpAddr>,
    user_agent: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Who {
    User(UserId),
    System(Cow<'static, str>),
    Anonymous,
}

impl Actor {
    /// A signed-in user. What they may do depends on what they are in the room.
    pub fn user(id: UserId) -> Self {
        Self::new(Who::User(id))
    }

    /// The system itself, which may do all; `name` tells which part, and stands in the audit row's metadata.
    pub fn system(name: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Who::System(name.into()))
    }

    /// Somebody who has not signed in: for registering, and for refused logins.
    pub fn anonymous() -> Self {
        Self::new(Who::Anonymous)
    }

    fn new(who: Who) -> Self {
        Self {
            who,
            address: None,
            user_agent: None,
        }
    }

    /// The client's network address.
    #[must_use]
    pub fn from_address(mut self, address: IpAddr) -> Self {
        self.address = Some(address);
        self
    }

    /// The client's user agent: control characters are dropped, and all beyond [`USER_AGENT_LENGTH`] characters.
    #[must_use]
    pub fn with_user_agent(mut self, text: &str) -> Self {
        let kept: String = text
            .chars()
            .filter(|c| !c.is_control())
            .take(USER_AGENT_LENGTH)
            .collect();
        self.user_agent = (!kept.is_empty()).then_some(kept);
        self
    }

    /// The user, if it is one.
    pub fn user_id(&self) -> Option<UserId> {
        match self.who {
            Who::User(id) => Some(id),
            Who::System(_) | Who::Anonymous => None,
        }
    }

    pub(crate) fn system_name(&self) -> Option<&str> {
        match &self.who {
            Who::System(name) => Some(name),
            Who::User(_) | Who::Anonymous => None,
        }
    }

    pub(crate) fn address(&self) -> Option<IpAddr> {
        self.address
    }

    pub(crate) fn user_agent(&self) -> Option<&str> {
        self.user_agent.as_deref()
    }

    /// What the actor is to `user`, before any room is looked at.
    pub(crate) fn role_towards(&self, user: UserId) -> ActorRole {
        match self.who {
            Who::System(_) => ActorRole::System,
            Who::User(id) if id == user => ActorRole::Themself,
            Who::User(_) | Who::Anonymous => ActorRole::Outsider,
        }
    }

    /// `user`, for the target of an event, unless they act themselves.
    pub(crate) fn other_than_self(&self, user: UserId) -> Option<UserId> {
        (self.user_id() != Some(user)).then_some(user)
    }

    pub(crate) fn is_system(&self) -> bool {
        matches!(self.who, Who::System(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_agents_are_cut_at_a_character() {
        let actor = Actor::anonymous().with_user_agent(&"é\u{0}".repeat(600));
        assert_eq!(actor.user_agent(), Some("é".repeat(500).as_str()));
    }
}
