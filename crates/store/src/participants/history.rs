//! Who was in a room at a time, and where a user was in a span of time. Both walk along an index by the time of coming, and look at those who
//! had gone by then as well: no index has just those who were there.

use std::ops::Range;

use chrono::{DateTime, Utc};
use entity::{RoomId, UserId, room_participant};
use sea_orm::DbErr;
use uuid::Uuid;

use super::{ParticipantWithUser, Participants};
use crate::database::statement::Query;
use crate::database::{Dialect, LookUp, Rows};
use crate::error::Result;
use crate::input;
use crate::page::{ByTime, Order, Page, PageRequest, SCANNED, Scanned};
use crate::person::{RoomName, RoomTexts};
use crate::read::{ByHand, Fetch};
use crate::row::{self, Cells};
use crate::rules::A_STAY;
use crate::unit::Source;

/// A participation, and where it was.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct ParticipantInRoom {
    /// The participation.
    pub participant: room_participant::Model,
    /// The room, deleted or not.
    pub room: RoomName,
}

impl ParticipantInRoom {
    fn read(cells: &mut Cells<'_>) -> Result<Self, DbErr> {
        let participant: room_participant::Model = cells.read()?;
        let room = cells.read::<RoomTexts>()?.of(participant.room_id);
        Ok(Self { participant, room })
    }

    /// Its place among the participations of a user, of which no two have the same time and room.
    fn place(&self) -> (DateTime<Utc>, Uuid) {
        (self.participant.joined_at, self.participant.room_id.as_uuid())
    }
}

impl<S: Source> Participants<'_, S> {
    /// Who was in a room at a time, with their users, by (joined_at, id): who had come by then, at that very moment too, and not yet
    /// gone. Deleted users are named as well; erased ones are called `deleted-<id>`. A time to come is answered as the present.
    ///
    /// One statement, a walk along `ix_room_participants_room` from `at` backwards, or towards it with [`Order::OldestFirst`], which looks at
    /// no more than 5,000 stays a page: in a room that more have come to **a page may come back short, even empty, with a `next`**; it is
    /// the last only when `next` is none.
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] for a time out of range and for the cursor of a list by name; a room that does not exist had nobody in it.
    pub async fn present_at(
        &self,
        room: RoomId,
        at: DateTime<Utc>,
        page: &PageRequest,
    ) -> Result<Page<ParticipantWithUser>> {
        let (moment, page) = (input::time("at", at)?, page.by_time()?);
        let dialect = self.source.context().dialect();
        let rows = ByHand(present_at(dialect, room, moment, page).statement(dialect))
            .fetch_with(self.source, "participants.present_at", |cells| {
                scanned(cells, ParticipantWithUser::read)
            })
            .await?;
        Ok(page.page_of_scan(rows, ParticipantWithUser::place))
    }

    /// The stays of a user that overlap `span` or begin in it, with their rooms, deleted ones too, by joined_at. The span begins with its
    /// start and ends before its end; stays that go on are in it. The ban of somebody who was absent is no stay. Nothing is appended to
    /// the audit log, other than by [`crate::users::Users::export`].
    ///
    /// One statement, a walk along `uq_room_participants_joined`, which looks at no more than 5,000 stays a page: of a user with more of them
    /// outside the span **a page may come back short, even empty, with a `next`**; it is the last only when `next` is none.
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] for times out of range, a span that does not end after it begins, and the cursor of a list by name; a user
    /// who does not exist was nowhere.
    pub async fn stays_of(
        &self,
        user: UserId,
        span: Range<DateTime<Utc>>,
        page: &PageRequest,
    ) -> Result<Page<ParticipantInRoom>> {
        let (span, page) = (input::span(span)?, page.by_time()?);
        let dialect = self.source.context().dialect();
        let rows = ByHand(stays_of(dialect, user, &span, page).statement(dialect))
            .fetch_with(self.source, "participants.stays_of", |cells| {
                scanned(cells, ParticipantInRoom::read)
            })
            .await?;
        Ok(page.page_of_scan(rows, ParticipantInRoom::place))
    }
}

