//! Checking passwords, one at a time, and taking as long for those who do not exist.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use conferencing_store::entity::{Secret, UserId};
use tokio::sync::Semaphore;

/// Longer ones nobody has; nor longer names.
const LONGEST: usize = 256;
/// So many failures, each within [`WINDOW`] of the first, and the next [`WINDOW`] is refused.
const FAILURES: u32 = 5;
const WINDOW: Duration = Duration::from_secs(10 * 60);
/// So many names are kept in mind; beyond that the oldest failures are forgotten, those that hold nobody off first.
const NAMES: usize = 1_000;

pub(crate) struct Passwords {
    argon2: Argon2<'static>,
    /// A guess takes a core for some hundredths of a second: never more than one.
    one_at_a_time: Arc<Semaphore>,
    nobodys: Secret,
    failures: Arc<Mutex<Failures>>,
}

/// What became of a guess.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Guess {
    Right,
    Wrong {
        /// This one made it too many.
        is_limit: bool,
    },
    /// Too many have failed by the name that was typed.
    HeldOff,
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
            failures: Arc::default(),
        })
    }

    /// Whether too many have failed by this name.
    pub(crate) fn is_held_off(&self, typed: &str) -> bool {
        locked(&self.failures).of_names.is_held_off(&key(typed), Instant::now())
    }

    /// Whether it is the password of the operator whom the name is of, if it is one's. Where there is none the answer is no, after as long.
    /// It is asked and counted within the turn, so of many at once no more are tried than of as many one after the other.
    ///
    /// An operator is held off by whatever names they were tried, but is told so by none: that two names are one person's would be told too.
    /// Only what was typed is answered as such, and that alike for all names.
    pub(crate) async fn check(
        &self,
        typed: &str,
        password: String,
        operator: Option<(UserId, Option<Secret>)>,
    ) -> Guess {
        let wrong = Guess::Wrong { is_limit: false };
        let Ok(turn) = Arc::clone(&self.one_at_a_time).acquire_owned().await else {
            return wrong;
        };
        let name = key(typed);
        let operator_is_held_off = {
            let (failures, now) = (locked(&self.failures), Instant::now());
            if failures.of_names.is_held_off(&name, now) {
                return Guess::HeldOff;
            }
            operator
                .as_ref()
                .is_some_and(|(id, _)| failures.of_operators.is_held_off(id, now))
        };
        let (id, hash) = operator.map_or((None, None), |(id, hash)| (Some(id), hash));
        let may_be = hash.is_some() && password.len() <= LONGEST && !operator_is_held_off;
        let hash = hash.unwrap_or_else(|| self.nobodys.clone());
        let password: String = password.chars().take(LONGEST).collect();
        let (argon2, failures) = (self.argon2.clone(), Arc::clone(&self.failures));
        let guess = tokio::task::spawn_blocking(move || {
            // The turn ends with the work, also when nobody waits for it any more: whoever hangs up is counted too.
            let _turn = turn;
            let parsed = PasswordHash::new(hash.expose());
            let fits = parsed.is_ok_and(|hash| argon2.verify_password(password.as_bytes(), &hash).is_ok());
            let mut failures = locked(&failures);
            if fits && may_be {
                failures.succeeded(&name, id);
                return Guess::Right;
            }
            Guess::Wrong {
                is_limit: failures.failed(name, id, Instant::now()),
            }
        });
        guess.await.unwrap_or(wrong)
    }
}

fn locked(failures: &Mutex<Failures>) -> MutexGuard<'_, Failures> {
    failures.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a typed name is counted by, whether or not anybody has it.
fn key(typed: &str) -> String {
    typed.trim().to_lowercase().chars().take(LONGEST).collect()
}

/// The failures of late: by the names that were typed, and by the operators whom those names are of. The latter are as few as the operators,
/// so no number of invented names makes them forgotten.
#[derive(Default)]
struct Failures {
    of_names: Counters<String>,
    of_operators: Counters<UserId>,
}

impl Failures {
    /// Notes one that failed: true for the one that makes it too many, by its name or for the operator.
    fn failed(&mut self, name: String, operator: Option<UserId>, now: Instant) -> bool {
        let by_name = self.of_names.failed(name, now);
        let of_operator = operator.is_some_and(|id| self.of_operators.failed(id, now));
        by_name || of_operator
    }

    fn succeeded(&mut self, name: &str, operator: Option<UserId>) {
        self.of_names.0.remove(name);
        if let Some(id) = operator {
            self.of_operators.0.remove(&id);
        }
    }
}

/// Since when, and how many.
struct Counters<K>(HashMap<K, (Instant, u32)>);

