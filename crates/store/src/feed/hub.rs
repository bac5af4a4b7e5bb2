//! One task a process that asks for news and hands it out to all who follow.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{mpsc, oneshot};

use super::page::{self, FeedPage};
use super::position::FeedPosition;
use super::{FeedEvent, FeedFilter, Pauses};
use crate::error::{Error, Result};
use crate::page::MAX_PAGE_SIZE;
use crate::telemetry;
use crate::unit::{Acting, Reach};

/// What a process's subscribers share.
#[derive(Default)]
struct Hub(Mutex<State>);

#[derive(Default)]
struct State {
    /// Whether somebody asks for news.
    runs: bool,
    joining: Vec<Joining>,
    subscribers: Vec<Subscriber>,
}

/// Somebody who is to be served from the next question on.
struct Joining {
    subscriber: Subscriber,
    begins: oneshot::Sender<FeedPosition>,
}

struct Subscriber {
    filter: FeedFilter,
    batches: mpsc::Sender<Batch>,
    was_slow: Arc<AtomicBool>,
}

/// What one answer has for one subscriber.
struct Batch {
    page: Arc<FeedPage>,
    /// Places of the events that the filter admits.
    which: Vec<usize>,
}

/// A subscriber's end.
pub(super) struct Live {
    begins: Option<oneshot::Receiver<FeedPosition>>,
    batches: mpsc::Receiver<Batch>,
    capacity: usize,
    was_slow: Arc<AtomicBool>,
}

impl Live {
    /// Where it is served from: a whole position.
    pub(super) async fn begins(&mut self) -> Result<FeedPosition> {
        match self.begins.take() {
            Some(begins) => begins.await.map_err(|_| ended()),
            None => Err(ended()),
        }
    }

    /// The next events that do not lie before `since`; perhaps none.
    pub(super) async fn next(&mut self, since: &FeedPosition) -> Result<Vec<FeedEvent>> {
        match self.batches.recv().await {
            Some(Batch { page, which }) => Ok(page.events(which.into_iter(), since)),
            None if self.was_slow.load(Ordering::SeqCst) => Err(Error::SlowSubscriber {
                capacity: self.capacity,
            }),
            None => Err(ended()),
        }
    }
}

fn ended() -> Error {
    Error::Transient {
        reason: "the store was closed, or the runtime in which the feed was followed".to_owned(),
    }
}

/// Whether an error goes away by itself.
pub(super) fn passes(error: &Error) -> bool {
    matches!(error, Error::Transient { .. } | Error::Unreachable { .. })
}

impl Hub {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Serves those who have come, from `position` on. False when there is nobody: then nobody asks for news any more.
    fn go_on(&self, position: Option<&FeedPosition>) -> bool {
        let mut state = self.lock();
        state.subscribers.retain(|one| !one.batches.is_closed());
        state.joining.retain(|one| !one.begins.is_closed());
        if let Some(position) = position {
            for Joining { subscriber, begins } in std::mem::take(&mut state.joining) {
                if begins.send(position.clone()).is_ok() {
                    state.subscribers.push(subscriber);
                }
            }
        }
        state.runs = !(state.subscribers.is_empty() && state.joining.is_empty());
        state.runs
    }

    /// Waits for nobody: whoever has too much waiting is left out from now on.
    fn hand_out(&self, page: FeedPage) {
        let page = Arc::new(page);
        self.lock().subscribers.retain(|one| {
            let admitted = page.events.iter().enumerate();
            let which: Vec<usize> = admitted
                .filter(|(_, (_, row))| one.filter.admits(row))
                .map(|(place, _)| place)
                .collect();
            if which.is_empty() {
                return true;
            }
            let page = Arc::clone(&page);
            match one.batches.try_send(Batch { page, which }) {
                Ok(()) => true,
                Err(mpsc::error::TrySendError::Full(_)) => {
                    one.was_slow.store(true, Ordering::SeqCst);
                    telemetry::left_behind();
                    false
                }
                Err(mpsc::error::TrySendError::Closed(_)) => false,
            }
        });
    }
}

/// Asks for news until nobody follows.
struct Asking {
    source: Acting,
    hub: Arc<Hub>,
    /// Nobody followed any more, and the hub is left as it is: somebody else may ask for news by now.
    is_over: bool,
}

impl Drop for Asking {
    /// Those who wait hear of it, and the next to come begins anew.
    fn drop(&mut self) {
        if !self.is_over {
            *self.hub.lock() = State::default();
        }
    }
}

impl Asking {
    async fn run(mut self) {
        let context = self.source.context().clone();
        let mut pauses = Pauses::of(context.settings().feed);
        let mut position: Option<FeedPosition> = None;
        let mut failed = false;
        loop {
            // In the middle of a batch nobody can join.
            if position.as_ref().is_none_or(FeedPosition::is_whole) && !self.hub.go_on(position.as_ref()) {
                self.is_over = true;
                return;
            }
            let asked = match &position {
                None => page::now(&self.source).await.map(|now| (now, false)),
                Some(after) => self.ask(after).await,
            };
            match asked {
                Ok((next, has_news)) => {
                    let is_new = position.is_none();
                    let goes_on = !next.is_whole();
                    position = Some(next);
                    failed = false;
                    if has_news || is_new {
                        pauses.begin_anew();
                    }
                    if goes_on || is_new {
                        continue;
                    }
                }
                Err(_) if context.is_closed() => return,
                Err(error) => {
                    if !std::mem::replace(&mut failed, true) {
                        tracing::warn!(%error, "the feed waits: the audit log cannot be read now");
                    }
                }
            }
            let shortest = context.settings().feed.shortest_pause;
            let asked_at = tokio::time::Instant::now();
            tokio::select! {
                () = tokio::time::sleep(pauses.take()) => {}
                () = context.committed(), if !failed => {
                    tokio::time::sleep_until(asked_at + shortest).await;
                    pauses.begin_anew();
                }
            }
        }
    }

    /// Hands out what is new, and says how far that reaches and whether there was any.
    async fn ask(&self, after: &FeedPosition) -> Result<(FeedPosition, bool)> {
        let page = page::read(&self.source, &FeedFilter::default(), after, MAX_PAGE_SIZE).await?;
        let (next, has_news) = (page.next(), !page.events.is_empty());
        if let Some((_, newest)) = page.events.last() {
            let lag = self.source.context().now() - newest.timestamp;
            self.hub.hand_out(page);
            telemetry::handed_out(lag.to_std().unwrap_or_default());
        }
        Ok((next, has_news))
    }
}

/// Begins to follow.
pub(super) fn join(source: &Acting, filter: FeedFilter) -> Live {
    let context = source.context();
    let hub: Arc<Hub> = context.shared();
    let capacity = context.settings().feed.waiting_batches;
    let (begin, begins) = oneshot::channel();
    let (sender, batches) = mpsc::channel(capacity);
    let was_slow = Arc::<AtomicBool>::default();
    let subscriber = Subscriber {
        filter,
        batches: sender,
        was_slow: Arc::clone(&was_slow),
    };
    let runs = {
        let mut state = hub.lock();
        state.joining.push(Joining {
            subscriber,
            begins: begin,
        });
        std::mem::replace(&mut state.runs, true)
    };
    if runs {
        // It need not be idle as long as it likes.
        context.tell_committed();
    } else {
        let source = source.clone();
        let asking = Asking {
            source,
            hub,
            is_over: false,
        };
        tokio::spawn(asking.run());
    }
    Live {
        begins: Some(begins),
        batches,
        capacity,
        was_slow,
    }
}
