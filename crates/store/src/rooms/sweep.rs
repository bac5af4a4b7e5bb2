//! `sweep_empty`: rooms that are LIVE and empty for long are ended, whatever emptied them.

use std::time::Duration;

use entity::RoomId;
use sea_orm::{ColumnType, DbErr, QueryResult};

use super::Rooms;
use crate::authority::Operation as Asked;
use crate::error::Result;
use crate::event::Change;
use crate::input;
use crate::operation::{Answer, Event, Moment, Operation, Plan, column, json};
use crate::rules::{SHARED, end_room_set, stop_recordings_of_all};
use crate::unit::Sink;

/// A room that a sweep ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[cfg_attr(feature = "schemars", derive(schemars::JsonSchema))]
pub struct EndedRoom {
    /// Which.
    pub room: RoomId,
    /// From its start to its end, the time in which it was empty included.
    pub duration_seconds: i32,
}

impl<S: Sink> Rooms<'_, S> {
    /// Ends rooms that are LIVE and that nobody has been in for longer than
    /// [`StoreSettings::empty_room_timeout`](crate::StoreSettings::empty_room_timeout), whatever emptied them: leaves, kicks, an erasure, a
    /// lost media node, or that nobody ever came. At most `limit` (1 to [`MAX_SWEEP`](crate::recordings::MAX_SWEEP)); returns them in no
    /// order. Fewer than `limit` means that nothing is left, or that others are at it. How long a room is empty is told by its
    /// `updated_at`, which every coming and going sets; a change of its settings puts the end off too.
    ///
    /// Appends ROOM_ENDED for each, and RECORDING_STOPPED for what is still recorded in it. Locks rooms that nobody else has, so any number
    /// of sweepers share the work, and then recordings, each by ascending id; two statements in one transaction. By the system. Served by
    /// `ix_rooms_live`: it walks the rooms that are LIVE.
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] for the limit; [`Rejected::NotAllowed`](crate::Rejected::NotAllowed).
    pub async fn sweep_empty(&self, limit: u16) -> Result<Vec<EndedRoom>> {
        let sweep = SweepEmpty {
            limit: input::sweep_limit(limit)?,
            timeout: self.source.context().empty_room_timeout(),
        };
        self.source.perform(sweep).await
    }
}

/// The one row of the second plan: all that it ended, as JSON.
impl Answer for Vec<EndedRoom> {
    fn read(row: &QueryResult) -> Result<Self, DbErr> {
        json(row, "ended_rooms")
    }

    fn columns() -> Vec<(String, ColumnType)> {
        vec![column::<String>("ended_rooms")]
    }
}

/// Of a room: it is due.
const DUE: &str = "status = 'LIVE' AND deleted_at IS NULL AND active_participants = 0 AND updated_at < :before";

pub(crate) struct SweepEmpty {
    pub(crate) limit: u16,
    pub(crate) timeout: Duration,
}

impl Operation for SweepEmpty {
    const NAME: &'static str = "rooms.sweep_empty";
    type Output = Vec<EndedRoom>;

    /// The first plan takes the locks of rooms that are due, and hands their ids on; the second sees what was recorded in them before.
    fn plan(&self, at: &Moment<'_>) -> Plan {
        let dialect = at.dialect;
        Plan::without_answer(at, "handed_on")
            .denied(at.only_the_system(Asked::KeepPresence))
            .bind("before", at.back(self.timeout))
            .bind("limit", i64::from(self.limit))
            .bind("looked_at", i64::from(self.limit) * SHARED)
            .lookup(
                "due",
                &["id"],
                format!(
                    "SELECT id FROM rooms WHERE {DUE}{} ORDER BY is_public, started_at, id LIMIT {}",
                    dialect.only_by_index("status = 'LIVE' AND deleted_at IS NULL", "id"),
                    dialect.limit_of_walk(":looked_at")
                ),
            )
            .lookup(
                "free",
                &["id"],
                format!(
                    "SELECT id FROM rooms WHERE {} AND {DUE} ORDER BY id LIMIT :limit{}",
                    dialect.among("id", "SELECT id FROM due"),
                    dialect.for_change_of_free()
                ),
            )
            .step(
                "handed_on",
                &["locked_rooms"],
                format!(
                    "SELECT {} AS locked_rooms FROM free",
                    dialect.json_list(&dialect.uuid_text("id"))
                ),
            )
            .then(end_all(at))
    }
}

fn end_all(at: &Moment<'_>) -> Plan {
    let dialect = at.dialect;
    let change = Change::RoomEnded {
        duration_seconds: 0,
        ended_participations: 0,
    };
    let room = dialect.uuid_text("id");
    let plan = Plan::new(at, "result")
        .given("locked_rooms")
        .lookup(
            "ended",
            &["id", "duration_seconds"],
            format!(
                "UPDATE rooms SET {} WHERE {} RETURNING id, duration_seconds",
                end_room_set(dialect),
                dialect.among("id", &dialect.listed_uuids(":locked_rooms"))
            ),
        )
        .step(
            "result",
            &["ended_rooms"],
            format!(
                "SELECT {} AS ended_rooms FROM ended",
                dialect.json_rows(&[("room", &room), ("duration_seconds", "duration_seconds")])
            ),
        );
    stop_recordings_of_all(at, plan, "SELECT id FROM ended").event(
        at,
        &Event::of(&change, "ended")
            .room("ended.id")
            .computed("duration_seconds", "ended.duration_seconds")
            .for_each("ended.id"),
    )
}
