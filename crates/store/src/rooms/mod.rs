//! `rooms()`: meetings and their lives. One file an operation or a family of them; what is read is here and in `lists`.

pub(crate) mod change;
pub(crate) mod create;
pub(crate) mod lifecycle;
mod lists;
mod sweep;

use entity::{RoomId, room};
use sea_orm::{ColumnTrait, QueryFilter};

use crate::error::{Error, Result, Subject};
use crate::read::FetchEntity;
use crate::scope::{self, Any, Deleted, Live, Visibility};
use crate::unit::Source;

pub use change::{RoomChanges, Schedule};
pub use create::NewRoom;
pub use lists::{RoomFilter, RoomOverview};
pub use sweep::EndedRoom;

/// The most seats that a room can have.
pub const MAX_CAPACITY: i32 = 10_000;

/// The repository of `rooms`: live ones unless [`Rooms::deleted`] or [`Rooms::any`] was asked for.
#[derive(Debug)]
pub struct Rooms<'a, S, V = Live> {
    source: &'a S,
    visibility: V,
}

impl<'a, S: Source> Rooms<'a, S> {
    pub(crate) fn new(source: &'a S) -> Self {
        Self {
            source,
            visibility: Live,
        }
    }

    /// Deleted rooms instead.
    pub fn deleted(self) -> Rooms<'a, S, Deleted> {
        Rooms {
            source: self.source,
            visibility: Deleted,
        }
    }

    /// Rooms, deleted or not.
    pub fn any(self) -> Rooms<'a, S, Any> {
        Rooms {
            source: self.source,
            visibility: Any,
        }
    }
}

impl<S: Source, V: Visibility> Rooms<'_, S, V> {
    /// The room with this id.
    ///
    /// # Errors
    /// None beyond the database's own.
    pub async fn find(&self, id: RoomId) -> Result<Option<room::Model>> {
        let _ = &self.visibility;
        scope::find::<room::Entity, V>()
            .filter(room::Column::Id.eq(id))
            .fetch_one(self.source, "rooms.find")
            .await
    }

    /// The room with this id.
    ///
    /// # Errors
    /// [`Error::NotFound`] when there is none.
    pub async fn get(&self, id: RoomId) -> Result<room::Model> {
        self.find(id).await?.ok_or(Error::NotFound(Subject::Room(id)))
    }
}

/// None for what cannot be a code.
fn typed_code(typed: &str) -> Option<String> {
    let written = typed.chars().filter(|c| !c.is_whitespace() && *c != '-');
    let code: String = written.flat_map(char::to_uppercase).collect();
    let possible = !code.is_empty() && code.chars().count() <= 20 && !code.chars().any(char::is_control);
    possible.then_some(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_taken_as_people_type_them() {
        assert_eq!(typed_code(" kwx3-nrt7\n").as_deref(), Some("KWX3NRT7"));
        assert_eq!(typed_code("\u{0}"), None);
    }
}
