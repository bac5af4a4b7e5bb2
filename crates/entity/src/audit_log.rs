//! `audit_logs`: what happened. Rows are written once; triggers refuse every change.

use sea_orm::entity::prelude::*;
use sea_orm::sea_query::{ArrayType, Nullable, StringLen, Value, ValueType, ValueTypeErr};
use sea_orm::{ActiveEnum, ColIdx, QueryResult, TryGetError, TryGetable};

use crate::{AuditLogId, ClientAddress, RoomId, UserId};

/// What happened, the type `audit_action`: the 31 of the base schema, and those that later migrations added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EnumIter, DeriveActiveEnum, serde::Serialize, serde::Deserialize)]
#[cfg_attr(feature = "schemars", derive(schemars::JsonSchema))]
#[sea_orm(
    rs_type = "Enum",
    db_type = "Enum",
    enum_name = "audit_action",
    rename_all = "SCREAMING_SNAKE_CASE"
)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[expect(missing_docs, reason = "the names are the contract and say it")]
pub enum AuditAction {
    UserRegistered,
    UserLoginSuccess,
    UserLoginFailed,
    UserLogout,
    UserDeleted,
    RoomCreated,
    RoomStarted,
    RoomEnded,
    RoomCancelled,
    UserJoined,
    UserLeft,
    UserKicked,
    UserBanned,
    RoleChanged,
    RolePromotion,
    RoleDemotion,
    UserMuted,
    UserUnmuted,
    AllMuted,
    ScreenShareStarted,
    ScreenShareStopped,
    RecordingStarted,
    RecordingStopped,
    RecordingDeleted,
    ProducerCreated,
    ProducerClosed,
    ConsumerCreated,
    ConsumerClosed,
    UnauthorizedAccessAttempt,
    RateLimitExceeded,
    SuspiciousActivity,
    // Added by m20261122_000002.
    UserProfileChanged,
    UserPasswordChanged,
    UserVerified,
    UserDeactivated,
    UserReactivated,
    UserDataExported,
    ProviderLinked,
    ProviderUnlinked,
    ProviderTokensStored,
    ProviderTokensReencrypted,
    RoomUpdated,
    RoomOwnershipTransferred,
    RoomDeleted,
    RoomRestored,
    UserUnbanned,
    UserStayCorrected,
    RecordingProgressed,
    RecordingFailed,
    RecordingProcessing,
    RecordingReady,
    RecordingRetried,
    RecordingRestored,
    RecordingExpiryChanged,
    RecordingReported,
    MediaNodeRegistered,
    MediaNodeLost,
    GuestAdmitted,
    // Added by m20261122_000003.
    AuditExported,
    AuditArchived,
    PersonalDataViewed,
}

impl AuditAction {
    /// What every participant does many times a meeting, and so most of the audit log. The indexes by action leave these out:
    /// they are found by room, by user and by time.
    pub const TRAFFIC: [Self; 8] = [
        Self::UserJoined,
        Self::UserLeft,
        Self::UserMuted,
        Self::UserUnmuted,
        Self::ProducerCreated,
        Self::ProducerClosed,
        Self::ConsumerCreated,
        Self::ConsumerClosed,
    ];
}

/// The action of a stored row: one that this build knows, or the text of one that a later build added.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum RecordedAction {
    /// An action of this build.
    Known(AuditAction),
    /// Written by a later build; reading it is no error.
    Unknown(String),
}

impl RecordedAction {
    /// The text as stored, such as `USER_JOINED`.
    pub fn name(&self) -> String {
        match self {
            Self::Known(action) => action.to_value().value.into_owned(),
            Self::Unknown(text) => text.clone(),
        }
    }
}

impl From<&str> for RecordedAction {
    fn from(text: &str) -> Self {
        <AuditAction as TryFrom<&str>>::try_from(text).map_or_else(|_| Self::Unknown(text.to_owned()), Self::Known)
    }
}

impl serde::Serialize for RecordedAction {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.name())
    }
}

