//! As much of a user as other people see.

use entity::UserId;
use sea_orm::{DbErr, QueryResult};

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

impl Person {
    pub(crate) const USERNAME: &str = "person_username";
    pub(crate) const DISPLAY_NAME: &str = "person_display_name";

    /// From a row that has its columns under the names above.
    pub(crate) fn from_row(id: UserId, row: &QueryResult) -> Result<Self, DbErr> {
        Ok(Self {
            id,
            username: row.try_get_by(Self::USERNAME)?,
            display_name: row.try_get_by(Self::DISPLAY_NAME)?,
        })
    }
}
