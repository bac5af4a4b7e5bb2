//! `statistics()`: sums that the database makes. Those of one room or one user are here, those of a span of time in `usage`.

mod usage;

pub use usage::{BusyRoom, DayOfUse, MAX_BUSIEST, MAX_DAYS};

use chrono::{DateTime, TimeDelta, Utc};
use entity::{RoomId, UserId};
use sea_orm::DbErr;

use crate::database::Dialect;
use crate::database::statement::Query;
use crate::error::{Error, Result, Subject};
use crate::read::{ByHand, Fetch};
use crate::row::{Cells, FromRow};
use crate::rules::A_STAY;
use crate::unit::Source;

/// Sums over participations. The ban of somebody who was absent is no participation.
#[derive(Debug)]
pub struct Statistics<'a, S> {
    source: &'a S,
}

/// A room's sums, up to now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct RoomStatistics {
    /// How many different people came.
    pub distinct_participants: i64,
    /// How often somebody came: participations, rejoins included.
    pub participations: i64,
    /// All participations' lengths together, those that go on up to now, in whole seconds each.
    pub total_participation: TimeDelta,
    /// The most that were in at once.
    pub peak_participants: i32,
    /// The room's own count of joins; equals `participations`.
    pub total_joins: i32,
    /// How many participations ended by a kick or a ban.
    pub kicks: i64,
}

/// A user's sums, up to now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct UserStatistics {
    /// In how many different rooms they were.
    pub distinct_rooms: i64,
    /// How often they came.
    pub participations: i64,
    /// All participations' lengths together, in whole seconds each.
    pub total_participation: TimeDelta,
    /// How many of them ended by a kick or a ban.
    pub kicks: i64,
    /// How many rooms they own, deleted ones included.
    pub rooms_owned: u64,
}

struct Totals {
    participations: i64,
    others: i64,
    seconds: i64,
    kicks: i64,
}

impl FromRow for Totals {
    const COLUMNS: &'static [&'static str] = &["participations", "others", "seconds", "kicks"];

    fn read(cells: &mut Cells<'_>) -> Result<Self, DbErr> {
        Ok(Self {
            participations: cells.next("participations")?,
            others: cells.next("others")?,
            seconds: cells.next("seconds")?,
            kicks: cells.next("kicks")?,
        })
    }
}

impl<'a, S: Source> Statistics<'a, S> {
    pub(crate) fn new(source: &'a S) -> Self {
        Self { source }
    }

    /// Of a room, deleted or not. One statement, however many participations; served by `ix_room_participants_room`.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn of_room(&self, id: RoomId) -> Result<RoomStatistics> {
        let context = self.source.context();
        let rows = ByHand(of_room(context.dialect(), id, context.now()).statement(context.dialect()))
            .fetch_with(self.source, "statistics.of_room", |cells| {
                let totals: Totals = cells.read()?;
                Ok(RoomStatistics {
                    distinct_participants: totals.others,
                    participations: totals.participations,
                    total_participation: TimeDelta::seconds(totals.seconds),
                    peak_participants: cells.next("peak_participants")?,
                    total_joins: cells.next("total_joins")?,
                    kicks: totals.kicks,
                })
            })
            .await?;
        rows.into_iter().next().ok_or(Error::NotFound(Subject::Room(id)))
    }

    /// Of a user. One statement; one who does not exist has been nowhere. Served by `uq_room_participants_joined` and
    /// `ix_rooms_owner`.
    ///
    /// # Errors
    /// None beyond the database's own.
    pub async fn of_user(&self, id: UserId) -> Result<UserStatistics> {
        let context = self.source.context();
        let rows = ByHand(of_user(context.dialect(), id, context.now()).statement(context.dialect()))
            .fetch_with(self.source, "statistics.of_user", |cells| {
                let totals: Totals = cells.read()?;
                Ok(UserStatistics {
                    distinct_rooms: totals.others,
                    participations: totals.participations,
                    total_participation: TimeDelta::seconds(totals.seconds),
                    kicks: totals.kicks,
                    rooms_owned: u64::try_from(cells.next::<i64>("rooms_owned")?).unwrap_or(0),
                })
            })
            .await?;
        // A sum without GROUP BY always has one row.
        Ok(rows.into_iter().next().unwrap_or_default())
    }
}

fn seconds(dialect: Dialect) -> String {
    let until_now = dialect.seconds_between("joined_at", &dialect.later(":now", "joined_at"));
    format!("CAST(COALESCE(sum(COALESCE(duration_seconds, {until_now})), 0) AS bigint)")
}

fn totals(dialect: Dialect, other: &str, of: &str) -> String {
    format!(
        "SELECT count(*) AS participations, count(DISTINCT {other}) AS others, {seconds} AS seconds,
            count(CASE WHEN is_kicked THEN 1 END) AS kicks
        FROM room_participants WHERE {of} AND {A_STAY}",
        seconds = seconds(dialect)
    )
}

/// Of a room: one row if it is there.
fn of_room(dialect: Dialect, room: RoomId, now: DateTime<Utc>) -> Query {
    let totals = totals(dialect, "user_id", "room_id = :room");
    Query::new(format!(
        "SELECT totals.*, room.peak_participants, room.total_joins FROM rooms AS room CROSS JOIN ({totals}) AS totals
        WHERE room.id = :room"
    ))
    .bind("room", room)
    .bind("now", now)
}

/// Of a user: one row.
fn of_user(dialect: Dialect, user: UserId, now: DateTime<Utc>) -> Query {
    let totals = totals(dialect, "room_id", "user_id = :user");
    Query::new(format!(
        "SELECT totals.*, (SELECT count(*) FROM rooms WHERE owner_id = :user) AS rooms_owned FROM ({totals}) AS totals"
    ))
    .bind("user", user)
    .bind("now", now)
}
