//! The audit log's events, typed. Each becomes an action, a target and metadata, and reads back from them.
//!
//! There are two kinds, so that an audit row of a change cannot be written without the change: a [`Change`] is appended by
//! the operation that makes it and by nothing else; an [`Observation`] changes no table, and `audit().append` takes it.

use std::net::IpAddr;

use chrono::{DateTime, Utc};
use entity::{
    AuditAction, AuthProviderType, MediaNodeId, ParticipantId, ParticipantRole, RecordedAction, RecordingId, UserId,
};
use sea_orm::ActiveEnum;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};

use crate::authority::ActorRole;
use crate::error::{Invalid, Rule};
use crate::input;

/// Something the store did.
///
/// `target` is the user that it was done to, where that is not the actor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemars", derive(schemars::JsonSchema))]
#[serde(tag = "action", content = "details", rename_all = "SCREAMING_SNAKE_CASE")]
#[non_exhaustive]
#[expect(missing_docs, reason = "fields are named after the columns they are about")]
pub enum Change {
    UserRegistered {
        target: UserId,
        provider: AuthProviderType,
    },
    /// Somebody without an account was let in, to the rooms that ask for none.
    GuestAdmitted {
        target: UserId,
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
        /// How many were still present; their participations ended with the room, each with a [`Change::UserLeft`] before this.
        ended_participations: i32,
    },
    UserJoined {
        /// Who came, if somebody else (the system) seated them.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        target: Option<UserId>,
        /// The participation that began.
        stay: ParticipantId,
        role: ParticipantRole,
    },
    /// A participation ended, other than by a kick or a ban.
    UserLeft {
        /// Who left, if somebody else (the system, whoever ended the room) saw to it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        target: Option<UserId>,
        /// The participation that ended.
        stay: ParticipantId,
        #[serde(default)]
        reason: LeaveReason,
        duration_seconds: i32,
    },
    /// A participation that had ended was found to have ended earlier.
    UserStayCorrected {
        /// Whose it was, if the system found it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        target: Option<UserId>,
        /// Which.
        stay: ParticipantId,
        /// How long it was.
        duration_seconds: i32,
    },
    UserKicked {
        target: UserId,
        /// The participation that ended.
        stay: ParticipantId,
        #[serde(default)]
        reason: Option<String>,
        duration_seconds: i32,
    },
    UserLoginSuccess {
        target: UserId,
        provider: AuthProviderType,
    },
    /// The fields' names; their values are nobody's business but the user's.
    UserProfileChanged {
        target: UserId,
        fields: Vec<String>,
    },
    UserPasswordChanged {
        target: UserId,
    },
    UserVerified {
        target: UserId,
    },
    UserDeactivated {
        target: UserId,
        ended_participations: i32,
    },
    UserReactivated {
        target: UserId,
    },
    /// The right to be forgotten; the numbers are those of the receipt.
    UserDeleted {
        target: UserId,
        providers_removed: i32,
        rooms_ended: i32,
        rooms_cancelled: i32,
        ended_participations: i32,
        recordings_deleted: i32,
    },
    UserDataExported {
        target: UserId,
    },
    ProviderLinked {
        target: UserId,
        provider: AuthProviderType,
    },
    ProviderUnlinked {
        target: UserId,
        provider: AuthProviderType,
    },
    ProviderTokensStored {
        target: UserId,
        provider: AuthProviderType,
    },
    ProviderTokensReencrypted {
        target: UserId,
        provider: AuthProviderType,
        /// Id of the key that they are under now.
        key: String,
    },
    RoomUpdated {
        fields: Vec<String>,
    },
    RoomCancelled {},
    RoomOwnershipTransferred {
        /// The new owner.
        target: UserId,
        from: UserId,
    },
    RoomDeleted {},
    RoomRestored {},
    UserBanned {
        target: UserId,
        #[serde(default)]
        reason: Option<String>,
        #[serde(default)]
        expires_at: Option<DateTime<Utc>>,
        /// Whether it put them out.
        was_present: bool,
        /// The participation that it ended, if it put them out.
        #[serde(default)]
        stay: Option<ParticipantId>,
    },
    UserUnbanned {
        target: UserId,
        /// It had run out, and was lifted when they came back or were banned anew.
        expired: bool,
    },
    /// PARTICIPANT to CO_HOST.
    RolePromotion {
        target: UserId,
        from: ParticipantRole,
        to: ParticipantRole,
    },
    /// CO_HOST to PARTICIPANT.
    RoleDemotion {
        target: UserId,
        from: ParticipantRole,
        to: ParticipantRole,
    },
    /// The host role was handed over.
    RoleChanged {
        target: UserId,
        from: ParticipantRole,
        to: ParticipantRole,
        /// Who was HOST before and is CO_HOST now, if one was present.
        #[serde(default)]
        former_host: Option<UserId>,
    },
    RecordingStarted {
        recording: RecordingId,
    },
    RecordingProgressed {
        recording: RecordingId,
    },
    RecordingStopped {
        recording: RecordingId,
        /// It stopped because the room ended.
        with_room: bool,
    },
    RecordingFailed {
        recording: RecordingId,
        message: String,
        /// A sweep found that it made no progress.
        stuck: bool,
    },
    RecordingProcessing {
        recording: RecordingId,
    },
    RecordingReady {
        recording: RecordingId,
    },
    RecordingRetried {
        recording: RecordingId,
        retry_count: i32,
    },
    RecordingDeleted {
        recording: RecordingId,
        /// Its time had come, by `expires_at`.
        expired: bool,
    },
    RecordingRestored {
        recording: RecordingId,
    },
    RecordingExpiryChanged {
        recording: RecordingId,
        #[serde(default)]
        expires_at: Option<DateTime<Utc>>,
    },
    /// The media server reported something of a recording that changed it, other than what the events above say: that its egress has this
    /// id, or what the file measures.
    RecordingReported {
        recording: RecordingId,
        egress_id: String,
        phase: EgressPhase,
    },
    /// A media server is there. Its former incarnation, if it had one, is lost.
    MediaNodeRegistered {
        node: MediaNodeId,
        name: String,
    },
    /// A media server is gone. Those whom it served are told of by a [`Change::UserLeft`] each, when a sweep has come to them.
    MediaNodeLost {
        node: MediaNodeId,
        name: String,
        reason: NodeLossReason,
    },
    /// Part of the audit log was exported; the fields are those of its filter. The room, if it was one room's, is the event's.
    AuditExported {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        target: Option<UserId>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        actor: Option<UserId>,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        actions: Vec<AuditAction>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        since: Option<DateTime<Utc>>,
        until: DateTime<Utc>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        address: Option<IpAddr>,
        /// It went on where an earlier one had stopped.
        resumed: bool,
    },
    /// Events of before `until` were written to a file, which was verified, and are no longer in the database.
    AuditArchived {
        /// The table that held them.
        partition: String,
        /// None where the table had no lower bound.
        #[serde(default)]
        since: Option<DateTime<Utc>>,
        until: DateTime<Utc>,
        events: i64,
        /// Of the file, in hexadecimal digits.
        sha256: String,
    },
}

