//! Providers' tokens, encrypted at rest with XChaCha20-Poly1305. docs/adr/0006 has the reasons.
//!
//! A stored text is `v1.<key id>.<base64 of nonce and ciphertext>`. What it belongs to (table, column, row, user) is bound to it
//! as associated data, so that a text copied elsewhere does not open. The key ring in [`crate::StoreSettings`] has the current
//! key, which seals, and older ones, which open what they sealed until [`AuthProviders::reencrypt_tokens`] has replaced it.

use std::fmt;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use chacha20poly1305::aead::{Aead, Payload};
use chacha20poly1305::{KeyInit, XChaCha20Poly1305, XNonce};
use chrono::{DateTime, Utc};
use entity::{AuthProviderId, Secret, UserId, auth_provider};
use rand::RngExt;
use sea_orm::sea_query::{Expr, ExprTrait};
use sea_orm::{
    ColumnTrait, Condition, DatabaseExecutor, DbErr, FromQueryResult, IdenStatic, QueryFilter, QueryOrder, QueryResult,
    QuerySelect,
};
use zeroize::Zeroizing;

use crate::auth_providers::{AuthProviders, find_of};
use crate::authority::Operation as Asked;
use crate::backend::plan::Plan;
use crate::backend::providers::{self as sql, SealedTokens};
use crate::error::{Error, Invalid, Result, Rule, Subject};
use crate::input;
use crate::operation::{Moment, Operation, only_the_platform};
use crate::scope;
use crate::unit::{Sink, Source};
use crate::users::why_not_changeable;

/// The most characters that a token may have.
pub const MAX_TOKEN_LENGTH: usize = 16_384;

const FORM: &str = "v1";
const TABLE: &str = "auth_providers";
const NONCE_LENGTH: usize = 24;

/// A key and its name. It prints its name only, and is wiped from memory when it goes.
#[derive(Clone)]
pub struct TokenKey {
    id: String,
    bytes: Zeroizing<[u8; 32]>,
}

impl TokenKey {
    /// A key of 32 random bytes. `id` stands in every text that it seals: 1 to 32 letters, digits, dashes and underscores,
    /// such as `2026-11`. A new key needs a new id.
    ///
    /// # Errors
    /// [`Invalid`] when `id` is none.
    pub fn new(id: &str, bytes: [u8; 32]) -> Result<Self, Invalid> {
        let bytes = Zeroizing::new(bytes);
        if !is_key_id(id) {
            return Err(Invalid {
                field: "key_id",
                rule: Rule::KeyId,
            });
        }
        Ok(Self {
            id: id.to_owned(),
            bytes,
        })
    }

    /// The same, from what `openssl rand -base64 32` prints.
    ///
    /// # Errors
    /// [`Invalid`] when `id` is none, or the text is not 32 bytes in base64.
    pub fn from_base64(id: &str, text: &str) -> Result<Self, Invalid> {
        let invalid = || Invalid {
            field: "key",
            rule: Rule::KeyBytes,
        };
        let bytes = Zeroizing::new(STANDARD.decode(text.trim()).map_err(|_| invalid())?);
        Self::new(id, bytes.as_slice().try_into().map_err(|_| invalid())?)
    }

    /// Its name.
    pub fn id(&self) -> &str {
        &self.id
    }

    fn cipher(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new((&*self.bytes).into())
    }
}

fn is_key_id(text: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    (1..=32).contains(&text.len()) && text.chars().all(fits)
}

impl fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenKey").field("id", &self.id).finish_non_exhaustive()
    }
}

/// The keys for providers' tokens: the current one seals, all of them open. Cheap to clone.
#[derive(Clone, Debug)]
pub struct KeyRing {
    /// The current one first.
    keys: Arc<[TokenKey]>,
}

