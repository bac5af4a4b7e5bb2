//! Logins: what they leave behind, and signing in through an external provider.

use entity::{AuditLogId, AuthProviderId, UserId, auth_provider, user};
use sea_orm::{ColumnTrait, QueryFilter, QuerySelect};

use super::register::{CheckedProfile, RegisterWithProvider};
use super::{ProviderProfile, Users, has_name_or_address};
use crate::audit::Audit;
use crate::auth_providers::Link;
use crate::authority::Operation as Asked;
use crate::error::{Conflict, Error, Rejected, Result, Subject};
use crate::event::{Change, Observation};
use crate::input;
use crate::operation::{Columns, Event, Lock, Moment, Operation, Plan};
use crate::read::{Fetch, FetchEntity};
use crate::rules::active;
use crate::scope::{self, Live};
use crate::unit::{Sink, only_the_system};

/// How often signing in starts again because somebody linked or unlinked what it had found.
const SIGN_IN_TRIES: u32 = 16;

/// Somebody who signed in through an external provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProviderLogin {
    /// Who.
    pub user: user::Model,
    /// Through which link: where the provider's tokens belong.
    pub provider: AuthProviderId,
    /// How they came by it.
    pub how: SignedInHow,
}

/// Where the link between an external account and a user came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum SignedInHow {
    /// It was there.
    SignedIn,
    /// It was made now, because both the provider and this platform have verified that the address is theirs.
    LinkedByVerifiedEmail,
    /// It was made now, with a new user.
    Registered,
}

impl<S: Sink> Users<'_, S> {
    /// Notes that a user signed in through one of their accounts: `last_login_at`, and the account's `last_used_at`. Appends
    /// USER_LOGIN_SUCCESS. Takes the user's lock; one statement on PostgreSQL. By the system, which alone knows that
    /// password or assertion were right.
    ///
    /// # Errors
    /// [`Error::NotFound`] for the user, or for an account that is not theirs; [`Rejected::UserInactive`];
    /// [`Rejected::NotAllowed`].
    pub async fn record_login(&self, user: UserId, provider: AuthProviderId) -> Result<user::Model> {
        self.source.perform(RecordLogin { user, provider }).await
    }

    /// Notes that somebody failed to sign in. `login` is what they typed as name or address, whether or not there is such a
    /// user; the audit log keeps 255 characters of it, without control characters. Never pass a password. Appends
    /// USER_LOGIN_FAILED, with the user if there is one by that name, and changes nothing else. By anybody.
    ///
    /// # Errors
    /// [`Error::NotFound`] when the acting user does not exist.
    pub async fn record_failed_login(&self, login: &str) -> Result<AuditLogId> {
        let dialect = self.source.context().dialect();
        let key = input::login_key(login);
        let found = scope::find::<user::Entity, Live>()
            .filter(has_name_or_address(dialect, Some(&key), Some(&key)))
            .select_only()
            .column(user::Column::Id)
            .fetch_with(self.source, "record_failed_login", |cells| cells.next("id"))
            .await?;
        let observation = Observation::UserLoginFailed {
            target: found.first().copied(),
            login: login.to_owned(),
        };
        Audit::new(self.source).append(None, observation).await
    }

    /// Signs somebody in whom an external provider has vouched for, and records the login. By the system, which alone has
    /// checked the provider's word. In this order:
    /// 1. The account is linked to a user: that user.
    /// 2. The provider verified the address, and it is the verified address of a user here: the account is linked to them.
    ///    An address that either side has not verified proves nothing and never links: whoever typed it first would get the
    ///    other's account.
    /// 3. Otherwise a new user is registered.
    ///
    /// Appends USER_LOGIN_SUCCESS, and before it PROVIDER_LINKED or USER_REGISTERED. These are operations of their own; run
    /// it in a [`crate::Unit`] to have both or none.
    ///
    /// # Errors
    /// [`Error::Invalid`]; [`Conflict::EmailTaken`] when another user has the address and it does not link;
    /// [`Conflict::UsernameTaken`] for a new user: propose another; [`Rejected::UserInactive`]; [`Rejected::NotAllowed`].
    pub async fn sign_in_with_provider(&self, profile: ProviderProfile<'_>) -> Result<ProviderLogin> {
        let profile = CheckedProfile::try_from(profile)?;
        only_the_system(self.source, Asked::RecordLogin).await?;
        let mut how = SignedInHow::SignedIn;
        let mut looked_again = false;
        for _ in 0..SIGN_IN_TRIES {
            if let Some(account) = self.find_linked(&profile).await? {
                let (user, provider) = (account.user_id, account.id);
                match self.record_login(user, provider).await {
                    Ok(user) => return Ok(ProviderLogin { user, provider, how }),
                    // Unlinked or erased since it was found.
                    Err(Error::NotFound(_)) => continue,
                    Err(error) => return Err(error),
                }
            }
            match self.make_link(&profile).await {
                Ok(made) => how = made,
                // Somebody else was faster, or the address has just been changed: look again.
                Err(Error::Conflict(Conflict::ProviderAccountTaken | Conflict::ProviderLinkedAlready { .. }))
                | Err(Error::Rejected(Rejected::EmailNotCurrent { .. })) => how = SignedInHow::SignedIn,
                // A user with this very address may have registered since it was looked for.
                Err(Error::Conflict(Conflict::EmailTaken)) if !looked_again => looked_again = true,
                Err(error) => return Err(error),
            }
        }
        Err(Error::Transient {
            reason: format!("users.sign_in_with_provider met other changes {SIGN_IN_TRIES} times in a row"),
        })
    }

    async fn find_linked(&self, profile: &CheckedProfile) -> Result<Option<auth_provider::Model>> {
        let account = &profile.account;
        scope::find_undeletable::<auth_provider::Entity>()
            .filter(auth_provider::Column::ProviderType.eq(account.provider))
            .filter(auth_provider::Column::ProviderId.eq(account.provider_id.as_str()))
            .fetch_one(self.source, "sign_in_with_provider")
            .await
    }

    async fn make_link(&self, profile: &CheckedProfile) -> Result<SignedInHow> {
        let Some(address) = profile.account.email.as_deref() else {
            return self.register_profile(profile).await;
        };
        let dialect = self.source.context().dialect();
        let has_address = has_name_or_address(dialect, None, Some(&input::login_key(address)));
        let owner = scope::find::<user::Entity, Live>()
            .filter(has_address)
            .fetch_one(self.source, "sign_in_with_provider")
            .await?;
        match owner {
            None => self.register_profile(profile).await,
            Some(user) if user.is_verified && profile.email_is_verified => {
                if !user.is_active {
                    return Err(Rejected::UserInactive { user: user.id }.into());
                }
                let (user, account) = (user.id, &profile.account);
                let address = Some(address);
                self.source
                    .perform(Link {
                        user,
                        account,
                        metadata: None,
                        address,
                    })
                    .await?;
                Ok(SignedInHow::LinkedByVerifiedEmail)
            }
            Some(_) => Err(Conflict::EmailTaken.into()),
        }
    }

    async fn register_profile(&self, profile: &CheckedProfile) -> Result<SignedInHow> {
        self.source.perform(RegisterWithProvider(profile)).await?;
        Ok(SignedInHow::Registered)
    }
}

