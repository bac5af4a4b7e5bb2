//! Users who come from an external provider.

use entity::{AuthProviderType, UserId, auth_provider, user};
use sea_orm::{ColumnTrait, DatabaseExecutor, DbErr, FromQueryResult, QueryFilter, QueryResult};

use crate::backend::plan::Plan;
use crate::backend::users as sql;
use crate::error::{Conflict, Error, Invalid, Result, Rule};
use crate::input;
use crate::operation::{Moment, Operation};
use crate::scope;
use crate::unit::Sink;
use crate::users::{Users, taken};

/// An address that a provider told, and how much that is worth. Providers say which it is: OpenID Connect calls it
/// `email_verified`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProviderEmail<'a> {
    /// The provider has made sure that it is theirs.
    Verified(&'a str),
    /// Anybody may have typed it. It proves nothing.
    Unverified(&'a str),
}

/// Who somebody is, as an external provider told it and as the service checked it.
#[derive(Clone, Copy, Debug)]
pub struct ProviderProfile<'a> {
    /// Which provider; not LOCAL.
    pub provider: AuthProviderType,
    /// The account's id there, 1 to 255 characters; never an address, which may pass to somebody else.
    pub provider_id: &'a str,
    /// The address, if the provider told one.
    pub email: Option<ProviderEmail<'a>>,
    /// For a new user: the rules of [`crate::NewUser::username`].
    pub username: &'a str,
    /// For a new user: 1 to 150 characters.
    pub display_name: &'a str,
}

/// An external account that kept the rules.
pub(crate) struct CheckedAccount {
    pub(crate) provider: AuthProviderType,
    pub(crate) provider_id: String,
    pub(crate) email: Option<String>,
}

impl CheckedAccount {
    pub(crate) fn new(provider: AuthProviderType, provider_id: &str, email: Option<&str>) -> Result<Self> {
        let email = email.map(|email| input::email("provider_email", email)).transpose()?;
        input::opaque("provider_id", provider_id, 255)?;
        if provider == AuthProviderType::Local {
            return Err(Invalid {
                field: "provider_type",
                rule: Rule::ExternalProvider,
            }
            .into());
        }
        Ok(Self {
            provider,
            provider_id: provider_id.to_owned(),
            email,
        })
    }
}

/// A profile that kept the rules.
pub(crate) struct CheckedProfile {
    pub(crate) account: CheckedAccount,
    pub(crate) email_is_verified: bool,
    pub(crate) username: String,
    pub(crate) display_name: String,
}

impl TryFrom<ProviderProfile<'_>> for CheckedProfile {
    type Error = Error;

    fn try_from(profile: ProviderProfile<'_>) -> Result<Self> {
        let (email, email_is_verified) = match profile.email {
            None => (None, false),
            Some(ProviderEmail::Verified(email)) => (Some(email), true),
            Some(ProviderEmail::Unverified(email)) => (Some(email), false),
        };
        Ok(Self {
            account: CheckedAccount::new(profile.provider, profile.provider_id, email)?,
            email_is_verified,
            username: input::username(profile.username)?,
            display_name: input::line("display_name", profile.display_name, 150)?,
        })
    }
}

impl<S: Sink> Users<'_, S> {
    /// Makes a user who signs in through an external account and has no password. Their address counts as verified if the
    /// provider verified it. Appends USER_REGISTERED. One statement on PostgreSQL.
    ///
    /// # Errors
    /// [`Error::Invalid`]; [`Conflict::ProviderAccountTaken`]; [`Conflict::UsernameTaken`] and [`Conflict::EmailTaken`], which
    /// count deleted users too. Whose address it is, is not decided here: see [`Users::sign_in_with_provider`].
    pub async fn register_with_provider(&self, profile: ProviderProfile<'_>) -> Result<user::Model> {
        let profile = CheckedProfile::try_from(profile)?;
        self.source.perform(RegisterExternal(&profile)).await
    }
}

/// The link of an external account, whoever has it.
pub(crate) async fn find_account(
    db: &DatabaseExecutor<'_>,
    provider: AuthProviderType,
    provider_id: &str,
) -> Result<Option<auth_provider::Model>, DbErr> {
    scope::find_undeletable::<auth_provider::Entity>()
        .filter(auth_provider::Column::ProviderType.eq(provider))
        .filter(auth_provider::Column::ProviderId.eq(provider_id))
        .one(db)
        .await
}

pub(crate) struct RegisterExternal<'a>(pub(crate) &'a CheckedProfile);

impl Operation for RegisterExternal<'_> {
    const NAME: &'static str = "users.register_with_provider";
    const CONTESTED: &'static [&'static str] = &["uq_auth_providers_account"];
    type Output = user::Model;

    fn plan(&self, at: &Moment<'_>) -> Plan {
        sql::register_external(at, UserId::from_uuid(at.id()), self.0)
    }

    fn read(&self, row: &QueryResult) -> Result<user::Model, DbErr> {
        user::Model::from_query_result(row, "")
    }

    async fn refusal(&self, db: &DatabaseExecutor<'_>, at: &Moment<'_>) -> Result<Option<Error>, DbErr> {
        let CheckedProfile { account, username, .. } = self.0;
        if find_account(db, account.provider, &account.provider_id)
            .await?
            .is_some()
        {
            return Ok(Some(Conflict::ProviderAccountTaken.into()));
        }
        let name = input::login_key(username);
        let address = account.email.as_deref().map(input::login_key);
        taken(db, at, Some(&name), address.as_deref(), None).await
    }
}
