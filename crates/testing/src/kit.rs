//! The kit: a store on a database of the test's own.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, TimeZone, Utc};
use conferencing_migration::MigratorTrait;
use conferencing_store::clock::{Clock, Ids, ManualClock};
use conferencing_store::{Acting, Actor, FeedPosition, Store, StoreSettings, statements};
use sea_orm::{DatabaseConnection, DbBackend};
use tokio::sync::{Mutex, OnceCell};

use crate::database::{Backend, Migrations, Place, Private, ServerChoice};
use crate::error::SetUpError;
use crate::faults::Faults;
use crate::ids::SeededIds;

/// By the user agent of their events the assertions know what the builders did.
pub(crate) const BUILDER: &str = "conferencing-testing/builder";

/// A store on a migrated database of the test's own, and all that a test wants to do to it. The database goes with the value, also when the test
/// panics; a PostgreSQL database is dropped with everybody thrown out, which is waited for.
///
/// Its clock stands still until it is moved ([`TestStore::advance`]), and begins on Monday, 5 January 2026, at 9:00 UTC; its keys and room codes
/// follow from a seed. [`TestStore::builder`] changes either.
pub struct TestStore {
    /// Without faults: for the kit itself.
    plain: Store,
    store: Store,
    db: DatabaseConnection,
    settings: StoreSettings,
    clock: Option<Arc<ManualClock>>,
    faults: Faults,
    /// Behind which events the assertions look.
    pub(crate) mark: Mutex<FeedPosition>,
    /// After the pools, so that little is left to be thrown out.
    database: Private,
}

impl std::fmt::Debug for TestStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TestStore")
            .field("url", &self.database.url)
            .finish_non_exhaustive()
    }
}

impl TestStore {
    /// On an SQLite database in memory: the fastest. It has one connection, so while a unit is open on it everybody else waits.
    ///
    /// # Panics
    /// When it cannot be had, as all of these do. [`Builder::open`] returns what went wrong.
    pub async fn sqlite() -> Self {
        Self::builder().sqlite().open_or_panic().await
    }

    /// On an SQLite file in a temporary folder: with as many connections as in production, WAL, and commits that are written through.
    ///
    /// # Panics
    /// As [`TestStore::sqlite`].
    pub async fn sqlite_file() -> Self {
        Self::builder().sqlite_file().open_or_panic().await
    }

    /// On PostgreSQL: on the server of TEST_DATABASE_URL, where the user must be allowed to make databases; else on one that the kit finds
    /// (14 or newer; TEST_POSTGRES_BIN names the folder of its programs), and starts for this process, which takes a second or two, once.
    ///
    /// # Panics
    /// As [`TestStore::sqlite`]. There is no skipping: a test that was to run on PostgreSQL and cannot has failed.
    pub async fn postgres() -> Self {
        Self::builder().postgres().open_or_panic().await
    }

    /// On what the environment says: on the server of TEST_DATABASE_URL, if it is one of PostgreSQL; else on a PostgreSQL of the kit's own, if
    /// REQUIRE_POSTGRES is set; else on SQLite, in a file if TEST_DATABASE_URL names any, and otherwise in memory.
    ///
    /// # Panics
    /// As [`TestStore::sqlite`].
    pub async fn from_env() -> Self {
        Self::builder().open_or_panic().await
    }

    /// With a clock, keys, settings and migrations of one's own.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// The store that is under test, whose operations fail as [`TestStore::faults`] is told.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The pool below it: for tables of the service's own.
    pub fn db(&self) -> &DatabaseConnection {
        &self.db
    }

    /// The address of the database, as a service would be given it. One in memory has none that leads there.
    pub fn url(&self) -> &str {
        &self.database.url
    }

    /// Which kind of database it is.
    pub fn backend(&self) -> Backend {
        self.database.backend
    }

    /// A store as another process would have it: its own pool, queues and feed, the same clock and keys, no faults. On a database in
    /// memory it shares the one connection.
    ///
    /// # Errors
    /// Of the database.
    pub async fn another_store(&self) -> Result<Store, SetUpError> {
        let store = if self.database.is_in_memory() {
            Store::from_connection(self.db.clone(), self.settings.clone()).await
        } else {
            Store::connect_with(&self.database.url, self.settings.clone()).await
        };
        Ok(store?)
    }

    /// Acts as somebody, through the store that is under test.
    pub fn acting_as(&self, user: impl crate::build::IsUser) -> Acting {
        self.store.acting(&Actor::user(user.user_id()))
    }

    /// Acts as the system itself.
    pub fn acting_as_system(&self) -> Acting {
        self.store.acting(&Actor::system("test"))
    }

    /// What is to go wrong.
    pub fn faults(&self) -> &Faults {
        &self.faults
    }

    /// The store's time.
    pub fn now(&self) -> DateTime<Utc> {
        self.plain.now()
    }

    /// Moves the clock on.
    ///
    /// # Panics
    /// When the kit was given another clock than a [`ManualClock`].
    #[track_caller]
    #[expect(clippy::panic, reason = "a test fails by panicking")]
    pub fn advance(&self, by: TimeDelta) {
        match &self.clock {
            Some(clock) => clock.advance(by),
            None => panic!("this kit's clock is not the kit's to move: leave out Builder::clock"),
        }
    }

