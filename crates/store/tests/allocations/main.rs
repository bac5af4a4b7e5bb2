//! How often an operation allocates. A binary of its own, because the allocator counts; what it counts is of one thread, which is the
//! store's alone on SQLite, whose driver has threads of its own, and shared with the driver on PostgreSQL.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, and looks past the store"
)]

#[path = "../support/address.rs"]
mod address;

use std::fmt::Write;
use std::future::Future;
use std::process::ExitCode;

use address::with_database;
use conferencing_migration::{Migrator, MigratorTrait};
use conferencing_store::entity::{ParticipantRole::Participant, Secret, room, user};
use conferencing_store::{
    Acting, Actor, AuditFilter, MediaKind, NewRoom, NewUser, Observation, Order, PageRequest, Result, Store,
    StoreSettings,
};
use libtest_mimic::{Arguments, Failed, Trial};
use sea_orm::{ConnectionTrait, Database, DbBackend};
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};

/// How many allocations an operation makes at most: what it was measured to make, and a tenth.
struct Bound {
    what: &'static str,
    sqlite: u64,
    postgres: u64,
}

const fn bound(what: &'static str, sqlite: u64, postgres: u64) -> Bound {
    Bound { what, sqlite, postgres }
}

const BOUNDS: &[Bound] = &[
    bound("register", 332, 176),
    bound("create a room", 339, 192),
    bound("join", 847, 139),
    bound("leave", 399, 201),
    bound("kick", 620, 309),
    bound("refused join", 929, 858),
    bound("append", 133, 103),
    bound("list_present of 20", 161, 166),
    bound("find_by_code", 121, 116),
    bound("a page of 100 events", 2982, 3096),
    bound("a page of 100 named events", 3789, 3899),
];

/// By then statements are prepared, and what grows has grown.
const RUNS: usize = 12;

/// A live room with 20 people in it and a hundred events.
struct Stage {
    runtime: Runtime,
    store: Store,
    system: Acting,
    owner: user::Model,
    room: room::Model,
    /// How many users there are, who all have other names.
    users: usize,
    /// On PostgreSQL, what is dropped at the end: the server and the database.
    created: Option<(String, String)>,
    _folder: TempDir,
}

impl Stage {
    fn set(backend: DbBackend) -> Self {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let (url, created) = match backend {
            DbBackend::Postgres => {
                let server = std::env::var("TEST_DATABASE_URL").expect("TEST_DATABASE_URL names a server");
                let name = format!("allocations_{}", std::process::id());
                runtime.block_on(admin(&server, &format!("CREATE DATABASE {name}")));
                (with_database(&server, &name), Some((server, name)))
            }
            _ => {
                let file = folder.path().join("allocations.sqlite");
                (format!("sqlite://{}?mode=rwc", file.display()), None)
            }
        };
        let (store, owner, room) = runtime.block_on(async {
            let mut settings = StoreSettings::default();
            settings.connect.max_connections = Some(1);
            let db = Database::connect(&url).await.unwrap();
            Migrator::up(&db, None).await.unwrap();
            db.close().await.unwrap();
            let store = Store::connect_with(&url, settings).await.unwrap();
            let system = store.acting(&Actor::system("test"));
            let owner = system.users().register(named("owner")).await.unwrap();
            let new = NewRoom {
                max_participants: 1_000,
                ..NewRoom::titled(owner.id, "A room")
            };
            let room = system.rooms().create(new).await.unwrap();
            system.rooms().start(room.id).await.unwrap();
            for _ in 0..100 {
                system.audit().append(Some(room.id), muted(&owner)).await.unwrap();
            }
            (store, owner, room)
        });
        let mut stage = Self {
            runtime,
            system: store.acting(&Actor::system("test")),
            store,
            owner,
            room,
            users: 0,
            created,
            _folder: folder,
        };
        for _ in 0..20 {
            stage.present();
        }
        stage
    }

    fn somebody(&mut self) -> user::Model {
        self.users += 1;
        let name = format!("user{:05}", self.users);
        let new = named(&name);
        self.runtime.block_on(self.system.users().register(new)).unwrap()
    }

    fn present(&mut self) -> user::Model {
        let user = self.somebody();
        let joining = self.system.participants();
        self.runtime
            .block_on(joining.join(self.room.id, user.id, Participant))
            .unwrap();
        user
    }

    fn acting(&self, user: &user::Model) -> Acting {
        self.store.acting(&Actor::user(user.id))
    }

