//! Why things as they stand do not allow an operation.

use chrono::{DateTime, Utc};
use entity::{
    AuthProviderId, MediaNodeId, ParticipantId, ParticipantRole, RecordingId, RecordingStatus, RoomId, RoomStatus,
    UserId,
};
use strum::{EnumDiscriminants, EnumIter, EnumMessage, IntoStaticStr};

use crate::authority::{ActorRole, Operation};

/// What an operation was about, with the key that was asked for.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, EnumDiscriminants)]
#[cfg_attr(feature = "schemars", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
#[strum_discriminants(name(SubjectName), vis(pub(crate)), derive(EnumIter, EnumMessage, IntoStaticStr))]
#[strum_discriminants(
    strum(serialize_all = "snake_case", suffix = "_not_found"),
    doc = "What kind of thing."
)]
#[non_exhaustive]
pub enum Subject {
    /// A user.
    User(UserId),
    /// A room.
    Room(RoomId),
    /// A participation: a row of `room_participants`.
    Participant(ParticipantId),
    /// A recording.
    Recording(RecordingId),
    /// A partition of the audit log.
    Partition(String),
    /// A sign-in method: a row of `auth_providers`.
    Provider(AuthProviderId),
    /// A media server, in one of its incarnations: a row of `media_nodes`.
    MediaNode(MediaNodeId),
}

impl std::fmt::Display for Subject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::User(id) => write!(f, "user {id}"),
            Self::Room(id) => write!(f, "room {id}"),
            Self::Participant(id) => write!(f, "participation {id}"),
            Self::Recording(id) => write!(f, "recording {id}"),
            Self::Partition(name) => write!(f, "partition {name} of the audit log"),
            Self::Provider(id) => write!(f, "provider account {id}"),
            Self::MediaNode(id) => write!(f, "media node {id}"),
        }
    }
}

/// What is there already.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, serde::Serialize, EnumDiscriminants)]
#[cfg_attr(feature = "schemars", derive(schemars::JsonSchema))]
#[serde(tag = "code", rename_all = "snake_case")]
#[strum_discriminants(name(ConflictName), vis(pub(crate)), derive(EnumIter, EnumMessage, IntoStaticStr))]
#[strum_discriminants(strum(serialize_all = "snake_case"), doc = "What is there already.")]
#[non_exhaustive]
pub enum Conflict {
    /// Another user has this name, whatever its case.
    #[error("this username is taken")]
    UsernameTaken,
    /// Another user has this address, whatever its case.
    #[error("this e-mail address is taken")]
    EmailTaken,
    /// The external account belongs to somebody else. Whose it is, is nobody's business.
    #[error("this external account belongs to another user")]
    ProviderAccountTaken,
    /// The external account is linked to this very user.
    #[error("this external account is linked to user {user} already, as {provider}")]
    ProviderLinkedAlready {
        /// Whose it is.
        user: UserId,
        /// The link.
        provider: AuthProviderId,
    },
    /// No free room code was found in as many tries as the store makes; the code space is nearly full.
    #[error("no free room code was found in {tries} tries")]
    RoomCodesExhausted {
        /// How many were tried.
        tries: u32,
    },
    /// Another recording, deleted ones included, has this storage key.
    #[error("this storage key is taken")]
    StorageKeyTaken,
    /// Another recording, deleted ones included, has this egress id.
    #[error("recording {recording} has this egress id")]
    EgressIdTaken {
        /// Which.
        recording: RecordingId,
    },
    /// The consumer of the feed is not where it was said to be: another process of it has gone on, or it had begun before.
    #[error("the checkpoint of feed consumer {consumer:?} has moved")]
    CheckpointMoved {
        /// Which.
        consumer: String,
    },
    /// The user came to this room at this very microsecond before. Seen only where the clock stands still.
    #[error("user {user} joined room {room} at this very instant before")]
    SameInstant {
        /// Who.
        user: UserId,
        /// Where.
        room: RoomId,
    },
}

