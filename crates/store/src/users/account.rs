//! What becomes of an account: its profile, its password, its verification, its standing.

use entity::{Secret, UserId, user};
use sea_orm::{ColumnTrait, DatabaseExecutor, DbErr, FromQueryResult, QueryFilter, QueryResult};

use crate::authority::Operation as Asked;
use crate::backend::accounts as sql;
use crate::backend::plan::Plan;
use crate::error::{Error, Invalid, Rejected, Result, Rule, Subject};
use crate::input;
use crate::operation::{Moment, Operation};
use crate::scope::{self, Live};
use crate::unit::Sink;
use crate::users::{Users, taken, why_not_changeable};

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
    pub(crate) fn username_key(&self) -> Option<String> {
        self.username.as_deref().map(input::login_key)
    }

    pub(crate) fn email_key(&self) -> Option<String> {
        self.email.iter().flatten().next().map(|email| input::login_key(email))
    }

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
    /// the platform for anybody, deactivated users included.
    ///
    /// # Errors
    /// [`Error::Invalid`], also when nothing is to change; [`Error::NotFound`]; [`Rejected::UserInactive`];
    /// [`crate::Conflict::UsernameTaken`]; [`crate::Conflict::EmailTaken`]; [`Rejected::NotAllowed`].
    pub async fn change_profile(&self, user: UserId, change: ProfileChange<'_>) -> Result<user::Model> {
        let change = CheckedChange::try_from(change)?;
        self.source.perform(ChangeProfile { user, change }).await
    }

    /// Sets the hash of the password, in its function's own notation. A user who had none gets a LOCAL account with it. Appends
    /// USER_PASSWORD_CHANGED. Takes the user's lock; one statement on PostgreSQL. For oneself, or by the platform for anybody,
    /// deactivated users included. That the old password was asked for is the service's business.
    ///
    /// # Errors
    /// [`Error::Invalid`]; [`Error::NotFound`]; [`Rejected::UserInactive`]; [`Rejected::NotAllowed`].
    pub async fn set_password_hash(&self, user: UserId, hash: Secret) -> Result<user::Model> {
        let hash = input::password_hash(hash)?;
        self.source.perform(SetPasswordHash { user, hash }).await
    }

    /// Marks an address as proven: the one that the proof was sent to, which may have been changed since. Appends
    /// USER_VERIFIED. Takes the user's lock; one statement on PostgreSQL. For oneself, or by the platform for anybody,
    /// deactivated users included.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Rejected::EmailNotCurrent`]; [`Rejected::AlreadyVerified`]; [`Rejected::UserInactive`];
    /// [`Rejected::NotAllowed`].
    pub async fn mark_verified(&self, user: UserId, email: &str) -> Result<user::Model> {
        let email_key = input::login_key(email);
        self.source.perform(MarkVerified { user, email_key }).await
    }

    /// Shuts an account: no login and no join any more, and every stay that is open ends now, with its duration. Appends
    /// USER_DEACTIVATED, which says how many those were; rooms that they own go on. Takes the user's lock, then those of the
    /// rooms they are in; two statements in one transaction. For oneself, or by the platform for anybody.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Rejected::UserInactive`] when it is shut already; [`Rejected::NotAllowed`].
    pub async fn deactivate(&self, user: UserId) -> Result<user::Model> {
        self.source.perform(Deactivate(user)).await
    }

    /// Opens a shut account. Appends USER_REACTIVATED. One statement on PostgreSQL. By the platform alone, since who is
    /// deactivated does nothing.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Rejected::UserActive`]; [`Rejected::UserInactive`] to the user themself;
    /// [`Rejected::NotAllowed`].
    pub async fn reactivate(&self, user: UserId) -> Result<user::Model> {
        self.source.perform(Reactivate(user)).await
    }
}

struct ChangeProfile {
    user: UserId,
    change: CheckedChange,
}

impl Operation for ChangeProfile {
    const NAME: &'static str = "users.change_profile";
    const CONTESTED: &'static [&'static str] = &["uq_users_username", "uq_users_email"];
    type Output = user::Model;

    fn forbidden(&self, at: &Moment<'_>) -> Option<Error> {
        at.only_oneself(Asked::ManageAccount, None, self.user)
    }

    fn plan(&self, at: &Moment<'_>) -> Plan {
        sql::change_profile(at, self.user, &self.change)
    }

    fn read(&self, row: &QueryResult) -> Result<user::Model, DbErr> {
        user::Model::from_query_result(row, "")
    }

    async fn refusal(&self, db: &DatabaseExecutor<'_>, at: &Moment<'_>) -> Result<Option<Error>, DbErr> {
        if let Some(error) = why_not_changeable(db, at, self.user).await? {
            return Ok(Some(error));
        }
        let (name, address) = (self.change.username_key(), self.change.email_key());
        taken(db, at, name.as_deref(), address.as_deref(), Some(self.user)).await
    }
}

