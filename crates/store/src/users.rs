//! `users()`: who exists. [`external`] has those who come from elsewhere, [`login`] what a login leaves behind, [`account`] what
//! becomes of an account. [`crate::erasure`] and [`crate::export`] have methods of their own.

pub mod account;
pub mod external;
pub mod login;

pub(crate) use account::CheckedChange;
pub use account::{EmailChange, ProfileChange};
pub(crate) use external::{CheckedAccount, CheckedProfile};
pub use external::{ProviderEmail, ProviderProfile};
pub use login::{ProviderLogin, SignedInHow};

use entity::{AuthProviderType, Secret, UserId, auth_provider, user};
use sea_orm::sea_query::{Expr, ExprTrait, Query};
use sea_orm::{ColumnTrait, Condition, DatabaseExecutor, DbErr, FromQueryResult, QueryFilter, QueryResult};

use crate::backend::plan::Plan;
use crate::backend::{Dialect, users as sql};
use crate::error::{Conflict, Error, Rejected, Result, Subject};
use crate::input;
use crate::operation::{Moment, Operation};
use crate::scope::{self, Any, Deleted, Live, Visibility};
use crate::unit::{Sink, Source};

/// The repository of `users`: live ones unless [`Users::deleted`] or [`Users::any`] was asked for.
#[derive(Debug)]
pub struct Users<'a, S, V = Live> {
    pub(crate) source: &'a S,
    visibility: V,
}

/// What a local account is made of.
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

/// Somebody who may sign in.
#[derive(Clone, Debug)]
pub struct LoginCandidate {
    /// The user, with the password hash to check against.
    pub user: user::Model,
    /// All ways in.
    pub providers: Vec<auth_provider::Model>,
}

impl<'a, S: Source> Users<'a, S> {
    pub(crate) fn new(source: &'a S) -> Self {
        Self {
            source,
            visibility: Live,
        }
    }

    /// Deleted users instead.
    pub fn deleted(self) -> Users<'a, S, Deleted> {
        Users {
            source: self.source,
            visibility: Deleted,
        }
    }

    /// Users, deleted or not.
    pub fn any(self) -> Users<'a, S, Any> {
        Users {
            source: self.source,
            visibility: Any,
        }
    }

    /// Who signs in with this username or e-mail address, whatever its case: live, active users only. One statement.
    ///
    /// # Errors
    /// None beyond the database's own; what could be no name at all is simply not found.
    pub async fn find_for_login(&self, login: &str) -> Result<Option<LoginCandidate>> {
        let key = input::login_key(login);
        let dialect = self.source.store().dialect();
        let found = scope::find::<user::Entity, Live>()
            .filter(user::Column::IsActive.eq(true))
            .filter(has_name_or_address(dialect, Some(&key), Some(&key)))
            .find_with_related(auth_provider::Entity)
            .all(&self.source.executor())
            .await
            .map_err(|error| self.source.failed(&error, "find_for_login"))?;
        // A username has no @ and an address has one, so there cannot be two.
        Ok(found
            .into_iter()
            .next()
            .map(|(user, providers)| LoginCandidate { user, providers }))
    }

    /// Who signs in with this external account: live, active users only. One statement, served by
    /// `uq_auth_providers_account`.
    ///
    /// # Errors
    /// None beyond the database's own; an account that nobody linked, or that cannot be one, is simply not found.
    pub async fn find_for_provider(
        &self,
        provider: AuthProviderType,
        provider_id: &str,
    ) -> Result<Option<LoginCandidate>> {
        if input::opaque("provider_id", provider_id, 255).is_err() {
            return Ok(None);
        }
        let account = Query::select()
            .column(auth_provider::Column::UserId)
            .from(auth_provider::Entity)
            .and_where(auth_provider::Column::ProviderType.eq(provider))
            .and_where(auth_provider::Column::ProviderId.eq(provider_id))
            .take();
        let found = scope::find::<user::Entity, Live>()
            .filter(user::Column::IsActive.eq(true))
            .filter(user::Column::Id.in_subquery(account))
            .find_with_related(auth_provider::Entity)
            .all(&self.source.executor())
            .await
            .map_err(|error| self.source.failed(&error, "find_for_provider"))?;
        Ok(found
            .into_iter()
            .next()
            .map(|(user, providers)| LoginCandidate { user, providers }))
    }
}

