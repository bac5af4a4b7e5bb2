//! `feed()`: what was committed, as a stream from a position: for services that act on what others have done. docs/EVENTS.md says how.
//!
//! Nothing is lost and nothing doubled behind a position, however long a unit of work was open, in whatever order units commit.

mod checkpoint;
mod hub;
mod page;
mod position;

use std::collections::VecDeque;
use std::time::Duration;

use entity::{AuditAction, RoomId, UserId};
use futures_util::stream::{self, Stream};

use crate::actor::Actor;
use crate::audit::AuditEntry;
use crate::context::Context;
use crate::error::{Invalid, Result, Rule};
use crate::input;
use crate::page::MAX_PAGE_SIZE;
use crate::settings::FeedSettings;
use crate::unit::{Acting, Reach, Sink, Source};

pub use position::FeedPosition;

use hub::Live;
use page::FeedPage;

/// What was committed, to be read or followed from a position.
#[derive(Debug)]
pub struct Feed<'a, S> {
    source: &'a S,
}

/// Which events. What is named must all hold; [`FeedFilter::default`] names nothing and means every event.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[cfg_attr(feature = "schemars", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct FeedFilter {
    /// In this room.
    pub room: Option<RoomId>,
    /// By this user, or done to them.
    pub user: Option<UserId>,
    /// One of these; none means any.
    pub actions: Vec<AuditAction>,
}

impl FeedFilter {
    /// What happens in a room.
    pub fn of_room(room: RoomId) -> Self {
        Self {
            room: Some(room),
            ..Self::default()
        }
    }

    /// What a user does, and what is done to them.
    pub fn of_user(user: UserId) -> Self {
        Self {
            user: Some(user),
            ..Self::default()
        }
    }

    /// Events of certain kinds.
    pub fn of_actions(actions: impl Into<Vec<AuditAction>>) -> Self {
        Self {
            actions: actions.into(),
            ..Self::default()
        }
    }
}

/// An event that was committed.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[cfg_attr(feature = "schemars", derive(schemars::JsonSchema))]
pub struct FeedEvent {
    /// The place behind it: whoever keeps this, after their work or in the same unit, goes on with the next event of the same filter. It may
    /// lie behind further events, which that filter left out.
    pub position: FeedPosition,
    /// The event, as the audit log has it.
    #[serde(flatten)]
    pub entry: AuditEntry,
}

/// Some events in order, and the place behind them.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[cfg_attr(feature = "schemars", derive(schemars::JsonSchema))]
pub struct FeedBatch {
    /// The events.
    pub events: Vec<FeedEvent>,
    /// The place behind them, and behind what the filter left out.
    pub position: FeedPosition,
    /// Whether there is nothing behind it yet.
    pub is_end: bool,
}

impl From<FeedPage> for FeedBatch {
    fn from(page: FeedPage) -> Self {
        let position = page.next();
        Self {
            events: page.events(0..page.events.len(), &page.after),
            is_end: !page.goes_on && page.reaches_now,
            position,
        }
    }
}

impl<'a, S: Source> Feed<'a, S> {
    pub(crate) fn new(source: &'a S) -> Self {
        Self { source }
    }

    /// The place behind all that is committed now. One statement.
    ///
    /// # Errors
    /// Only those of the database.
    pub async fn now(&self) -> Result<FeedPosition> {
        page::now(self.source).await
    }

    /// Up to `limit` (1 to [`MAX_PAGE_SIZE`]) events behind `position`, and where to go on: for those who ask by themselves. Whoever
    /// keeps [`FeedBatch::position`] in the unit that does the work has every event once. One statement, along `ix_audit_logs_feed`;
    /// two where more than 2,000 events are new, and then each page sorts what is left of them.
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] for the limit, or for a position of another kind of database.
    pub async fn read(&self, filter: &FeedFilter, position: &FeedPosition, limit: u16) -> Result<FeedBatch> {
        input::number("limit", limit.into(), 1, MAX_PAGE_SIZE.into())?;
        page::read(self.source, filter, position, limit)
            .await
            .map(FeedBatch::from)
    }
}

