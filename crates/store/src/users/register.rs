//! `register` and `register_with_provider`: a new user, with the sign-in method that they came by.

use entity::{AuthProviderType, Secret, UserId, user};

use super::Users;
use crate::auth_providers::{CheckedAccount, find_same_account};
use crate::database::Dialect;
use crate::database::statement::Bind;
use crate::error::{Conflict, Error, Result};
use crate::event::Change;
use crate::input;
use crate::operation::{Event, Moment, Operation, Plan};
use crate::unit::Sink;

/// What a local account is made of. [`NewUser::named`] fills in the usual.
#[derive(Clone, Debug)]
pub struct NewUser<'a> {
    /// To sign in with: 1 to 100 characters, no white space, no `@`; unique without regard to case. Capitals beyond A-Z
    /// are stored as small letters.
    pub username: &'a str,
    /// Unique without regard to case.
    pub email: Option<&'a str>,
    /// What others see: 1 to 150 characters.
    pub display_name: &'a str,
    /// The hash of the password in its function's own notation (`$argon2id$…`); the store never sees passwords.
    pub password_hash: Secret,
}

impl<'a> NewUser<'a> {
    /// A user without an address. A service that begins here keeps compiling when more can be said of a user.
    pub fn named(username: &'a str, display_name: &'a str, password_hash: Secret) -> Self {
        Self {
            username,
            email: None,
            display_name,
            password_hash,
        }
    }
}

/// An address from a provider, and how much that is worth. Providers say which it is: OpenID Connect calls it
/// `email_verified`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProviderEmail<'a> {
    /// The provider has made sure that it is theirs.
    Verified(&'a str),
    /// Anybody may have typed it. It proves nothing.
    Unverified(&'a str),
}

/// Who somebody is, as an external provider says and as the service checked it.
#[derive(Clone, Copy, Debug)]
pub struct ProviderProfile<'a> {
    /// Which provider; not LOCAL.
    pub provider: AuthProviderType,
    /// The account's id there, 1 to 255 characters; never an address, which may pass to somebody else.
    pub provider_id: &'a str,
    /// The address, if the provider gave one.
    pub email: Option<ProviderEmail<'a>>,
    /// For a new user: the rules of [`crate::NewUser::username`].
    pub username: &'a str,
    /// For a new user: 1 to 150 characters.
    pub display_name: &'a str,
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
    /// Makes a user with a local account. Appends USER_REGISTERED.
    ///
    /// # Errors
    /// [`Error::Invalid`]; [`Conflict::UsernameTaken`] and [`Conflict::EmailTaken`], which count deleted users too.
    pub async fn register(&self, new: NewUser<'_>) -> Result<user::Model> {
        let operation = Register {
            username: input::username(new.username)?,
            email: new.email.map(|email| input::email("email", email)).transpose()?,
            display_name: input::line("display_name", new.display_name, 150)?,
            password_hash: input::password_hash(new.password_hash)?,
        };
        self.source.perform(operation).await
    }

    /// Makes a user who signs in through an external account and has no password. Their address counts as verified if the
    /// provider verified it. Appends USER_REGISTERED. One statement on PostgreSQL.
    ///
    /// # Errors
    /// [`Error::Invalid`]; [`Conflict::ProviderAccountTaken`]; [`Conflict::UsernameTaken`] and [`Conflict::EmailTaken`], which
    /// count deleted users too. Whose address it is, is not decided here: see [`Users::sign_in_with_provider`].
    pub async fn register_with_provider(&self, profile: ProviderProfile<'_>) -> Result<user::Model> {
        let profile = CheckedProfile::try_from(profile)?;
        self.source.perform(RegisterWithProvider(&profile)).await
    }
}

pub(crate) struct Register {
    pub(crate) username: String,
    pub(crate) email: Option<String>,
    pub(crate) display_name: String,
    pub(crate) password_hash: Secret,
}

impl Operation for Register {
    const NAME: &'static str = "users.register";
    type Output = user::Model;

