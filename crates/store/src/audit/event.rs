//! The trail's events, typed. Each becomes an action, a target and metadata, and reads back from them.
//!
//! There are two kinds, so that an audit row of a change cannot be written without the change: a [`Change`] is appended by
//! the operation that makes it and by nothing else; an [`Observation`] changes no table, and `audit().append` takes it.

use entity::{AuditAction, AuthProviderType, ParticipantRole, RecordedAction, UserId};
use sea_orm::ActiveEnum;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};

/// Something the store did.
///
/// `target` is the user that it was done to, where that is not the actor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "action", content = "details", rename_all = "SCREAMING_SNAKE_CASE")]
#[non_exhaustive]
#[expect(missing_docs, reason = "fields are named after the columns they tell of")]
pub enum Change {
    UserRegistered {
        target: UserId,
        provider: AuthProviderType,
    },
    RoomCreated {
        room_code: String,
    },
    /// The room went live, by its owner's word or by the first join.
    RoomStarted {
        by_join: bool,
    },
    RoomEnded {
        duration_seconds: i32,
        /// How many were still present; their stays ended with the room.
        closed_stays: i32,
    },
    UserJoined {
        /// Who came, if somebody else (the platform) seated them.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        target: Option<UserId>,
        role: ParticipantRole,
    },
    UserLeft {
        /// Who left, if somebody else (the platform) saw to it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        target: Option<UserId>,
        duration_seconds: i32,
    },
    UserKicked {
        target: UserId,
        #[serde(default)]
        reason: Option<String>,
        duration_seconds: i32,
    },
}

/// Something that happened and changed no table. A NUL in a text is kept as U+FFFD, because PostgreSQL cannot keep it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "action", content = "details", rename_all = "SCREAMING_SNAKE_CASE")]
#[non_exhaustive]
#[expect(missing_docs, reason = "fields are named after what the media server calls them")]
pub enum Observation {
    UserLogout {},
    UserMuted {
        target: UserId,
        kind: MediaKind,
    },
    UserUnmuted {
        target: UserId,
        kind: MediaKind,
    },
    AllMuted {
        kind: MediaKind,
    },
    ScreenShareStarted {},
    ScreenShareStopped {},
    ProducerCreated {
        producer_id: String,
        kind: MediaKind,
    },
    ProducerClosed {
        producer_id: String,
    },
    ConsumerCreated {
        consumer_id: String,
        producer_id: String,
    },
    ConsumerClosed {
        consumer_id: String,
    },
    UnauthorizedAccessAttempt {
        /// What was tried.
        attempted: String,
    },
    RateLimitExceeded {
        /// Which limit.
        limit: String,
    },
    SuspiciousActivity {
        description: String,
    },
}

/// What a media event is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the three kinds of media")]
pub enum MediaKind {
    Audio,
    Video,
    Screen,
}

/// An event as it is read from the trail.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
#[non_exhaustive]
pub enum AuditEvent {
    /// A change of the store's.
    Change(Change),
    /// An observation of a service's.
    Observation(Observation),
    /// An action or metadata that this build does not know: written by another build, and no error.
    Unrecognized {
        /// The action's text.
        action: String,
        /// The metadata as stored.
        metadata: Option<Json>,
    },
}

/// An event in columns.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct EventColumns {
    pub(crate) action: AuditAction,
    pub(crate) target: Option<UserId>,
    pub(crate) details: Map<String, Json>,
}

const TARGET: &str = "target";

fn split(event: &impl Serialize) -> EventColumns {
    // Both enums serialise to {"action": .., "details": {..}} with a known action: the tests walk every variant.
    let Ok(Json::Object(mut parts)) = serde_json::to_value(event) else {
        unreachable!("an event is an object");
    };
    let action = parts
        .remove("action")
        .and_then(|action| serde_json::from_value(action).ok())
        .unwrap_or_else(|| unreachable!("an event's tag is an action"));
    let mut details = match parts.remove("details") {
        Some(Json::Object(details)) => details,
        _ => Map::new(),
    };
    let target = details
        .remove(TARGET)
        .and_then(|target| serde_json::from_value(target).ok());
    EventColumns {
        action,
        target,
        details,
    }
}

impl Change {
    pub(crate) fn to_columns(&self) -> EventColumns {
        split(self)
    }
}