impl KeyRing {
    /// A ring with a current key, and with the older ones that may still be in use.
    ///
    /// # Errors
    /// [`Invalid`] when two have the same id.
    pub fn new(current: TokenKey, older: impl IntoIterator<Item = TokenKey>) -> Result<Self, Invalid> {
        let mut keys = vec![current];
        for key in older {
            if keys.iter().any(|known| known.id == key.id) {
                return Err(Invalid {
                    field: "key_id",
                    rule: Rule::Unique,
                });
            }
            keys.push(key);
        }
        Ok(Self { keys: keys.into() })
    }

    /// The key that seals.
    pub fn current(&self) -> &TokenKey {
        &self.keys[0]
    }

    /// What every text of the current key begins with.
    fn prefix(&self) -> String {
        format!("{FORM}.{}.", self.current().id)
    }

    fn seal(&self, place: Place, token: &Secret) -> Result<Secret> {
        let key = self.current();
        let nonce: [u8; NONCE_LENGTH] = rand::rng().random();
        let payload = Payload {
            msg: token.expose().as_bytes(),
            aad: &place.associated_data(&key.id),
        };
        let sealed = key.cipher().encrypt(&XNonce::from(nonce), payload);
        let sealed = sealed.map_err(|_| place.unreadable(Unreadable::NotSealed))?;
        let text = URL_SAFE_NO_PAD.encode([&nonce[..], &sealed].concat());
        Ok(Secret::new(format!("{}{text}", self.prefix())))
    }

    fn open(&self, place: Place, stored: &Secret) -> Result<Secret> {
        let (key_id, nonce, sealed) = parse(stored.expose()).ok_or(place.unreadable(Unreadable::NotSealed))?;
        let key = self.keys.iter().find(|key| key.id == key_id);
        let key = key.ok_or(place.unreadable(Unreadable::UnknownKey))?;
        let payload = Payload {
            msg: &sealed,
            aad: &place.associated_data(&key.id),
        };
        let token = key.cipher().decrypt(&XNonce::from(nonce), payload);
        let token = token.map_err(|_| place.unreadable(Unreadable::NotAuthentic))?;
        let token = String::from_utf8(token).map_err(|_| place.unreadable(Unreadable::NotAuthentic))?;
        Ok(Secret::new(token))
    }
}

fn parse(text: &str) -> Option<(&str, [u8; NONCE_LENGTH], Vec<u8>)> {
    let (key_id, sealed) = text.strip_prefix(FORM)?.strip_prefix('.')?.split_once('.')?;
    let bytes = URL_SAFE_NO_PAD.decode(sealed).ok()?;
    let (nonce, sealed) = bytes.split_first_chunk()?;
    is_key_id(key_id).then(|| (key_id, *nonce, sealed.to_vec()))
}

/// Where a token lives.
#[derive(Clone, Copy)]
struct Place {
    column: &'static str,
    row: AuthProviderId,
    user: UserId,
}

impl Place {
    fn access(row: AuthProviderId, user: UserId) -> Self {
        let column = "access_token";
        Self { column, row, user }
    }

    fn refresh(row: AuthProviderId, user: UserId) -> Self {
        let column = "refresh_token";
        Self { column, row, user }
    }

    /// None of the parts has a U+0000, so no two places have the same.
    fn associated_data(&self, key_id: &str) -> Vec<u8> {
        let Self { column, row, user } = self;
        format!("{FORM}\0{key_id}\0{TABLE}\0{column}\0{row}\0{user}").into_bytes()
    }

    fn unreadable(&self, reason: Unreadable) -> Error {
        Error::UnreadableToken {
            table: TABLE,
            column: self.column,
            row: self.row,
            reason,
        }
    }
}