/// Stands in a change for the participation that only the database knows, see `Event::computed`.
pub(crate) const UNKNOWN_STAY: ParticipantId = ParticipantId::from_uuid(uuid::Uuid::nil());

/// Stands in a change for the recording that only the database knows.
pub(crate) const UNKNOWN_RECORDING: RecordingId = RecordingId::from_uuid(uuid::Uuid::nil());

/// Why a participation ended, of a [`Change::UserLeft`]. A kick and a ban have events of their own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schemars", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum LeaveReason {
    /// They left.
    #[default]
    Left,
    /// Their connection was lost, and nobody came back for the seat.
    LostConnection,
    /// They went on elsewhere: another device, another room.
    Moved,
    /// The room ended.
    RoomEnded,
    /// Their account was deactivated.
    Deactivated,
    /// They were erased.
    Erased,
    /// The media node that served them is gone.
    NodeLost,
    /// A comparison with who is really there found that they are not.
    Reconciled,
}

/// Where a media server's recorder stood when it reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schemars", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the four phases, see recordings::EgressState")]
pub enum EgressPhase {
    Starting,
    Active,
    Complete,
    Failed,
}

/// Why a media node is lost, of a [`Change::MediaNodeLost`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schemars", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum NodeLossReason {
    /// It gave no sign of life for too long.
    Silent,
    /// It said that it goes out of service.
    Retired,
    /// Another incarnation of its name registered.
    Replaced,
}

