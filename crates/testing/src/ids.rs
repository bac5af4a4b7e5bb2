//! Keys and room codes that are the same in every run.

use std::sync::atomic::{AtomicU64, Ordering};

use chrono::{DateTime, Utc};
use conferencing_store::clock::{Ids, ROOM_CODE_ALPHABET, ROOM_CODE_LENGTH};
use uuid::Uuid;

/// Keys and room codes that follow from a seed: the n-th key of a seed and a time is the same in every run, on every machine and in every
/// version; so is the n-th room code.
///
/// Which call is the n-th is up to who calls: with a [`ManualClock`](conferencing_store::clock::ManualClock) and one task at a time a test sees the
/// same keys again. The two databases differ, as an operation of one of them may ask for keys that it does not use; room codes are asked for
/// alike on both. Two sources of one seed give the same keys: do not use both on one database.
#[derive(Debug)]
pub struct SeededIds {
    seed: u64,
    keys: AtomicU64,
    codes: AtomicU64,
}

/// How many calls a source has until its keys begin anew: 2^42 of one millisecond, from a first one below 2^41.
const COUNTER: u64 = (1 << 42) - 1;

impl SeededIds {
    /// A source that begins.
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            keys: AtomicU64::new(mixed(seed) & (COUNTER >> 1)),
            codes: AtomicU64::new(0),
        }
    }
}

impl Ids for SeededIds {
    /// The counter fills the 42 bits behind the time, so that of two keys of one millisecond the later is the greater before the last 32
    /// bits; these follow from the counter.
    fn uuid(&self, at: DateTime<Utc>) -> Uuid {
        let count = self.keys.fetch_add(1, Ordering::SeqCst) & COUNTER;
        let millis = u64::try_from(at.timestamp_millis()).unwrap_or(0);
        let last = mixed(self.seed ^ mixed(count)) & u64::from(u32::MAX);
        let high = millis << 16 | 0x7 << 12 | count >> 30;
        let low = 0b10 << 62 | (count & ((1 << 30) - 1)) << 32 | last;
        Uuid::from_u64_pair(high, low)
    }

    fn room_code(&self) -> String {
        let count = self.codes.fetch_add(1, Ordering::SeqCst);
        let mut drawn = mixed(self.seed.wrapping_add(mixed(count)));
        let letters = ROOM_CODE_ALPHABET.len() as u64;
        let letter = |_| {
            let index = usize::try_from(drawn % letters).unwrap_or(0);
            drawn /= letters;
            char::from(ROOM_CODE_ALPHABET[index])
        };
        (0..ROOM_CODE_LENGTH).map(letter).collect()
    }
}

/// The output of SplitMix64 for a state: a bijection whose bits look random.
fn mixed(state: u64) -> u64 {
    let mut z = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn at(millis: i64) -> DateTime<Utc> {
        DateTime::from_timestamp_millis(millis).unwrap()
    }

    #[test]
    fn a_seed_gives_the_same_keys_and_codes_again() {
        let of = |seed| {
            let ids = SeededIds::new(seed);
            let keys: Vec<Uuid> = (0..100).map(|n| ids.uuid(at(1_700_000_000_000 + n / 10))).collect();
            let codes: Vec<String> = (0..100).map(|_| ids.room_code()).collect();
            (keys, codes)
        };
        assert_eq!(of(1), of(1));
        assert!(of(1).0.iter().zip(of(2).0).all(|(one, other)| *one != other));
        assert_ne!(of(1).1, of(2).1);
        let (keys, codes) = of(1);
        // Fixed for good: a change here would change what tests of services have written down.
        assert_eq!(keys[0].to_string(), KEY);
        assert_eq!(codes[0], CODE);
    }

    const KEY: &str = "018bcfe5-6800-77b2-8902-5cc1e182833e";
    const CODE: &str = "";

    #[test]
    fn keys_are_of_version_7_and_of_their_time() {
        let (ids, when) = (SeededIds::new(7), at(1_700_000_000_123));
        let key = ids.uuid(when);
        assert_eq!((key.get_version_num(), key.get_variant()), (7, uuid::Variant::RFC4122));
        let (seconds, nanos) = key.get_timestamp().unwrap().to_unix();
        assert_eq!((seconds, nanos / 1_000_000), (1_700_000_000, 123));
    }

    #[test]
    fn keys_of_one_instant_grow_before_their_last_32_bits() {
        for seed in [0, 1, u64::MAX] {
            let ids = SeededIds::new(seed);
            let keys: Vec<u128> = (0..10_000).map(|_| ids.uuid(at(1)).as_u128() >> 32).collect();
            assert!(keys.windows(2).all(|pair| pair[0] < pair[1]));
        }
    }

    #[test]
    fn codes_are_codes_and_rarely_the_same() {
        let ids = SeededIds::new(3);
        let codes: BTreeSet<String> = (0..10_000).map(|_| ids.room_code()).collect();
        assert!(codes.len() > 9_990, "{}", codes.len());
        for code in codes {
            assert_eq!(code.len(), ROOM_CODE_LENGTH);
            assert!(code.bytes().all(|letter| ROOM_CODE_ALPHABET.contains(&letter)));
        }
    }
}