/// Which rule of meetings says no.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, serde::Serialize, EnumDiscriminants)]
#[cfg_attr(feature = "schemars", derive(schemars::JsonSchema))]
#[serde(tag = "code", rename_all = "snake_case")]
#[strum_discriminants(name(RejectedName), vis(pub(crate)), derive(EnumIter, EnumMessage, IntoStaticStr))]
#[strum_discriminants(strum(serialize_all = "snake_case"), doc = "Which rule says no.")]
#[non_exhaustive]
pub enum Rejected {
    /// The room's status does not allow it: it is over, called off, not yet begun, or running.
    #[error("room {room} is {status:?}")]
    RoomStatus {
        /// Which.
        room: RoomId,
        /// Its status.
        status: RoomStatus,
    },
    /// Every seat is taken.
    #[error("room {room} is full: {capacity} of {capacity} seats are taken")]
    RoomFull {
        /// Which.
        room: RoomId,
        /// Its seats.
        capacity: i32,
    },
    /// The user is present already; this is the seat.
    #[error("user {user} is present in room {room} already")]
    AlreadyPresent {
        /// Who.
        user: UserId,
        /// Where.
        room: RoomId,
        /// The current participation.
        seat: ParticipantId,
        /// Its role.
        role: ParticipantRole,
        /// Since when.
        since: DateTime<Utc>,
    },
    /// The user is banned.
    #[error("user {user} is banned from room {room}")]
    Banned {
        /// Who.
        user: UserId,
        /// Where.
        room: RoomId,
        /// Until when; none means for good.
        until: Option<DateTime<Utc>>,
    },
    /// More are present than the room is to have seats.
    #[error("{present} are present in room {room}, more than the seats it is to have")]
    CapacityInUse {
        /// Which.
        room: RoomId,
        /// How many are present.
        present: i32,
    },
    /// The room is theirs already.
    #[error("user {user} owns room {room} already")]
    AlreadyOwner {
        /// Who.
        user: UserId,
        /// Which.
        room: RoomId,
    },
    /// The user is present with that role already.
    #[error("user {user} is {role:?} in room {room} already")]
    AlreadyRole {
        /// Who.
        user: UserId,
        /// Where.
        room: RoomId,
        /// As what.
        role: ParticipantRole,
    },
    /// No ban of the user stands.
    #[error("user {user} is not banned from room {room}")]
    NotBanned {
        /// Who.
        user: UserId,
        /// Where.
        room: RoomId,
    },
    /// The user is not present.
    #[error("user {user} is not present in room {room}")]
    NotPresent {
        /// Who.
        user: UserId,
        /// Where.
        room: RoomId,
    },
    /// The account is deactivated.
    #[error("user {user} is deactivated")]
    UserInactive {
        /// Who.
        user: UserId,
    },
    /// It needs an account, and the user is a guest.
    #[error("user {user} is a guest, and this needs an account")]
    AccountRequired {
        /// Who.
        user: UserId,
        /// The room that is not open to guests, when they were to come in.
        room: Option<RoomId>,
    },
    /// The account is active.
    #[error("user {user} is active")]
    UserActive {
        /// Who.
        user: UserId,
    },
    /// Without this sign-in method, the user could not sign in any more.
    #[error("provider account {provider} is the last credential of user {user}")]
    LastCredential {
        /// Whose.
        user: UserId,
        /// The one that must stay.
        provider: AuthProviderId,
    },
    /// The e-mail address is not, or no longer, that of the user.
    #[error("this is not the e-mail address of user {user}")]
    EmailNotCurrent {
        /// Who.
        user: UserId,
    },
    /// The user's e-mail address was verified before.
    #[error("the e-mail address of user {user} is verified already")]
    AlreadyVerified {
        /// Who.
        user: UserId,
    },
    /// Only the owner comes in as HOST; others are made so by a hand-over.
    #[error("only the owner of room {room} may join it as HOST")]
    HostSeat {
        /// Which.
        room: RoomId,
    },
    /// The room may not be recorded.
    #[error("room {room} is not to be recorded")]
    NotRecordable {
        /// Which.
        room: RoomId,
    },
    /// The recording's status does not allow it.
    #[error("recording {recording} is {status:?}")]
    RecordingStatus {
        /// Which.
        recording: RecordingId,
        /// Its status.
        status: RecordingStatus,
    },
    /// It was tried again as often as the store's settings allow.
    #[error("recording {recording} failed and was tried again {retries} times, which is the limit")]
    RetriesExhausted {
        /// Which.
        recording: RecordingId,
        /// How often it was tried again.
        retries: i32,
    },
    /// Its time has come: the next sweep would delete it again, or one has handed out its file to be purged.
    #[error("recording {recording} expired at {expires_at}")]
    RecordingExpired {
        /// Which.
        recording: RecordingId,
        /// When.
        expires_at: DateTime<Utc>,
    },
    /// Its file was handed out to be purged, and may be gone.
    #[error("the file of recording {recording} was handed out to be purged")]
    FileHandedOut {
        /// Which.
        recording: RecordingId,
    },
    /// The actor may not do this. UNAUTHORIZED_ACCESS_ATTEMPT was appended to the audit log.
    #[error("{operation} is not allowed to {actor_role}")]
    NotAllowed {
        /// What was asked.
        operation: Operation,
        /// What the actor is in this room, or to this user.
        actor_role: ActorRole,
        /// In which room.
        room: Option<RoomId>,
        /// To whom it was to be done.
        user: Option<UserId>,
    },
    /// The partition has events that must still be kept.
    #[error("events of up to {until} are asked for, and those from {kept_from} on are kept")]
    WithinRetention {
        /// The end of the partition.
        until: DateTime<Utc>,
        /// The beginning of what is kept.
        kept_from: DateTime<Utc>,
    },
    /// The media node is lost: it serves nobody any more. A server that is there again registers anew.
    #[error("media node {node} was lost at {since}")]
    NodeLost {
        /// Which.
        node: MediaNodeId,
        /// Since when.
        since: DateTime<Utc>,
    },
    /// The host and the owner cannot be kicked or banned, and nobody can do it to themself.
    #[error("user {user} cannot be the target of {operation}")]
    Protected {
        /// What was asked.
        operation: Operation,
        /// Whom it would hit.
        user: UserId,
    },
}
