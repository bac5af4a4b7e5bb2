//! A queue before the audit log, for media events by the thousand: they are written in batches, one statement each.

mod lane;
pub(crate) use lane::list_statements;
mod stats;

use std::sync::Arc;
use std::time::{Duration, Instant};

use entity::{AuditLogId, RoomId};
use tokio::sync::{mpsc, oneshot, watch};

use super::{Observation, PreparedEvent};
use crate::actor::Actor;
use crate::context::Context;
use crate::error::{Error, Invalid, Result, Rule};

use lane::{Ending, Lane, Queued};
use stats::Tally;
pub use stats::WriterStats;

/// The most events that a batch may have: PostgreSQL takes a batch as one value, and one of this many participations far below its limits.
pub const MAX_BATCH: u16 = 5_000;

/// What an [`AuditWriter`] is made with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WriterSettings {
    /// How many events may wait. Each takes 1.1 to 1.5 kilobytes, batches under way included, or more by as much as its details are
    /// longer than a few dozen bytes: a full queue of the default size some 20 MB.
    pub queue: usize,
    /// How many events one statement may append, at most [`MAX_BATCH`].
    pub batch: u16,
    /// How long a batch that is not full waits for more, counted from its first event. By default it does not wait: while one batch is
    /// written the next one fills by itself, so a busy writer has large batches and an idle one no delay. A few milliseconds save
    /// statements where events trickle in, and make everyone who awaits theirs wait as long (docs/PERFORMANCE.md).
    pub linger: Duration,
    /// How many batches may be under way at once, each on a connection of its own. SQLite, which has one writer, always has one.
    pub lanes: u8,
    /// The longest pause before a batch that failed for a passing reason is tried again. It is tried until it succeeds.
    pub longest_pause: Duration,
}

impl Default for WriterSettings {
    fn default() -> Self {
        Self {
            queue: 16_384,
            batch: 512,
            linger: Duration::ZERO,
            lanes: 2,
            longest_pause: Duration::from_secs(1),
        }
    }
}

impl WriterSettings {
    fn checked(self) -> Result<Self> {
        let broken = |field, rule| Err(Invalid { field, rule }.into());
        match self {
            Self { queue: 0, .. } => broken("queue", Rule::AtLeast(1)),
            Self { batch: 0, .. } => broken("batch", Rule::AtLeast(1)),
            Self { batch, .. } if batch > MAX_BATCH => broken("batch", Rule::AtMost(MAX_BATCH.into())),
            Self { lanes: 0, .. } => broken("lanes", Rule::AtLeast(1)),
            sound => Ok(sound),
        }
    }
}

/// Appends observations in batches. Cheap to clone; all clones share the queue.
///
/// An event gets its id and its time when it is taken. A batch that fails, or whose outcome is unknown because the connection broke, is
/// written again whole, under the same ids, so no event is there twice; for as long as it takes, be it that the server is away, full or
/// read-only. One that points at what does not exist, or that a constraint refuses, is refused by itself; the rest of its batch is
/// written.
///
/// [`AuditWriter::close`] drains. When the last clone is dropped instead, what was taken is still written in the background, for as
/// long as the runtime lives; if that ends first, the number of events that were not written is logged as an error, and whoever
/// waits for one gets an error. Events that a process takes with it when it is killed are those whose `append` had not returned.
///
/// What it does is reported to the `metrics` facade, under names that begin with `audit_writer_` (see [`WriterStats`]).
#[derive(Clone, Debug)]
pub struct AuditWriter {
    context: Context,
    queue: mpsc::Sender<Queued>,
    closing: Arc<watch::Sender<bool>>,
    ended: watch::Receiver<bool>,
    tally: Arc<Tally>,
}