pub(crate) struct RecordLogin {
    pub(crate) user: UserId,
    pub(crate) provider: AuthProviderId,
}

impl Operation for RecordLogin {
    const NAME: &'static str = "users.record_login";
    type Output = user::Model;

    fn plan(&self, at: &Moment<'_>) -> Plan {
        let Self { user, provider } = *self;
        let change = Change::UserLoginSuccess {
            target: user,
            provider: entity::AuthProviderType::Local,
        };
        let plan = Plan::new(at, "signed_in")
            .denied(at.only_oneself(Asked::RecordLogin, None, user))
            .bind("user", user)
            .bind("provider", provider)
            .lock::<user::Entity>("account", Lock::Change, &["id"], "id = :user")
            .lock::<auth_provider::Entity>(
                "used",
                Lock::Change,
                &["id", "provider_type"],
                "id = :provider AND user_id = (SELECT id FROM account)",
            );
        active(plan, "account", user)
            .found("used", Error::NotFound(Subject::Provider(provider)))
            .update::<user::Entity>(
                "signed_in",
                Columns::All,
                "last_login_at = :now, updated_at = :now",
                "id = (SELECT id FROM account) AND EXISTS (SELECT 1 FROM used)",
            )
            .effect(
                "touched",
                "UPDATE auth_providers SET last_used_at = :now, updated_at = :now WHERE id = (SELECT id FROM used)",
            )
            .event(
                at,
                &Event::of(&change, "signed_in, used").computed("provider", "used.provider_type"),
            )
    }
}
