//! Providers' tokens, encrypted at rest with XChaCha20-Poly1305. docs/adr/0006 has the reasons.
//!
//! A stored text is `v1.<key id>.<base64 of nonce and ciphertext>`. What it belongs to (table, column, row, user) is bound to it
//! as associated data, so that a text copied elsewhere does not open. The key ring in [`crate::StoreSettings`] has the current
//! key, which seals, and older ones, which open what they sealed until
//! [`crate::auth_providers::AuthProviders::reencrypt_tokens`] has replaced it.

use std::fmt;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use chacha20poly1305::aead::{Aead, Payload};
use chacha20poly1305::{KeyInit, XChaCha20Poly1305, XNonce};
use entity::{AuthProviderId, Secret, UserId};
use rand::RngExt;
use zeroize::Zeroizing;

use crate::error::{Error, Invalid, Result, Rule};

pub use crate::error::Unreadable;

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
    pub(crate) fn prefix(&self) -> String {
        format!("{FORM}.{}.", self.current().id)
    }

    pub(crate) fn seal(&self, place: Place, token: &Secret) -> Result<Secret> {
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

    pub(crate) fn open(&self, place: Place, stored: &Secret) -> Result<Secret> {
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
pub(crate) struct Place {
    column: &'static str,
    row: AuthProviderId,
    user: UserId,
}

impl Place {
    pub(crate) fn access(row: AuthProviderId, user: UserId) -> Self {
        let column = "access_token";
        Self { column, row, user }
    }

    pub(crate) fn refresh(row: AuthProviderId, user: UserId) -> Self {
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
