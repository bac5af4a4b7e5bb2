//! Input that breaks a rule.

use strum::{EnumDiscriminants, EnumIter, EnumMessage, IntoStaticStr};

/// A field that breaks a rule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, serde::Serialize)]
#[error("{field} {rule}")]
pub struct Invalid {
    /// The field's name as in the schema.
    pub field: &'static str,
    /// The rule it breaks.
    #[serde(flatten)]
    pub rule: Rule,
}

/// What a field must be. Lengths count characters (Unicode scalar values), as PostgreSQL's `varchar(n)` does.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, serde::Serialize, EnumDiscriminants)]
#[serde(tag = "rule", content = "expected", rename_all = "snake_case")]
#[strum_discriminants(name(RuleName), vis(pub(crate)), derive(EnumIter, EnumMessage, IntoStaticStr))]
#[strum_discriminants(strum(serialize_all = "snake_case", prefix = "invalid_"), doc = "Which rule.")]
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
