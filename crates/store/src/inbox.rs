//! `inbox()`: what other systems deliver, perhaps more than once, is acted on once.

use std::time::Duration;

use sea_orm::{ColumnType, DbErr, QueryResult};

use crate::authority::Operation as Asked;
use crate::error::{Invalid, Result};
use crate::input;
use crate::operation::{Answer, Moment, Operation, Plan, column};
use crate::unit::{Sink, Source, Unit};

/// The most entries that one call of [`Inbox::purge`] takes.
pub const MAX_INBOX_PURGE: u16 = 10_000;

/// The repository of `inbox`.
#[derive(Debug)]
pub struct Inbox<'a, S> {
    source: &'a S,
}

impl<'a, S: Source> Inbox<'a, S> {
    pub(crate) fn new(source: &'a S) -> Self {
        Self { source }
    }
}

impl Inbox<'_, Unit> {
    /// True the first time that this unit, or any that was committed, says so of this event; from then on false. What is done in the unit
    /// when it is true is therefore done once, whoever else handles the same event at the same moment, however often it is delivered, and
    /// whatever crashes: the mark and the work are committed together or not at all.
    ///
    /// Say it first in the unit. Whoever says it of an event that another unit is at waits until that has ended: false if it was
    /// committed, true if not. Two units that each wait for the other's event are told apart by the database, and one is
    /// [`Transient`](crate::Error::Transient), as where locks are taken crosswise.
    ///
    /// `source` (1 to 100 characters) says whose ids these are; `event_id` (1 to 255) is kept as it is. Appends nothing: what is done in
    /// the unit has events of its own. One statement. By anybody.
    ///
    /// ```
    /// # use conferencing_store::entity::ParticipantId;
    /// # use conferencing_store::{Actor, Error, LeaveDetails, Store};
    /// # async fn example(store: Store, stay: ParticipantId) -> Result<(), Error> {
    /// store
    ///     .transact(&Actor::system("webhooks"), |unit| async move {
    ///         if unit.inbox().once("livekit", "EV_7dHq").await? {
    ///             unit.participants().leave_stay(stay, LeaveDetails::default()).await?;
    ///         }
    ///         Ok(())
    ///     })
    ///     .await
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`crate::Error::Invalid`].
    pub async fn once(&self, source: &str, event_id: &str) -> Result<bool> {
        let once = Once::new(source, event_id)?;
        self.source.perform(once).await.map(|FirstTime(first)| first)
    }
}

impl<S: Sink> Inbox<'_, S> {
    /// Forgets what was received longer ago than `older_than` (at least a second), at most `limit` (1 to [`MAX_INBOX_PURGE`]), the
    /// oldest first; returns how many. Fewer than `limit` means that nothing is left, or that others are at it. What is delivered again
    /// after that counts as new: keep it for longer than any source repeats itself, such as a week.
    ///
    /// Appends nothing. One statement on PostgreSQL; waits for nobody, so any number of callers share the work. By the system. Served by
    /// `ix_inbox_received`.
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] for time or limit; [`Rejected::NotAllowed`](crate::Rejected::NotAllowed).
    pub async fn purge(&self, older_than: Duration, limit: u16) -> Result<u64> {
        let purge = Purge {
            age: input::age("older_than", older_than)?,
            limit: input::number("limit", limit.into(), 1, MAX_INBOX_PURGE.into())?,
        };
        self.source.perform(purge).await.map(|Purged(number)| number)
    }
}

pub(crate) struct Once {
    source: String,
    event_id: String,
}

impl Once {
    pub(crate) fn new(source: &str, event_id: &str) -> Result<Self, Invalid> {
        input::opaque("source", source, 100)?;
        input::opaque("event_id", event_id, 255)?;
        Ok(Self {
            source: source.to_owned(),
            event_id: event_id.to_owned(),
        })
    }
}

pub(crate) struct FirstTime(bool);

impl Operation for Once {
    const NAME: &'static str = "inbox.once";
    type Output = FirstTime;

    /// The key decides: it sees, and waits for, what others insert meanwhile.
    fn plan(&self, at: &Moment<'_>) -> Plan {
        Plan::new(at, "result")
            .bind("source", self.source.clone())
            .bind("event_id", self.event_id.clone())
            .lookup(
                "marked",
                &["source"],
                "INSERT INTO inbox (source, event_id, received_at) VALUES (:source, :event_id, :now)
                ON CONFLICT DO NOTHING RETURNING source",
            )
            .step("result", &["marks"], "SELECT count(*) AS marks FROM marked")
    }
}

impl Answer for FirstTime {
    fn read(row: &QueryResult) -> Result<Self, DbErr> {
        row.try_get_by("marks").map(|marks: i64| Self(marks > 0))
    }

    fn columns() -> Vec<(String, ColumnType)> {
        vec![column::<i64>("marks")]
    }
}

pub(crate) struct Purge {
    age: Duration,
    limit: i32,
}

pub(crate) struct Purged(u64);

impl Operation for Purge {
    const NAME: &'static str = "inbox.purge";
    type Output = Purged;

    /// Rows are never changed, so each stays where it was found until it is deleted.
    fn plan(&self, at: &Moment<'_>) -> Plan {
        let dialect = at.dialect;
        let place = dialect.row_place();
        Plan::new(at, "result")
            .denied(at.only_the_system(Asked::PurgeInbox))
            .bind("before", at.back(self.age))
            .bind("limit", i64::from(self.limit))
            .lookup(
                "due",
                &["place"],
                format!(
                    "SELECT {place} AS place FROM inbox WHERE received_at < :before ORDER BY received_at LIMIT :limit{}",
                    dialect.for_removal_of_free()
                ),
            )
            .lookup(
                "gone",
                &["source"],
                format!(
                    "DELETE FROM inbox WHERE {} RETURNING source",
                    dialect.among(place, "SELECT place FROM due")
                ),
            )
            .step("result", &["purged"], "SELECT count(*) AS purged FROM gone")
    }
}

impl Answer for Purged {
    fn read(row: &QueryResult) -> Result<Self, DbErr> {
        let purged: i64 = row.try_get_by("purged")?;
        Ok(Self(u64::try_from(purged).unwrap_or_default()))
    }

    fn columns() -> Vec<(String, ColumnType)> {
        vec![column::<i64>("purged")]
    }
}
