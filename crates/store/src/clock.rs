//! Time, ids and room codes: everything that differs from run to run comes from here, so that a test can own it.

use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, Ordering};

use chrono::{DateTime, TimeDelta, Utc};
use rand::RngExt;
use uuid::{ContextV7, Timestamp, Uuid};

/// Where a store reads the time. It must not be far from the other processes' clocks: times of one room may come from
/// several of them. A participation or a meeting never ends before it began, whatever the clocks say.
pub trait Clock: Send + Sync + 'static {
    /// The present. The store cuts it to microseconds, which is what both databases keep.
    fn now(&self) -> DateTime<Utc>;
}

/// The machine's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the one place that may read the wall clock"
    )]
    fn now(&self) -> DateTime<Utc> {
        Utc::now()
    }
}

/// A clock that stands still until it is told to move. For tests and simulations; share it in an `Arc`.
#[derive(Debug)]
pub struct ManualClock(AtomicI64);

impl ManualClock {
    /// A clock that shows `start`.
    pub fn at(start: DateTime<Utc>) -> Self {
        Self(AtomicI64::new(start.timestamp_micros()))
    }

    /// Moves on.
    pub fn advance(&self, by: TimeDelta) {
        let micros = by.num_microseconds().unwrap_or(i64::MAX);
        self.0.fetch_add(micros, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> DateTime<Utc> {
        DateTime::from_timestamp_micros(self.0.load(Ordering::SeqCst)).unwrap_or(DateTime::<Utc>::MAX_UTC)
    }
}

impl<C: Clock + ?Sized> Clock for std::sync::Arc<C> {
    fn now(&self) -> DateTime<Utc> {
        (**self).now()
    }
}

/// Where a store gets its keys and room codes.
pub trait Ids: Send + Sync + 'static {
    /// A UUIDv7 of the time `at`; of two calls on one source with the same `at`, the later gives the greater, in the first 96
    /// bits already: where one statement appends an event for each of many rows, it counts them in the last 32.
    fn uuid(&self, at: DateTime<Utc>) -> Uuid;

    /// A candidate for a room's code, [`ROOM_CODE_LENGTH`] characters of [`ROOM_CODE_ALPHABET`]. It need not be free: the
    /// store asks again when it is taken.
    fn room_code(&self) -> String;
}

/// Characters in a room code.
pub const ROOM_CODE_LENGTH: usize = 8;

/// What room codes are made of: digits and capitals without those that are taken for one another when read or written
/// (0 O Q D, 1 I L, 2 Z, 5 S, 8 B, U V). 22 characters make 22^8 = 5.5e10 codes, about 36 bits.
pub const ROOM_CODE_ALPHABET: &[u8; 22] = b"34679ACEFGHJKMNPRTUWXY";

/// UUIDv7 keys that grow within the process, and codes from the operating system's seeded cryptographic generator.
#[derive(Default)]
pub struct RandomIds {
    context: Mutex<ContextV7>,
}

impl Ids for RandomIds {
    fn uuid(&self, at: DateTime<Utc>) -> Uuid {
        let seconds = u64::try_from(at.timestamp()).unwrap_or(0);
        // A thread that panicked with the lock held has left a counter, which is as good as before.
        let context = self.context.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        Uuid::new_v7(Timestamp::from_unix(&*context, seconds, at.timestamp_subsec_nanos()))
    }

    fn room_code(&self) -> String {
        let mut generator = rand::rng();
        (0..ROOM_CODE_LENGTH)
            .map(|_| char::from(ROOM_CODE_ALPHABET[generator.random_range(0..ROOM_CODE_ALPHABET.len())]))
            .collect()
    }
}

/// Cuts to what the databases keep, before anything is bound: a value read back equals the value written.
pub(crate) fn to_microseconds(at: DateTime<Utc>) -> DateTime<Utc> {
    DateTime::from_timestamp_micros(at.timestamp_micros()).unwrap_or(at)
}

/// A number from 0 to below `bound`, to spread retries.
pub(crate) fn jitter(bound: u64) -> u64 {
    rand::rng().random_range(0..bound.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_one_instant_differ_before_their_last_32_bits() {
        let (ids, at) = (RandomIds::default(), SystemClock.now());
        let keys: Vec<u128> = (0..10_000).map(|_| ids.uuid(at).as_u128() >> 32).collect();
        assert!(keys.windows(2).all(|pair| pair[0] < pair[1]));
    }
}
