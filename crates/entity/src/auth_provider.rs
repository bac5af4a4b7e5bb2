//! `auth_providers`: the sign-in methods which a user can sign in.

use sea_orm::entity::prelude::*;

use crate::{AuthProviderId, Secret, UserId};

/// Kind of account, the type `auth_provider_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EnumIter, DeriveActiveEnum, serde::Serialize, serde::Deserialize)]
#[sea_orm(
    rs_type = "Enum",
    db_type = "Enum",
    enum_name = "auth_provider_type",
    rename_all = "SCREAMING_SNAKE_CASE"
)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum AuthProviderType {
    /// A password kept by this platform.
    Local,
    /// Google.
    Google,
    /// GitHub.
    #[sea_orm(string_value = "GITHUB")]
    #[serde(rename = "GITHUB")]
    GitHub,
    /// Microsoft.
    Microsoft,
    /// Apple.
    Apple,
    /// A company's identity provider.
    Saml,
}

/// One sign-in method: the local account, or one external account.
#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel, serde::Serialize)]
#[sea_orm(table_name = "auth_providers")]
pub struct Model {
    /// UUIDv7 of the application.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: AuthProviderId,
    /// Whose account it is.
    pub user_id: UserId,
    /// Where the account lives.
    pub provider_type: AuthProviderType,
    /// The account's id there; for `LOCAL` the user's own id. Unique with the type.
    #[sea_orm(column_type = "String(StringLen::N(255))")]
    pub provider_id: String,
    /// The e-mail address that the provider told.
    #[sea_orm(column_type = "String(StringLen::N(255))", nullable)]
    pub provider_email: Option<String>,
    /// Encrypted access token.
    #[sea_orm(column_type = "Text", nullable)]
    #[serde(skip)]
    pub access_token: Option<Secret>,
    /// Encrypted refresh token.
    #[sea_orm(column_type = "Text", nullable)]
    #[serde(skip)]
    pub refresh_token: Option<Secret>,
    /// When the access token runs out.
    pub token_expires_at: Option<DateTimeUtc>,
    /// What else the provider told.
    #[sea_orm(column_type = "JsonBinary", nullable)]
    pub metadata: Option<Json>,
    /// When the account was linked.
    pub created_at: DateTimeUtc,
    /// When the row was last changed.
    pub updated_at: DateTimeUtc,
    /// The last login through it.
    pub last_used_at: Option<DateTimeUtc>,
    /// The user it belongs to.
    #[sea_orm(belongs_to, from = "user_id", to = "id", on_delete = "Cascade")]
    pub user: BelongsTo<super::user::Entity>,
}

read_only!("auth_providers");
