//! Errors for machines: a stable code for each error and reason, what kind it is, and its values as JSON. docs/ERRORS.md has the table.

use serde::ser::SerializeStruct;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Map, Value};
use strum::{EnumMessage, IntoEnumIterator};

use super::invalid::RuleName;
use super::refusal::{ConflictName, RejectedName, SubjectName};
use super::{Error, ErrorName};

/// What a caller can do about an error. The words in JSON are those of the variants, in small letters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schemars", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum ErrorKind {
    /// The input breaks a rule: correct it.
    Input,
    /// What was asked for is not there, or deleted.
    Missing,
    /// Things are not as the operation needs them, or something else is in its place: look, and ask for something else.
    Conflict,
    /// This actor or this user may not do it, whatever they change about the request.
    Forbidden,
    /// Nothing was done, and it may work when it is tried again, in a while.
    Retry,
    /// Whether it was done is unknown: look before trying again.
    Unknown,
    /// A fault of set-up, schema or server: somebody has to mend it.
    Fault,
}

impl ErrorKind {
    /// The status of RFC 9110 that fits: 422, 404, 409, 403, 503 and, for what is unknown and for faults, 500. With 503 a service sends
    /// `Retry-After`.
    pub const fn http_status(self) -> u16 {
        match self {
            Self::Input => 422,
            Self::Missing => 404,
            Self::Conflict => 409,
            Self::Forbidden => 403,
            Self::Retry => 503,
            Self::Unknown | Self::Fault => 500,
        }
    }

    /// Whether a client may be shown the message and the details. Those of the other kinds speak of the server, its address and its
    /// schema: they belong into a log, and the client gets the code alone.
    pub const fn is_for_clients(self) -> bool {
        matches!(self, Self::Input | Self::Missing | Self::Conflict | Self::Forbidden)
    }
}

/// A code that [`Error::code`] can give.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schemars", derive(schemars::JsonSchema))]
pub struct ErrorCode {
    /// The code.
    pub code: &'static str,
    /// Its kind.
    pub kind: ErrorKind,
    /// What it means, in a sentence or two.
    pub meaning: String,
}

/// Every code, in the order of docs/ERRORS.md: broken rules, missing things, conflicts, refusals, the rest. For documents and
/// descriptions of APIs.
pub fn codes() -> Vec<ErrorCode> {
    let rest = ErrorName::iter().filter(|name| !name.has_reasons());
    let mut all = all_of(|_: RuleName| ErrorKind::Input);
    all.extend(all_of(|_: SubjectName| ErrorKind::Missing));
    all.extend(all_of(ConflictName::kind));
    all.extend(all_of(RejectedName::kind));
    all.extend(rest.map(|name| one(name, name.kind())));
    all
}

fn all_of<N: IntoEnumIterator + EnumMessage + Into<&'static str> + Copy>(
    kind: impl Fn(N) -> ErrorKind,
) -> Vec<ErrorCode> {
    N::iter().map(|name| one(name, kind(name))).collect()
}

fn one<N: EnumMessage + Into<&'static str>>(name: N, kind: ErrorKind) -> ErrorCode {
    ErrorCode {
        kind,
        meaning: name.get_documentation().unwrap_or_default().trim().replace('\n', " "),
        code: name.into(),
    }
}

impl ErrorName {
    /// Its code and kind are those of a reason within it.
    fn has_reasons(self) -> bool {
        matches!(self, Self::Invalid | Self::NotFound | Self::Conflict | Self::Rejected)
    }

    fn kind(self) -> ErrorKind {
        match self {
            Self::Invalid => ErrorKind::Input,
            Self::NotFound => ErrorKind::Missing,
            Self::Conflict | Self::Rejected => ErrorKind::Conflict,
            Self::Transient | Self::TimedOut | Self::QueueFull | Self::SlowSubscriber | Self::Unreachable => {
                ErrorKind::Retry
            }
            Self::Indeterminate => ErrorKind::Unknown,
            Self::File
            | Self::Aborted
            | Self::Unmigrated
            | Self::NotDurable
            | Self::Setting
            | Self::Address
            | Self::NoTokenKey
            | Self::UnreadableToken
            | Self::Corrupt
            | Self::OwnSql
            | Self::Backend => ErrorKind::Fault,
        }
    }
}

