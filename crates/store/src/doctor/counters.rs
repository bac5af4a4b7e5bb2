//! Counters of rooms that are not what their participations add up to.

use entity::RoomId;
use sea_orm::DbErr;

use super::{Check, Examined, Finding};
use crate::database::Dialect;
use crate::database::statement::Query;
use crate::error::Result;
use crate::row::Cells;
use crate::rules::A_STAY;

const PRESENT: &str = "left_at IS NULL";
/// How many rooms are told of one by one.
const SHOWN: usize = 5;

/// One scan of all participations, grouped by room, beside one of all rooms. It sees one moment, so of a change under way it sees all
/// or nothing.
pub(super) fn query() -> Query {
    Query::new(format!(
        "SELECT room.id, room.active_participants, COALESCE(counted.present, 0) AS present, room.total_joins,
            COALESCE(counted.stays, 0) AS stays, count(*) OVER () AS wrong
        FROM rooms AS room LEFT JOIN (
            SELECT room_id, count(*) FILTER (WHERE {PRESENT}) AS present, count(*) FILTER (WHERE {A_STAY}) AS stays
            FROM room_participants GROUP BY room_id) AS counted ON counted.room_id = room.id
        WHERE room.active_participants <> COALESCE(counted.present, 0) OR room.total_joins <> COALESCE(counted.stays, 0)
        ORDER BY room.id LIMIT {SHOWN}"
    ))
}

/// A counter: what it is called, what it counts, what it is and what it should be.
type Counter = (&'static str, &'static str, i64, i64);

struct Wrong {
    room: RoomId,
    counters: [Counter; 2],
    all: i64,
}

fn read(cells: &mut Cells<'_>) -> Result<Wrong, DbErr> {
    let room = cells.next("id")?;
    let present = (cells.next::<i32>("active_participants")?, cells.next("present")?);
    let stays = (cells.next::<i32>("total_joins")?, cells.next("stays")?);
    Ok(Wrong {
        room,
        counters: [
            ("active_participants", PRESENT, present.0.into(), present.1),
            ("total_joins", A_STAY, stays.0.into(), stays.1),
        ],
        all: cells.next("wrong")?,
    })
}

pub(super) async fn check(examined: &Examined<'_>) -> Result<Vec<Finding>> {
    let rooms = examined.read(&query(), read).await?;
    let mut findings = Vec::new();
    for Wrong { room, counters, .. } in &rooms {
        let wrong = counters.iter().filter(|(.., is, should)| is != should);
        findings.extend(wrong.map(|counter| finding(examined.dialect(), *room, *counter)));
    }
    let all = rooms.first().map_or(0, |room| room.all);
    if usize::try_from(all).is_ok_and(|all| all > SHOWN) {
        let what = format!("{all} rooms in all have wrong counters; the first {SHOWN} are shown");
        findings.push(Finding::of(Check::CountersWrong, what));
    }
    Ok(findings)
}

/// The remedy counts anew, under the room's lock.
fn finding(dialect: Dialect, room: RoomId, (counter, counted, is, should): Counter) -> Finding {
    let what = format!("room {room} has {counter} {is}, and its rows add up to {should}");
    let mut finding = Finding::of(Check::CountersWrong, what);
    if dialect == Dialect::Sqlite {
        // Which has one writer at a time, and whose keys are bytes.
        let key = room.as_uuid().simple();
        finding.remedy = format!(
            "UPDATE rooms SET <counter> = (SELECT count(*) FROM room_participants WHERE room_id = rooms.id AND <counted>) \
             WHERE id = X'{key}';"
        );
    }
    finding
        .with("room", &room.to_string())
        .with("counter", counter)
        .with("counted", counted)
}