impl<K> Default for Counters<K> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<K: Clone + Eq + Hash> Counters<K> {
    fn is_held_off<Q>(&self, key: &Q, now: Instant) -> bool
    where
        K: std::borrow::Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        let counted = self.0.get(key);
        counted.is_some_and(|(since, count)| *count >= FAILURES && now - *since < WINDOW)
    }

    /// True for the one that makes it too many, from which on the time runs anew.
    fn failed(&mut self, key: K, now: Instant) -> bool {
        self.0.retain(|_, (since, _)| now - *since < WINDOW);
        if self.0.len() >= NAMES && !self.0.contains_key(&key) {
            let oldest = self
                .0
                .iter()
                .min_by_key(|(_, (since, count))| (*count >= FAILURES, *since))
                .map(|(key, _)| key.clone());
            if let Some(oldest) = oldest {
                self.0.remove(&oldest);
            }
        }
        let (since, count) = self.0.entry(key).or_insert((now, 0));
        // Those that are tried while it is held off make it no longer: an operator could be kept out for good.
        if *count >= FAILURES {
            return false;
        }
        *count += 1;
        if *count == FAILURES {
            *since = now;
        }
        *count == FAILURES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn somebody() -> UserId {
        "018f0000-0000-7000-8000-000000000001".parse().unwrap()
    }

    fn hashed(password: &str) -> Secret {
        let hash: PasswordHash = Argon2::default().hash_password(password.as_bytes()).unwrap();
        Secret::new(hash.to_string())
    }

    const WRONG: Guess = Guess::Wrong { is_limit: false };
    const TOO_MANY: Guess = Guess::Wrong { is_limit: true };

    #[tokio::test]
    async fn only_the_right_password_of_somebody_is_right() {
        let passwords = Passwords::new().unwrap();
        let ada = Some((somebody(), Some(hashed("correct horse"))));
        let check = |password: &str, operator| passwords.check("ada", password.to_owned(), operator);
        assert_eq!(check("correct horsf", ada.clone()).await, WRONG);
        assert_eq!(check(&"x".repeat(300), ada.clone()).await, WRONG);
        assert_eq!(check("correct horse", ada).await, Guess::Right);
        assert_eq!(check("", None).await, WRONG);
        assert_eq!(check("", Some((somebody(), None))).await, WRONG);
        let broken = Some((somebody(), Some(Secret::new("$other$hash"))));
        assert_eq!(check("", broken).await, WRONG);
    }

    #[tokio::test]
    async fn of_many_guesses_at_once_no_more_than_five_are_tried() {
        let passwords = Arc::new(Passwords::new().unwrap());
        let ada = (somebody(), Some(hashed("correct horse")));
        let guesses: Vec<_> = (0..20)
            .map(|_| {
                let (passwords, ada) = (Arc::clone(&passwords), ada.clone());
                tokio::spawn(async move { passwords.check("ada", "a guess".to_owned(), Some(ada)).await })
            })
            .collect();
        let mut told = Vec::new();
        for guess in guesses {
            told.push(guess.await.unwrap());
        }
        let counted = |one| told.iter().filter(|guess| **guess == one).count();
        assert_eq!((counted(WRONG), counted(TOO_MANY), counted(Guess::HeldOff)), (4, 1, 15));
    }

    #[tokio::test]
    async fn all_names_of_an_operator_count_together_and_none_tells() {
        let passwords = Passwords::new().unwrap();
        let ada = Some((somebody(), Some(hashed("correct horse"))));
        let guesses = ["ada", " Ada", "ada@platform.example", "ada@platform.example", "ADA"];
        let mut told = Vec::new();
        for name in guesses {
            told.push(passwords.check(name, "a guess".to_owned(), ada.clone()).await);
        }
        assert_eq!(told, [WRONG, WRONG, WRONG, WRONG, TOO_MANY]);
        // The right password is as wrong as a guess.
        for name in ["ada", "ada@platform.example", "Ada@platform.example"] {
            let guess = passwords.check(name, "correct horse".to_owned(), ada.clone()).await;
            assert_eq!(guess, WRONG, "{name}");
        }
    }

    #[tokio::test]
    async fn names_of_nobody_are_held_off_as_those_of_operators_are() {
        let passwords = Passwords::new().unwrap();
        let ada = Some((somebody(), Some(hashed("correct horse"))));
        for (name, operator) in [("ada", ada), ("nobody", None)] {
            let mut told = Vec::new();
            for _ in 0..6 {
                told.push(passwords.check(name, "a guess".to_owned(), operator.clone()).await);
            }
            assert_eq!(told, [WRONG, WRONG, WRONG, WRONG, TOO_MANY, Guess::HeldOff], "{name}");
            assert!(passwords.is_held_off(name));
        }
        assert!(!passwords.is_held_off("ben"));
    }

    #[test]
    fn who_is_held_off_is_so_for_the_whole_time_from_the_fifth_failure() {
        let (mut counters, begin) = (Counters::default(), Instant::now());
        let second = Duration::from_secs(1);
        for _ in 0..4 {
            assert!(!counters.failed("ada", begin));
        }
        let fifth = begin + WINDOW - second;
        assert!(counters.failed("ada", fifth));
        assert!(counters.is_held_off("ada", fifth + WINDOW - second));
        // What is tried meanwhile makes it no longer.
        assert!(!counters.failed("ada", fifth + second));
        assert!(!counters.is_held_off("ada", fifth + WINDOW));
        assert!(!counters.failed("ada", fifth + WINDOW));
        assert!(!counters.is_held_off("ada", fifth + WINDOW));
    }

    #[test]
    fn invented_names_push_out_nobody_who_is_held_off() {
        let (mut failures, now) = (Failures::default(), Instant::now());
        for _ in 0..FAILURES {
            failures.failed("ada".to_owned(), Some(somebody()), now);
        }
        for number in 0..2_000 {
            failures.failed(format!("name {number}"), None, now + Duration::from_millis(number));
        }
        assert!(failures.of_names.is_held_off("ada", now));
        assert!(failures.of_operators.is_held_off(&somebody(), now));
        assert!(failures.of_names.0.len() <= NAMES);
        failures.succeeded("ada", Some(somebody()));
        assert!(!failures.of_names.is_held_off("ada", now));
        assert!(!failures.of_operators.is_held_off(&somebody(), now));
    }
}
