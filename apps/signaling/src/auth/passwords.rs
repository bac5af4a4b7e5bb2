//! Hashing passwords: Argon2id, off the threads that serve requests, so many at once and no more.

use std::sync::Arc;
use std::time::Duration;

use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use argon2::{Algorithm, Argon2, Params, Version};
use axum::http::StatusCode;
use conferencing_store::entity::Secret;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::app::RETRY_AFTER;
use crate::config::Config;
use crate::problem::Problem;

/// Fewer are guessed; NIST SP 800-63B asks for 8.
const SHORTEST: usize = 8;
/// More is no safer, and costs us time.
const LONGEST: usize = 256;
/// Iterations and lanes: with 19 MiB of memory, the first choice of OWASP's password storage cheat sheet.
const ITERATIONS: u32 = 2;
const LANES: u32 = 1;
/// How long somebody waits for others' passwords.
const PATIENCE: Duration = Duration::from_secs(5);

/// Makes and checks hashes.
pub(crate) struct Passwords {
    argon2: Argon2<'static>,
    at_once: Arc<Semaphore>,
    /// What the password of somebody who does not exist is checked against.
    nobodys: Secret,
}

impl Passwords {
    pub(crate) fn new(config: &Config) -> Result<Self, String> {
        let params = Params::new(config.password_memory_kib, ITERATIONS, LANES, None);
        let params = params.map_err(|error| format!("SIGNALING_PASSWORD_MEMORY_KIB: {error}"))?;
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        let at_once = usize::try_from(config.passwords_at_once).unwrap_or(1);
        let nobodys = hash(&argon2, &rand::random::<[u8; 32]>())?;
        Ok(Self {
            argon2,
            at_once: Arc::new(Semaphore::new(at_once)),
            nobodys,
        })
    }

    async fn turn(&self) -> Result<OwnedSemaphorePermit, Problem> {
        let turn = Arc::clone(&self.at_once).acquire_owned();
        match tokio::time::timeout(PATIENCE, turn).await {
            Ok(Ok(turn)) => Ok(turn),
            _ => {
                let seconds = u32::try_from(RETRY_AFTER.as_secs()).unwrap_or(1);
                let status = StatusCode::SERVICE_UNAVAILABLE;
                Err(Problem::new(status, "too_many_logins", "too many people sign in just now").retry_after(seconds))
            }
        }
    }

    /// The hash of a new password.
    pub(crate) async fn hash(&self, password: String) -> Result<Secret, Problem> {
        if !(SHORTEST..=LONGEST).contains(&password.len()) {
            let detail = format!("password must have {SHORTEST} to {LONGEST} bytes");
            let mut problem = Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_password", detail);
            problem.details.insert("field".to_owned(), "password".into());
            return Err(problem);
        }
        let (turn, argon2) = (self.turn().await?, self.argon2.clone());
        let hashed = blocking(turn, move || hash(&argon2, password.as_bytes())).await?;
        hashed.map_err(|error| Problem::internal(&error))
    }

    /// Whether it is the password of the hash. Where there is none, the answer is no, and takes as long.
    pub(crate) async fn verify(&self, password: String, hash: Option<&Secret>) -> Result<bool, Problem> {
        let turn = self.turn().await?;
        let (argon2, exists) = (self.argon2.clone(), hash.is_some());
        // Longer ones nobody has.
        let password = if password.len() > LONGEST {
            String::new()
        } else {
            password
        };
        let hash = hash.unwrap_or(&self.nobodys).clone();
        blocking(turn, move || {
            let parsed = PasswordHash::new(hash.expose());
            // What another function has hashed is not checked here.
            let matches = parsed.is_ok_and(|hash| argon2.verify_password(password.as_bytes(), &hash).is_ok());
            matches && exists
        })
        .await
    }
}

fn hash(argon2: &Argon2<'_>, password: &[u8]) -> Result<Secret, String> {
    let hash = argon2.hash_password(password).map_err(|error| error.to_string())?;
    Ok(Secret::new(hash.to_string()))
}

/// The turn ends with the work, also when nobody waits for it any more.
async fn blocking<T: Send + 'static>(
    turn: OwnedSemaphorePermit,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Problem> {
    let done = tokio::task::spawn_blocking(move || {
        let _turn = turn;
        work()
    });
    done.await.map_err(|error| Problem::internal(&error))
}