impl AuditWriter {
    pub(crate) fn start(context: &Context, settings: WriterSettings) -> Result<Self> {
        let settings = settings.checked()?;
        let (queue, waiting) = mpsc::channel(settings.queue);
        let (closing, closes) = watch::channel(false);
        let (end, ended) = watch::channel(false);
        let tally = Arc::<Tally>::default();
        let ending = Arc::new(Ending::new(Arc::clone(&tally), end));
        let waiting = Arc::new(tokio::sync::Mutex::new(waiting));
        for _ in 0..context.lanes(settings.lanes) {
            let lane = Lane {
                context: context.clone(),
                settings,
                waiting: Arc::clone(&waiting),
                closing: closes.clone(),
                tally: Arc::clone(&tally),
                ending: Arc::clone(&ending),
            };
            tokio::spawn(lane.run());
        }
        Ok(Self {
            context: context.clone(),
            queue,
            closing: Arc::new(closing),
            ended,
            tally,
        })
    }

    /// Appends an event and resolves once it is durable. While the queue is full it waits for room. Giving up waiting does not
    /// take the event back once it is in the queue.
    ///
    /// # Errors
    /// [`Error::Invalid`] when its details are too large; [`Error::NotFound`] when there never was such a room, or the target or the
    /// acting user does not exist; [`Error::Aborted`] when the writer is closed, or ended before it was written;
    /// [`Error::Indeterminate`] when it ended while it was being written.
    pub async fn append(&self, actor: &Actor, room: Option<RoomId>, observation: Observation) -> Result<AuditLogId> {
        let (event, appending) = self.prepare(actor, room, &observation)?;
        let place = self.queue.reserve().await.map_err(|_| closed())?;
        self.tally.accept();
        place.send(event);
        appending.await
    }

    /// Appends an event if the queue has room for it now. What it returns resolves once the event is durable; dropping that is fine.
    ///
    /// # Errors
    /// [`Error::QueueFull`], with which nothing was taken; [`Error::Invalid`] and [`Error::Aborted`] as of [`AuditWriter::append`], whose
    /// other errors are those of what is returned.
    pub fn try_append(&self, actor: &Actor, room: Option<RoomId>, observation: &Observation) -> Result<Appending> {
        let place = match self.queue.try_reserve() {
            Ok(place) => place,
            Err(mpsc::error::TrySendError::Full(())) => {
                self.tally.turn_away();
                return Err(Error::QueueFull {
                    capacity: self.queue.max_capacity(),
                });
            }
            Err(mpsc::error::TrySendError::Closed(())) => return Err(closed()),
        };
        let (event, appending) = self.prepare(actor, room, observation)?;
        self.tally.accept();
        place.send(event);
        Ok(appending)
    }

    /// Takes nothing more, and waits until all that was taken is written or refused. Giving up waiting does not stop the writing.
    pub async fn close(&self) -> WriterStats {
        self.closing.send_replace(true);
        let mut ended = self.ended.clone();
        // An error means that the lanes are gone, which is what is waited for.
        let _ = ended.wait_for(|ended| *ended).await;
        self.stats()
    }

    /// What it has done so far.
    pub fn stats(&self) -> WriterStats {
        self.tally.stats()
    }

    fn prepare(&self, actor: &Actor, room: Option<RoomId>, observation: &Observation) -> Result<(Queued, Appending)> {
        if *self.closing.borrow() {
            return Err(closed());
        }
        let at = self.context.now();
        let id = AuditLogId::from_uuid(self.context.ids().uuid(at));
        let event = PreparedEvent::new(id, at, actor, room, &observation.checked_columns()?);
        let (reply, answer) = oneshot::channel();
        Ok((Queued::new(event, reply, Instant::now()), Appending(answer)))
    }
}

fn closed() -> Error {
    Error::Aborted {
        reason: "the audit writer is closed",
    }
}

/// An event on its way into the audit log: a future of its id, which is there once the event is durable.
#[derive(Debug)]
#[must_use = "unless it is awaited, nobody learns of an event that was refused"]
pub struct Appending(oneshot::Receiver<Result<AuditLogId>>);

impl Future for Appending {
    type Output = Result<AuditLogId>;

    fn poll(mut self: std::pin::Pin<&mut Self>, context: &mut std::task::Context<'_>) -> std::task::Poll<Self::Output> {
        std::pin::Pin::new(&mut self.0).poll(context).map(|answer| {
            // What is queued answers when it is dropped, too.
            answer.unwrap_or(Err(Error::Indeterminate {
                during: "audit_writer.append",
            }))
        })
    }
}
