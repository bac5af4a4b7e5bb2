//! The servers.

use conferencing_migration::{Migrator, MigratorTrait};
use conferencing_store::entity::Secret;
use conferencing_store::entity::{room, user};
use conferencing_store::{
    Acting, Actor, ConnectSettings, NewRoom, NewUser, ReplicaSettings, ReplicaState, Store, StoreSettings, connect,
};
use sea_orm::{ConnectionTrait, Database, DatabaseConnection, Statement};

use crate::script::Script;
use crate::until;

/// Three servers of `scripts/replicated-postgres`.
pub struct Cluster {
    script: Script,
    urls: Vec<String>,
    /// The number of the primary, from 0.
    pub primary: usize,
    databases: usize,
}

impl Cluster {
    pub fn start() -> Self {
        let mut script = Script::start("replicated-postgres");
        Self {
            urls: (0..3).map(|_| script.answer()).collect(),
            script,
            primary: 0,
            databases: 0,
        }
    }

    pub fn kill(&mut self, server: usize) {
        self.order(&format!("kill {}", server + 1));
    }

    pub fn start_again(&mut self, server: usize) {
        self.order(&format!("start {}", server + 1));
    }

    /// It keeps its connections, and says nothing.
    pub fn freeze(&mut self, server: usize) {
        self.order(&format!("freeze {}", server + 1));
    }

    pub fn thaw(&mut self, server: usize) {
        self.order(&format!("thaw {}", server + 1));
    }

    fn promote(&mut self, server: usize) {
        self.order(&format!("promote {}", server + 1));
        self.primary = server;
    }

    /// Has a server follow the primary, on a new copy if it does not run.
    pub fn follow(&mut self, server: usize) {
        self.order(&format!("follow {} {}", server + 1, self.primary + 1));
    }

    fn order(&mut self, order: &str) {
        self.script.order(order, "done");
    }

    /// Promotes the one that has received most, as every acknowledged commit is on one of those that follow, and has the other one
    /// follow it.
    pub async fn fail_over(&mut self) {
        let mut next = (0, 0);
        let followers = self.followers();
        for server in &followers {
            let sql = "SELECT CAST(pg_last_wal_receive_lsn() - '0/0' AS text)";
            let received = self.ask(*server, sql).await;
            next = next.max((received.parse::<u64>().unwrap(), *server));
        }
        let (_, next) = next;
        tokio::task::block_in_place(|| {
            self.promote(next);
            for other in followers.into_iter().filter(|server| *server != next) {
                self.follow(other);
            }
        });
    }

    pub fn followers(&self) -> Vec<usize> {
        (0..3).filter(|server| *server != self.primary).collect()
    }

    /// A connection past the store, to the database that every server has.
    pub async fn admin(&self, server: usize) -> DatabaseConnection {
        Database::connect(&self.urls[server]).await.unwrap()
    }

    /// What one row and column of a server's says.
    pub async fn ask(&self, server: usize, sql: &str) -> String {
        let db = self.admin(server).await;
        let row = db
            .query_one_raw(Statement::from_string(sea_orm::DbBackend::Postgres, sql))
            .await
            .unwrap();
        let answer = row.map(|row| row.try_get_by_index::<String>(0).unwrap());
        db.close().await.unwrap();
        answer.unwrap_or_default()
    }

    /// Whether those that follow replay what they receive.
    pub async fn replay(&self, goes_on: bool) {
        let function = if goes_on {
            "pg_wal_replay_resume"
        } else {
            "pg_wal_replay_pause"
        };
        for server in self.followers() {
            self.ask(server, &format!("SELECT CAST({function}() AS text)")).await;
            if !goes_on {
                until("the pause", async || {
                    self.ask(server, "SELECT pg_get_wal_replay_pause_state()").await == "paused"
                })
                .await;
            }
        }
    }

    /// A database of its own, with the schema: the addresses of it on each server.
    pub async fn database(&mut self) -> Vec<String> {
        self.databases += 1;
        let name = format!("meet_{}", self.databases);
        let admin = self.admin(self.primary).await;
        admin
            .execute_unprepared(&format!("CREATE DATABASE {name}"))
            .await
            .unwrap();
        admin.close().await.unwrap();
        let of_database = |url: &String| format!("{}/{name}", url.rsplit_once('/').unwrap().0);
        let urls: Vec<String> = self.urls.iter().map(of_database).collect();
        let db = connect::open(&urls[self.primary], &ConnectSettings::default())
            .await
            .unwrap();
        Migrator::up(&db, None).await.unwrap();
        db.close().await.unwrap();
        urls
    }

    /// A store on the primary, which reads from those that follow, with a meeting in it.
    pub async fn stage(&mut self, replicas: ReplicaSettings) -> Stage {
        let urls = self.database().await;
        let followers = self.followers();
        let settings = StoreSettings {
            replicas: ReplicaSettings {
                addresses: followers
                    .iter()
                    .map(|server| Secret::new(urls[*server].as_str()))
                    .collect(),
                ..replicas
            },
            // No statement is given up for taking long: whoever is not waited for is left out for another reason.
            connect: ConnectSettings::default().without_limits(),
            ..StoreSettings::default()
        };
        let store = Store::connect_with(&urls[self.primary], settings).await.unwrap();
        let system = store.acting(&Actor::system("test"));
        let owner = system.users().register(named("owner")).await.unwrap();
        let new = NewRoom {
            max_participants: 10_000,
            ..NewRoom::titled(owner.id, "A room")
        };
        let room = system.rooms().create(new).await.unwrap();
        let stage = Stage {
            store,
            system,
            room,
            urls,
            joined: 0,
        };
        stage.all_are(ReplicaState::Serving).await;
        stage
    }
}

pub struct Stage {
    pub store: Store,
    pub system: Acting,
    pub room: room::Model,
    pub urls: Vec<String>,
    joined: usize,
}

impl Stage {
    /// Somebody new takes a seat.
    pub async fn join(&mut self) -> user::Model {
        self.joined += 1;
        let user = self
            .system
            .users()
            .register(named(&format!("guest{}", self.joined)))
            .await
            .unwrap();
        let role = conferencing_store::entity::ParticipantRole::Participant;
        self.system
            .participants()
            .join(self.room.id, user.id, role)
            .await
            .unwrap();
        user
    }

    pub async fn all_are(&self, state: ReplicaState) {
        until(&format!("{state:?}"), async || {
            let status = self.store.replica_status();
            status.len() == 2 && status.iter().all(|one| one.state == state)
        })
        .await;
    }
}

pub fn named(name: &str) -> NewUser<'_> {
    let hash = Secret::new("$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHQ$aGFzaGhhc2g");
    NewUser::named(name, "Somebody", hash)
}
