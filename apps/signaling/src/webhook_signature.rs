//! Signatures of webhooks, as <https://www.standardwebhooks.com> has them: HMAC-SHA256 over id, time and body, in base64.

use axum::http::HeaderMap;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, TimeDelta, Utc};
use conferencing_store::entity::Secret;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

/// How far the sender's clock may be from ours, and how late a delivery may be. It says nothing of when the event happened.
const TOLERANCE: TimeDelta = TimeDelta::minutes(5);
const PREFIX: &str = "whsec_";

/// The key that we share with the media server.
pub struct WebhookKey(Hmac<Sha256>);

impl WebhookKey {
    /// From `whsec_` and the key in base64, of 24 bytes or more.
    ///
    /// # Errors
    /// What it must be.
    pub fn new(secret: &Secret) -> Result<Self, &'static str> {
        let expected = "must be whsec_ and 24 to 64 bytes in base64";
        let text = secret.expose();
        let key = STANDARD
            .decode(text.strip_prefix(PREFIX).unwrap_or(text))
            .map_err(|_| expected)?;
        if !(24..=64).contains(&key.len()) {
            return Err(expected);
        }
        Hmac::new_from_slice(&key).map(Self).map_err(|_| expected)
    }

    fn over(&self, id: &str, timestamp: &str, body: &[u8]) -> Hmac<Sha256> {
        let mut mac = self.0.clone();
        for part in [id.as_bytes(), b".", timestamp.as_bytes(), b".", body] {
            mac.update(part);
        }
        mac
    }

    /// The signature of a delivery, as its header has it.
    pub fn sign(&self, id: &str, at: DateTime<Utc>, body: &[u8]) -> String {
        let mac = self.over(id, &at.timestamp().to_string(), body);
        format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
    }

    /// The id of a delivery that is signed by this key and was sent just now; none of any other. Compared in constant time.
    pub(crate) fn verify<'a>(&self, headers: &'a HeaderMap, body: &[u8], now: DateTime<Utc>) -> Option<&'a str> {
        let text = |name: &str| headers.get(name)?.to_str().ok();
        let (id, timestamp) = (text("webhook-id")?, text("webhook-timestamp")?);
        let at = DateTime::from_timestamp(timestamp.parse().ok()?, 0)?;
        if (now - at).abs() > TOLERANCE {
            return None;
        }
        // Several while the key is changed.
        let mut signatures = text("webhook-signature")?
            .split(' ')
            .filter_map(|one| one.strip_prefix("v1,"));
        let signed = signatures.any(|signature| {
            let signature = STANDARD.decode(signature).unwrap_or_default();
            self.over(id, timestamp, body).verify_slice(&signature).is_ok()
        });
        signed.then_some(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> Result<WebhookKey, &'static str> {
        WebhookKey::new(&Secret::new(text))
    }

    fn headers(id: &str, timestamp: &str, signature: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("webhook-id", id),
            ("webhook-timestamp", timestamp),
            ("webhook-signature", signature),
        ] {
            headers.insert(name.parse::<axum::http::HeaderName>().unwrap(), value.parse().unwrap());
        }
        headers
    }

    /// The vector of the specification's own libraries.
    #[test]
    fn a_delivery_is_signed_as_others_sign_it() {
        let key = key("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let (id, at, body) = ("msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", br#"{"test": 2432232314}"#);
        let signature = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
        let now = DateTime::from_timestamp(1_614_265_330, 0).unwrap();
        assert_eq!(key.sign(id, now, body), signature);
        let delivered = |headers: &HeaderMap, body: &[u8], now| key.verify(headers, body, now).map(str::to_owned);
        assert_eq!(delivered(&headers(id, at, signature), body, now).as_deref(), Some(id));
        let two = format!("v1,AAAA v2,x {signature}");
        assert_eq!(delivered(&headers(id, at, &two), body, now).as_deref(), Some(id));
        let late = now + TimeDelta::seconds(301);
        for (headers, body, now) in [
            (headers("msg_other", at, signature), &body[..], now),
            (headers(id, "1614265331", signature), &body[..], now),
            (headers(id, at, signature), &b"{}"[..], now),
            (headers(id, at, "v1,"), &body[..], now),
            (headers(id, at, "v1,rubbish!"), &body[..], now),
            (headers(id, at, &signature[3..]), &body[..], now),
            (headers(id, at, signature), &body[..], late),
            (headers(id, "rubbish", signature), &body[..], now),
            (HeaderMap::new(), &body[..], now),
        ] {
            assert_eq!(delivered(&headers, body, now), None, "{headers:?}");
        }
    }

    #[test]
    fn short_keys_are_refused() {
        assert!(key("whsec_AAAA").is_err());
        assert!(key("not base64!").is_err());
    }
}
