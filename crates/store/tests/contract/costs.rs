//! What each operation costs, to the statement and the page: a table of bounds that a further index, foreign key, lock or round trip
//! breaks. No clock is asked. PostgreSQL only.

use std::fmt::Write;
use std::pin::Pin;
use std::time::Duration;

use conferencing_store::entity::ParticipantRole::Participant;
use conferencing_store::entity::{MediaNodeId, room, user};
use conferencing_store::{
    Acting, Actor, AuditFilter, MediaKind, NewRoom, NewUser, Observation, Order, PageRequest, RecordingMeasures, Store,
    WriterSettings,
};

use crate::accounts_support::sign_in_methods;
use crate::harness::{TestDb, password_hash};
use crate::metering::{Meter, NO_AUTOVACUUM, Spent, one_connection};
use crate::recordings::new_recording;

crate::cases![@Alone each_operation_costs_what_the_table_says];

/// The most that an operation may cost: what it does cost and a little more. A further index or locked row shows in the WAL first.
struct Cost {
    what: &'static str,
    most: Spent,
}

const fn cost(what: &'static str, statements: usize, buffers: i64, wal: i64) -> Cost {
    let most = Spent {
        statements,
        buffers,
        wal,
    };
    Cost { what, most }
}

const COSTS: &[Cost] = &[
    cost("register", 1, 40, 1480),
    cost("record_login", 1, 31, 872),
    cost("create a room", 1, 49, 1472),
    cost("join", 1, 51, 1440),
    cost("first join", 2, 100, 2728),
    cost("the owner's join", 2, 103, 2800),
    cost("leave", 1, 45, 1192),
    cost("kick", 1, 62, 1680),
    cost("ban", 1, 80, 2056),
    cost("end of an empty room", 4, 53, 1448),
    cost("append", 1, 31, 704),
    cost("a batch of 100", 1, 2456, 80104),
    cost("list_present of 20", 1, 66, 0),
    cost("find_overview of 20", 1, 72, 0),
    cost("find_by_code", 1, 4, 0),
    cost("a page of 100 events", 1, 18, 0),
    cost("a page of 100 named events", 1, 98, 0),
    cost("start of a recording", 1, 52, 1472),
    cost("stop of a recording", 1, 40, 1264),
    cost("join on a node", 1, 54, 1560),
    cost("leave of a node", 1, 47, 1192),
    cost("beat", 1, 9, 208),
    cost("a sweep that finds no silent node", 2, 7, 0),
];

/// By then every plan is the one that the server keeps.
const RUNS: usize = 8;

/// A live room with 20 people in it, who were seated by its owner's system, and a trail of more than a page.
struct Stage {
    meter: Meter,
    system: Acting,
    owner: user::Model,
    by_owner: Acting,
    room: room::Model,
    node: Option<MediaNodeId>,
    /// How many users there are, who all have other names.
    users: usize,
}

impl Stage {
    async fn set(db: &TestDb) -> Self {
        let raw = one_connection(&db.url).await;
        raw.run(NO_AUTOVACUUM).await;
        // So many that no index has a single page: its depth stays the same while the case runs.
        raw.run(
            "INSERT INTO users (id, username, display_name, is_active, is_verified, created_at, updated_at)
                SELECT md5('user' || n)::uuid, 'other' || n, 'Other', TRUE, FALSE, now(), now() FROM generate_series(1, 2000) AS n;
            INSERT INTO rooms (id, owner_id, room_code, title, max_participants, is_public, is_recordable, require_auth, status,
                    peak_participants, total_joins, active_participants, created_at, updated_at)
                SELECT md5('room' || n)::uuid, md5('user' || n)::uuid, 'other-' || n, 'Room', 9, TRUE, TRUE, TRUE, 'CREATED',
                    0, 0, 0, now(), now() FROM generate_series(1, 2000) AS n;
            INSERT INTO room_participants (id, user_id, room_id, role, joined_at, left_at, is_kicked, is_banned, duration_seconds)
                SELECT md5('stay' || n)::uuid, md5('user' || n)::uuid, md5('room' || n % 100 + 1)::uuid, 'PARTICIPANT', now(), now(), FALSE,
                    FALSE, 0 FROM generate_series(1, 2000) AS n;
            INSERT INTO recordings (id, room_id, owner_id, storage_key, storage_bucket, filename, status, started_at, stopped_at,
                    retry_count, is_public, expires_at, created_at, updated_at)
                SELECT md5('recording' || n)::uuid, md5('room' || n)::uuid, md5('user' || n)::uuid, 'other' || n, 'b', 'f',
                    'STOPPED', now(), now(), 0, FALSE, now() + interval '1 year', now(), now() FROM generate_series(1, 2000) AS n;
            INSERT INTO audit_logs (id, action, user_id, room_id, target_user_id, ip_address, timestamp)
                SELECT md5('event' || n)::uuid, 'USER_KICKED', md5('user' || n % 100 + 1)::uuid, md5('room' || n % 100 + 1)::uuid,
                    md5('user' || n % 100 + 1)::uuid, '10.0.0.1', now() FROM generate_series(1, 2000) AS n;
            ANALYZE",
        )
        .await;
        raw.db.close().await.unwrap();
        let meter = Meter::of(db).await;
        let system = meter.store.acting(&Actor::system("test"));
        let new = NewUser::named("owner", "owner", password_hash());
        let owner = system.users().register(new).await.unwrap();
        let by_owner = meter.store.acting(&Actor::user(owner.id));
        let room = new_room(&system, &owner).await;
        let mut stage = Self {
            meter,
            system,
            owner,
            by_owner,
            room,
            node: None,
            users: 0,
        };
        stage.system.rooms().start(stage.room.id).await.unwrap();
        for _ in 0..20 {
            stage.present().await;
        }
        stage.batch(&stage.meter.store).await;
        stage
    }

