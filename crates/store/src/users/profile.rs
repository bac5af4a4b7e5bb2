//! `update_profile`: names and address.

use entity::{UserId, user};

use super::Users;
use super::register::{Taken, names_are_free};
use crate::authority::Operation as Asked;
use crate::error::{Error, Invalid, Rejected, Result, Rule};
use crate::event::Change;
use crate::input;
use crate::operation::{Columns, Event, Moment, Operation, Plan};
use crate::unit::Sink;

/// What is to change; the rest stays. [`ProfileChange::default`] changes nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct ProfileChange<'a> {
    /// The rules of [`crate::NewUser::username`].
    pub username: Option<&'a str>,
    /// 1 to 150 characters.
    pub display_name: Option<&'a str>,
    /// The address.
    pub email: EmailChange<'a>,
}

/// What is to become of an address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EmailChange<'a> {
    /// It stays.
    #[default]
    Keep,
    /// There is none any more.
    Remove,
    /// It is this from now on.
    To(&'a str),
}

/// A change that kept the rules.
pub(crate) struct CheckedChange {
    pub(crate) username: Option<String>,
    pub(crate) display_name: Option<String>,
    /// The outer none keeps, the inner none removes.
    pub(crate) email: Option<Option<String>>,
}

impl CheckedChange {
    /// Names of the fields that it sets.
    pub(crate) fn fields(&self) -> Vec<String> {
        let fields = [
            ("username", self.username.is_some()),
            ("display_name", self.display_name.is_some()),
            ("email", self.email.is_some()),
        ];
        let set = fields.into_iter().filter(|(_, is_set)| *is_set);
        set.map(|(name, _)| name.to_owned()).collect()
    }
}

impl TryFrom<ProfileChange<'_>> for CheckedChange {
    type Error = Error;

    fn try_from(change: ProfileChange<'_>) -> Result<Self> {
        let email = match change.email {
            EmailChange::Keep => None,
            EmailChange::Remove => Some(None),
            EmailChange::To(email) => Some(Some(input::email("email", email)?)),
        };
        let checked = Self {
            username: change.username.map(input::username).transpose()?,
            display_name: change
                .display_name
                .map(|name| input::line("display_name", name, 150))
                .transpose()?,
            email,
        };
        if checked.fields().is_empty() {
            return Err(Invalid {
                field: "profile",
                rule: Rule::NotEmpty,
            }
            .into());
        }
        Ok(checked)
    }
}

impl<S: Sink> Users<'_, S> {
    /// Changes names and address. An address that is not the same as before, whatever its case, is unverified. Appends
    /// USER_PROFILE_CHANGED with the names of the fields. Takes the user's lock; one statement on PostgreSQL. For oneself, or by
    /// the system for anybody, deactivated users included.
    ///
    /// # Errors
    /// [`Error::Invalid`], also when nothing is to change; [`Error::NotFound`]; [`crate::Rejected::UserInactive`];
    /// [`crate::Rejected::AccountRequired`] when a guest is to get a username or an address;
    /// [`crate::Conflict::UsernameTaken`]; [`crate::Conflict::EmailTaken`]; [`crate::Rejected::NotAllowed`].
    pub async fn update_profile(&self, user: UserId, change: ProfileChange<'_>) -> Result<user::Model> {
        let change = CheckedChange::try_from(change)?;
        self.source.perform(UpdateProfile { user, change }).await
    }
}

pub(crate) struct UpdateProfile {
    pub(crate) user: UserId,
    pub(crate) change: CheckedChange,
}

impl Operation for UpdateProfile {
    const NAME: &'static str = "users.update_profile";
    const CONTESTED: &'static [&'static str] = &["uq_users_username", "uq_users_email"];
    type Output = user::Model;

    /// The unique indexes fire when somebody takes a name at the same moment, and then nothing has happened.
    fn plan(&self, at: &Moment<'_>) -> Plan {
        let (user, change) = (self.user, &self.change);
        let email = change.email.clone().flatten();
        let fields = change.fields();
        let plan = Plan::new(at, "changed")
            .denied(at.only_oneself(Asked::ManageAccount, None, user))
            .bind("username", change.username.clone())
            .bind("display_name", change.display_name.clone())
            .bind("email_given", change.email.is_some())
            .bind("email", email.clone())
            .lock_account(user);
        // Guests have a name that others see, and none to sign in with.
        let plan = plan
            .bind("to_sign_in", change.username.is_some() || change.email.is_some())
            .guard(
                "account",
                "guest_since IS NULL OR NOT :to_sign_in",
                Rejected::AccountRequired { user, room: None },
            );
        names_are_free(
            at.dialect,
            plan,
            change.username.as_deref(),
            email.as_deref(),
            Taken::ByOthers,
        )
        .update::<user::Entity>(
            "changed",
            Columns::All,
            format!(
                "username = COALESCE(:username, username), display_name = COALESCE(:display_name, display_name),
                is_verified = CASE WHEN :email_given AND {} IS DISTINCT FROM :email_key THEN FALSE ELSE is_verified END,
                email = CASE WHEN :email_given THEN :email ELSE email END, updated_at = :now",
                at.dialect.folded("email")
            ),
            "id = (SELECT id FROM account)",
        )
        .effect(
            "followed",
            "UPDATE auth_providers SET provider_email = :email, updated_at = :now
            WHERE :email_given AND provider_type = 'LOCAL' AND user_id = (SELECT id FROM changed)",
        )
        .event(
            at,
            &Event::of(&Change::UserProfileChanged { target: user, fields }, "changed"),
        )
    }
}
