//! Where consumers of the feed keep how far they have come.

use entity::feed_checkpoint;
use sea_orm::{ColumnTrait, QueryFilter};

use super::{Feed, FeedPosition};
use crate::error::{Conflict, Error, Invalid, Result};
use crate::input;
use crate::operation::{Columns, Moment, Operation, Plan};
use crate::read::FetchEntity;
use crate::scope;
use crate::unit::{Sink, Source};

impl<S: Source> Feed<'_, S> {
    /// How far this consumer has come, as [`Feed::advance`] last said. None: it has not begun. One statement.
    ///
    /// # Errors
    /// [`Error::Invalid`]; [`Error::Corrupt`] when what is kept is no position.
    pub async fn checkpoint(&self, consumer: &str) -> Result<Option<FeedPosition>> {
        let consumer = checked_consumer(consumer)?;
        let found = scope::find_undeletable::<feed_checkpoint::Entity>()
            .filter(feed_checkpoint::Column::Consumer.eq(consumer))
            .fetch_one(self.source, "feed.checkpoint")
            .await?;
        let position = found.map(|kept: feed_checkpoint::Model| kept.position.parse());
        position.transpose().map_err(|_: Invalid| Error::Corrupt {
            detail: "feed_checkpoints.position is no position of the feed".to_owned(),
        })
    }
}

impl<S: Sink> Feed<'_, S> {
    /// Moves a consumer's checkpoint from where it was ([`Feed::checkpoint`]) to `to`. In the unit that does the work of the events in between,
    /// that work is done exactly once: if another process of the same consumer was there first, this unit is refused and must be rolled back.
    /// By itself after the work, it is done at least once.
    ///
    /// `consumer` is a name of 1 to 100 characters. Appends nothing: where a consumer is changes nothing that anybody else sees. Takes the
    /// consumer's row; one statement. By anybody.
    ///
    /// # Errors
    /// [`Error::Invalid`] for the name, or a position of another kind of database; [`Conflict::CheckpointMoved`] when it is not at `from`.
    pub async fn advance(&self, consumer: &str, from: Option<&FeedPosition>, to: &FeedPosition) -> Result<()> {
        let consumer = checked_consumer(consumer)?;
        for position in from.into_iter().chain([to]) {
            position.belongs_to(self.source.context().dialect())?;
        }
        let (from, to) = (from.map(ToString::to_string), to.to_string());
        self.source.perform(Advance { consumer, from, to }).await
    }
}

fn checked_consumer(consumer: &str) -> Result<String, Invalid> {
    input::line("consumer", consumer, 100)
}

struct Advance {
    consumer: String,
    from: Option<String>,
    to: String,
}

impl Operation for Advance {
    const NAME: &'static str = "feed.advance";
    type Output = ();

    fn plan(&self, at: &Moment<'_>) -> Plan {
        let consumer = self.consumer.clone();
        let moved = Conflict::CheckpointMoved { consumer };
        let plan = Plan::new(at, "moved")
            .bind("consumer", self.consumer.clone())
            .bind("to", self.to.clone());
        match &self.from {
            None => plan
                .view::<feed_checkpoint::Entity>("begun", "consumer = :consumer")
                .insert::<feed_checkpoint::Entity>(
                    "moved",
                    at.dialect,
                    "INSERT INTO feed_checkpoints (consumer, position, updated_at) VALUES (:consumer, :to, :now) ON CONFLICT DO NOTHING",
                )
                .absent_by("pk_feed_checkpoints", "begun", moved),
            Some(from) => plan
                .bind("from", from.clone())
                .update::<feed_checkpoint::Entity>(
                    "moved",
                    Columns::Of(&["consumer"]),
                    "position = :to, updated_at = :now",
                    "consumer = :consumer AND position = :from",
                )
                .found("moved", moved),
        }
    }
}

/// For the list of all statements.
pub(super) async fn list_statements<S: Sink>(on: &S) {
    let _ = Feed::new(on).checkpoint("mailer").await;
    for from in [None, Some(String::new())] {
        let (consumer, to) = ("mailer".to_owned(), String::new());
        let _ = on.perform(Advance { consumer, from, to }).await;
    }
}
