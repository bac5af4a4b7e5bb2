//! `auth_providers()`: the ways in which users sign in.

use entity::{AuthProviderId, AuthProviderType, UserId, auth_provider, user};
use sea_orm::{ColumnTrait, DatabaseExecutor, DbErr, FromQueryResult, QueryFilter, QueryOrder, QueryResult};

use crate::authority::Operation as Asked;
use crate::backend::plan::Plan;
use crate::backend::providers as sql;
use crate::error::{Conflict, Error, Rejected, Result, Subject};
use crate::operation::{Moment, Operation};
use crate::scope;
use crate::unit::{Sink, Source};
use crate::users::external::find_account;
use crate::users::{CheckedAccount, why_not_changeable};

/// The repository of `auth_providers`. A link is there or not; it is never marked as deleted. [`crate::tokens`] has methods
/// of its own.
#[derive(Debug)]
pub struct AuthProviders<'a, S> {
    pub(crate) source: &'a S,
}

/// An account elsewhere that a signed-in user has shown to be theirs.
#[derive(Clone, Copy, Debug)]
pub struct ProviderAccount<'a> {
    /// Which provider; not LOCAL.
    pub provider: AuthProviderType,
    /// The account's id there, 1 to 255 characters.
    pub provider_id: &'a str,
    /// The address that the provider told, for people to tell their accounts apart. It says nothing about who they are.
    pub email: Option<&'a str>,
}

impl<'a, S: Source> AuthProviders<'a, S> {
    pub(crate) fn new(source: &'a S) -> Self {
        Self { source }
    }

    /// A user's ways in, the oldest first; tokens are in them as they are stored, encrypted. Served by
    /// `ix_auth_providers_user`.
    ///
    /// # Errors
    /// None beyond the database's own; a user who does not exist has none.
    pub async fn list(&self, user: UserId) -> Result<Vec<auth_provider::Model>> {
        scope::find_undeletable::<auth_provider::Entity>()
            .filter(auth_provider::Column::UserId.eq(user))
            .order_by_asc(auth_provider::Column::CreatedAt)
            .order_by_asc(auth_provider::Column::Id)
            .all(&self.source.executor())
            .await
            .map_err(|error| self.source.failed(&error, "auth_providers.list"))
    }

    /// The way in with this id.
    ///
    /// # Errors
    /// None beyond the database's own.
    pub async fn get(&self, id: AuthProviderId) -> Result<Option<auth_provider::Model>> {
        scope::find_undeletable::<auth_provider::Entity>()
            .filter(auth_provider::Column::Id.eq(id))
            .one(&self.source.executor())
            .await
            .map_err(|error| self.source.failed(&error, "auth_providers.get"))
    }
}

impl<S: Sink> AuthProviders<'_, S> {
    /// Links an external account to a user, who may have several of one kind. Appends PROVIDER_LINKED. Takes the user's lock;
    /// one statement on PostgreSQL. For oneself, or by the platform for anybody: who asks has shown that both are theirs. No
    /// address decides here; see [`crate::users::Users::sign_in_with_provider`] for that.
    ///
    /// # Errors
    /// [`Error::Invalid`]; [`Error::NotFound`]; [`Rejected::UserInactive`]; [`Conflict::ProviderLinkedAlready`] when it is
    /// this user's; [`Conflict::ProviderAccountTaken`] when it is anybody else's; [`Rejected::NotAllowed`].
    pub async fn link(&self, user: UserId, account: ProviderAccount<'_>) -> Result<auth_provider::Model> {
        let account = &CheckedAccount::new(account.provider, account.provider_id, account.email)?;
        let address = None;
        self.source.perform(Link { user, account, address }).await
    }

    /// Takes a way in away from a user, with its tokens; the local one with the password's hash. Appends PROVIDER_UNLINKED.
    /// Takes the user's lock, under which the others are counted; one statement on PostgreSQL. For oneself, or by the platform
    /// for anybody.
    ///
    /// # Errors
    /// [`Rejected::LastCredential`] when the user could not sign in any more: a LOCAL account without a password does not
    /// count; [`Error::NotFound`] for the user, or for an account that is not theirs; [`Rejected::UserInactive`];
    /// [`Rejected::NotAllowed`].
    pub async fn unlink(&self, user: UserId, provider: AuthProviderId) -> Result<()> {
        self.source.perform(Unlink { user, provider }).await
    }
}

