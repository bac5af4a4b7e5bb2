//! As much of a user, and of a room, as lists of others show.

use entity::{RoomId, UserId};
use sea_orm::DbErr;

use crate::row::{Cells, FromRow};

/// As much of a user as other people see.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Person {
    /// The user's id.
    pub id: UserId,
    /// The name to sign in with.
    pub username: String,
    /// The name to show.
    pub display_name: String,
}

/// The names of a person, where the id is known from elsewhere.
pub(crate) struct Names {
    username: String,
    display_name: String,
}

impl FromRow for Names {
    const COLUMNS: &'static [&'static str] = &["username", "display_name"];

    fn read(cells: &mut Cells<'_>) -> Result<Self, DbErr> {
        Ok(Self {
            username: cells.next("username")?,
            display_name: cells.next("display_name")?,
        })
    }
}

impl Names {
    pub(crate) fn of(self, id: UserId) -> Person {
        let Self { username, display_name } = self;
        Person {
            id,
            username,
            display_name,
        }
    }
}

/// As much of a room as a line about something else shows.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct RoomName {
    /// The room's id.
    pub id: RoomId,
    /// Its code.
    pub room_code: String,
    /// Its title.
    pub title: String,
}

/// The code and title of a room, where the id is known from elsewhere.
pub(crate) struct RoomTexts {
    room_code: String,
    title: String,
}

impl FromRow for RoomTexts {
    const COLUMNS: &'static [&'static str] = &["room_code", "title"];

    fn read(cells: &mut Cells<'_>) -> Result<Self, DbErr> {
        Ok(Self {
            room_code: cells.next("room_code")?,
            title: cells.next("title")?,
        })
    }
}

impl RoomTexts {
    pub(crate) fn of(self, id: RoomId) -> RoomName {
        let Self { room_code, title } = self;
        RoomName { id, room_code, title }
    }
}
