//! Tokens in their table: stored, opened, moved to a new key. [`crate::tokens`] has the keys and the encryption.

use chrono::{DateTime, Utc};
use entity::{AuthProviderId, AuthProviderType, Secret, UserId, auth_provider};
use sea_orm::sea_query::{Expr, ExprTrait, Func};
use sea_orm::{ColumnTrait, Condition, QueryFilter, QueryOrder, QuerySelect};

use super::AuthProviders;
use crate::authority::Operation as Asked;
use crate::error::{Error, Result, Subject};
use crate::event::Change;
use crate::input;
use crate::operation::{Columns, Event, Moment, Operation, Plan};
use crate::read::FetchEntity;
use crate::scope;
use crate::tokens::{KeyRing, Place};
use crate::unit::{Sink, Source, only_the_system};

/// What a call of [`AuthProviders::reencrypt_tokens`] came to.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Reencrypted {
    /// How many accounts' tokens are under the current key now that were not before.
    pub done: u16,
    /// Accounts whose tokens do not open, of those that were looked at.
    pub unreadable: Vec<AuthProviderId>,
    /// Where the next call goes on; none when the end of the table was reached.
    pub next: Option<AuthProviderId>,
}

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
        let Some(row) = self.find(provider).await? else {
            return Ok(None);
        };
        let Some(access) = &row.access_token else {
            return Ok(None);
        };
        let keys = self.source.context().token_keys().ok_or(Error::NoTokenKey)?;
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
    /// lock; one statement on PostgreSQL. For oneself, or by the system for anybody.
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
        let keys = self.source.context().token_keys().ok_or(Error::NoTokenKey)?;
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

    /// Puts up to `limit` accounts' tokens under the current key, from behind the account `after` on, by id; without it, from the
    /// beginning. Until `next` is none there may be more. What somebody else writes meanwhile is left alone, so that any number of
    /// these may run at once, beside the service. Appends one PROVIDER_TOKENS_REENCRYPTED for each; each is an operation of its
    /// own. Reads the table by its primary key: it is for maintenance. By the system.
    ///
    /// # Errors
    /// [`Error::NoTokenKey`]; [`crate::Rejected::NotAllowed`]; [`Error::UnreadableToken`] for the first account whose tokens do
    /// not open, when this call found nothing else to do: those that do are never held up by one that does not.
    pub async fn reencrypt_tokens(&self, after: Option<AuthProviderId>, limit: u16) -> Result<Reencrypted> {
        only_the_system(self.source, Asked::ManageAccount).await?;
        let keys = self.source.context().token_keys().ok_or(Error::NoTokenKey)?;
        let mut outcome = Reencrypted {
            next: after,
            ..Reencrypted::default()
        };
        let mut unreadable = None;
        while outcome.done < limit {
            let wanted = limit - outcome.done;
            let rows = self.under_older_keys(keys, outcome.next, wanted).await?;
            let Some(last) = rows.last().map(|row| row.id) else {
                outcome.next = None;
                break;
            };
            let at_end = rows.len() < usize::from(wanted);
            for row in rows {
                let (access, refresh) = match reseal(keys, &row) {
                    Ok(resealed) => resealed,
                    Err(error) => {
                        outcome.unreadable.push(row.id);
                        unreadable = unreadable.or(Some(error));
                        continue;
                    }
                };
                let reencrypt = Reencrypt {
                    row,
                    access,
                    refresh,
                    key: keys.current().id().to_owned(),
                };
                match self.source.perform(reencrypt).await {
                    Ok(()) => outcome.done += 1,
                    // Newer tokens were stored meanwhile, or another call was faster.
                    Err(Error::NotFound(_)) => {}
                    Err(error) => return Err(error),
                }
            }
            outcome.next = (!at_end).then_some(last);
            if at_end {
                break;
            }
        }
        match unreadable {
            Some(error) if outcome.done == 0 => Err(error),
            _ => Ok(outcome),
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
            let length = i32::try_from(prefix.len()).unwrap_or(i32::MAX);
            let begins = Func::cust("substr").arg(column.into_expr()).arg(1).arg(length);
            let begins = Expr::from(begins);
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
            .fetch_all(self.source, "auth_providers.reencrypt_tokens")
            .await
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

pub(crate) struct StoreTokens {
    pub(crate) user: UserId,
    pub(crate) provider: AuthProviderId,
    pub(crate) access: Secret,
    pub(crate) refresh: Option<Secret>,
    pub(crate) expires_at: Option<DateTime<Utc>>,
}

impl Operation for StoreTokens {
    const NAME: &'static str = "auth_providers.store_tokens";
    type Output = auth_provider::Model;

    fn plan(&self, at: &Moment<'_>) -> Plan {
        let (user, provider) = (self.user, self.provider);
        let change = Change::ProviderTokensStored {
            target: user,
            provider: AuthProviderType::Local,
        };
        Plan::new(at, "stored")
            .denied(at.only_oneself(Asked::ManageAccount, None, user))
            .bind("provider", provider)
            .bind("access_token", self.access.clone())
            .bind("refresh_token", self.refresh.clone())
            .bind("expires_at", self.expires_at)
            .lock_account(user)
            .update::<auth_provider::Entity>(
                "stored",
                Columns::All,
                "access_token = :access_token, refresh_token = COALESCE(:refresh_token, refresh_token),
                token_expires_at = :expires_at, updated_at = :now",
                "id = :provider AND user_id = (SELECT id FROM account)",
            )
            .found("stored", Error::NotFound(Subject::Provider(provider)))
            .event(
                at,
                &Event::of(&change, "stored").computed("provider", "stored.provider_type"),
            )
    }
}

pub(crate) struct Reencrypt {
    pub(crate) row: auth_provider::Model,
    pub(crate) access: Option<Secret>,
    pub(crate) refresh: Option<Secret>,
    pub(crate) key: String,
}

impl Operation for Reencrypt {
    const NAME: &'static str = "auth_providers.reencrypt_tokens";
    type Output = ();

    /// Refused when the row is no more as it was read: somebody stored newer tokens, or was as fast as this.
    fn plan(&self, at: &Moment<'_>) -> Plan {
        let old = &self.row;
        let change = Change::ProviderTokensReencrypted {
            target: old.user_id,
            provider: old.provider_type,
            key: self.key.clone(),
        };
        Plan::new(at, "replaced")
            .bind("provider", old.id)
            .bind("old_access", old.access_token.clone())
            .bind("old_refresh", old.refresh_token.clone())
            .bind("access_token", self.access.clone())
            .bind("refresh_token", self.refresh.clone())
            .update::<auth_provider::Entity>(
                "replaced",
                &["id"],
                "access_token = :access_token, refresh_token = :refresh_token, updated_at = :now",
                "id = :provider AND access_token IS NOT DISTINCT FROM :old_access
                AND refresh_token IS NOT DISTINCT FROM :old_refresh",
            )
            .found("replaced", Error::NotFound(Subject::Provider(old.id)))
            .event(at, &Event::of(&change, "replaced"))
    }
}

/// For the list of all statements: what a re-encryption sends.
pub(crate) async fn list_statements<S: Sink>(on: &S, row: auth_provider::Model) {
    let providers = AuthProviders::new(on);
    if let Some(keys) = on.context().token_keys() {
        for after in [None, Some(row.id)] {
            let _ = providers.under_older_keys(keys, after, 1).await;
        }
    }
    let reencrypt = Reencrypt {
        row,
        access: None,
        refresh: None,
        key: String::new(),
    };
    let _ = on.perform(reencrypt).await;
}
