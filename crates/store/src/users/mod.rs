//! `users()`: who exists. One file an operation or a family of them; what is read is here. [`crate::erasure`] and
//! [`crate::export`] have methods of their own.

pub(crate) mod activation;
pub(crate) mod login;
mod logins;
pub(crate) mod password;
pub(crate) mod profile;
pub(crate) mod register;
mod search;
pub(crate) mod verify;

pub use login::{ProviderLogin, SignedInHow};
pub use logins::{LoginOutcome, LoginRecord};
pub use profile::{EmailChange, ProfileChange};
pub use register::{NewUser, ProviderEmail, ProviderProfile};
pub use search::UserSearch;

use entity::{AuthProviderType, UserId, auth_provider, user};
use sea_orm::sea_query::{Expr, ExprTrait, Query};
use sea_orm::{ColumnTrait, Condition, QueryFilter};

use crate::database::Dialect;
use crate::error::{Error, Result, Subject};
use crate::input;
use crate::read::{FetchEntity, FetchPairs};
use crate::scope::{self, Any, Deleted, Live, Visibility};
use crate::unit::Source;

/// The repository of `users`: live ones unless [`Users::deleted`] or [`Users::any`] was asked for.
#[derive(Debug)]
pub struct Users<'a, S, V = Live> {
    pub(crate) source: &'a S,
    visibility: V,
}

/// Somebody who may sign in.
#[derive(Clone, Debug)]
pub struct LoginCandidate {
    /// The user, with the password hash to check against.
    pub user: user::Model,
    /// All sign-in methods.
    pub providers: Vec<auth_provider::Model>,
}

impl<'a, S: Source> Users<'a, S> {
    pub(crate) fn new(source: &'a S) -> Self {
        Self {
            source,
            visibility: Live,
        }
    }

    /// Deleted users instead.
    pub fn deleted(self) -> Users<'a, S, Deleted> {
        Users {
            source: self.source,
            visibility: Deleted,
        }
    }

    /// Users, deleted or not.
    pub fn any(self) -> Users<'a, S, Any> {
        Users {
            source: self.source,
            visibility: Any,
        }
    }

    /// Who signs in with this username or e-mail address, whatever its case: live, active users only. One statement.
    ///
    /// # Errors
    /// None beyond the database's own; what could be no name at all is simply not found.
    pub async fn find_for_login(&self, login: &str) -> Result<Option<LoginCandidate>> {
        let key = input::login_key(login);
        let dialect = self.source.context().dialect();
        let found = scope::find::<user::Entity, Live>()
            .filter(user::Column::IsActive.eq(true))
            .filter(has_name_or_address(dialect, Some(&key), Some(&key)))
            .find_also_related(auth_provider::Entity)
            .fetch_one_with_related(self.source, "find_for_login")
            .await?;
        // A username has no @ and an address has one, so there cannot be two.
        Ok(found.map(|(user, providers)| LoginCandidate { user, providers }))
    }

    /// Who signs in with this external account: live, active users only. One statement, served by
    /// `uq_auth_providers_account`.
    ///
    /// # Errors
    /// None beyond the database's own; an account that nobody linked, or that cannot be one, is simply not found.
    pub async fn find_for_provider(
        &self,
        provider: AuthProviderType,
        provider_id: &str,
    ) -> Result<Option<LoginCandidate>> {
        if input::opaque("provider_id", provider_id, 255).is_err() {
            return Ok(None);
        }
        let account = Query::select()
            .column(auth_provider::Column::UserId)
            .from(auth_provider::Entity)
            .and_where(auth_provider::Column::ProviderType.eq(provider))
            .and_where(auth_provider::Column::ProviderId.eq(provider_id))
            .take();
        let found = scope::find::<user::Entity, Live>()
            .filter(user::Column::IsActive.eq(true))
            .filter(user::Column::Id.in_subquery(account))
            .find_also_related(auth_provider::Entity)
            .fetch_one_with_related(self.source, "find_for_provider")
            .await?;
        Ok(found.map(|(user, providers)| LoginCandidate { user, providers }))
    }
}

impl<S: Source, V: Visibility> Users<'_, S, V> {
    /// The user with this id.
    ///
    /// # Errors
    /// None beyond the database's own.
    pub async fn find(&self, id: UserId) -> Result<Option<user::Model>> {
        let _ = &self.visibility;
        scope::find::<user::Entity, V>()
            .filter(user::Column::Id.eq(id))
            .fetch_one(self.source, "users.find")
            .await
    }

    /// The user with this id.
    ///
    /// # Errors
    /// [`Error::NotFound`] when there is none.
    pub async fn get(&self, id: UserId) -> Result<user::Model> {
        self.find(id).await?.ok_or(Error::NotFound(Subject::User(id)))
    }
}

fn has_name_or_address(dialect: Dialect, username_key: Option<&str>, email_key: Option<&str>) -> Condition {
    Condition::any()
        .add_option(username_key.map(|key| Expr::cust(dialect.folded("users.username")).eq(key)))
        .add_option(email_key.map(|key| Expr::cust(dialect.folded("users.email")).eq(key)))
}
