//! `link` and `unlink`: accounts elsewhere as sign-in methods.

use entity::{AuthProviderId, AuthProviderType, UserId, auth_provider};
use serde_json::Value as Json;

use super::AuthProviders;
use crate::authority::Operation as Asked;
use crate::database::statement::Bind;
use crate::error::{Conflict, Error, Invalid, Rejected, Result, Rule, Subject};
use crate::event::Change;
use crate::input;
use crate::operation::{Event, Lock, Moment, Operation, Plan, Refusal};
use crate::rules::has_account;
use crate::unit::Sink;

/// An account elsewhere that a signed-in user has shown to be theirs.
#[derive(Clone, Copy, Debug)]
pub struct ProviderAccount<'a> {
    /// Which provider; not LOCAL.
    pub provider: AuthProviderType,
    /// The account's id there, 1 to 255 characters.
    pub provider_id: &'a str,
    /// The address that the provider gave, for people to tell their accounts apart. It says nothing about who they are.
    pub email: Option<&'a str>,
    /// What else the provider says and the service wants to keep: a JSON object of at most [`MAX_METADATA`] bytes.
    pub metadata: Option<&'a Json>,
}

/// The most bytes of JSON that a link's metadata may have.
pub const MAX_METADATA: usize = 16_384;

/// How deep it may be nested; what reads it back gives up at 128.
pub const MAX_METADATA_DEPTH: usize = 64;

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

fn depth(json: &Json) -> usize {
    match json {
        Json::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Json::Object(members) => 1 + members.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

fn checked_metadata(metadata: &Json) -> Result<Json> {
    let field = "metadata";
    if !metadata.is_object() {
        return Err(Invalid {
            field,
            rule: Rule::JsonObject,
        }
        .into());
    }
    let actual = metadata.to_string().len();
    if actual > MAX_METADATA {
        let rule = Rule::MaxBytes {
            max: MAX_METADATA,
            actual,
        };
        return Err(Invalid { field, rule }.into());
    }
    if depth(metadata) > MAX_METADATA_DEPTH {
        let rule = Rule::MaxDepth(MAX_METADATA_DEPTH);
        return Err(Invalid { field, rule }.into());
    }
    if metadata.to_string().contains("\\u0000") {
        let rule = Rule::NoControlCharacters;
        return Err(Invalid { field, rule }.into());
    }
    Ok(metadata.clone())
}

impl<S: Sink> AuthProviders<'_, S> {
    /// Links an external account to a user, who may have several of one kind. Appends PROVIDER_LINKED. Takes the user's lock;
    /// one statement on PostgreSQL. For oneself, or by the system for anybody: who asks has shown that both are theirs. No
    /// address decides here; see [`crate::users::Users::sign_in_with_provider`] for that.
    ///
    /// # Errors
    /// [`Error::Invalid`]; [`Error::NotFound`]; [`Rejected::UserInactive`]; [`Rejected::AccountRequired`] for a guest;
    /// [`Conflict::ProviderLinkedAlready`] when it is
    /// this user's; [`Conflict::ProviderAccountTaken`] when it is anybody else's; [`Rejected::NotAllowed`].
    pub async fn link(&self, user: UserId, account: ProviderAccount<'_>) -> Result<auth_provider::Model> {
        let metadata = account.metadata.map(checked_metadata).transpose()?;
        let account = &CheckedAccount::new(account.provider, account.provider_id, account.email)?;
        let link = Link {
            user,
            account,
            metadata,
            address: None,
        };
        self.source.perform(link).await
    }

    /// Takes a sign-in method away from a user, with its tokens; the local one with the password's hash. Appends PROVIDER_UNLINKED.
    /// Takes the user's lock, under which the others are counted; one statement on PostgreSQL. For oneself, or by the system
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

pub(crate) struct Link<'a> {
    pub(crate) user: UserId,
    pub(crate) account: &'a CheckedAccount,
    pub(crate) metadata: Option<Json>,
    /// The address by which the user was found: it must still be their verified one.
    pub(crate) address: Option<&'a str>,
}

impl Operation for Link<'_> {
    const NAME: &'static str = "auth_providers.link";
    type Output = auth_provider::Model;

    fn plan(&self, at: &Moment<'_>) -> Plan {
        let (user, account) = (self.user, self.account);
        let linked_already = Refusal::with("id", move |provider| Conflict::ProviderLinkedAlready { user, provider });
        let change = Change::ProviderLinked {
            target: user,
            provider: account.provider,
        };
        let plan = Plan::new(at, "linked")
            .denied(at.only_oneself(Asked::ManageAccount, None, user))
            .bind("provider", at.id())
            .bind("provider_email", account.email.clone())
            .bind("metadata", self.metadata.clone())
            .bind("address_key", self.address.map(input::login_key))
            .lock_account(user);
        let mut plan = find_same_account(has_account(plan, "account", user), account)
            .view::<auth_provider::Entity>(
                "own_account",
                "provider_type = :provider_type AND provider_id = :provider_id AND user_id = :user",
            )
            .absent_by("uq_auth_providers_account", "own_account", linked_already)
            .absent_by(
                "uq_auth_providers_account",
                "same_account",
                Conflict::ProviderAccountTaken,
            );
        if self.address.is_some() {
            plan = plan.guard(
                "account",
                format!("is_verified AND {} = :address_key", at.dialect.folded("email")),
                Rejected::EmailNotCurrent { user },
            );
        }
        plan.insert::<auth_provider::Entity>(
            "linked",
            at.dialect,
            "INSERT INTO auth_providers (id, user_id, provider_type, provider_id, provider_email, metadata, created_at, updated_at)
            SELECT :provider, account.id, :provider_type, :provider_id, :provider_email, :metadata, :now, :now
            FROM account WHERE TRUE ON CONFLICT DO NOTHING",
        )
        .event(at, &Event::of(&change, "linked"))
    }
}

