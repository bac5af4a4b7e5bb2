//! `users`: who exists.

use sea_orm::entity::prelude::*;

use crate::{Secret, UserId};

/// A user. A deleted one keeps its row (`deleted_at`), because the audit log points at it.
#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel, serde::Serialize)]
#[cfg_attr(feature = "schemars", derive(schemars::JsonSchema))]
#[sea_orm(table_name = "users")]
pub struct Model {
    /// UUIDv7 of the application.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: UserId,
    /// Unique without regard to case, deleted users included.
    #[sea_orm(column_type = "String(StringLen::N(100))")]
    pub username: String,
    /// Unique without regard to case; none for accounts whose provider gave none.
    #[sea_orm(column_type = "String(StringLen::N(255))", nullable)]
    pub email: Option<String>,
    /// PHC string of the password's hash; none for users who sign in through a provider only.
    #[sea_orm(column_type = "String(StringLen::N(255))", nullable)]
    #[serde(skip)]
    pub password_hash: Option<Secret>,
    /// The name that other people see.
    #[sea_orm(column_type = "String(StringLen::N(150))")]
    pub display_name: String,
    /// False while the account is deactivated: no login, no join.
    pub is_active: bool,
    /// True once the e-mail address was proven.
    pub is_verified: bool,
    /// When the account was deleted.
    pub deleted_at: Option<DateTimeUtc>,
    /// When the row was made.
    pub created_at: DateTimeUtc,
    /// When the row was last changed.
    pub updated_at: DateTimeUtc,
    /// The last successful login.
    pub last_login_at: Option<DateTimeUtc>,
    /// Since when they are here as a guest, without an account; none for everybody else. It never changes.
    pub guest_since: Option<DateTimeUtc>,
    /// External accounts and the local one.
    #[sea_orm(has_many)]
    #[cfg_attr(feature = "schemars", schemars(skip))]
    pub auth_providers: HasMany<super::auth_provider::Entity>,
    /// Rooms this user owns.
    #[sea_orm(has_many)]
    #[cfg_attr(feature = "schemars", schemars(skip))]
    pub rooms: HasMany<super::room::Entity>,
    /// This user's participations in rooms.
    #[sea_orm(has_many, relation_enum = "Participations", via_rel = "User")]
    #[cfg_attr(feature = "schemars", schemars(skip))]
    pub participations: HasMany<super::room_participant::Entity>,
    /// Recordings this user owns.
    #[sea_orm(has_many)]
    #[cfg_attr(feature = "schemars", schemars(skip))]
    pub recordings: HasMany<super::recording::Entity>,
}

read_only!("users");

impl Model {
    /// Whether they are here without an account: nothing to sign in with, no room and no recording of their own.
    pub fn is_guest(&self) -> bool {
        self.guest_since.is_some()
    }
}
