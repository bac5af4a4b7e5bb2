//! `users()`: who exists.

use entity::{Secret, UserId, auth_provider, user};
use sea_orm::sea_query::{Expr, ExprTrait};
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
    source: &'a S,
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
        let Some(key) = input::login_key(login) else {
            return Ok(None);
        };
        let dialect = self.source.store().dialect();
        let found = scope::find::<user::Entity, Live>()
            .filter(user::Column::IsActive.eq(true))
            .filter(has_name_or_address(dialect, &key, Some(&key)))
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

fn has_name_or_address(dialect: Dialect, username_key: &str, email_key: Option<&str>) -> Condition {
    Condition::any()
        .add(Expr::cust(dialect.folded("users.username")).eq(username_key))
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
        let address = self.email.as_deref().and_then(input::login_key);
        let keys = (name.as_deref().unwrap_or_default(), address.as_deref());
        let taken_by = scope::find::<user::Entity, Any>()
            .filter(has_name_or_address(at.dialect, keys.0, keys.1))
            .all(db)
            .await?;
        let named = taken_by.iter().any(|user| input::login_key(&user.username) == name);
        Ok(match (named, taken_by.is_empty()) {
            (true, _) => Some(Conflict::UsernameTaken.into()),
            (false, false) => Some(Conflict::EmailTaken.into()),
            (false, true) => None,
        })
    }
}
