//! `set_password_hash`.

use entity::{AuthProviderType, Secret, UserId, auth_provider, user};

use super::Users;
use crate::authority::Operation as Asked;
use crate::database::statement::Bind;
use crate::error::Result;
use crate::event::Change;
use crate::input;
use crate::operation::{Columns, Event, Lock, Moment, Operation, Plan};
use crate::rules::has_account;
use crate::unit::Sink;

impl<S: Sink> Users<'_, S> {
    /// Sets the hash of the password, in its function's own notation. A user who had none gets a LOCAL account with it. Appends
    /// USER_PASSWORD_CHANGED. Takes the user's lock; one statement on PostgreSQL. For oneself, or by the system for anybody,
    /// deactivated users included. That the old password was asked for is the service's business.
    ///
    /// # Errors
    /// [`crate::Error::Invalid`]; [`crate::Error::NotFound`]; [`crate::Rejected::UserInactive`]; [`crate::Rejected::AccountRequired`];
    /// [`crate::Rejected::NotAllowed`].
    pub async fn set_password_hash(&self, user: UserId, hash: Secret) -> Result<user::Model> {
        let hash = input::password_hash(hash)?;
        self.source.perform(SetPasswordHash { user, hash }).await
    }
}

pub(crate) struct SetPasswordHash {
    pub(crate) user: UserId,
    pub(crate) hash: Secret,
}

impl Operation for SetPasswordHash {
    const NAME: &'static str = "users.set_password_hash";
    type Output = user::Model;

    fn plan(&self, at: &Moment<'_>) -> Plan {
        let user = self.user;
        let plan = Plan::new(at, "changed")
            .denied(at.only_oneself(Asked::ManageAccount, None, user))
            .bind("password_hash", self.hash.clone())
            .bind("provider", at.id())
            .bind("provider_type", Bind::of_enum(&AuthProviderType::Local))
            .bind("provider_id", user.to_string())
            .lock_account(user);
        has_account(plan, "account", user)
            // A locking select leaves out what somebody else unlinked while this waited for the user.
            .look::<auth_provider::Entity>(
                "local",
                Lock::Share,
                &["id"],
                "user_id = (SELECT id FROM account) AND provider_type = 'LOCAL'",
            )
            .update::<user::Entity>(
                "changed",
                Columns::All,
                "password_hash = :password_hash, updated_at = :now",
                "id = (SELECT id FROM account)",
            )
            .effect(
                "provided",
                "INSERT INTO auth_providers (id, user_id, provider_type, provider_id, provider_email, created_at, updated_at)
                SELECT :provider, changed.id, :provider_type, :provider_id, changed.email, :now, :now FROM changed
                WHERE NOT EXISTS (SELECT 1 FROM local) ON CONFLICT DO NOTHING",
            )
            .event(at, &Event::of(&Change::UserPasswordChanged { target: user }, "changed"))
    }
}
