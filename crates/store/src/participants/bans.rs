//! The bans of a user, and those that a moderator put, in whatever room.

use chrono::{DateTime, Utc};
use entity::{UserId, room_participant};
use sea_orm::DbErr;
use uuid::Uuid;

use super::Participants;
use crate::database::statement::Query;
use crate::database::{Dialect, LookUp, Rows};
use crate::error::Result;
use crate::page::{ByTime, Page, PageRequest};
use crate::person::{Names, Person, RoomName, RoomTexts};
use crate::read::{self, ByHand, Fetch};
use crate::row::{self, Cells};
use crate::unit::Source;

/// A ban, whom it is of, and where.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[cfg_attr(feature = "schemars", derive(schemars::JsonSchema))]
pub struct BanInRoom {
    /// The row that it stands on, with who put it, when and why.
    pub participant: room_participant::Model,
    /// Who is banned; deleted users too, erased ones are called `deleted-<id>`.
    pub user: Person,
    /// From where; deleted rooms too.
    pub room: RoomName,
    /// What became of it.
    pub state: BanState,
}

/// What became of a ban.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
#[cfg_attr(feature = "schemars", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum BanState {
    /// It keeps them out.
    InForce,
    /// Its time is over: they may come back.
    RunOut,
    /// It was lifted: by a moderator, or as one that had run out when they came back or were banned anew. The audit log tells which.
    Lifted,
}

impl BanState {
    fn of(row: &room_participant::Model, now: DateTime<Utc>) -> Self {
        match row.ban_expires_at {
            _ if !row.is_banned => Self::Lifted,
            Some(expires_at) if expires_at <= now => Self::RunOut,
            _ => Self::InForce,
        }
    }
}

impl BanInRoom {
    fn read(cells: &mut Cells<'_>, now: DateTime<Utc>) -> Result<Self, DbErr> {
        let participant: room_participant::Model = cells.read()?;
        Ok(Self {
            user: cells.read::<Names>()?.of(participant.user_id),
            room: cells.read::<RoomTexts>()?.of(participant.room_id),
            state: BanState::of(&participant, now),
            participant,
        })
    }

    fn place(&self) -> (DateTime<Utc>, Uuid) {
        let row = &self.participant;
        // The lists have none without it.
        (row.banned_at.unwrap_or(row.joined_at), row.id.as_uuid())
    }
}

/// A column that bans are listed by. There is an index of each.
#[derive(Clone, Copy)]
enum By {
    Banned,
    Moderator,
}

impl<S: Source> Participants<'_, S> {
    /// All bans of a user, in force, run out or lifted, with their rooms, by (banned_at, id). One statement, served by
    /// `ix_room_participants_banned`. Those in force of one room: [`Participants::list_bans`].
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] for the cursor of a list by name; a user who does not exist has none.
    pub async fn bans_of(&self, user: UserId, page: &PageRequest) -> Result<Page<BanInRoom>> {
        self.bans(By::Banned, user, page, "participants.bans_of").await
    }

    /// All bans that a user put, in force, run out or lifted, with whom they are of and their rooms, by (banned_at, id). Those by the
    /// system are nobody's. One statement, served by `ix_room_participants_banned_by`.
    ///
    /// # Errors
    /// As of [`Participants::bans_of`].
    pub async fn bans_by(&self, moderator: UserId, page: &PageRequest) -> Result<Page<BanInRoom>> {
        self.bans(By::Moderator, moderator, page, "participants.bans_by").await
    }

    async fn bans(&self, by: By, user: UserId, page: &PageRequest, during: &'static str) -> Result<Page<BanInRoom>> {
        let context = self.source.context();
        let (dialect, now, page) = (context.dialect(), context.now(), page.by_time()?);
        let rows = ByHand(bans(dialect, by, user, page).statement(dialect))
            .fetch_with(self.source, during, |cells| BanInRoom::read(cells, now))
            .await?;
        Ok(page.page(rows, BanInRoom::place))
    }
}

fn bans(dialect: Dialect, by: By, user: UserId, page: ByTime) -> Query {
    let (column, implied) = match by {
        By::Banned => ("user_id", "seat.banned_at IS NOT NULL"),
        By::Moderator => ("banned_by", "seat.banned_by IS NOT NULL"),
    };
    let ((_, direction), beyond) = (page.order().in_sql(), page.beyond("seat.banned_at", "seat.id"));
    let look_up = |table, name, key| {
        let rows = Rows::All;
        dialect.look_up(LookUp { table, name, key, rows })
    };
    let query = Query::new(format!(
        "SELECT {columns}, person.username, person.display_name, room.room_code, room.title
        FROM room_participants AS seat {person} {room}
        WHERE seat.{column} = :user AND {implied}{only_by_index} {beyond}
        ORDER BY seat.banned_at {direction}, seat.id {direction} LIMIT {limit}",
        columns = row::columns_of::<room_participant::Entity>(Some("seat")),
        person = look_up("users", "person", "seat.user_id"),
        room = look_up("rooms", "room", "seat.room_id"),
        only_by_index = dialect.only_by_index(implied, "seat.id"),
        limit = dialect.limit_of_walk(":limit"),
    ));
    read::page_of(query.bind("user", user), page)
}
