//! How much the platform was used in a span of time: day by day, and the rooms that were used most.

use std::ops::Range;

use chrono::{DateTime, Datelike, Days, Months, NaiveDate, NaiveTime, TimeDelta, Utc};
use sea_orm::DbErr;

use super::Statistics;
use crate::database::statement::Query;
use crate::database::{Dialect, LookUp, Rows};
use crate::error::{Invalid, Result, Rule};
use crate::input;
use crate::person::{RoomName, RoomTexts};
use crate::read::{ByHand, Fetch};
use crate::row::Cells;
use crate::rules::A_STAY;
use crate::unit::Source;

/// The most days that [`Statistics::daily`] and [`Statistics::busiest_rooms`] look at: a year, and what it is compared with.
pub const MAX_DAYS: u16 = 400;
/// The most rooms that [`Statistics::busiest_rooms`] lists.
pub const MAX_BUSIEST: u16 = 100;

/// How much the platform was used on one day, UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct DayOfUse {
    /// The day.
    pub day: NaiveDate,
    /// How many meetings began: rooms that went live.
    pub meetings: i64,
    /// How many different people were in a meeting at some time of the day.
    pub distinct_participants: i64,
    /// How often somebody came: participations that began, rejoins included.
    pub joins: i64,
    /// How long all were in meetings together, of each participation the part that falls on the day; those that go on count up to now.
    pub total_participation: TimeDelta,
}

impl DayOfUse {
    fn none(day: NaiveDate) -> Self {
        Self {
            day,
            meetings: 0,
            distinct_participants: 0,
            joins: 0,
            total_participation: TimeDelta::zero(),
        }
    }

    /// Whole minutes of [`DayOfUse::total_participation`].
    pub fn minutes(&self) -> i64 {
        self.total_participation.num_minutes()
    }
}

/// How much a room was used in a span of time.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct BusyRoom {
    /// The room, deleted or not.
    pub room: RoomName,
    /// How long all were in it together, of each participation the part that falls into the span; those that go on count up to now.
    pub total_participation: TimeDelta,
    /// How often somebody came in the span, rejoins included.
    pub joins: i64,
    /// How many different people were in it at some time of the span.
    pub distinct_participants: i64,
}

impl<S: Source> Statistics<'_, S> {
    /// The use of the platform, day by day, from the first day of `days` to the one before its end, each of them, used or not, in their
    /// order. Days are those of UTC; a participation over midnight is split. Deleted rooms and users count.
    ///
    /// One statement. It reads all participations of the meetings that went on in that time, each once, along `ix_room_participants_room`;
    /// the meetings are found along `ix_rooms_live` and `ix_rooms_ended`, of which it looks at all that ended since the first day. So it costs as much
    /// as there was use: some 2 s for a million participations. It is for a report, not for each view of a page; ask it of a replica if
    /// there is one.
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] when `days` is empty, of more than [`MAX_DAYS`], or not of the years 1970 to 9999.
    pub async fn daily(&self, days: Range<NaiveDate>) -> Result<Vec<DayOfUse>> {
        let span = span_of_days(&days)?;
        let context = self.source.context();
        let dialect = context.dialect();
        let used = ByHand(daily(dialect, &span, context.now()).statement(dialect))
            .fetch_with(self.source, "statistics.daily", read_day)
            .await?;
        let mut used = used.into_iter().peekable();
        let all = days.start.iter_days().take_while(|day| *day < days.end);
        Ok(all
            .map(|day| used.next_if(|used| used.day == day).unwrap_or(DayOfUse::none(day)))
            .collect())
    }

    /// [`Statistics::daily`] of a month, 1 to 12.
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] for what is no month of the years 1970 to 9999.
    pub async fn daily_of_month(&self, year: i32, month: u32) -> Result<Vec<DayOfUse>> {
        let number = i32::try_from(month).unwrap_or(i32::MAX);
        input::number("month", number, 1, 12)?;
        let first = NaiveDate::from_ymd_opt(year, month, 1);
        let next = first.and_then(|first| first.checked_add_months(Months::new(1)));
        match (first, next) {
            (Some(first), Some(next)) => self.daily(first..next).await,
            _ => Err(years("year").into()),
        }
    }

    /// The rooms that were used most in `span`, at most `limit` of them, the busiest first: by how long all were in it together, then by joins.
    /// Deleted rooms and users count; rooms that nobody was in are left out.
    ///
    /// One statement, which costs as much as [`Statistics::daily`] of the same time.
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] for times out of range, a span that does not end after it begins or is longer than [`MAX_DAYS`], and a `limit`
    /// of 0 or above [`MAX_BUSIEST`].
    pub async fn busiest_rooms(&self, span: Range<DateTime<Utc>>, limit: u16) -> Result<Vec<BusyRoom>> {
        input::number("limit", limit.into(), 1, MAX_BUSIEST.into())?;
        let span = input::span(span)?;
        if span.end - span.start > TimeDelta::days(MAX_DAYS.into()) {
            return Err(too_long().into());
        }
        let context = self.source.context();
        let dialect = context.dialect();
        let query = busiest(dialect, &span, context.now()).bind("limit", i64::from(limit));
        ByHand(query.statement(dialect))
            .fetch_with(self.source, "statistics.busiest_rooms", |cells| {
                let id = cells.next("room_id")?;
                Ok(BusyRoom {
                    total_participation: TimeDelta::microseconds(cells.next("micros")?),
                    joins: cells.next("joins")?,
                    distinct_participants: cells.next("participants")?,
                    room: cells.read::<RoomTexts>()?.of(id),
                })
            })
            .await
    }
}

