//! What can go wrong, as values that a service can answer its client with.

use std::path::PathBuf;
use std::time::Duration;

use chrono::{DateTime, Utc};
use entity::{
    AuthProviderId, MediaNodeId, ParticipantId, ParticipantRole, RecordingId, RecordingStatus, RoomId, RoomStatus,
    UserId,
};

use crate::authority::{ActorRole, Operation};

/// The newest migration that this build needs. A test holds it equal to the newest one there is.
pub const REQUIRED_MIGRATION: &str = "m20261130_000008_personal_data_views";

/// The store's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why an operation did not happen. When it is returned nothing was changed, save where [`Error::Indeterminate`] says
/// that nobody knows. No variant carries a row's content: password hashes and tokens cannot get into a log through one.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The input breaks a rule; the database was not asked.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// What the operation is about does not exist, or is deleted.
    #[error("{0} does not exist")]
    NotFound(Subject),
    /// Something else is there already.
    #[error(transparent)]
    Conflict(#[from] Conflict),
    /// The rules of meetings say no, as things stand now.
    #[error(transparent)]
    Rejected(#[from] Rejected),
    /// It did not happen and may well work when tried again; the store has tried for a while itself.
    #[error("the database could not do it now: {reason}")]
    Transient {
        /// What stood in the way.
        reason: String,
    },
    /// It took longer than [`crate::ConnectSettings`] allows, was given up and changed nothing. The store does not try again by
    /// itself: what held it up may hold it up again.
    #[error("{during} was given up, and changed nothing: {limit}")]
    TimedOut {
        /// The operation, `begin` or `commit`.
        during: &'static str,
        /// What took too long.
        limit: TimeLimit,
    },
    /// A file that the store was to write or read.
    #[error("{}: {reason}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What the operating system says.
        reason: String,
    },
    /// The queue of an audit writer has no room for another event now; nothing was taken.
    #[error("the queue of {capacity} audit events is full")]
    QueueFull {
        /// How many events it holds.
        capacity: usize,
    },
    /// A subscriber of the feed was too slow, and has lost its place in the process: subscribe again from the position of the last event
    /// that was worked off. Nothing is lost.
    #[error("the subscriber was too slow: {capacity} batches of events waited for it")]
    SlowSubscriber {
        /// How many batches may wait.
        capacity: usize,
    },
    /// The connection was lost while a change was under way: it may have happened or not. Look before trying again.
    #[error("the connection was lost during {during}; whether it took effect is unknown")]
    Indeterminate {
        /// The operation, or `commit`.
        during: &'static str,
    },
    /// The unit of work had failed before, or is still in use elsewhere, and was rolled back instead of committed.
    #[error("the unit of work was rolled back: {reason}")]
    Aborted {
        /// Why.
        reason: &'static str,
    },
    /// The database has no schema of ours, or an older one. Run the migrations.
    #[error("the database lacks migration {missing}: run `migration up`")]
    Unmigrated {
        /// The newest migration that this build needs.
        missing: &'static str,
    },
    /// The database is set to forget commits in a crash. Change the setting, or ask for `Durability::AsConfigured`.
    #[error("the database may lose commits in a crash: {setting}")]
    NotDurable {
        /// The setting and its value.
        setting: String,
    },
    /// A variable of the environment has no value of its kind. Which it has is not shown.
    #[error("the variable {name} must be {expected}")]
    Setting {
        /// Its name.
        name: String,
        /// What it must be.
        expected: &'static str,
    },
    /// The address of the database is not one this build can use.
    #[error("cannot use this database address: {reason}")]
    Address {
        /// What is wrong with it; without user or password.
        reason: String,
    },
    /// The server does not answer, or refuses us.
    #[error("cannot reach the database at {server}: {reason}")]
    Unreachable {
        /// Host, port and database, or the file; without user or password.
        server: String,
        /// What the driver said.
        reason: String,
    },
    /// This store was given no key for provider tokens, so it neither stores nor opens any.
    #[error("no key for provider tokens is configured")]
    NoTokenKey,
    /// A stored token does not open. Neither the text nor the token is shown.
    #[error("{table}.{column} of row {row} cannot be opened: {reason}")]
    UnreadableToken {
        /// Its table.
        table: &'static str,
        /// Its column.
        column: &'static str,
        /// Its row.
        row: AuthProviderId,
        /// Why.
        reason: Unreadable,
    },
    /// A stored value is not what its column should hold.
    #[error("the database holds a value that cannot be read: {detail}")]
    Corrupt {
        /// Which, as far as known.
        detail: String,
    },
    /// The database refused for a reason that this store does not expect.
    #[error("the database refused: {message}")]
    Backend {
        /// The server's sentence, without the row.
        message: String,
        /// SQLSTATE or SQLite's extended result code.
        code: Option<String>,
        /// The violated constraint or trigger, if one was named.
        constraint: Option<String>,
    },
}

