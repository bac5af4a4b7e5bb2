//! Who is signed in: the service's own tables, beside the store's in one database.
//!
//! A token is 256 random bits, which the client alone has; the tables have its SHA-256, so that whoever reads them can be nobody. A ticket
//! opens one WebSocket, within half a minute, for clients that can send neither a cookie nor a header with it.

#![allow(
    clippy::disallowed_methods,
    reason = "the service's own tables have no deleted rows and no audit log"
)]

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, SubsecRound, TimeDelta, Utc};
use conferencing_store::entity::{Secret, UserId, user};
use sea_orm::entity::prelude::*;
use sea_orm::{ActiveModelTrait, ConnectionTrait, QuerySelect, Set};
use sha2::{Digest, Sha256};

/// How long a ticket is good for.
const TICKET_TIME: TimeDelta = TimeDelta::seconds(30);

/// `signaling_sessions`: one row a login or a guest's visit.
pub mod session {
    #![allow(missing_docs, reason = "the derives' own code")]
    use super::{UserId, user};
    use sea_orm::entity::prelude::*;

    /// The row.
    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "signaling_sessions")]
    pub struct Model {
        /// SHA-256 of the token, in hexadecimal digits.
        #[sea_orm(primary_key, auto_increment = false)]
        pub token_hash: String,
        pub user_id: UserId,
        pub created_at: DateTimeUtc,
        pub expires_at: DateTimeUtc,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {
        #[sea_orm(belongs_to = "user::Entity", from = "Column::UserId", to = "user::Column::Id")]
        User,
    }

    impl Related<user::Entity> for Entity {
        fn to() -> RelationDef {
            Relation::User.def()
        }
    }

    impl ActiveModelBehavior for ActiveModel {}
}

/// `signaling_tickets`: one row a ticket that was not used.
pub mod ticket {
    #![allow(missing_docs, reason = "the derives' own code")]
    use sea_orm::entity::prelude::*;

    /// The row.
    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "signaling_tickets")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub token_hash: String,
        /// Whose it is.
        pub session_hash: String,
        pub expires_at: DateTimeUtc,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

/// The key of a session: what the tables have of its token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionKey(String);

impl SessionKey {
    fn of(token: &str) -> Self {
        let digest = Sha256::digest(token.as_bytes());
        Self(digest.iter().map(|byte| format!("{byte:02x}")).collect())
    }
}

fn new_token() -> Secret {
    Secret::new(URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>()))
}

/// A session for `user`, and the token that its client is to keep.
///
/// # Errors
/// Of the database.
pub async fn open(
    db: &impl ConnectionTrait,
    user: UserId,
    now: DateTime<Utc>,
    time: TimeDelta,
) -> Result<(Secret, DateTime<Utc>), DbErr> {
    let (token, now) = (new_token(), now.trunc_subsecs(6));
    let expires_at = now + time;
    let row = session::ActiveModel {
        token_hash: Set(SessionKey::of(token.expose()).0),
        user_id: Set(user),
        created_at: Set(now),
        expires_at: Set(expires_at),
    };
    session::Entity::insert(row).exec_without_returning(db).await?;
    Ok((token, expires_at))
}

/// The session of a token and whose it is, if it goes on and its user is there and active. One statement.
///
/// # Errors
/// Of the database.
pub async fn find(
    db: &impl ConnectionTrait,
    token: &str,
    now: DateTime<Utc>,
) -> Result<Option<(SessionKey, user::Model)>, DbErr> {
    find_by_key(db, SessionKey::of(token), now).await
}

/// As [`find`], of one that was found before.
///
/// # Errors
/// Of the database.
pub async fn find_by_key(
    db: &impl ConnectionTrait,
    key: SessionKey,
    now: DateTime<Utc>,
) -> Result<Option<(SessionKey, user::Model)>, DbErr> {
    let found = session::Entity::find_by_id(key.0.clone())
        .filter(session::Column::ExpiresAt.gt(now))
        .find_also_related(user::Entity)
        .filter(user::Column::DeletedAt.is_null())
        .filter(user::Column::IsActive.eq(true))
        .one(db)
        .await?;
    Ok(found.and_then(|(_, user)| Some((key, user?))))
}

/// Ends a session, and its tickets with it.
///
/// # Errors
/// Of the database.
pub async fn close(db: &impl ConnectionTrait, key: &SessionKey) -> Result<(), DbErr> {
    session::Entity::delete_by_id(key.0.clone()).exec(db).await.map(drop)
}

/// A ticket of a session.
///
/// # Errors
/// Of the database.
pub async fn issue_ticket(
    db: &impl ConnectionTrait,
    session: &SessionKey,
    now: DateTime<Utc>,
) -> Result<(Secret, DateTime<Utc>), DbErr> {
    let (token, expires_at) = (new_token(), (now + TICKET_TIME).trunc_subsecs(6));
    let row = ticket::ActiveModel {
        token_hash: Set(SessionKey::of(token.expose()).0),
        session_hash: Set(session.0.clone()),
        expires_at: Set(expires_at),
    };
    row.insert(db).await?;
    Ok((token, expires_at))
}

/// The session whose ticket this is. It is used up: of two that come with it, the delete has one winner.
///
/// # Errors
/// Of the database.
pub async fn use_ticket(
    db: &impl ConnectionTrait,
    token: &str,
    now: DateTime<Utc>,
) -> Result<Option<(SessionKey, user::Model)>, DbErr> {
    let key = SessionKey::of(token).0;
    let Some(row) = ticket::Entity::find_by_id(key.clone())
        .filter(ticket::Column::ExpiresAt.gt(now))
        .one(db)
        .await?
    else {
        return Ok(None);
    };
    let used = ticket::Entity::delete_by_id(key).exec(db).await?;
    if used.rows_affected == 0 {
        return Ok(None);
    }
    find_by_key(db, SessionKey(row.session_hash), now).await
}

/// Deletes sessions and tickets that ran out, at most a thousand of each.
///
/// # Errors
/// Of the database.
pub async fn purge(db: &impl ConnectionTrait, now: DateTime<Utc>) -> Result<u64, DbErr> {
    let due: Vec<String> = session::Entity::find()
        .select_only()
        .column(session::Column::TokenHash)
        .filter(session::Column::ExpiresAt.lte(now))
        .limit(1000)
        .into_tuple()
        .all(db)
        .await?;
    let sessions = session::Entity::delete_many()
        .filter(session::Column::TokenHash.is_in(due))
        .exec(db)
        .await?;
    let tickets = ticket::Entity::delete_many()
        .filter(ticket::Column::ExpiresAt.lte(now))
        .exec(db)
        .await?;
    Ok(sessions.rows_affected + tickets.rows_affected)
}