/// The link of an external account, whoever has it: the view `same_account`.
pub(crate) fn find_same_account(plan: Plan, account: &CheckedAccount) -> Plan {
    plan.bind("provider_type", Bind::of_enum(&account.provider))
        .bind("provider_id", account.provider_id.clone())
        .view::<auth_provider::Entity>(
            "same_account",
            "provider_type = :provider_type AND provider_id = :provider_id",
        )
}

pub(crate) struct Unlink {
    pub(crate) user: UserId,
    pub(crate) provider: AuthProviderId,
}

impl Operation for Unlink {
    const NAME: &'static str = "auth_providers.unlink";
    type Output = ();

    fn plan(&self, at: &Moment<'_>) -> Plan {
        let Self { user, provider } = *self;
        let change = Change::ProviderUnlinked {
            target: user,
            provider: AuthProviderType::Local,
        };
        Plan::new(at, "unlinked")
            .denied(at.only_oneself(Asked::ManageAccount, None, user))
            .bind("provider", provider)
            .lock_account(user)
            .yielding("has_password", "CAST(password_hash IS NOT NULL AS integer)")
            // Locked: this leaves out what somebody else unlinked while the user's row was waited for. A LOCAL method without
            // password is none.
            .look::<auth_provider::Entity>(
                "others",
                Lock::Share,
                &["id"],
                "user_id = (SELECT id FROM account) AND id <> :provider
                    AND (provider_type <> 'LOCAL' OR (SELECT has_password FROM account) = 1)",
            )
            .delete::<auth_provider::Entity>(
                "unlinked",
                &["id", "provider_type"],
                "id = :provider AND user_id = (SELECT id FROM account)",
            )
            .found("unlinked", Error::NotFound(Subject::Provider(provider)))
            .guard(
                "unlinked",
                "EXISTS (SELECT 1 FROM others) OR (provider_type = 'LOCAL' AND (SELECT has_password FROM account) = 0)",
                Rejected::LastCredential { user, provider },
            )
            // The password goes with the local method.
            .effect(
                "forgotten",
                "UPDATE users SET password_hash = NULL, updated_at = :now
                WHERE id = (SELECT id FROM account) AND EXISTS (SELECT 1 FROM unlinked WHERE provider_type = 'LOCAL')",
            )
            .event(
                at,
                &Event::of(&change, "unlinked").computed("provider", "unlinked.provider_type"),
            )
    }
}