    /// Closes the pools. The database goes with the value in any case; without this its connections are thrown out by the server.
    pub async fn close(self) {
        let _ = self.store.close().await;
    }

    /// The store of the kit itself.
    pub(crate) fn plain(&self) -> &Store {
        &self.plain
    }
}

/// Chooses what a [`TestStore`] is made with.
#[must_use]
pub struct Builder {
    place: Place,
    migrations: Migrations,
    settings: StoreSettings,
    clock: Option<Arc<ManualClock>>,
}

impl Default for Builder {
    fn default() -> Self {
        let start = Utc.with_ymd_and_hms(2026, 1, 5, 9, 0, 0).single().unwrap_or_default();
        let mut settings = StoreSettings {
            ids: Arc::new(SeededIds::new(1)),
            ..StoreSettings::default()
        };
        // Eight tries that fail are over in some hundredths of a second, and followers hear of other processes as soon.
        settings.retry.first_pause = Duration::from_millis(1);
        settings.retry.longest_pause = Duration::from_millis(5);
        settings.feed.longest_pause = Duration::from_millis(20);
        let builder = Self {
            place: Place::from_env(),
            migrations: Migrations::default(),
            settings,
            clock: None,
        };
        builder.clock_at(start)
    }
}

impl Builder {
    /// See [`TestStore::sqlite`].
    pub fn sqlite(mut self) -> Self {
        self.place = Place::SqliteMemory;
        self
    }

    /// See [`TestStore::sqlite_file`].
    pub fn sqlite_file(mut self) -> Self {
        self.place = Place::SqliteFile;
        self
    }

    /// See [`TestStore::postgres`].
    pub fn postgres(mut self) -> Self {
        self.place = Place::postgres();
        self
    }

    /// On the server at this address, `postgres://user@host/database`. The database that it names is connected to, and left as it is.
    pub fn postgres_at(mut self, url: &str) -> Self {
        self.place = Place::Postgres(ServerChoice::At(url.to_owned()));
        self
    }

    /// On a server that the kit starts, whatever the environment says.
    pub fn postgres_of_its_own(mut self) -> Self {
        self.place = Place::Postgres(ServerChoice::Own);
        self
    }

    /// Has a service's own migrations applied after ours, and those that were named before.
    pub fn migrations<M: MigratorTrait>(mut self) -> Self {
        self.migrations = self.migrations.and::<M>();
        self
    }

    /// Changes the store's settings: `builder.settings(|settings| settings.empty_rooms = EmptyRoomPolicy::EndRoom)`. The clock that is set here
    /// is not the kit's to move.
    pub fn settings(mut self, change: impl FnOnce(&mut StoreSettings)) -> Self {
        let before = Arc::clone(&self.settings.clock);
        change(&mut self.settings);
        if !Arc::ptr_eq(&before, &self.settings.clock) {
            self.clock = None;
        }
        self
    }

    /// The kit's clock begins at this time, instead of on 5 January 2026.
    pub fn clock_at(mut self, start: DateTime<Utc>) -> Self {
        let clock = Arc::new(ManualClock::at(start));
        self.settings.clock = Arc::clone(&clock) as Arc<dyn Clock>;
        self.clock = Some(clock);
        self
    }

    /// The store has this clock, such as [`SystemClock`](conferencing_store::clock::SystemClock) or one that is shared with the service.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.settings.clock = clock;
        self.clock = None;
        self
    }

    /// Keys and room codes follow from this seed, instead of from 1; see [`SeededIds`].
    pub fn seed(self, seed: u64) -> Self {
        self.ids(Arc::new(SeededIds::new(seed)))
    }

    /// The store has these keys and room codes.
    pub fn ids(mut self, ids: Arc<dyn Ids>) -> Self {
        self.settings.ids = ids;
        self
    }

    /// Makes the database and opens the store.
    ///
    /// # Errors
    /// [`SetUpError`].
    pub async fn open(self) -> Result<TestStore, SetUpError> {
        let (database, db) = Private::make(&self.place, &self.migrations, &self.settings.connect).await?;
        let plain = Store::from_connection(db.clone(), self.settings.clone()).await?;
        let faults = Faults::new(names(db.get_database_backend()).await);
        let mark = plain.feed().now().await?;
        Ok(TestStore {
            store: plain.with_faults(Arc::new(faults.clone())),
            plain,
            db,
            settings: self.settings,
            clock: self.clock,
            faults,
            mark: Mutex::new(mark),
            database,
        })
    }

    #[expect(clippy::panic, reason = "a test fails by panicking")]
    async fn open_or_panic(self) -> TestStore {
        match self.open().await {
            Ok(kit) => kit,
            Err(error) => panic!("{error}"),
        }
    }
}

/// The names of operations, which are listed once a process.
async fn names(backend: DbBackend) -> Arc<BTreeSet<&'static str>> {
    static SQLITE: OnceCell<Arc<BTreeSet<&'static str>>> = OnceCell::const_new();
    static POSTGRES: OnceCell<Arc<BTreeSet<&'static str>>> = OnceCell::const_new();
    let names = if backend == DbBackend::Sqlite {
        &SQLITE
    } else {
        &POSTGRES
    };
    let names = names
        .get_or_init(|| async { Arc::new(statements::names(backend).await) })
        .await;
    Arc::clone(names)
}
