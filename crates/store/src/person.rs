//! As much of a user as other people see.

use entity::UserId;
use sea_orm::DbErr;

use crate::row::{Cells, FromRow};

/// As much of a user as other people see.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
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