struct SetPasswordHash {
    user: UserId,
    hash: Secret,
}

impl Operation for SetPasswordHash {
    const NAME: &'static str = "users.set_password_hash";
    type Output = user::Model;

    fn forbidden(&self, at: &Moment<'_>) -> Option<Error> {
        at.only_oneself(Asked::ManageAccount, None, self.user)
    }

    fn plan(&self, at: &Moment<'_>) -> Plan {
        sql::set_password_hash(at, self.user, &self.hash)
    }

    fn read(&self, row: &QueryResult) -> Result<user::Model, DbErr> {
        user::Model::from_query_result(row, "")
    }

    async fn refusal(&self, db: &DatabaseExecutor<'_>, at: &Moment<'_>) -> Result<Option<Error>, DbErr> {
        why_not_changeable(db, at, self.user).await
    }
}

struct MarkVerified {
    user: UserId,
    email_key: String,
}

impl Operation for MarkVerified {
    const NAME: &'static str = "users.mark_verified";
    type Output = user::Model;

    fn forbidden(&self, at: &Moment<'_>) -> Option<Error> {
        at.only_oneself(Asked::ManageAccount, None, self.user)
    }

    fn plan(&self, at: &Moment<'_>) -> Plan {
        sql::mark_verified(at, self.user, &self.email_key)
    }

    fn read(&self, row: &QueryResult) -> Result<user::Model, DbErr> {
        user::Model::from_query_result(row, "")
    }

    async fn refusal(&self, db: &DatabaseExecutor<'_>, at: &Moment<'_>) -> Result<Option<Error>, DbErr> {
        if let Some(error) = why_not_changeable(db, at, self.user).await? {
            return Ok(Some(error));
        }
        let user = self.user;
        Ok(match find(db, user).await? {
            None => Some(Error::NotFound(Subject::User(user))),
            Some(row) if row.email.as_deref().map(input::login_key).as_ref() != Some(&self.email_key) => {
                Some(Rejected::EmailNotCurrent { user }.into())
            }
            Some(row) => row.is_verified.then(|| Rejected::AlreadyVerified { user }.into()),
        })
    }
}

struct Deactivate(UserId);

impl Operation for Deactivate {
    const NAME: &'static str = "users.deactivate";
    type Output = user::Model;

    fn forbidden(&self, at: &Moment<'_>) -> Option<Error> {
        at.only_oneself(Asked::ManageAccount, None, self.0)
    }

    fn in_transaction(&self) -> bool {
        true
    }

    fn plan(&self, at: &Moment<'_>) -> Plan {
        sql::deactivate(at, self.0)
    }

    fn read(&self, row: &QueryResult) -> Result<user::Model, DbErr> {
        user::Model::from_query_result(row, "")
    }

    fn then(&self, _: &user::Model, at: &Moment<'_>) -> Option<Plan> {
        Some(sql::leave_everywhere(at, self.0))
    }

    async fn refusal(&self, db: &DatabaseExecutor<'_>, _: &Moment<'_>) -> Result<Option<Error>, DbErr> {
        super::why_not_active(db, self.0).await
    }
}

struct Reactivate(UserId);

impl Operation for Reactivate {
    const NAME: &'static str = "users.reactivate";
    type Output = user::Model;

    fn forbidden(&self, at: &Moment<'_>) -> Option<Error> {
        at.only_oneself(Asked::ManageAccount, None, self.0)
    }

    fn plan(&self, at: &Moment<'_>) -> Plan {
        sql::reactivate(at, self.0)
    }

    fn read(&self, row: &QueryResult) -> Result<user::Model, DbErr> {
        user::Model::from_query_result(row, "")
    }

    async fn refusal(&self, db: &DatabaseExecutor<'_>, at: &Moment<'_>) -> Result<Option<Error>, DbErr> {
        let user = self.0;
        Ok(match find(db, user).await? {
            None => Some(Error::NotFound(Subject::User(user))),
            Some(row) if row.is_active => Some(Rejected::UserActive { user }.into()),
            Some(_) => (!at.actor.is_system()).then(|| Rejected::UserInactive { user }.into()),
        })
    }
}

async fn find(db: &DatabaseExecutor<'_>, id: UserId) -> Result<Option<user::Model>, DbErr> {
    scope::find::<user::Entity, Live>()
        .filter(user::Column::Id.eq(id))
        .one(db)
        .await
}