impl Observation {
    pub(crate) fn to_columns(&self) -> EventColumns {
        split(self)
    }
}

impl AuditEvent {
    /// Reads an event back.
    pub(crate) fn from_columns(action: &RecordedAction, target: Option<UserId>, metadata: Option<&Json>) -> Self {
        let mut details = match metadata {
            Some(Json::Object(details)) => details.clone(),
            _ => Map::new(),
        };
        if let Some(target) = target {
            details.insert(TARGET.to_owned(), target.to_string().into());
        }
        let whole = serde_json::json!({ "action": action.name(), "details": details });
        if let Ok(change) = Change::deserialize(&whole) {
            return Self::Change(change);
        }
        match Observation::deserialize(whole) {
            Ok(observation) => Self::Observation(observation),
            Err(_) => Self::Unrecognized {
                action: action.name(),
                metadata: metadata.cloned(),
            },
        }
    }

    /// The action's text, such as `USER_JOINED`.
    pub fn action(&self) -> String {
        match self {
            Self::Change(change) => change.to_columns().action.to_value().value.into_owned(),
            Self::Observation(observation) => observation.to_columns().action.to_value().value.into_owned(),
            Self::Unrecognized { action, .. } => action.clone(),
        }
    }
}

impl From<Change> for AuditEvent {
    fn from(change: Change) -> Self {
        Self::Change(change)
    }
}

impl From<Observation> for AuditEvent {
    fn from(observation: Observation) -> Self {
        Self::Observation(observation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn one_of_each() -> Vec<AuditEvent> {
        let target = UserId::from_uuid(Uuid::from_u128(1));
        let text = || "x".to_owned();
        let kind = MediaKind::Audio;
        vec![
            Change::UserRegistered {
                target,
                provider: AuthProviderType::GitHub,
            }
            .into(),
            Change::RoomCreated { room_code: text() }.into(),
            Change::RoomStarted { by_join: true }.into(),
            Change::RoomEnded {
                duration_seconds: 1,
                closed_stays: 2,
            }
            .into(),
            Change::UserJoined {
                target: None,
                role: ParticipantRole::CoHost,
            }
            .into(),
            Change::UserLeft {
                target: Some(target),
                duration_seconds: 3,
            }
            .into(),
            Change::UserKicked {
                target,
                reason: None,
                duration_seconds: 4,
            }
            .into(),
            Observation::UserLogout {}.into(),
            Observation::UserMuted { target, kind }.into(),
            Observation::UserUnmuted { target, kind }.into(),
            Observation::AllMuted { kind }.into(),
            Observation::ScreenShareStarted {}.into(),
            Observation::ScreenShareStopped {}.into(),
            Observation::ProducerCreated {
                producer_id: text(),
                kind,
            }
            .into(),
            Observation::ProducerClosed { producer_id: text() }.into(),
            Observation::ConsumerCreated {
                consumer_id: text(),
                producer_id: text(),
            }
            .into(),
            Observation::ConsumerClosed { consumer_id: text() }.into(),
            Observation::UnauthorizedAccessAttempt { attempted: text() }.into(),
            Observation::RateLimitExceeded { limit: text() }.into(),
            Observation::SuspiciousActivity { description: text() }.into(),
        ]
    }

    #[test]
    fn every_event_reads_back_from_its_columns() {
        for event in one_of_each() {
            let columns = match &event {
                AuditEvent::Change(change) => change.to_columns(),
                AuditEvent::Observation(observation) => observation.to_columns(),
                AuditEvent::Unrecognized { .. } => unreachable!(),
            };
            assert!(!columns.details.contains_key(TARGET));
            let metadata = Json::Object(columns.details);
            let read = AuditEvent::from_columns(&columns.action.into(), columns.target, Some(&metadata));
            assert_eq!(read, event);
        }
    }

    #[test]
    fn what_is_not_known_is_kept_raw() {
        let action = RecordedAction::Unknown("ROOM_TELEPORTED".to_owned());
        let metadata = serde_json::json!({"to": "mars"});
        let read = AuditEvent::from_columns(&action, None, Some(&metadata));
        assert_eq!(read.action(), "ROOM_TELEPORTED");
        let older = AuditEvent::from_columns(&AuditAction::RoomEnded.into(), None, None);
        assert!(matches!(older, AuditEvent::Unrecognized { .. }));
    }
}