fn years(field: &'static str) -> Invalid {
    let rule = Rule::Year;
    Invalid { field, rule }
}

fn too_long() -> Invalid {
    let (field, rule) = ("until", Rule::NotAfter("400 days from the start"));
    Invalid { field, rule }
}

/// From midnight to midnight.
fn span_of_days(days: &Range<NaiveDate>) -> Result<Range<DateTime<Utc>>, Invalid> {
    let midnight = |field, day: NaiveDate| {
        let is_known = (1970..=9999).contains(&day.year());
        is_known
            .then(|| day.and_time(NaiveTime::MIN).and_utc())
            .ok_or(years(field))
    };
    let span = input::span(midnight("since", days.start)?..midnight("until", days.end)?)?;
    match days.start.checked_add_days(Days::new(MAX_DAYS.into())) {
        Some(last) if days.end > last => Err(too_long()),
        _ => Ok(span),
    }
}

fn read_day(cells: &mut Cells<'_>) -> Result<DayOfUse, DbErr> {
    let number: i64 = cells.next("day")?;
    let day = DateTime::from_timestamp_micros(number * DAY).map(|at| at.date_naive());
    Ok(DayOfUse {
        day: day.ok_or_else(|| DbErr::Type(format!("no day: {number}")))?,
        meetings: cells.next("meetings")?,
        distinct_participants: cells.next("participants")?,
        joins: cells.next("joins")?,
        total_participation: TimeDelta::microseconds(cells.next("micros")?),
    })
}

/// A day, in microseconds. All sums are of whole ones, so that the parts of a participation are as long as it is, on both databases.
const DAY: i64 = 86_400_000_000;

/// `meeting`: those that went on in the span, and `stay`: the participations of it, their times in microseconds. Nobody is in a room without
/// a meeting, and a meeting that is over ended.
fn stays(dialect: Dialect) -> String {
    let (live, ended) = ("status = 'LIVE' AND deleted_at IS NULL", "status = 'ENDED'");
    let condition = format!(
        "room_id = meeting.id AND joined_at < :until AND (left_at IS NULL OR left_at > :since OR joined_at >= :since) AND {A_STAY}"
    );
    format!(
        "meeting AS MATERIALIZED (
            SELECT id, started_at FROM rooms WHERE {live}{only_live} AND started_at < :until
            UNION ALL
            SELECT id, started_at FROM rooms WHERE {ended}{only_ended} AND ended_at >= :since AND started_at < :until
        ), stay AS MATERIALIZED (
            SELECT meeting.id AS room_id, seat.user_id, {joined} AS joined, {gone} AS gone FROM meeting {seat}
        )",
        only_live = dialect.only_by_index(live, "id"),
        only_ended = dialect.only_by_index(ended, "id"),
        joined = dialect.microseconds("seat.joined_at"),
        gone = dialect.microseconds(&format!(
            "COALESCE(seat.left_at, {})",
            dialect.later(":now", "seat.joined_at")
        )),
        seat = dialect.look_up_each("room_participants", "seat", &condition),
    )
}

