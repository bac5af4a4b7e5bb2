//! Tokens in their table: stored, opened, moved to a new key.

use chrono::{DateTime, Utc};
use entity::{AuthProviderId, Secret, UserId, auth_provider};
use sea_orm::sea_query::{Expr, ExprTrait};
use sea_orm::{
    ColumnTrait, Condition, DatabaseExecutor, DbErr, FromQueryResult, IdenStatic, QueryFilter, QueryOrder, QueryResult,
    QuerySelect,
};

use crate::auth_providers::{AuthProviders, find_of};
use crate::authority::Operation as Asked;
use crate::backend::plan::Plan;
use crate::backend::providers::{self as sql, SealedTokens};
use crate::error::{Error, Result, Subject};
use crate::input;
use crate::operation::{Moment, Operation, only_the_platform};
use crate::scope;
use crate::tokens::{KeyRing, Place};
use crate::unit::{Sink, Source};
use crate::users::why_not_changeable;

/// The most characters that a token may have.
pub const MAX_TOKEN_LENGTH: usize = 16_384;

/// Tokens of an external account, in the clear. They do not print.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProviderTokens {
    /// 1 to [`MAX_TOKEN_LENGTH`] characters.
    pub access_token: Secret,
    /// Likewise. None keeps the one that is stored: providers send it once, and leave it out when the other is renewed.
    pub refresh_token: Option<Secret>,
    /// When the access token runs out.
    pub expires_at: Option<DateTime<Utc>>,
}

impl<S: Source> AuthProviders<'_, S> {
    /// The tokens of an external account, in the clear; none when it has none or does not exist.
    ///
    /// # Errors
    /// [`Error::NoTokenKey`] when this store has no key ring; [`Error::UnreadableToken`] when what is stored does not open.
    pub async fn open_tokens(&self, provider: AuthProviderId) -> Result<Option<ProviderTokens>> {
        let Some(row) = self.get(provider).await? else {
            return Ok(None);
        };
        let Some(access) = &row.access_token else {
            return Ok(None);
        };
        let keys = self.source.store().token_keys().ok_or(Error::NoTokenKey)?;
        let open = |place, text: &Secret| keys.open(place, text);
        let refresh = row.refresh_token.as_ref();
        Ok(Some(ProviderTokens {
            access_token: open(Place::access(row.id, row.user_id), access)?,
            refresh_token: refresh
                .map(|text| open(Place::refresh(row.id, row.user_id), text))
                .transpose()?,
            expires_at: row.token_expires_at,
        }))
    }
}

impl<S: Sink> AuthProviders<'_, S> {
    /// Stores an external account's tokens, encrypted under the current key. Appends PROVIDER_TOKENS_STORED. Takes the user's
    /// lock; one statement on PostgreSQL. For oneself, or by the platform for anybody.
    ///
    /// # Errors
    /// [`Error::NoTokenKey`] when this store has no key ring; [`Error::Invalid`]; [`Error::NotFound`] for the user, or for an
    /// account that is not theirs; [`crate::Rejected::UserInactive`]; [`crate::Rejected::NotAllowed`].
    pub async fn store_tokens(
        &self,
        user: UserId,
        provider: AuthProviderId,
        tokens: ProviderTokens,
    ) -> Result<auth_provider::Model> {
        let keys = self.source.store().token_keys().ok_or(Error::NoTokenKey)?;
        let refresh = tokens.refresh_token.as_ref();
        input::opaque("access_token", tokens.access_token.expose(), MAX_TOKEN_LENGTH)?;
        if let Some(refresh) = refresh {
            input::opaque("refresh_token", refresh.expose(), MAX_TOKEN_LENGTH)?;
        }
        let expires_at = tokens.expires_at.map(|at| input::time("token_expires_at", at));
        let operation = StoreTokens {
            user,
            provider,
            access: keys.seal(Place::access(provider, user), &tokens.access_token)?,
            refresh: refresh
                .map(|token| keys.seal(Place::refresh(provider, user), token))
                .transpose()?,
            expires_at: expires_at.transpose()?,
        };
        self.source.perform(operation).await
    }

    /// Puts up to `limit` accounts' tokens under the current key and says how many those were; 0 means that none is left. What
    /// somebody else writes meanwhile is left alone, so that any number of these may run at once, beside the service. Appends
    /// one PROVIDER_TOKENS_REENCRYPTED for each; each is an operation of its own. Reads the table from its beginning, for
    /// which there is no index: it is for maintenance. By the platform.
    ///
    /// # Errors
    /// [`Error::NoTokenKey`]; [`crate::Rejected::NotAllowed`]; [`Error::UnreadableToken`] for the first account whose tokens do
    /// not open, once no other is left: those that do are never held up by one that does not.
    pub async fn reencrypt_tokens(&self, limit: u16) -> Result<u16> {
        only_the_platform(self.source, Asked::ManageAccount).await?;
        let keys = self.source.store().token_keys().ok_or(Error::NoTokenKey)?;
        let mut done = 0;
        let mut after = None;
        let mut unreadable = None;
        while done < limit {
            let rows = self.under_older_keys(keys, after, limit - done).await?;
            let Some(last) = rows.last() else {
                break;
            };
            after = Some(last.id);
            for row in rows {
                match reseal(keys, &row) {
                    Ok((access, refresh)) => {
                        let key = keys.current().id.clone();
                        match self
                            .source
                            .perform(Reencrypt {
                                row,
                                access,
                                refresh,
                                key,
                            })
                            .await
                        {
                            Ok(()) => done += 1,
                            Err(Error::NotFound(_)) => {}
                            Err(error) => return Err(error),
                        }
                    }
                    Err(error) => unreadable = unreadable.or(Some(error)),
                }
            }
        }
        match unreadable {
            Some(error) if done == 0 => Err(error),
            _ => Ok(done),
        }
    }

    async fn under_older_keys(
        &self,
        keys: &KeyRing,
        after: Option<AuthProviderId>,
        limit: u16,
    ) -> Result<Vec<auth_provider::Model>> {
        let prefix = keys.prefix();
        let older = |column: auth_provider::Column| {
            let begins = Expr::cust(format!(
                "substr(auth_providers.{}, 1, {})",
                column.as_str(),
                prefix.len()
            ));
            column.is_not_null().and(begins.ne(prefix.as_str()))
        };
        let mut rows = scope::find_undeletable::<auth_provider::Entity>().filter(
            Condition::any()
                .add(older(auth_provider::Column::AccessToken))
                .add(older(auth_provider::Column::RefreshToken)),
        );
        if let Some(after) = after {
            rows = rows.filter(auth_provider::Column::Id.gt(after));
        }
        rows.order_by_asc(auth_provider::Column::Id)
            .limit(u64::from(limit))
            .all(&self.source.executor())
            .await
            .map_err(|error| self.source.failed(&error, "reencrypt_tokens"))
    }
}