    /// Somebody new.
    async fn somebody(&mut self) -> user::Model {
        self.users += 1;
        let name = format!("user{:05}", self.users);
        let new = NewUser::named(&name, "Somebody", password_hash());
        self.system.users().register(new).await.unwrap()
    }

    /// Somebody new who is in the room.
    async fn present(&mut self) -> user::Model {
        let user = self.somebody().await;
        self.system
            .participants()
            .join(self.room.id, user.id, Participant)
            .await
            .unwrap();
        user
    }

    /// The one node that is in service.
    async fn node(&mut self) -> MediaNodeId {
        match self.node {
            Some(node) => node,
            None => {
                let node = self.system.nodes().register("sfu").await.unwrap().id;
                *self.node.insert(node)
            }
        }
    }

    /// The system puts the seat back, so that 20 are present.
    async fn out(&self, user: &user::Model) {
        self.system.participants().leave(self.room.id, user.id).await.unwrap();
    }

    fn acting(&self, user: &user::Model) -> Acting {
        self.meter.store.acting(&Actor::user(user.id))
    }

    /// 100 events in one statement.
    async fn batch(&self, store: &Store) {
        let settings = WriterSettings {
            batch: 100,
            lanes: 1,
            linger: Duration::from_secs(5),
            ..WriterSettings::default()
        };
        let writer = store.audit_writer(settings).unwrap();
        let actor = Actor::user(self.owner.id);
        for _ in 0..100 {
            drop(writer.try_append(&actor, Some(self.room.id), &self.muted()).unwrap());
        }
        assert_eq!(writer.close().await.written, 100);
    }

    fn muted(&self) -> Observation {
        Observation::UserMuted {
            target: self.owner.id,
            kind: MediaKind::Audio,
        }
    }

