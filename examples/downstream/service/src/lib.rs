//! A service with tables of its own beside ours in one database: how it starts, and how it reads and writes its own.

#![allow(
    clippy::disallowed_methods,
    reason = "the service's own table has no deleted rows and no audit log"
)]

pub mod meetings;
pub mod room_note;

use conferencing_migration::{MigrateError, MigrateSettings, apply, migrate};
use conferencing_store::entity::{RoomId, UserId, user};
use conferencing_store::{ConnectSettings, Error, Store, StoreSettings, connect};
use sea_orm::{ActiveModelTrait, ColumnTrait, DatabaseConnection, DbErr, EntityTrait, QueryFilter, Set};

/// A running instance.
pub struct Service {
    /// Users, rooms and all else that is ours.
    pub store: Store,
    db: DatabaseConnection,
}

/// Why it does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The database is not there, or not as it must be.
    #[error(transparent)]
    Store(#[from] Error),
    /// The schema could not be brought up to date.
    #[error(transparent)]
    Migrate(#[from] MigrateError),
}

impl Service {
    /// Opens one pool for both, migrates ours and then the service's own. Every instance may do so at the same moment.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn start(url: &str) -> Result<Self, StartError> {
        let settings = StoreSettings {
            connect: ConnectSettings::from_environment()?.with_address(url)?,
            ..StoreSettings::default()
        };
        let db = connect::open(url, &settings.connect).await?;
        migrate(&db).await?;
        apply::<migration::Migrator>(&db, &MigrateSettings::default()).await?;
        let store = Store::from_connection(db.clone(), settings).await?;
        Ok(Self { store, db })
    }

    /// Over a database that is open and migrated, as tests have it.
    pub fn over(store: Store, db: DatabaseConnection) -> Self {
        Self { store, db }
    }

    /// Writes a note.
    ///
    /// # Errors
    /// Of the database, when there is no such user or room.
    pub async fn note(&self, author: UserId, room: RoomId, text: &str) -> Result<room_note::Model, DbErr> {
        let note = room_note::ActiveModel {
            // In the time and the order of the store's own rows.
            id: Set(self.store.ids().uuid(self.store.now())),
            author_id: Set(author),
            room_id: Set(room),
            text: Set(text.to_owned()),
        };
        note.insert(&self.db).await
    }

    /// The notes of a room, each with its author, whom nobody has deleted: a row of ours outlives its deletion.
    ///
    /// # Errors
    /// Of the database.
    pub async fn notes(&self, room: RoomId) -> Result<Vec<(room_note::Model, user::Model)>, DbErr> {
        let notes = room_note::Entity::find()
            .filter(room_note::Column::RoomId.eq(room))
            .find_also_related(user::Entity)
            .filter(user::Column::DeletedAt.is_null())
            .all(&self.db)
            .await?;
        Ok(notes
            .into_iter()
            .filter_map(|(note, author)| Some((note, author?)))
            .collect())
    }
}
