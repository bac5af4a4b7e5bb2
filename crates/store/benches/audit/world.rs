//! Databases to measure in, and the event that is appended everywhere.

use conferencing_migration::{Migrator, MigratorTrait};
use conferencing_store::entity::{RoomId, Secret, UserId};
use conferencing_store::{Actor, ConnectSettings, NewRoom, NewUser, Observation, Store, StoreSettings};
use sea_orm::{ConnectionTrait, DatabaseConnection, Statement};

pub const ADDRESS: &str = "203.0.113.7";
pub const AGENT: &str = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0";
pub const CONSUMER: &str = "0197f3a2-5c1e-7d40-9b6e-3f2a1c0d9e88";
pub const PRODUCER: &str = "0197f3a2-4b0d-7c11-8a55-7e6d5c4b3a29";

/// A migrated database with a user and a room.
pub struct World {
    pub url: String,
    pub store: Store,
    pub user: UserId,
    pub room: RoomId,
}

impl World {
    /// A database of that name on the server of `TEST_DATABASE_URL`, which is a new one for each run.
    pub async fn on_postgres(name: &str) -> Self {
        let server = std::env::var("TEST_DATABASE_URL").expect("scripts/bench sets TEST_DATABASE_URL");
        let db = raw(&server).await;
        for setting in ["fsync", "full_page_writes"] {
            let show = Statement::from_string(db.get_database_backend(), format!("SHOW {setting}"));
            let row = db.query_one_raw(show).await.unwrap().unwrap();
            let value: String = row.try_get_by_index(0).unwrap();
            assert_eq!(value, "on", "{setting} must be on: run scripts/bench");
        }
        db.execute_unprepared(&format!("CREATE DATABASE {name}")).await.unwrap();
        db.close().await.unwrap();
        let (place, _) = server.rsplit_once('/').unwrap();
        Self::at(format!("{place}/{name}")).await
    }

    /// A new file in `folder`.
    pub async fn on_sqlite(folder: &std::path::Path) -> Self {
        let file = folder.join("bench.sqlite");
        Self::at(format!("sqlite://{}?mode=rwc", file.display())).await
    }

    async fn at(url: String) -> Self {
        let db = raw(&url).await;
        Migrator::up(&db, None).await.unwrap();
        let store = Store::from_connection(db, StoreSettings::default()).await.unwrap();
        let system = store.acting(&Actor::system("bench"));
        let user = system.users().register(user("owner")).await.unwrap().id;
        let room = NewRoom::titled(user, "A room");
        let room = system.rooms().create(room).await.unwrap().id;
        Self { url, store, user, room }
    }

    /// The same database with a pool of another size.
    pub async fn with_connections(&self, connections: u32) -> Store {
        let settings = StoreSettings {
            connect: ConnectSettings {
                max_connections: Some(connections),
                ..ConnectSettings::default()
            },
            ..StoreSettings::default()
        };
        Store::connect_with(&self.url, settings).await.unwrap()
    }

    /// Who appends: with all that a request has.
    pub fn actor(&self) -> Actor {
        Actor::user(self.user)
            .from_address(ADDRESS.parse().unwrap())
            .with_user_agent(AGENT)
    }
}

/// A user of that name, to be registered.
pub fn user(name: &str) -> NewUser<'_> {
    NewUser::named(
        name,
        name,
        Secret::new("$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHQ$aGFzaGhhc2g"),
    )
}

/// A pool for SQL by hand.
pub async fn raw(url: &str) -> DatabaseConnection {
    conferencing_store::connect::open(url, &ConnectSettings::default())
        .await
        .unwrap()
}

/// The commonest of media events.
pub fn observation() -> Observation {
    Observation::ConsumerCreated {
        consumer_id: CONSUMER.to_owned(),
        producer_id: PRODUCER.to_owned(),
    }
}