impl<'de> serde::Deserialize<'de> for RecordedAction {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        Ok(Self::from(text.as_ref()))
    }
}

#[cfg(feature = "schemars")]
crate::text_in_json!(RecordedAction, "RecordedAction");

impl From<AuditAction> for RecordedAction {
    fn from(action: AuditAction) -> Self {
        Self::Known(action)
    }
}

impl From<RecordedAction> for Value {
    fn from(action: RecordedAction) -> Self {
        action.name().into()
    }
}

impl TryGetable for RecordedAction {
    fn try_get_by<I: ColIdx>(row: &QueryResult, index: I) -> Result<Self, TryGetError> {
        String::try_get_by(row, index).map(|text| Self::from(text.as_str()))
    }
}

impl ValueType for RecordedAction {
    fn try_from(value: Value) -> Result<Self, ValueTypeErr> {
        <String as ValueType>::try_from(value).map(|text| Self::from(text.as_str()))
    }

    fn type_name() -> String {
        "RecordedAction".to_owned()
    }

    fn array_type() -> ArrayType {
        ArrayType::String
    }

    fn column_type() -> ColumnType {
        AuditAction::db_type().get_column_type().clone()
    }
}

impl Nullable for RecordedAction {
    fn null() -> Value {
        Value::String(None)
    }
}

/// One event. There is no `updated_at` and no `deleted_at`: the row is final.
#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel, serde::Serialize)]
#[cfg_attr(feature = "schemars", derive(schemars::JsonSchema))]
#[sea_orm(table_name = "audit_logs")]
pub struct Model {
    /// When.
    #[sea_orm(primary_key, auto_increment = false)]
    pub timestamp: DateTimeUtc,
    /// UUIDv7 of the application; grows within a process, so that it breaks ties of `timestamp`.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: AuditLogId,
    /// What happened.
    pub action: RecordedAction,
    /// Who did it; none for the system itself.
    pub user_id: Option<UserId>,
    /// In which room.
    pub room_id: Option<RoomId>,
    /// To whom.
    pub target_user_id: Option<UserId>,
    /// The event's details.
    #[sea_orm(column_type = "JsonBinary", nullable)]
    pub metadata: Option<Json>,
    /// Where the request came from.
    pub ip_address: Option<ClientAddress>,
    /// With what.
    #[sea_orm(column_type = "String(StringLen::N(500))", nullable)]
    pub user_agent: Option<String>,
    /// The actor.
    #[sea_orm(
        belongs_to,
        relation_enum = "Actor",
        from = "user_id",
        to = "id",
        on_delete = "Restrict"
    )]
    #[cfg_attr(feature = "schemars", schemars(skip))]
    pub actor: BelongsTo<Option<super::user::Entity>>,
    /// The room.
    #[sea_orm(
        belongs_to,
        relation_enum = "Room",
        from = "room_id",
        to = "id",
        on_delete = "Restrict"
    )]
    #[cfg_attr(feature = "schemars", schemars(skip))]
    pub room: BelongsTo<Option<super::room::Entity>>,
    /// The user it was done to.
    #[sea_orm(
        belongs_to,
        relation_enum = "Target",
        from = "target_user_id",
        to = "id",
        on_delete = "Restrict"
    )]
    #[cfg_attr(feature = "schemars", schemars(skip))]
    pub target: BelongsTo<Option<super::user::Entity>>,
}

read_only!("audit_logs");

#[cfg(test)]
mod tests {
    use sea_orm::Iterable as _;

    use super::*;

    #[test]
    fn each_action_reads_back() {
        assert_eq!(AuditAction::iter().count(), 31 + 27 + 3);
        for action in AuditAction::iter() {
            let recorded = RecordedAction::from(action);
            assert_eq!(RecordedAction::from(recorded.name().as_str()), recorded);
        }
    }

    #[test]
    fn an_unknown_action_keeps_its_text() {
        let recorded = RecordedAction::from("ROOM_TELEPORTED");
        assert_eq!(recorded, RecordedAction::Unknown("ROOM_TELEPORTED".to_owned()));
    }
}
