//! `verify_email`: an e-mail address was proven.

use entity::{UserId, user};

use super::Users;
use crate::authority::Operation as Asked;
use crate::error::{Rejected, Result};
use crate::event::Change;
use crate::input;
use crate::operation::{Columns, Event, Moment, Operation, Plan};
use crate::unit::Sink;

impl<S: Sink> Users<'_, S> {
    /// Marks an address as proven: the one that the proof was sent to, which may have been changed since. Appends
    /// USER_VERIFIED. Takes the user's lock; one statement on PostgreSQL. For oneself, or by the system for anybody,
    /// deactivated users included.
    ///
    /// # Errors
    /// [`crate::Error::NotFound`]; [`Rejected::EmailNotCurrent`]; [`Rejected::AlreadyVerified`]; [`Rejected::UserInactive`];
    /// [`Rejected::NotAllowed`].
    pub async fn verify_email(&self, user: UserId, email: &str) -> Result<user::Model> {
        let email_key = input::login_key(email);
        self.source.perform(VerifyEmail { user, email_key }).await
    }
}

pub(crate) struct VerifyEmail {
    pub(crate) user: UserId,
    pub(crate) email_key: String,
}

impl Operation for VerifyEmail {
    const NAME: &'static str = "users.verify_email";
    type Output = user::Model;

    fn plan(&self, at: &Moment<'_>) -> Plan {
        let user = self.user;
        Plan::new(at, "changed")
            .denied(at.only_oneself(Asked::ManageAccount, None, user))
            .bind("email_key", self.email_key.clone())
            .lock_account(user)
            .guard(
                "account",
                format!("{} = :email_key", at.dialect.folded("email")),
                Rejected::EmailNotCurrent { user },
            )
            .guard("account", "NOT is_verified", Rejected::AlreadyVerified { user })
            .update::<user::Entity>(
                "changed",
                Columns::All,
                "is_verified = TRUE, updated_at = :now",
                "id = (SELECT id FROM account)",
            )
            .event(at, &Event::of(&Change::UserVerified { target: user }, "changed"))
    }
}