/// Why a stored token does not open. The text itself is never told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unreadable {
    /// It does not have the form of an encrypted token.
    #[error("it is not an encrypted token")]
    NotSealed,
    /// The key ring has no key with the id that stands in it.
    #[error("its key is not on the key ring")]
    UnknownKey,
    /// It was altered, copied from another place, or sealed by another key of the same id.
    #[error("it was altered, is not from this place, or is under another key of that id")]
    NotAuthentic,
}

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
            .then(|| Error::NotFound(Subject::Provider(self.provider))))
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

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn key(id: &str, byte: u8) -> TokenKey {
        TokenKey::new(id, [byte; 32]).unwrap()
    }

    fn place(column: &'static str, row: u128, user: u128) -> Place {
        let (row, user) = (Uuid::from_u128(row), Uuid::from_u128(user));
        Place {
            column,
            row: AuthProviderId::from_uuid(row),
            user: UserId::from_uuid(user),
        }
    }

    fn reason(result: Result<Secret>) -> Unreadable {
        match result {
            Err(Error::UnreadableToken { reason, .. }) => reason,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_text_opens_in_its_place_only() {
        let ring = KeyRing::new(key("a", 1), []).unwrap();
        let here = place("access_token", 1, 2);
        let token = Secret::new("gho_token");
        let sealed = ring.seal(here, &token).unwrap();
        assert_eq!(ring.open(here, &sealed).unwrap(), token);
        for elsewhere in [
            place("refresh_token", 1, 2),
            place("access_token", 2, 2),
            place("access_token", 1, 1),
        ] {
            assert_eq!(reason(ring.open(elsewhere, &sealed)), Unreadable::NotAuthentic);
        }
        // No two texts of one token are alike.
        assert_ne!(ring.seal(here, &token).unwrap(), sealed);
    }

    #[test]
    fn keys_are_told_apart_by_id_and_by_bytes() {
        let here = place("access_token", 1, 2);
        let token = Secret::new("gho_token");
        let sealed = KeyRing::new(key("a", 1), []).unwrap().seal(here, &token).unwrap();
        let rotated = KeyRing::new(key("b", 2), [key("a", 1)]).unwrap();
        assert_eq!(rotated.open(here, &sealed).unwrap(), token);
        assert!(rotated.seal(here, &token).unwrap().expose().starts_with("v1.b."));
        let lost = KeyRing::new(key("b", 2), []).unwrap();
        assert_eq!(reason(lost.open(here, &sealed)), Unreadable::UnknownKey);
        let wrong = KeyRing::new(key("a", 9), []).unwrap();
        assert_eq!(reason(wrong.open(here, &sealed)), Unreadable::NotAuthentic);
        assert_eq!(KeyRing::new(key("a", 1), [key("a", 2)]).unwrap_err().rule, Rule::Unique);
    }

    #[test]
    fn every_altered_text_is_refused() {
        let ring = KeyRing::new(key("a", 1), [key("b", 1)]).unwrap();
        let here = place("access_token", 1, 2);
        let sealed = ring.seal(here, &Secret::new("gho_token")).unwrap();
        let text = sealed.expose();
        for at in 0..text.len() {
            for other in ["A", "b", "."] {
                let mut altered = text.to_owned();
                altered.replace_range(at..=at, other);
                if altered != text {
                    assert!(ring.open(here, &Secret::new(altered)).is_err(), "{at}");
                }
            }
            assert!(ring.open(here, &Secret::new(&text[..at])).is_err(), "{at}");
        }
    }

    #[test]
    fn keys_do_not_print_and_have_a_form() {
        let ring = KeyRing::new(key("a", 0xab), [key("b", 0xcd)]).unwrap();
        assert_eq!(
            format!("{ring:?}"),
            r#"KeyRing { keys: [TokenKey { id: "a", .. }, TokenKey { id: "b", .. }] }"#
        );
        for id in ["", "a.b", "a b", "ä", &"a".repeat(33)] {
            assert_eq!(TokenKey::new(id, [0; 32]).unwrap_err().rule, Rule::KeyId);
        }
        let text = STANDARD.encode([7; 32]);
        assert!(TokenKey::from_base64("a", &format!("{text}\n")).is_ok());
        for bad in ["", "AAAA", "not base64!"] {
            assert_eq!(TokenKey::from_base64("a", bad).unwrap_err().rule, Rule::KeyBytes);
        }
    }
}
