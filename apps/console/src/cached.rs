//! Answers that are dear, kept for a moment.

use std::time::{Duration, Instant};

use conferencing_store::Error;
use tokio::sync::Mutex;

/// The last answer, and to which question. Whoever comes while it is being asked for waits for the same answer.
pub(crate) struct Cached<K, V> {
    fresh: Duration,
    last: Mutex<Option<(Instant, K, V)>>,
}

impl<K: PartialEq, V: Clone> Cached<K, V> {
    pub(crate) fn new(fresh: Duration) -> Self {
        Self {
            fresh,
            last: Mutex::new(None),
        }
    }

    pub(crate) async fn get(&self, key: K, ask: impl Future<Output = Result<V, Error>>) -> Result<V, Error> {
        let mut last = self.last.lock().await;
        if let Some((at, known, value)) = &*last
            && *known == key
            && at.elapsed() < self.fresh
        {
            return Ok(value.clone());
        }
        let value = ask.await?;
        *last = Some((Instant::now(), key, value.clone()));
        Ok(value)
    }
}
