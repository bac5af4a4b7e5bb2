//! `statistics()`: sums that the database makes.

use chrono::{DateTime, TimeDelta, Utc};
use entity::{RoomId, UserId, room};
use sea_orm::{ColumnTrait, DbErr, QueryFilter, QueryResult};

use crate::database::Dialect;
use crate::database::statement::Query;
use crate::error::{Error, Result, Subject};
use crate::read::{ByHand, Fetch, FetchEntity};
use crate::scope::{self, Any};
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
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

#[derive(Default)]
pub(crate) struct Totals {
    participations: i64,
    others: i64,
    seconds: i64,
    kicks: i64,
}

impl Totals {
    fn read(row: &QueryResult) -> Result<Self, DbErr> {
        Ok(Self {
            participations: row.try_get_by("participations")?,
            others: row.try_get_by("others")?,
            seconds: row.try_get_by("seconds")?,
            kicks: row.try_get_by("kicks")?,
        })
    }
}

impl<'a, S: Source> Statistics<'a, S> {
    pub(crate) fn new(source: &'a S) -> Self {
        Self { source }
    }

    /// Of a room, deleted or not. Two statements, however many participations; served by `ix_room_participants_room`.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn of_room(&self, id: RoomId) -> Result<RoomStatistics> {
        let during = "statistics.of_room";
        let room = scope::find::<room::Entity, Any>()
            .filter(room::Column::Id.eq(id))
            .fetch_one(self.source, during)
            .await?
            .ok_or(Error::NotFound(Subject::Room(id)))?;
        let totals = self.totals_of_room(id).await?;
        Ok(RoomStatistics {
            distinct_participants: totals.others,
            participations: totals.participations,
            total_participation: TimeDelta::seconds(totals.seconds),
            peak_participants: room.peak_participants,
            total_joins: room.total_joins,
            kicks: totals.kicks,
        })
    }

    /// Of a user. Two statements; one who does not exist has been nowhere. Served by `uq_room_participants_joined` and
    /// `ix_rooms_owner`.
    ///
    /// # Errors
    /// None beyond the database's own.
    pub async fn of_user(&self, id: UserId) -> Result<UserStatistics> {
        let during = "statistics.of_user";
        let store = self.source.context();
        let totals = self.totals(of_user(store.dialect(), id, store.now()), during).await?;
        let rooms_owned = scope::find::<room::Entity, Any>()
            .filter(room::Column::OwnerId.eq(id))
            .fetch_count(self.source, during)
            .await?;
        Ok(UserStatistics {
            distinct_rooms: totals.others,
            participations: totals.participations,
            total_participation: TimeDelta::seconds(totals.seconds),
            kicks: totals.kicks,
            rooms_owned,
        })
    }

    pub(crate) async fn totals_of_room(&self, id: RoomId) -> Result<Totals> {
        let context = self.source.context();
        let totals = of_room(context.dialect(), id, context.now());
        self.totals(totals, "statistics.of_room").await
    }

    async fn totals(&self, query: Query, during: &'static str) -> Result<Totals> {
        let query = ByHand(query.statement(self.source.context().dialect()));
        let totals = query.fetch_with(self.source, during, Totals::read).await?;
        // A sum without GROUP BY always has one row.
        Ok(totals.into_iter().next().unwrap_or_default())
    }
}

/// A row that only carries the ban of somebody who was absent is no participation: it begins and ends with the ban, and nobody was put out.
const A_STAY: &str = "NOT (banned_at IS NOT NULL AND NOT is_kicked AND joined_at = banned_at AND left_at = banned_at)";

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

/// Of a room: one row.
fn of_room(dialect: Dialect, room: RoomId, now: DateTime<Utc>) -> Query {
    Query::new(totals(dialect, "user_id", "room_id = :room"))
        .bind("room", room)
        .bind("now", now)
}

/// Of a user: one row.
fn of_user(dialect: Dialect, user: UserId, now: DateTime<Utc>) -> Query {
    Query::new(totals(dialect, "room_id", "user_id = :user"))
        .bind("user", user)
        .bind("now", now)
}