    /// Runs the operation once, on what is made for it and not counted.
    async fn run(&mut self, what: &str) -> Spent {
        let room = self.room.id;
        let page = |size, order| PageRequest::first(size, order).unwrap();
        match what {
            "register" => {
                self.users += 1;
                let name = format!("user{:05}", self.users);
                let new = NewUser::named(&name, "Somebody", password_hash());
                self.spent(self.system.users().register(new)).await.1
            }
            "record_login" => {
                let user = self.somebody().await;
                let way_in = sign_in_methods(&self.meter.store, &user).await[0].id;
                self.spent(self.system.users().record_login(user.id, way_in)).await.1
            }
            "create a room" => {
                let rooms = self.by_owner.rooms();
                self.spent(rooms.create(NewRoom::titled(self.owner.id, "A room")))
                    .await
                    .1
            }
            "join" => {
                let user = self.somebody().await;
                let acting = self.acting(&user);
                let joining = acting.participants();
                let spent = self.spent(joining.join(room, user.id, Participant)).await.1;
                self.out(&user).await;
                spent
            }
            "join on a node" | "leave of a node" => {
                let user = self.somebody().await;
                let node = self.node().await;
                let acting = self.acting(&user);
                let people = acting.participants();
                let joining = self.spent(people.join_on(room, user.id, Participant, node)).await.1;
                let leaving = self.spent(people.leave(room, user.id)).await.1;
                if what.starts_with("join") { joining } else { leaving }
            }
            "beat" => {
                let node = self.node().await;
                self.spent(self.system.nodes().beat(node)).await.1
            }
            "a sweep that finds no silent node" => {
                self.node().await;
                let hour = Duration::from_secs(3600);
                self.spent(self.system.nodes().sweep_silent(hour, 100)).await.1
            }
            "first join" | "the owner's join" => {
                let user = match what {
                    "first join" => self.somebody().await,
                    _ => self.owner.clone(),
                };
                let room = new_room(&self.system, &self.owner).await.id;
                let acting = self.acting(&user);
                let joining = acting.participants();
                self.spent(joining.join(room, user.id, Participant)).await.1
            }
            "leave" => {
                let user = self.present().await;
                let acting = self.acting(&user);
                self.spent(acting.participants().leave(room, user.id)).await.1
            }
            "kick" => {
                let user = self.present().await;
                let kicking = self.by_owner.participants();
                self.spent(kicking.kick(room, user.id, Some("noise"))).await.1
            }
            "ban" => {
                let user = self.present().await;
                let banning = self.by_owner.participants();
                self.spent(banning.ban(room, user.id, Some("noise"), None)).await.1
            }
            "end of an empty room" => {
                let room = new_room(&self.system, &self.owner).await.id;
                self.system.rooms().start(room).await.unwrap();
                self.spent(self.by_owner.rooms().end(room)).await.1
            }
            "append" => {
                let audit = self.by_owner.audit();
                self.spent(audit.append(Some(room), self.muted())).await.1
            }
            "a batch of 100" => self.meter.spent(self.batch(&self.meter.store)).await.1,
            "list_present of 20" => {
                let page = page(100, Order::OldestFirst);
                let listing = self.meter.store.participants();
                let (listed, spent) = self.spent(listing.list_present(room, &page)).await;
                assert_eq!(listed.items.len(), 20);
                spent
            }
            "find_overview of 20" => {
                let rooms = self.meter.store.rooms();
                self.spent(rooms.find_overview(&self.room.room_code)).await.1
            }
            "find_by_code" => {
                let rooms = self.meter.store.rooms();
                self.spent(rooms.find_by_code(&self.room.room_code)).await.1
            }
            "a page of 100 events" => {
                let (page, filter) = (page(100, Order::NewestFirst), AuditFilter::of_room(room));
                let audit = self.meter.store.audit();
                let (listed, spent) = self.spent(audit.list(&filter, &page)).await;
                assert_eq!(listed.items.len(), 100);
                spent
            }
            "a page of 100 named events" => {
                let (page, filter) = (page(100, Order::NewestFirst), AuditFilter::of_room(room));
                let audit = self.meter.store.audit();
                self.spent(audit.list_with_names(&filter, &page)).await.1
            }
            "start of a recording" | "stop of a recording" => {
                self.users += 1;
                let key = format!("key{:05}", self.users);
                let host = self.present().await;
                let recordings = self.system.recordings();
                let new = new_recording(room, host.id, &key);
                let (begun, of_start) = self.spent(recordings.start(new)).await;
                let stopping = recordings.stop(begun.id, RecordingMeasures::default());
                let of_stop = self.spent(stopping).await.1;
                self.out(&host).await;
                if what.starts_with("start") { of_start } else { of_stop }
            }
            _ => panic!("{what}"),
        }
    }

    /// Boxed, since what it awaits is large.
    fn spent<'a, T: Send + 'a>(
        &'a self,
        work: impl Future<Output = Result<T, conferencing_store::Error>> + Send + 'a,
    ) -> Pin<Box<dyn Future<Output = (T, Spent)> + Send + 'a>> {
        Box::pin(async move {
            let (done, spent) = self.meter.spent(work).await;
            (done.unwrap(), spent)
        })
    }
}

async fn new_room(system: &Acting, owner: &user::Model) -> room::Model {
    let new = NewRoom {
        max_participants: 1_000,
        ..NewRoom::titled(owner.id, "A room")
    };
    system.rooms().create(new).await.unwrap()
}

async fn each_operation_costs_what_the_table_says(db: TestDb) {
    let mut stage = Stage::set(&db).await;
    let (mut table, mut wrong) = (String::new(), Vec::new());
    for Cost { what, most } in COSTS {
        let mut least = stage.run(what).await;
        for _ in 1..RUNS {
            least = least.least(stage.run(what).await);
        }
        writeln!(table, "{what}: {least:?}, at most {most:?}").unwrap();
        if least.statements != most.statements || least.buffers > most.buffers || least.wal > most.wal {
            wrong.push(*what);
        }
    }
    assert!(wrong.is_empty(), "{wrong:?} of\n{table}");
}
