//! `statistics()`: sums that the database makes.

use chrono::TimeDelta;
use entity::{RoomId, UserId, room};
use sea_orm::{ColumnTrait, DbErr, PaginatorTrait, QueryFilter, QueryResult};

use crate::backend::plan::Plan;
use crate::backend::statistics as sql;
use crate::error::{Error, Result, Subject};
use crate::scope::{self, Any};
use crate::unit::Source;

/// Sums over stays. The ban of somebody who was absent is no stay.
#[derive(Debug)]
pub struct Statistics<'a, S> {
    source: &'a S,
}

/// A room's sums, up to now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RoomStatistics {
    /// How many different people came.
    pub distinct_participants: i64,
    /// How often somebody came: stays, rejoins included.
    pub stays: i64,
    /// All stays' lengths together, those that go on up to now, in whole seconds each.
    pub total_participation: TimeDelta,
    /// The most that were in at once.
    pub peak_participants: i32,
    /// The room's own count of joins; equals `stays`.
    pub total_joins: i32,
    /// How many stays ended by a kick or a ban.
    pub kicks: i64,
}

/// A user's sums, up to now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UserStatistics {
    /// In how many different rooms they were.
    pub distinct_rooms: i64,
    /// How often they came.
    pub stays: i64,
    /// All stays' lengths together, in whole seconds each.
    pub total_participation: TimeDelta,
    /// How many of them ended by a kick or a ban.
    pub kicks: i64,
    /// How many rooms they own, deleted ones included.
    pub rooms_owned: u64,
}

struct Totals {
    stays: i64,
    others: i64,
    seconds: i64,
    kicks: i64,
}

impl Totals {
    fn read(row: &QueryResult) -> Result<Self, DbErr> {
        Ok(Self {
            stays: row.try_get_by("stays")?,
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

    /// Of a room, deleted or not. Two statements, however many stays; served by `ix_room_participants_room`.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn of_room(&self, id: RoomId) -> Result<RoomStatistics> {
        let during = "statistics.of_room";
        let room = scope::find::<room::Entity, Any>()
            .filter(room::Column::Id.eq(id))
            .one(&self.source.executor())
            .await
            .map_err(|error| self.source.failed(&error, during))?
            .ok_or(Error::NotFound(Subject::Room(id)))?;
        let store = self.source.store();
        let totals = self
            .totals(sql::of_room(store.dialect(), id, store.now()), during)
            .await?;
        Ok(RoomStatistics {
            distinct_participants: totals.others,
            stays: totals.stays,
            total_participation: TimeDelta::seconds(totals.seconds),
            peak_participants: room.peak_participants,
            total_joins: room.total_joins,
            kicks: totals.kicks,
        })
    }

    /// Of a user. Two statements; one who does not exist has been nowhere. Served by `uq_room_participants_stay` and
    /// `ix_rooms_owner`.
    ///
    /// # Errors
    /// None beyond the database's own.
    pub async fn of_user(&self, id: UserId) -> Result<UserStatistics> {
        let during = "statistics.of_user";
        let store = self.source.store();
        let totals = self
            .totals(sql::of_user(store.dialect(), id, store.now()), during)
            .await?;
        let rooms_owned = scope::find::<room::Entity, Any>()
            .filter(room::Column::OwnerId.eq(id))
            .count(&self.source.executor())
            .await
            .map_err(|error| self.source.failed(&error, during))?;
        Ok(UserStatistics {
            distinct_rooms: totals.others,
            stays: totals.stays,
            total_participation: TimeDelta::seconds(totals.seconds),
            kicks: totals.kicks,
            rooms_owned,
        })
    }

    async fn totals(&self, plan: Plan, during: &'static str) -> Result<Totals> {
        let failed = |error: DbErr| self.source.failed(&error, during);
        let row = plan
            .run(self.source.store().dialect(), &self.source.executor())
            .await
            .map_err(failed)?;
        // A sum without GROUP BY always has one row.
        let row = row.ok_or_else(|| failed(DbErr::RecordNotFound(during.to_owned())))?;
        Totals::read(&row).map_err(failed)
    }
}