fn scanned<T>(cells: &mut Cells<'_>, read: impl Fn(&mut Cells<'_>) -> Result<T, DbErr>) -> Result<Scanned<T>, DbErr> {
    let (place, is_hit): (i32, bool) = (cells.next("place")?, cells.next("is_hit")?);
    Ok(Scanned {
        row: read(cells)?,
        is_hit,
        is_last: place == i32::from(SCANNED),
    })
}

/// A walk through participations by the time of coming.
struct Walk<'a> {
    /// Whose, or of what.
    of: &'a str,
    /// The parameter that they came by, and how it compares to the time.
    until: (&'a str, DateTime<Utc>, &'a str),
    /// What tells those apart that came at one time: the last column of the index.
    tie: &'a str,
    /// Which of them are wanted.
    is_hit: &'a str,
    /// Columns of `other`, and whose row that is.
    others: &'a str,
    other: LookUp<'a>,
}

fn present_at(dialect: Dialect, room: RoomId, moment: DateTime<Utc>, page: ByTime) -> Query {
    let walk = Walk {
        of: "room_id = :room",
        until: ("<=", moment, ":moment"),
        tie: "id",
        is_hit: "left_at IS NULL OR left_at > :moment",
        others: "other.username, other.display_name",
        other: LookUp {
            table: "users",
            name: "other",
            key: "seat.user_id",
            rows: Rows::All,
        },
    };
    walk.query(dialect, page).bind("room", room).bind("moment", moment)
}

fn stays_of(dialect: Dialect, user: UserId, span: &Range<DateTime<Utc>>, page: ByTime) -> Query {
    let is_hit = format!("(left_at IS NULL OR left_at > :since OR joined_at >= :since) AND {A_STAY}");
    let walk = Walk {
        of: "user_id = :user",
        until: ("<", span.end, ":until"),
        tie: "room_id",
        is_hit: &is_hit,
        others: "other.room_code, other.title",
        other: LookUp {
            table: "rooms",
            name: "other",
            key: "seat.room_id",
            rows: Rows::All,
        },
    };
    walk.query(dialect, page)
        .bind("user", user)
        .bind("since", span.start)
        .bind("until", span.end)
}

impl Walk<'_> {
    fn query(&self, dialect: Dialect, page: ByTime) -> Query {
        let Self {
            of,
            until: (comparison, until, bind),
            tie,
            is_hit,
            others,
            other,
        } = *self;
        let (beyond, direction) = page.order().in_sql();
        let mut along = vec![of.to_owned()];
        // Of two bounds at one end only the tighter is said: of several, PostgreSQL 18 begins at a looser one.
        let is_behind = match (page.order(), page.place()) {
            (Order::NewestFirst, Some(place)) => place.at < until,
            (Order::OldestFirst, _) | (_, None) => false,
        };
        if !is_behind {
            along.push(format!("joined_at {comparison} {bind}"));
        }
        if is_behind || (page.order() == Order::OldestFirst && page.place().is_some()) {
            along.push(format!("(joined_at, {tie}) {beyond} (:at, :last)"));
        }
        let order = |of: &str| format!("{of}joined_at {direction}, {of}{tie} {direction}");
        // The last one that was looked at comes along, whether or not it is wanted, so that the next page begins there.
        let sql = format!(
            "WITH seat AS (
                SELECT *, row_number() OVER (ORDER BY {order}) AS place, COALESCE({is_hit}, FALSE) AS is_hit FROM (
                    SELECT * FROM room_participants WHERE {along} ORDER BY {order} LIMIT {limit_of_scan}
                ) AS walked
            )
            SELECT CAST(seat.place AS integer) AS place, seat.is_hit, {columns}, {others} FROM seat {other}
            WHERE seat.is_hit OR seat.place = :scanned ORDER BY {outer_order} LIMIT :limit",
            order = order(""),
            along = along.join(" AND "),
            limit_of_scan = dialect.limit_of_walk(":scanned"),
            columns = row::columns_of::<room_participant::Entity>(Some("seat")),
            other = dialect.look_up(other),
            outer_order = order("seat."),
        );
        let query = Query::new(sql).bind("scanned", i64::from(SCANNED));
        crate::read::page_of(query, page)
    }
}