/// Something that happened and changed no table. A NUL in a text is kept as U+FFFD, because PostgreSQL cannot keep it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemars", derive(schemars::JsonSchema))]
#[serde(tag = "action", content = "details", rename_all = "SCREAMING_SNAKE_CASE")]
#[non_exhaustive]
#[expect(missing_docs, reason = "fields are named after what the media server calls them")]
pub enum Observation {
    /// Never with a password, also not a wrong one.
    UserLoginFailed {
        /// The user, if there is one by that name.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        target: Option<UserId>,
        /// What was typed as name or address. It is cut to 255 characters and loses its control characters.
        login: String,
    },
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
    /// The store appends this when it refuses an operation for want of authority; services may for what they refuse.
    UnauthorizedAccessAttempt {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        target: Option<UserId>,
        /// What was tried, such as `kick`.
        attempted: String,
        /// What the actor was, such as `participant`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        actor_role: Option<ActorRole>,
    },
    RateLimitExceeded {
        /// Which limit.
        limit: String,
    },
    SuspiciousActivity {
        description: String,
    },
    /// Somebody who operates the platform looked at personal data of others, such as a page of the console.
    PersonalDataViewed {
        /// Whose, if it was one user's.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        target: Option<UserId>,
        /// By what, such as `console: person`. Not what was looked for: a name that was typed would be one more personal datum.
        by: String,
    },
}

/// What a media event is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemars", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the three kinds of media")]
pub enum MediaKind {
    Audio,
    Video,
    Screen,
}

/// An event as it is read from the audit log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemars", derive(schemars::JsonSchema))]
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

/// The most bytes that an observation's details may have as JSON. Changes need no such limit: what goes into theirs is limited
/// where it comes in.
pub const MAX_DETAILS: usize = 32 * 1024;

impl Observation {
    /// Of what a service wants to append, whose texts may be of any length.
    pub(crate) fn checked_columns(&self) -> Result<EventColumns, Invalid> {
        let columns = self.to_columns();
        // Names and numbers become JSON without fail.
        let actual = serde_json::to_vec(&columns.details).map_or(usize::MAX, |json| json.len());
        if actual > MAX_DETAILS {
            return Err(Invalid {
                field: "details",
                rule: Rule::MaxBytes {
                    max: MAX_DETAILS,
                    actual,
                },
            });
        }
        Ok(columns)
    }

    pub(crate) fn to_columns(&self) -> EventColumns {
        if let Self::UserLoginFailed { target, login } = self {
            let (target, login) = (*target, input::typed_login(login));
            return split(&Self::UserLoginFailed { target, login });
        }
        split(self)
    }
}

impl AuditEvent {
    /// Reads an event back.
    pub(crate) fn from_columns(action: &RecordedAction, target: Option<UserId>, metadata: Option<&Json>) -> Self {
        let unrecognized = || Self::Unrecognized {
            action: action.name(),
            metadata: metadata.cloned(),
        };
        let RecordedAction::Known(known) = action else {
            return unrecognized();
        };
        let mut details = match metadata {
            Some(Json::Object(details)) => details.clone(),
            _ => Map::new(),
        };
        if let Some(target) = target {
            details.insert(TARGET.to_owned(), target.to_string().into());
        }
        let whole = serde_json::json!({ "action": action.name(), "details": details });
        // To try both would cost more than all else about an event: what is not the one is first told, with all the names there are.
        let read = if is_observed(*known) {
            Observation::deserialize(whole).map(Self::Observation)
        } else {
            Change::deserialize(whole).map(Self::Change)
        };
        read.unwrap_or_else(|_| unrecognized())
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

/// Whether an action is that of an [`Observation`], not of a [`Change`].
fn is_observed(action: AuditAction) -> bool {
    matches!(
        action,
        AuditAction::UserLoginFailed
            | AuditAction::UserLogout
            | AuditAction::UserMuted
            | AuditAction::UserUnmuted
            | AuditAction::AllMuted
            | AuditAction::ScreenShareStarted
            | AuditAction::ScreenShareStopped
            | AuditAction::ProducerCreated
            | AuditAction::ProducerClosed
            | AuditAction::ConsumerCreated
            | AuditAction::ConsumerClosed
            | AuditAction::UnauthorizedAccessAttempt
            | AuditAction::RateLimitExceeded
            | AuditAction::SuspiciousActivity
            | AuditAction::PersonalDataViewed
    )
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
#[path = "event_tests.rs"]
mod tests;
