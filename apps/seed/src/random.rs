//! Chance, all of it from the seed. The generator is a named one, whose numbers do not change with the library's taste.

use rand::distr::Distribution;
use rand::distr::weighted::WeightedIndex;
use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};

/// What a generator is for: each has its own.
pub(crate) const IDS: u64 = 1;
pub(crate) const PEOPLE: u64 = 2;
pub(crate) const MEETINGS: u64 = 3;

/// The generator for one purpose.
pub(crate) fn of(seed: u64, purpose: &[u64]) -> Xoshiro256PlusPlus {
    Xoshiro256PlusPlus::seed_from_u64(mixed(seed, purpose))
}

/// One number of several, by the finaliser of SplitMix64.
pub(crate) fn mixed(seed: u64, purpose: &[u64]) -> u64 {
    purpose.iter().fold(seed, |state, part| {
        let mut z = (state ^ part.wrapping_mul(0x9e37_79b9_7f4a_7c15)).wrapping_add(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    })
}

/// Chance as the play uses it.
pub(crate) struct Chance(Xoshiro256PlusPlus);

impl Chance {
    pub(crate) fn new(seed: u64, purpose: &[u64]) -> Self {
        Self(of(seed, purpose))
    }

    /// True so often.
    pub(crate) fn hit(&mut self, probability: f64) -> bool {
        self.0.random_bool(probability)
    }

    /// From `low` to `high`, both included.
    pub(crate) fn between(&mut self, low: i64, high: i64) -> i64 {
        self.0.random_range(low..=high.max(low))
    }

    /// One of a list that is not empty.
    pub(crate) fn one<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.0.random_range(0..of.len())]
    }

    /// A place in a list of weights.
    pub(crate) fn place(&mut self, weights: &WeightedIndex<f64>) -> usize {
        weights.sample(&mut self.0)
    }
}

/// Weights of Zipf's kind: the first of `count` comes up the most, the others by the inverse of their rank.
pub(crate) fn by_rank(count: usize, flatness: f64, exponent: f64) -> WeightedIndex<f64> {
    #[expect(clippy::cast_precision_loss, reason = "ranks are small")]
    let weights = (0..count.max(1)).map(|rank| (rank as f64 + flatness).powf(-exponent));
    weighted(weights)
}

/// Weights of which one at least is above zero.
pub(crate) fn weighted(weights: impl IntoIterator<Item = f64>) -> WeightedIndex<f64> {
    WeightedIndex::new(weights).unwrap_or_else(|_| unreachable!("weights are positive, and there are some"))
}