    fn plan(&self, at: &Moment<'_>) -> Plan {
        let user = UserId::from_uuid(at.id());
        let plan = Plan::new(at, "registered")
            .bind("user", user)
            .bind("username", self.username.clone())
            .bind("email", self.email.clone())
            .bind("display_name", self.display_name.clone())
            .bind("password_hash", self.password_hash.clone())
            .bind("provider_id", user.to_string());
        let plan = names_are_free(at.dialect, plan, Some(&self.username), self.email.as_deref(), Taken::ByIndex)
            .insert::<user::Entity>(
                "registered",
                at.dialect,
                "INSERT INTO users (id, username, email, password_hash, display_name, is_active, is_verified, created_at, updated_at)
                VALUES (:user, :username, :email, :password_hash, :display_name, TRUE, FALSE, :now, :now)
                ON CONFLICT DO NOTHING",
            );
        with_sign_in_method(at, plan, user, AuthProviderType::Local)
    }
}

pub(crate) struct RegisterWithProvider<'a>(pub(crate) &'a CheckedProfile);

impl Operation for RegisterWithProvider<'_> {
    const NAME: &'static str = "users.register_with_provider";
    const CONTESTED: &'static [&'static str] = &["uq_auth_providers_account"];
    type Output = user::Model;

    /// The account's unique index fires when somebody takes it at the same moment, and then nothing has happened.
    fn plan(&self, at: &Moment<'_>) -> Plan {
        let CheckedProfile {
            account,
            email_is_verified,
            username,
            display_name,
        } = self.0;
        let user = UserId::from_uuid(at.id());
        let plan = Plan::new(at, "registered")
            .bind("user", user)
            .bind("username", username.clone())
            .bind("email", account.email.clone())
            .bind("is_verified", *email_is_verified)
            .bind("display_name", display_name.clone());
        let plan = find_same_account(plan, account)
            .absent_by("free", "same_account", Conflict::ProviderAccountTaken)
            .step(
                "free",
                &["is_free"],
                "SELECT 1 AS is_free WHERE NOT EXISTS (
                    SELECT 1 FROM auth_providers WHERE provider_type = :provider_type AND provider_id = :provider_id)",
            );
        let plan = names_are_free(
            at.dialect,
            plan,
            Some(username),
            account.email.as_deref(),
            Taken::ByIndex,
        )
        .insert::<user::Entity>(
            "registered",
            at.dialect,
            "INSERT INTO users (id, username, email, display_name, is_active, is_verified, created_at, updated_at)
                SELECT :user, :username, :email, :display_name, TRUE, :is_verified, :now, :now FROM free WHERE TRUE
                ON CONFLICT DO NOTHING",
        );
        with_sign_in_method(at, plan, user, account.provider)
    }
}

/// What keeps two users from one name.
#[derive(Clone, Copy)]
pub(super) enum Taken {
    /// The insert says `ON CONFLICT DO NOTHING`.
    ByIndex,
    /// The update asks, of everybody but `:user`.
    ByOthers,
}

/// Requires that nobody has the name or the address, deleted users included. `:username_key` and `:email_key` are bound.
pub(super) fn names_are_free(
    dialect: Dialect,
    plan: Plan,
    username: Option<&str>,
    email: Option<&str>,
    taken: Taken,
) -> Plan {
    let others = match taken {
        Taken::ByIndex => "",
        Taken::ByOthers => "id <> :user AND ",
    };
    let plan = plan
        .bind("username_key", username.map(input::login_key))
        .bind("email_key", email.map(input::login_key))
        .view::<user::Entity>(
            "same_name",
            format!("{others}{} = :username_key", dialect.folded("username")),
        )
        .view::<user::Entity>(
            "same_email",
            format!("{others}{} = :email_key", dialect.folded("email")),
        );
    match taken {
        Taken::ByIndex => plan
            .absent_by("uq_users_username", "same_name", Conflict::UsernameTaken)
            .absent_by("uq_users_email", "same_email", Conflict::EmailTaken),
        Taken::ByOthers => plan
            .absent("same_name", Conflict::UsernameTaken)
            .absent("same_email", Conflict::EmailTaken),
    }
}

/// The rest of a registration, after the step `registered`: the sign-in method, with `:provider_id` and `:email`, and the event.
fn with_sign_in_method(at: &Moment<'_>, plan: Plan, user: UserId, provider: AuthProviderType) -> Plan {
    let change = Change::UserRegistered { target: user, provider };
    plan.bind("provider", at.id())
        .bind("provider_type", Bind::of_enum(&provider))
        .effect(
            "provided",
            "INSERT INTO auth_providers (id, user_id, provider_type, provider_id, provider_email, created_at, updated_at)
            SELECT :provider, registered.id, :provider_type, :provider_id, :email, :now, :now FROM registered",
        )
        .event(at, &Event::of(&change, "registered"))
}
