//! Counters of rooms that are not what their participations add up to.

use entity::RoomId;

use super::{Check, Examined, Finding};
use crate::database::statement::Query;
use crate::error::Result;
use crate::statistics::A_STAY;

/// How many rooms are told of one by one.
const SHOWN: usize = 5;

/// One scan of all participations, grouped by room, beside one of all rooms. It sees one moment, so a change under way is in it as a whole.
pub(super) fn query() -> Query {
    Query::new(format!(
        "SELECT room.id, room.active_participants, COALESCE(counted.present, 0) AS present, room.total_joins,
            COALESCE(counted.stays, 0) AS stays, count(*) OVER () AS wrong
        FROM rooms AS room LEFT JOIN (
            SELECT room_id, count(*) FILTER (WHERE left_at IS NULL) AS present, count(*) FILTER (WHERE {A_STAY}) AS stays
            FROM room_participants GROUP BY room_id) AS counted ON counted.room_id = room.id
        WHERE room.active_participants <> COALESCE(counted.present, 0) OR room.total_joins <> COALESCE(counted.stays, 0)
        ORDER BY room.id LIMIT {SHOWN}"
    ))
}

struct Wrong {
    room: RoomId,
    counters: [(&'static str, i64, i64); 2],
    all: i64,
}

pub(super) async fn check(examined: &Examined<'_>) -> Result<Vec<Finding>> {
    let rooms: Vec<Wrong> = examined
        .read(&query(), |cells| {
            Ok(Wrong {
                room: cells.next("id")?,
                counters: [
                    (
                        "active_participants",
                        cells.next::<i32>("active_participants")?.into(),
                        cells.next("present")?,
                    ),
                    (
                        "total_joins",
                        cells.next::<i32>("total_joins")?.into(),
                        cells.next("stays")?,
                    ),
                ],
                all: cells.next("wrong")?,
            })
        })
        .await?;
    let mut findings = Vec::new();
    for wrong in &rooms {
        for (counter, is, should) in wrong.counters.into_iter().filter(|(_, is, should)| is != should) {
            let what = format!("room {} has {counter} {is}, and its rows add up to {should}", wrong.room);
            findings.push(
                Finding::of(Check::CountersWrong, what)
                    .with("room", &wrong.room.to_string())
                    .with("counter", counter)
                    .with("number", &should.to_string()),
            );
        }
    }
    let all = rooms.first().map_or(0, |room| room.all);
    if usize::try_from(all).is_ok_and(|all| all > SHOWN) {
        let what = format!("{all} rooms in all have wrong counters; the first {SHOWN} are shown");
        findings.push(Finding::of(Check::CountersWrong, what));
    }
    Ok(findings)
}