fn reseal(keys: &KeyRing, row: &auth_provider::Model) -> Result<(Option<Secret>, Option<Secret>)> {
    let reseal = |place, text: &Option<Secret>| {
        let again = |text| keys.open(place, text).and_then(|token| keys.seal(place, &token));
        text.as_ref().map(again).transpose()
    };
    let access = reseal(Place::access(row.id, row.user_id), &row.access_token)?;
    let refresh = reseal(Place::refresh(row.id, row.user_id), &row.refresh_token)?;
    Ok((access, refresh))
}

struct StoreTokens {
    user: UserId,
    provider: AuthProviderId,
    access: Secret,
    refresh: Option<Secret>,
    expires_at: Option<DateTime<Utc>>,
}

impl Operation for StoreTokens {
    const NAME: &'static str = "auth_providers.store_tokens";
    type Output = auth_provider::Model;

    fn forbidden(&self, at: &Moment<'_>) -> Option<Error> {
        at.only_oneself(Asked::ManageAccount, None, self.user)
    }

    fn plan(&self, at: &Moment<'_>) -> Plan {
        let sealed = SealedTokens {
            access: self.access.clone(),
            refresh: self.refresh.clone(),
        };
        sql::store_tokens(at, self.user, self.provider, sealed, self.expires_at)
    }

    fn read(&self, row: &QueryResult) -> Result<auth_provider::Model, DbErr> {
        auth_provider::Model::from_query_result(row, "")
    }

    async fn refusal(&self, db: &DatabaseExecutor<'_>, at: &Moment<'_>) -> Result<Option<Error>, DbErr> {
        if let Some(error) = why_not_changeable(db, at, self.user).await? {
            return Ok(Some(error));
        }
        let account = find_of(db, self.user, self.provider).await?;
        Ok(account
            .is_none()
            .then_some(Error::NotFound(Subject::Provider(self.provider))))
    }
}

struct Reencrypt {
    row: auth_provider::Model,
    access: Option<Secret>,
    refresh: Option<Secret>,
    key: String,
}

impl Operation for Reencrypt {
    const NAME: &'static str = "auth_providers.reencrypt_tokens";
    type Output = ();

    fn plan(&self, at: &Moment<'_>) -> Plan {
        sql::replace_tokens(at, &self.row, self.access.clone(), self.refresh.clone(), &self.key)
    }

    fn read(&self, _: &QueryResult) -> Result<(), DbErr> {
        Ok(())
    }

    /// The row as it was read is no more: somebody stored newer tokens, or was as fast as this.
    async fn refusal(&self, _: &DatabaseExecutor<'_>, _: &Moment<'_>) -> Result<Option<Error>, DbErr> {
        Ok(Some(Error::NotFound(Subject::Provider(self.row.id))))
    }
}