impl<S: Source> Feed<'_, S> {
    /// Events behind `position` as they are committed, by any process; without a position, from now on. The stream has no end; all of
    /// a process's subscribers are served by one statement now and then, see [`crate::FeedSettings`]. What is committed by this
    /// process is seen at once. Must be polled within a Tokio runtime.
    ///
    /// While the database does not answer the stream waits. It ends with an error: with [`crate::Error::SlowSubscriber`] where too much has
    /// waited for it, which does not hold up others.
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] for the settings or for a position of another kind of database.
    pub async fn subscribe(
        &self,
        filter: FeedFilter,
        position: Option<FeedPosition>,
    ) -> Result<impl Stream<Item = Result<FeedEvent>> + Send + 'static + use<S>> {
        let context = self.source.context().clone();
        check(&context)?;
        let position = match position {
            Some(position) => {
                // Refused now, not when the first event is asked for.
                position.belongs_to(context.dialect())?;
                position
            }
            None => self.now().await?,
        };
        let reader = Reader {
            source: Acting::new(context, Actor::anonymous()),
            filter,
            ready: VecDeque::new(),
            stage: Stage::Behind(position),
        };
        Ok(stream::try_unfold(reader, |mut reader| async move {
            let event = reader.next().await?;
            Ok(event.map(|event| (event, reader)))
        }))
    }
}

fn check(context: &Context) -> Result<(), Invalid> {
    let settings = context.settings().feed;
    let broken = |field, rule| Err(Invalid { field, rule });
    if settings.shortest_pause < Duration::from_millis(1) {
        return broken("shortest_pause", Rule::AtLeast(1));
    }
    if settings.longest_pause < settings.shortest_pause {
        return broken("longest_pause", Rule::After("shortest_pause"));
    }
    if settings.waiting_batches == 0 {
        return broken("waiting_batches", Rule::AtLeast(1));
    }
    Ok(())
}

/// What a subscriber's stream is made from.
struct Reader {
    source: Acting,
    filter: FeedFilter,
    ready: VecDeque<FeedEvent>,
    stage: Stage,
}

enum Stage {
    /// Reads by itself what has been before.
    Behind(FeedPosition),
    /// Has asked the hub to be served, and reads by itself up to where that begins.
    Joining {
        from: FeedPosition,
        live: Live,
    },
    /// Is served; what lies before `since` it has read by itself.
    Served {
        since: FeedPosition,
        live: Live,
    },
    Ended,
}

impl Reader {
    async fn next(&mut self) -> Result<Option<FeedEvent>> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Ok(Some(event));
            }
            self.stage = match std::mem::replace(&mut self.stage, Stage::Ended) {
                Stage::Behind(position) => {
                    let batch = self.read(&position).await?;
                    let from = batch.position;
                    self.ready.extend(batch.events);
                    if batch.is_end {
                        let live = hub::join(&self.source, self.filter.clone());
                        Stage::Joining { from, live }
                    } else {
                        Stage::Behind(from)
                    }
                }
                Stage::Joining { from, mut live } => {
                    let served_from = live.begins().await?;
                    let mut since = from.clone();
                    // What was committed after it had read, and before it is served. Whatever is read beyond is left out later on.
                    if served_from.later(&from) == &served_from {
                        loop {
                            let batch = self.read(&since).await?;
                            self.ready.extend(batch.events);
                            since = batch.position;
                            if batch.is_end {
                                break;
                            }
                        }
                    }
                    Stage::Served { since, live }
                }
                Stage::Served { since, mut live } => {
                    self.ready.extend(live.next(&since).await?);
                    Stage::Served { since, live }
                }
                Stage::Ended => return Ok(None),
            };
        }
    }

    /// Waits where the database does not answer.
    async fn read(&self, position: &FeedPosition) -> Result<FeedBatch> {
        let context = self.source.context();
        let mut pauses = Pauses::of(context.settings().feed);
        loop {
            match page::read(&self.source, &self.filter, position, MAX_PAGE_SIZE).await {
                Ok(page) => return Ok(page.into()),
                Err(error) if hub::passes(&error) && !context.is_closed() => pauses.another().await,
                Err(error) => return Err(error),
            }
        }
    }
}

/// Pauses that grow.
struct Pauses {
    settings: FeedSettings,
    next: Duration,
}

impl Pauses {
    fn of(settings: FeedSettings) -> Self {
        Self {
            settings,
            next: settings.shortest_pause,
        }
    }

    fn begin_anew(&mut self) {
        self.next = self.settings.shortest_pause;
    }

    /// The next pause, which is twice as long as the one before, up to the longest.
    fn take(&mut self) -> Duration {
        let pause = self.next;
        self.next = (pause * 2).min(self.settings.longest_pause);
        pause
    }

    async fn another(&mut self) {
        tokio::time::sleep(self.take()).await;
    }
}

/// For the list of all statements.
pub(crate) async fn list_statements<S: Sink>(on: &S, filter: &FeedFilter) {
    page::list_statements(on, filter).await;
    checkpoint::list_statements(on).await;
}
