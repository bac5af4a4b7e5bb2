//! Checking passwords, one at a time, and taking as long for those who do not exist.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use conferencing_store::entity::Secret;
use tokio::sync::Semaphore;

/// Longer ones nobody has.
const LONGEST: usize = 256;
/// So many failures of one name, within [`WINDOW`], and it is refused for the rest of that time.
const FAILURES: u32 = 5;
const WINDOW: Duration = Duration::from_secs(10 * 60);
/// So many names are kept in mind; beyond that the oldest failures are forgotten.
const NAMES: usize = 1_000;

pub(crate) struct Passwords {
    argon2: Argon2<'static>,
    /// A guess takes a core for some hundredths of a second: never more than one.
    one_at_a_time: Arc<Semaphore>,
    nobodys: Secret,
    failures: Mutex<HashMap<String, (Instant, u32)>>,
}

impl Passwords {
    pub(crate) fn new() -> Result<Self, String> {
        let argon2 = Argon2::default();
        let hash: PasswordHash = argon2
            .hash_password(&rand::random::<[u8; 32]>())
            .map_err(|error| error.to_string())?;
        Ok(Self {
            argon2,
            one_at_a_time: Arc::new(Semaphore::new(1)),
            nobodys: Secret::new(hash.to_string()),
            failures: Mutex::default(),
        })
    }

    /// Whether it is the password of the hash. Where there is none the answer is no, after as long.
    pub(crate) async fn verify(&self, password: String, hash: Option<Secret>) -> bool {
        let Ok(turn) = Arc::clone(&self.one_at_a_time).acquire_owned().await else {
            return false;
        };
        let (argon2, exists) = (self.argon2.clone(), hash.is_some() && password.len() <= LONGEST);
        let hash = hash.unwrap_or_else(|| self.nobodys.clone());
        let password: String = password.chars().take(LONGEST).collect();
        let verified = tokio::task::spawn_blocking(move || {
            // The turn ends with the work, also when nobody waits for it any more.
            let _turn = turn;
            let parsed = PasswordHash::new(hash.expose());
            parsed.is_ok_and(|hash| argon2.verify_password(password.as_bytes(), &hash).is_ok())
        });
        verified.await.unwrap_or(false) && exists
    }

    /// Whether too many have failed by this name.
    pub(crate) fn is_held_off(&self, name: &str) -> bool {
        let failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        failures
            .get(name)
            .is_some_and(|(since, count)| *count >= FAILURES && since.elapsed() < WINDOW)
    }

    /// Notes one that failed: true for the one that makes it too many.
    pub(crate) fn failed(&self, name: &str) -> bool {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        failures.retain(|_, (since, _)| since.elapsed() < WINDOW);
        if failures.len() >= NAMES
            && let Some(oldest) = failures
                .iter()
                .min_by_key(|(_, (since, _))| *since)
                .map(|(name, _)| name.clone())
        {
            failures.remove(&oldest);
        }
        let (_, count) = failures.entry(name.to_owned()).or_insert((Instant::now(), 0));
        *count += 1;
        *count == FAILURES
    }

    pub(crate) fn succeeded(&self, name: &str) {
        self.failures
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_the_right_password_of_somebody_is_right() {
        let passwords = Passwords::new().unwrap();
        let hash: PasswordHash = Argon2::default().hash_password(b"correct horse").unwrap();
        let hash = Some(Secret::new(hash.to_string()));
        assert!(passwords.verify("correct horse".to_owned(), hash.clone()).await);
        assert!(!passwords.verify("correct horsf".to_owned(), hash.clone()).await);
        assert!(!passwords.verify("x".repeat(300), hash).await);
        assert!(!passwords.verify(String::new(), None).await);
        assert!(!passwords.verify(String::new(), Some(Secret::new("$other$hash"))).await);
    }

    #[test]
    fn five_failures_hold_a_name_off_and_no_other() {
        let passwords = Passwords::new().unwrap();
        let told: Vec<bool> = (0..6).map(|_| passwords.failed("ada")).collect();
        assert_eq!(told, [false, false, false, false, true, false]);
        assert!(passwords.is_held_off("ada"));
        assert!(!passwords.is_held_off("ben"));
        passwords.succeeded("ada");
        assert!(!passwords.is_held_off("ada"));
        for number in 0..2_000 {
            passwords.failed(&format!("name {number}"));
        }
        assert!(passwords.failures.lock().unwrap().len() <= NAMES);
    }
}