/// A user's way in.
pub(crate) async fn find_of(
    db: &DatabaseExecutor<'_>,
    user: UserId,
    provider: AuthProviderId,
) -> Result<Option<auth_provider::Model>, DbErr> {
    scope::find_undeletable::<auth_provider::Entity>()
        .filter(auth_provider::Column::Id.eq(provider))
        .filter(auth_provider::Column::UserId.eq(user))
        .one(db)
        .await
}

pub(crate) struct Link<'a> {
    pub(crate) user: UserId,
    pub(crate) account: &'a CheckedAccount,
    /// The address by which the user was found: it must still be their verified one.
    pub(crate) address: Option<&'a str>,
}

impl Operation for Link<'_> {
    const NAME: &'static str = "auth_providers.link";
    type Output = auth_provider::Model;

    fn forbidden(&self, at: &Moment<'_>) -> Option<Error> {
        at.only_oneself(Asked::ManageAccount, None, self.user)
    }

    fn plan(&self, at: &Moment<'_>) -> Plan {
        sql::link(at, self.user, self.account, self.address)
    }

    fn read(&self, row: &QueryResult) -> Result<auth_provider::Model, DbErr> {
        auth_provider::Model::from_query_result(row, "")
    }

    async fn refusal(&self, db: &DatabaseExecutor<'_>, at: &Moment<'_>) -> Result<Option<Error>, DbErr> {
        let user = self.user;
        if let Some(error) = why_not_changeable(db, at, user).await? {
            return Ok(Some(error));
        }
        if let Some(account) = find_account(db, self.account.provider, &self.account.provider_id).await? {
            let provider = account.id;
            return Ok(Some(if account.user_id == user {
                Conflict::ProviderLinkedAlready { user, provider }.into()
            } else {
                Conflict::ProviderAccountTaken.into()
            }));
        }
        Ok(self.address.map(|_| Rejected::EmailNotCurrent { user }.into()))
    }
}

struct Unlink {
    user: UserId,
    provider: AuthProviderId,
}

impl Operation for Unlink {
    const NAME: &'static str = "auth_providers.unlink";
    type Output = ();

    fn forbidden(&self, at: &Moment<'_>) -> Option<Error> {
        at.only_oneself(Asked::ManageAccount, None, self.user)
    }

    fn plan(&self, at: &Moment<'_>) -> Plan {
        sql::unlink(at, self.user, self.provider)
    }

    fn read(&self, _: &QueryResult) -> Result<(), DbErr> {
        Ok(())
    }

    async fn refusal(&self, db: &DatabaseExecutor<'_>, at: &Moment<'_>) -> Result<Option<Error>, DbErr> {
        let Self { user, provider } = *self;
        if let Some(error) = why_not_changeable(db, at, user).await? {
            return Ok(Some(error));
        }
        if find_of(db, user, provider).await?.is_none() {
            return Ok(Some(Error::NotFound(Subject::Provider(provider))));
        }
        let others = scope::find_undeletable::<auth_provider::Entity>()
            .filter(auth_provider::Column::UserId.eq(user))
            .filter(auth_provider::Column::Id.ne(provider))
            .find_also_related(user::Entity)
            .all(db)
            .await?;
        let usable = |(other, user): &(auth_provider::Model, Option<user::Model>)| {
            other.provider_type != AuthProviderType::Local
                || user.as_ref().is_some_and(|user| user.password_hash.is_some())
        };
        Ok((!others.iter().any(usable)).then(|| Rejected::LastCredential { user, provider }.into()))
    }
}