impl ConflictName {
    fn kind(self) -> ErrorKind {
        match self {
            Self::RoomCodesExhausted => ErrorKind::Fault,
            Self::UsernameTaken
            | Self::EmailTaken
            | Self::ProviderAccountTaken
            | Self::ProviderLinkedAlready
            | Self::StorageKeyTaken
            | Self::EgressIdTaken
            | Self::CheckpointMoved
            | Self::SameInstant => ErrorKind::Conflict,
        }
    }
}

impl RejectedName {
    fn kind(self) -> ErrorKind {
        match self {
            Self::Banned
            | Self::UserInactive
            | Self::AccountRequired
            | Self::HostSeat
            | Self::NotRecordable
            | Self::NotAllowed
            | Self::Protected => ErrorKind::Forbidden,
            Self::RoomStatus
            | Self::RoomFull
            | Self::AlreadyPresent
            | Self::CapacityInUse
            | Self::AlreadyOwner
            | Self::AlreadyRole
            | Self::NotBanned
            | Self::NotPresent
            | Self::UserActive
            | Self::LastCredential
            | Self::EmailNotCurrent
            | Self::AlreadyVerified
            | Self::RecordingStatus
            | Self::RetriesExhausted
            | Self::RecordingExpired
            | Self::FileHandedOut
            | Self::WithinRetention
            | Self::NodeLost => ErrorKind::Conflict,
        }
    }
}

impl Error {
    /// The error's stable name, or that of the reason within it: `room_full`, `user_not_found`, `invalid_max_length`, `transient`. Codes are
    /// kept when variants of this type are renamed; [`codes`] lists them.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Invalid(invalid) => RuleName::from(&invalid.rule).into(),
            Self::NotFound(subject) => SubjectName::from(subject).into(),
            Self::Conflict(conflict) => ConflictName::from(conflict).into(),
            Self::Rejected(rejected) => RejectedName::from(rejected).into(),
            other => ErrorName::from(other).into(),
        }
    }

    /// What the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Conflict(conflict) => ConflictName::from(conflict).kind(),
            Self::Rejected(rejected) => RejectedName::from(rejected).kind(),
            other => ErrorName::from(other).kind(),
        }
    }

    /// [`ErrorKind::http_status`] of its kind.
    pub fn http_status(&self) -> u16 {
        self.kind().http_status()
    }

    /// The values of the error by the names of its fields: ids, numbers, times. Of a broken rule the `field`, the `rule` and what was
    /// `expected`; of what is missing its kind and id. Empty where there are none.
    pub fn details(&self) -> Map<String, Value> {
        let reason = match self {
            Self::Conflict(conflict) => serde_json::to_value(conflict),
            Self::Rejected(rejected) => serde_json::to_value(rejected),
            // The derived one, of the variant's name and what is in it.
            other => Self::serialize(other, serde_json::value::Serializer).map(|mut named| match &mut named {
                Value::Object(variant) => variant.values_mut().next().map(Value::take).unwrap_or_default(),
                _ => Value::Null,
            }),
        };
        match reason {
            Ok(Value::Object(mut values)) => {
                if matches!(self, Self::Conflict(_) | Self::Rejected(_)) {
                    values.remove("code");
                }
                values
            }
            _ => Map::new(),
        }
    }
}

/// `{"code": "room_full", "kind": "conflict", "message": "room … is full: …", "details": {"room": "…", "capacity": 12}}`. Of kinds that are
/// not [for clients](ErrorKind::is_for_clients) too: this is for logs and queues as well.
impl Serialize for Error {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut error = serializer.serialize_struct("Error", 4)?;
        error.serialize_field("code", self.code())?;
        error.serialize_field("kind", &self.kind())?;
        error.serialize_field("message", &self.to_string())?;
        error.serialize_field("details", &self.details())?;
        error.end()
    }
}

#[cfg(feature = "schemars")]
impl schemars::JsonSchema for Error {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Error".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "object",
            "properties": {
                "code": { "type": "string", "enum": codes().iter().map(|error| error.code).collect::<Vec<_>>() },
                "kind": generator.subschema_for::<ErrorKind>(),
                "message": { "type": "string" },
                "details": { "type": "object" },
            },
            "required": ["code", "kind", "message", "details"],
        })
    }
}

#[cfg(test)]
#[path = "code_tests.rs"]
mod tests;
