//! Who is signed in: in memory, so a restart signs everybody out. What a cookie says is kept as a digest alone.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use conferencing_store::entity::UserId;
use sha2::{Digest, Sha256};

/// Somebody who is signed in.
#[derive(Clone, Debug)]
pub(crate) struct Operator {
    pub(crate) id: UserId,
    pub(crate) username: String,
    /// What their forms say, and nobody else can know.
    pub(crate) form_token: String,
}

struct Session {
    operator: Operator,
    begun: Instant,
    seen: Instant,
}

pub(crate) struct Sessions {
    idle: Duration,
    longest: Duration,
    all: Mutex<HashMap<[u8; 32], Session>>,
}

/// The most at once; the one that was seen least lately makes room.
const MOST: usize = 200;

impl Sessions {
    pub(crate) fn new(idle: Duration, longest: Duration) -> Self {
        Self {
            idle,
            longest,
            all: Mutex::default(),
        }
    }

    /// Begins one; returns what its cookie says.
    pub(crate) fn begin(&self, id: UserId, username: String) -> String {
        let (cookie, form_token, now) = (secret(), secret(), Instant::now());
        let operator = Operator {
            id,
            username,
            form_token,
        };
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, session| self.is_good(session, now));
        if all.len() >= MOST
            && let Some(oldest) = all.iter().min_by_key(|(_, session)| session.seen).map(|(key, _)| *key)
        {
            all.remove(&oldest);
        }
        let session = Session {
            operator,
            begun: now,
            seen: now,
        };
        all.insert(digest(&cookie), session);
        cookie
    }

    /// Whose session it is, if it goes on.
    pub(crate) fn find(&self, cookie: &str) -> Option<Operator> {
        let now = Instant::now();
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        let key = digest(cookie);
        let session = all.get_mut(&key)?;
        if !self.is_good(session, now) {
            all.remove(&key);
            return None;
        }
        session.seen = now;
        Some(session.operator.clone())
    }

    pub(crate) fn end(&self, cookie: &str) {
        self.all
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&digest(cookie));
    }

    fn is_good(&self, session: &Session, now: Instant) -> bool {
        now - session.seen < self.idle && now - session.begun < self.longest
    }
}

/// 256 bits of the operating system's.
fn secret() -> String {
    URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>())
}

fn digest(text: &str) -> [u8; 32] {
    Sha256::digest(text.as_bytes()).into()
}

/// Whether two secrets are the same, without telling by its time how far.
pub(crate) fn same(one: &str, other: &str) -> bool {
    digest(one) == digest(other)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn somebody() -> UserId {
        "018f0000-0000-7000-8000-000000000001".parse().unwrap()
    }

    #[test]
    fn a_session_is_found_by_its_cookie_until_it_ends() {
        let sessions = Sessions::new(Duration::from_secs(60), Duration::from_secs(60));
        let cookie = sessions.begin(somebody(), "ada".to_owned());
        assert_eq!(sessions.find(&cookie).unwrap().id, somebody());
        assert!(sessions.find("").is_none());
        assert!(sessions.find(&format!("{cookie}A")).is_none());
        sessions.end(&cookie);
        assert!(sessions.find(&cookie).is_none());
    }

    #[test]
    fn a_session_ends_when_its_time_is_over() {
        for (idle, longest) in [(0, 60), (60, 0)] {
            let sessions = Sessions::new(Duration::from_secs(idle), Duration::from_secs(longest));
            let cookie = sessions.begin(somebody(), "ada".to_owned());
            assert!(sessions.find(&cookie).is_none());
        }
    }

    #[test]
    fn no_more_than_so_many_are_kept() {
        let sessions = Sessions::new(Duration::from_secs(60), Duration::from_secs(60));
        let cookies: Vec<String> = (0..=MOST)
            .map(|_| sessions.begin(somebody(), "ada".to_owned()))
            .collect();
        let kept = cookies.iter().filter(|cookie| sessions.find(cookie).is_some());
        assert_eq!(kept.count(), MOST);
    }
}