impl<S: Source, V: Visibility> Users<'_, S, V> {
    /// The user with this id.
    ///
    /// # Errors
    /// None beyond the database's own.
    pub async fn get(&self, id: UserId) -> Result<Option<user::Model>> {
        let _ = &self.visibility;
        scope::find::<user::Entity, V>()
            .filter(user::Column::Id.eq(id))
            .one(&self.source.executor())
            .await
            .map_err(|error| self.source.failed(&error, "users.get"))
    }

    /// The user with this id.
    ///
    /// # Errors
    /// [`Error::NotFound`] when there is none.
    pub async fn require(&self, id: UserId) -> Result<user::Model> {
        self.get(id).await?.ok_or(Error::NotFound(Subject::User(id)))
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
}

fn has_name_or_address(dialect: Dialect, username_key: Option<&str>, email_key: Option<&str>) -> Condition {
    Condition::any()
        .add_option(username_key.map(|key| Expr::cust(dialect.folded("users.username")).eq(key)))
        .add_option(email_key.map(|key| Expr::cust(dialect.folded("users.email")).eq(key)))
}

/// Why a user cannot own or join a room, if there is a reason.
pub(crate) async fn why_not_active(db: &DatabaseExecutor<'_>, id: UserId) -> Result<Option<Error>, DbErr> {
    let user = scope::find::<user::Entity, Live>().filter(user::Column::Id.eq(id));
    Ok(match user.one(db).await? {
        None => Some(Error::NotFound(Subject::User(id))),
        Some(user) if !user.is_active => Some(Rejected::UserInactive { user: id }.into()),
        Some(_) => None,
    })
}

/// Why an account cannot be changed, if there is a reason: it must be there, and be active unless the platform acts.
pub(crate) async fn why_not_changeable(
    db: &DatabaseExecutor<'_>,
    at: &Moment<'_>,
    id: UserId,
) -> Result<Option<Error>, DbErr> {
    let refusal = why_not_active(db, id).await?;
    Ok(refusal.filter(|error| !(at.actor.is_system() && matches!(error, Error::Rejected(_)))))
}

struct Register {
    username: String,
    email: Option<String>,
    display_name: String,
    password_hash: Secret,
}

impl Operation for Register {
    const NAME: &'static str = "users.register";
    type Output = user::Model;

    fn plan(&self, at: &Moment<'_>) -> Plan {
        let user = UserId::from_uuid(at.id());
        sql::register(
            at,
            user,
            &self.username,
            self.email.as_deref(),
            &self.display_name,
            &self.password_hash,
        )
    }

    fn read(&self, row: &QueryResult) -> Result<user::Model, DbErr> {
        user::Model::from_query_result(row, "")
    }

    async fn refusal(&self, db: &DatabaseExecutor<'_>, at: &Moment<'_>) -> Result<Option<Error>, DbErr> {
        let name = input::login_key(&self.username);
        let address = self.email.as_deref().map(input::login_key);
        taken(db, at, Some(&name), address.as_deref(), None).await
    }
}

/// Which of a name and an address somebody else has. `own` is who is not somebody else.
pub(crate) async fn taken(
    db: &DatabaseExecutor<'_>,
    at: &Moment<'_>,
    username_key: Option<&str>,
    email_key: Option<&str>,
    own: Option<UserId>,
) -> Result<Option<Error>, DbErr> {
    if username_key.is_none() && email_key.is_none() {
        return Ok(None);
    }
    let mut others =
        scope::find::<user::Entity, Any>().filter(has_name_or_address(at.dialect, username_key, email_key));
    if let Some(own) = own {
        others = others.filter(user::Column::Id.ne(own));
    }
    let others = others.all(db).await?;
    let named = |user: &user::Model| Some(input::login_key(&user.username).as_str()) == username_key;
    Ok(match (others.iter().any(named), others.is_empty()) {
        (true, _) => Some(Conflict::UsernameTaken.into()),
        (false, false) => Some(Conflict::EmailTaken.into()),
        (false, true) => None,
    })
}
