//! Statements that read who is and who was in a room.

use chrono::{DateTime, Utc};
use entity::{RoomId, room_participant};

use crate::database::statement::Query;
use crate::database::{Dialect, LookUp, Rows};
use crate::page::ByTime;
use crate::{read, row};

/// Which participations of a room a list has.
#[derive(Clone, Copy)]
pub(crate) enum Which {
    Present,
    All,
    /// Those with a ban that is in force at this time.
    BannedAt(DateTime<Utc>),
}

/// The columns of a participation and its user, of [`seats`].
fn columns() -> String {
    let seat = row::columns_of::<room_participant::Entity>(Some("seat"));
    format!("{seat}, person.username, person.display_name")
}

/// Participations, each with its user looked up by key; those of deleted users are left out.
fn seats(dialect: Dialect, index: &str) -> String {
    let person = dialect.look_up(LookUp {
        table: "users",
        name: "person",
        key: "seat.user_id",
        rows: Rows::Live,
    });
    format!("room_participants AS seat {index} {person}")
}

/// FROM and WHERE of who is present in the room that `room` yields the id of, along `ix_room_participants_present`.
///
/// SQLite is told the index. PostgreSQL cannot be told, and where it believes that nearly all participations go on, which is what it
/// believes while they are few or since its statistics were made, `ix_room_participants_room` costs it the same: a plan of that
/// moment, which it keeps, walks past everybody who has ever been in the room: hence [`Dialect::only_by_index`].
fn present(dialect: Dialect, room: &str) -> String {
    let index = match dialect {
        Dialect::Postgres => "",
        Dialect::Sqlite => "INDEXED BY ix_room_participants_present",
    };
    let (seats, only_by_index) = (
        seats(dialect, index),
        dialect.only_by_index("seat.left_at IS NULL", "seat.id"),
    );
    format!("FROM {seats} WHERE seat.room_id = {room} AND seat.left_at IS NULL{only_by_index}")
}

/// A SELECT of everybody who is present in the room that `room` yields the id of.
///
/// In the index's order, and on PostgreSQL with a limit that is none: it would rather collect the rows by a bitmap otherwise, and of
/// that it counts the condition of [`Dialect::only_by_index`] in any case.
pub(crate) fn everybody_present(dialect: Dialect, room: &str) -> String {
    let limit = match dialect {
        Dialect::Postgres => format!("LIMIT {}", dialect.limit_of_walk("CAST(NULL AS bigint)")),
        Dialect::Sqlite => String::new(),
    };
    let (columns, present) = (columns(), present(dialect, room));
    format!("SELECT {columns} {present} ORDER BY seat.joined_at, seat.id {limit}")
}

/// A page by (joined_at, id), and one row more.
pub(crate) fn page(dialect: Dialect, room: RoomId, which: Which, page: ByTime) -> Query {
    let rows = match which {
        Which::Present => present(dialect, ":room"),
        Which::All => format!("FROM {} WHERE seat.room_id = :room", seats(dialect, "")),
        Which::BannedAt(_) => format!(
            "FROM {} WHERE seat.room_id = :room AND seat.is_banned
            AND (seat.ban_expires_at IS NULL OR seat.ban_expires_at > :now)",
            seats(dialect, "")
        ),
    };
    let ((_, direction), beyond) = (page.order().in_sql(), page.beyond("seat.joined_at", "seat.id"));
    let query = Query::new(format!(
        "SELECT {} {rows} {beyond} ORDER BY seat.joined_at {direction}, seat.id {direction} LIMIT {}",
        columns(),
        dialect.limit_of_walk(":limit")
    ))
    .bind("room", room);
    let query = match which {
        Which::BannedAt(now) => query.bind("now", now),
        Which::Present | Which::All => query,
    };
    read::page_of(query, page)
}