impl Error {
    /// True when trying again, with nothing changed, may succeed and cannot do harm.
    pub fn is_retryable(&self) -> bool {
        matches!(
            self,
            Self::Transient { .. }
                | Self::TimedOut { .. }
                | Self::Unreachable { .. }
                | Self::QueueFull { .. }
                | Self::SlowSubscriber { .. }
        )
    }

    pub(crate) fn busy(what: &str, waited: Duration) -> Self {
        Self::Transient {
            reason: format!("{what} was not free within {} ms", waited.as_millis()),
        }
    }
}

/// A limit of [`crate::ConnectSettings`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TimeLimit {
    /// `lock_timeout`: somebody else holds what it needs.
    #[error("it waited too long for a lock")]
    Lock,
    /// `statement_timeout`, or somebody cancelled it on the server.
    #[error("it ran too long, or was cancelled on the server")]
    Statement,
    /// `answer_grace`, or for BEGIN `acquire_timeout`: the server, the network or a pooler kept silent.
    #[error("no answer came in time")]
    Answer,
}

/// A field that breaks a rule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field} {rule}")]
pub struct Invalid {
    /// The field's name as in the schema.
    pub field: &'static str,
    /// The rule it breaks.
    pub rule: Rule,
}

/// What a field must be. Lengths count characters (Unicode scalar values), as PostgreSQL's `varchar(n)` does.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Rule {
    /// Something but white space.
    #[error("must not be empty")]
    NotEmpty,
    /// At most so many characters.
    #[error("must have at most {max} characters and has {actual}")]
    MaxLength {
        /// The limit.
        max: usize,
        /// What was given.
        actual: usize,
    },
    /// At most so many bytes.
    #[error("must have at most {max} bytes and has {actual}")]
    MaxBytes {
        /// The limit.
        max: usize,
        /// What was given.
        actual: usize,
    },
    /// No control characters; a description may have line breaks and tabs.
    #[error("must not contain control characters")]
    NoControlCharacters,
    /// No such character.
    #[error("must not contain {0:?}")]
    Without(char),
    /// `name@domain` of RFC 5321.
    #[error("must be an e-mail address")]
    EmailAddress,
    /// The output of a password hash function in its `$id$…` form, never a password.
    #[error(
        "must be what a password hash function puts out: `$` and its name first, at least 8 characters, no white space"
    )]
    PasswordHash,
    /// JSON that is nested no deeper.
    #[error("must be nested at most {0} levels deep")]
    MaxDepth(usize),
    /// A JSON object.
    #[error("must be a JSON object")]
    JsonObject,
    /// A number not below this.
    #[error("must be at least {0}")]
    AtLeast(i64),
    /// A number not above this.
    #[error("must be at most {0}")]
    AtMost(i64),
    /// A time after that of the other field.
    #[error("must be after {0}")]
    After(&'static str),
    /// A time not after this.
    #[error("must not be after {0}")]
    NotAfter(&'static str),
    /// One of these.
    #[error("must be one of {0}")]
    OneOf(&'static str),
    /// A time in the years 1970 to 9999.
    #[error("must lie in the years 1970 to 9999")]
    Year,
    /// Only together with the other field.
    #[error("needs {0}")]
    Needs(&'static str),
    /// Names that begin so are given by the store.
    #[error("must not begin with {0:?}")]
    Reserved(&'static str),
    /// An account elsewhere, not the local one.
    #[error("must be an external provider")]
    ExternalProvider,
    /// A key's id: 1 to 32 of A-Z, a-z, 0-9, `-` and `_`.
    #[error("must be 1 to 32 letters, digits, dashes and underscores")]
    KeyId,
    /// 32 bytes, in base64.
    #[error("must be 32 bytes in base64")]
    KeyBytes,
    /// Another one in the list has it.
    #[error("must not be there twice")]
    Unique,
    /// A cursor that this list gave.
    #[error("must be a cursor that this list returned")]
    Cursor,
    /// A text that a position in the feed was written as, by this kind of database.
    #[error("must be a position of this database's feed")]
    FeedPosition,
}

/// What an operation was about, with the key that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each is the kind and the key")]
pub enum Subject {
    User(UserId),
    Room(RoomId),
    /// A participation: a row of `room_participants`.
    Participant(ParticipantId),
    Recording(RecordingId),
    Partition(String),
    /// A sign-in method: a row of `auth_providers`.
    Provider(AuthProviderId),
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
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
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
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
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

/// Why a stored token does not open. The text itself is never shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unreadable {
    /// It does not have the form of an encrypted token.
    #[error("it is not an encrypted token")]
    NotSealed,
    /// The key ring has no key with the id that stands in it.
    #[error("its key is not on the key ring")]
    UnknownKey,
    /// It was altered, copied from another place, or sealed by another key of the same id.
    #[error("it was altered, is not from this place, or is under another key of that id")]
    NotAuthentic,
}