fn in_span(query: Query, span: &Range<DateTime<Utc>>, now: DateTime<Utc>) -> Query {
    query
        .bind("since", span.start)
        .bind("until", span.end)
        .bind("first", span.start.timestamp_micros())
        .bind("end", span.end.timestamp_micros())
        .bind("now", now)
}

/// One row for each day on which anything was.
fn daily(dialect: Dialect, span: &Range<DateTime<Utc>>, now: DateTime<Utc>) -> Query {
    let sql = format!(
        "WITH RECURSIVE {stays}, part AS (
            SELECT user_id, joined, gone, {begin} / {DAY} AS day, {last} / {DAY} AS last_day FROM stay
            UNION ALL
            SELECT user_id, joined, gone, day + 1, last_day FROM part WHERE day < last_day
        ), counted AS (
            SELECT day, 0 AS meetings, count(DISTINCT user_id) AS participants,
                count(CASE WHEN joined / {DAY} = day THEN 1 END) AS joins, sum({piece}) AS micros
            FROM part WHERE day <= last_day GROUP BY day
            UNION ALL
            SELECT day, count(*), 0, 0, 0 FROM (SELECT {started} / {DAY} AS day FROM meeting WHERE started_at >= :since) AS begun
            GROUP BY day
        )
        SELECT day, CAST(sum(meetings) AS bigint) AS meetings, CAST(sum(participants) AS bigint) AS participants,
            CAST(sum(joins) AS bigint) AS joins, CAST(sum(micros) AS bigint) AS micros
        FROM counted GROUP BY day ORDER BY day",
        stays = stays(dialect),
        begin = dialect.larger("joined", FIRST),
        // One that ends at midnight is not in the day that begins then.
        last = dialect.larger("joined", &format!("{} - 1", dialect.smaller("gone", END))),
        piece = format!(
            "{} - {}",
            dialect.smaller("gone", &format!("(day + 1) * {DAY}")),
            dialect.larger("joined", &format!("day * {DAY}"))
        ),
        started = dialect.microseconds("started_at"),
    );
    in_span(Query::new(sql), span, now)
}

/// The ends of the span in microseconds.
const FIRST: &str = "CAST(:first AS bigint)";
const END: &str = "CAST(:end AS bigint)";

/// One row for each of the busiest rooms.
fn busiest(dialect: Dialect, span: &Range<DateTime<Utc>>, now: DateTime<Utc>) -> Query {
    let (begin, end) = (dialect.larger("joined", FIRST), dialect.smaller("gone", END));
    let room = dialect.look_up(LookUp {
        table: "rooms",
        name: "room",
        key: "busy.room_id",
        rows: Rows::All,
    });
    let sql = format!(
        "WITH {stays}, busy AS (
            SELECT room_id, CAST(sum({end} - {begin}) AS bigint) AS micros, count(CASE WHEN joined >= {FIRST} THEN 1 END) AS joins,
                count(DISTINCT user_id) AS participants
            FROM stay WHERE {end} >= {begin} GROUP BY room_id ORDER BY micros DESC, joins DESC, room_id LIMIT :limit
        )
        SELECT busy.room_id, busy.micros, busy.joins, busy.participants, room.room_code, room.title FROM busy {room}
        ORDER BY busy.micros DESC, busy.joins DESC, busy.room_id",
        stays = stays(dialect),
    );
    in_span(Query::new(sql), span, now)
}