    /// How many allocations the operation makes, on what is made for it and not counted.
    fn run(&mut self, what: &str) -> u64 {
        let room = self.room.id;
        let newest = PageRequest::first(100, Order::NewestFirst).unwrap();
        let filter = AuditFilter::of_room(room);
        match what {
            "register" => {
                self.users += 1;
                let name = format!("user{:05}", self.users);
                let new = named(&name);
                self.counted(self.system.users().register(new)).1
            }
            "create a room" => {
                let creating = self.acting(&self.owner);
                self.counted(creating.rooms().create(NewRoom::titled(self.owner.id, "A room")))
                    .1
            }
            "join" | "leave" => {
                let user = self.somebody();
                let acting = self.acting(&user);
                let joined = self.counted(acting.participants().join(room, user.id, Participant)).1;
                let left = self.counted(acting.participants().leave(room, user.id)).1;
                if what == "join" { joined } else { left }
            }
            "kick" => {
                let user = self.present();
                let kicking = self.acting(&self.owner);
                self.counted(kicking.participants().kick(room, user.id, Some("noise")))
                    .1
            }
            "refused join" => {
                let user = self.present();
                let acting = self.acting(&user);
                let joining = acting.participants();
                let (again, allocated) = count(&self.runtime, joining.join(room, user.id, Participant));
                assert!(again.is_err());
                self.runtime.block_on(joining.leave(room, user.id)).unwrap();
                allocated
            }
            "append" => {
                let appending = self.acting(&self.owner);
                self.counted(appending.audit().append(Some(room), muted(&self.owner))).1
            }
            "list_present of 20" => {
                let page = PageRequest::first(100, Order::OldestFirst).unwrap();
                let (listed, allocated) = self.counted(self.store.participants().list_present(room, &page));
                assert_eq!(listed.items.len(), 20);
                allocated
            }
            "find_by_code" => self.counted(self.store.rooms().find_by_code(&self.room.room_code)).1,
            "a page of 100 events" => self.counted(self.store.audit().list(&filter, &newest)).1,
            "a page of 100 named events" => self.counted(self.store.audit().list_with_names(&filter, &newest)).1,
            _ => panic!("{what}"),
        }
    }

    fn counted<T>(&self, work: impl Future<Output = Result<T>>) -> (T, u64) {
        let (done, allocated) = count(&self.runtime, work);
        (done.unwrap(), allocated)
    }

    fn strike(self) {
        self.runtime.block_on(async {
            self.store.close().await.unwrap();
            if let Some((server, name)) = self.created {
                admin(&server, &format!("DROP DATABASE {name} WITH (FORCE)")).await;
            }
        });
    }
}

fn count<T>(runtime: &Runtime, work: impl Future<Output = T>) -> (T, u64) {
    let mut done = None;
    let counted = allocation_counter::measure(|| done = Some(runtime.block_on(work)));
    (done.unwrap(), counted.count_total)
}

fn named(name: &str) -> NewUser<'_> {
    let hash = Secret::new("$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHQ$aGFzaGhhc2g");
    NewUser::named(name, "Somebody", hash)
}

fn muted(user: &user::Model) -> Observation {
    Observation::UserMuted {
        target: user.id,
        kind: MediaKind::Audio,
    }
}

async fn admin(server: &str, sql: &str) {
    let admin = Database::connect(server).await.unwrap();
    admin.execute_unprepared(sql).await.unwrap();
    admin.close().await.unwrap();
}

fn operations_allocate_no_more_than_the_table_says(backend: DbBackend) {
    let mut stage = Stage::set(backend);
    let (mut table, mut wrong) = (String::new(), Vec::new());
    for bound in BOUNDS {
        let most = match backend {
            DbBackend::Postgres => bound.postgres,
            _ => bound.sqlite,
        };
        let least = (0..RUNS).map(|_| stage.run(bound.what)).min().unwrap();
        writeln!(table, "{}: {least} allocations, at most {most}", bound.what).unwrap();
        if least > most {
            wrong.push(bound.what);
        }
    }
    stage.strike();
    assert!(wrong.is_empty(), "{wrong:?} of\n{table}");
}

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads = Some(1);
    let unset = |name| std::env::var_os(name).is_none_or(|value| value.is_empty());
    let ignore_postgres = unset("TEST_DATABASE_URL") && unset("REQUIRE_POSTGRES");
    let trials = [(DbBackend::Sqlite, "sqlite"), (DbBackend::Postgres, "postgres")].map(|(backend, prefix)| {
        let name = format!("{prefix}::allocations::operations_allocate_no_more_than_the_table_says");
        let run = move || {
            operations_allocate_no_more_than_the_table_says(backend);
            Ok::<(), Failed>(())
        };
        Trial::test(name, run).with_ignored_flag(backend == DbBackend::Postgres && ignore_postgres)
    });
    libtest_mimic::run(&arguments, trials.into()).exit_code()
}
