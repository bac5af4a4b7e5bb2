//! Keys and room codes that depend on nothing but the seed, the organisation and what was asked for before.

use std::sync::{Mutex, PoisonError};

use chrono::{DateTime, Utc};
use conferencing_store::clock::{Ids, ROOM_CODE_ALPHABET, ROOM_CODE_LENGTH};
use rand::RngExt;
use rand::rngs::Xoshiro256PlusPlus;
use uuid::{Builder, Uuid};

use crate::random;

/// How many bits of a key behind its milliseconds number the keys of one source, which of the sources it is, and which seed. They are
/// the 42 bits that a UUIDv7 leaves before the last 32, in which the store counts.
const COUNT_BITS: u32 = 21;
const SOURCE_BITS: u32 = 11;
const SEED_BITS: u32 = 10;

/// UUIDv7 keys of one source. Of several sources of one seed no two give the same key.
pub(crate) struct SeededIds {
    source: u64,
    seed: u64,
    state: Mutex<State>,
}

struct State {
    count: u64,
    chance: Xoshiro256PlusPlus,
}

impl SeededIds {
    pub(crate) fn new(seed: u64, source: u32) -> Self {
        let chance = random::of(seed, &[random::IDS, source.into()]);
        Self {
            source: u64::from(source) & ((1 << SOURCE_BITS) - 1),
            seed: random::mixed(seed, &[random::IDS]) & ((1 << SEED_BITS) - 1),
            state: Mutex::new(State { count: 0, chance }),
        }
    }
}

impl Ids for SeededIds {
    fn uuid(&self, at: DateTime<Utc>) -> Uuid {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        // It starts again after two million keys; so many are never asked for in one millisecond of the platform's time.
        state.count = (state.count + 1) & ((1 << COUNT_BITS) - 1);
        let before = state.count << (SOURCE_BITS + SEED_BITS) | self.source << SEED_BITS | self.seed;
        let millis = u64::try_from(at.timestamp_millis()).unwrap_or(0);
        let last: u32 = state.chance.random();
        // 12 bits stand before the variant's two, 30 behind it.
        let (high, low) = (before >> 30, before & ((1 << 30) - 1));
        let mut bytes = [0_u8; 10];
        bytes[..2].copy_from_slice(&u16::try_from(high).unwrap_or(0).to_be_bytes());
        bytes[2..].copy_from_slice(&(low << 32 | u64::from(last)).to_be_bytes());
        Builder::from_unix_timestamp_millis(millis, &bytes).into_uuid()
    }

    fn room_code(&self) -> String {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut letter = || ROOM_CODE_ALPHABET[state.chance.random_range(0..ROOM_CODE_ALPHABET.len())];
        (0..ROOM_CODE_LENGTH).map(|_| char::from(letter())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(seed: u64, source: u32) -> Vec<Uuid> {
        let ids = SeededIds::new(seed, source);
        let at = DateTime::from_timestamp_millis(1_790_000_000_123).unwrap();
        (0..5_000).map(|_| ids.uuid(at)).collect()
    }

    #[test]
    fn keys_grow_before_their_last_32_bits_and_are_those_of_their_time() {
        let keys = keys(42, 3);
        assert!(
            keys.windows(2)
                .all(|pair| pair[0].as_u128() >> 32 < pair[1].as_u128() >> 32)
        );
        assert!(keys.iter().all(|key| key.get_version_num() == 7));
        assert_eq!(keys[0].get_timestamp().unwrap().to_unix().0, 1_790_000_000);
    }

    #[test]
    fn the_seed_and_the_source_make_the_keys() {
        assert_eq!(keys(42, 3), keys(42, 3));
        for others in [keys(42, 4), keys(43, 3)] {
            let mut all: Vec<u128> = keys(42, 3)
                .iter()
                .chain(&others)
                .map(|key| key.as_u128() >> 32)
                .collect();
            all.sort_unstable();
            all.dedup();
            assert_eq!(all.len(), 10_000, "two sources gave one key");
        }
    }
}
