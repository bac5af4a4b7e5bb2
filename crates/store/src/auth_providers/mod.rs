//! `auth_providers()`: the sign-in methods of users. [`link`] links and unlinks accounts elsewhere, [`tokens`] keeps their tokens.

pub mod link;
pub mod tokens;

pub use link::ProviderAccount;
pub(crate) use link::{CheckedAccount, Link, find_same_account};
pub use tokens::{MAX_TOKEN_LENGTH, ProviderTokens, Reencrypted};

use entity::{AuthProviderId, UserId, auth_provider};
use sea_orm::{ColumnTrait, QueryFilter, QueryOrder};

use crate::error::Result;
use crate::read::FetchEntity;
use crate::scope;
use crate::unit::Source;

/// The repository of `auth_providers`. A link is there or not; it is never marked as deleted.
#[derive(Debug)]
pub struct AuthProviders<'a, S> {
    source: &'a S,
}

impl<'a, S: Source> AuthProviders<'a, S> {
    pub(crate) fn new(source: &'a S) -> Self {
        Self { source }
    }

    /// A user's sign-in methods, the oldest first; tokens are in them as they are stored, encrypted. Served by
    /// `ix_auth_providers_user`.
    ///
    /// # Errors
    /// None beyond the database's own; a user who does not exist has none.
    pub async fn list(&self, user: UserId) -> Result<Vec<auth_provider::Model>> {
        scope::find_undeletable::<auth_provider::Entity>()
            .filter(auth_provider::Column::UserId.eq(user))
            .order_by_asc(auth_provider::Column::CreatedAt)
            .order_by_asc(auth_provider::Column::Id)
            .fetch_all(self.source, "auth_providers.list")
            .await
    }

    /// The sign-in method with this id.
    ///
    /// # Errors
    /// None beyond the database's own.
    pub async fn find(&self, id: AuthProviderId) -> Result<Option<auth_provider::Model>> {
        scope::find_undeletable::<auth_provider::Entity>()
            .filter(auth_provider::Column::Id.eq(id))
            .fetch_one(self.source, "auth_providers.find")
            .await
    }
}
