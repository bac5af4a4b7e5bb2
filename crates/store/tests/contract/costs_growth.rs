//! What an operation costs when much has been before: no more. PostgreSQL only.
//!
//! Buffers are what is bounded, not time: they are the same on every machine.

use conferencing_store::entity::ParticipantRole::Participant;
use conferencing_store::entity::{room, user};
use conferencing_store::{
    Actor, AuditFilter, NewRoom, NewUser, Observation, Order, PageRequest, RecordingMeasures, Store, StoreSettings,
};

use crate::accounts_support::sign_in_methods;
use crate::audit_plans::{BOUNDARY, months};
use crate::harness::{TestDb, password_hash};
use crate::metering::{Meter, NO_AUTOVACUUM, aside, one_connection};
use crate::recordings::new_recording;

crate::cases![
    @Alone past_stays_cost_nothing,
    @Alone seats_cost_a_sweep_of_nodes_nothing,
    @Postgres a_page_of_the_trail_costs_its_rows_and_the_partitions,
    @Postgres plans_of_what_services_do_most_are_kept,
];

/// Levels that ten indexes grow by, pages that split, and what is put in order by the first to come after 100,000 rows: far from what a
/// walk through them would cost, which is 1,600.
const GROWN: i64 = 34;
/// More than it takes until the server keeps a plan.
const RUNS: usize = 8;

struct Stage {
    room: room::Model,
    guest: user::Model,
}

/// The most that each operation looked at in so many runs, the first one of a new connection aside, which looks for its plan as well.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Most {
    join: i64,
    leave: i64,
    list_present: i64,
    find_overview: i64,
    find_by_code: i64,
    trail: i64,
}

impl Most {
    async fn of(meter: &Meter, stage: &Stage, runs: usize) -> Self {
        let (room, guest) = (stage.room.id, stage.guest.id);
        let acting = meter.store.acting(&Actor::user(guest));
        let (store, code) = (&meter.store, &stage.room.room_code);
        let (oldest, newest) = (Order::OldestFirst, Order::NewestFirst);
        let (present, trail) = (
            PageRequest::first(100, oldest).unwrap(),
            PageRequest::first(100, newest).unwrap(),
        );
        let filter = AuditFilter::of_room(room);
        let mut most = Self::default();
        for run in 0..runs {
            let (done, join) = meter.spent(acting.participants().join(room, guest, Participant)).await;
            done.unwrap();
            let (done, listed) = meter.spent(store.participants().list_present(room, &present)).await;
            assert_eq!(done.unwrap().items.len(), 6);
            let (done, overview) = meter.spent(store.rooms().find_overview(code)).await;
            done.unwrap().unwrap();
            let (done, by_code) = meter.spent(store.rooms().find_by_code(code)).await;
            done.unwrap().unwrap();
            let (done, leave) = meter.spent(acting.participants().leave(room, guest)).await;
            done.unwrap();
            let (done, page) = meter.spent(store.audit().list(&filter, &trail)).await;
            assert_eq!(done.unwrap().items.len(), 100);
            if run == 0 && runs > 1 {
                continue;
            }
            for (most, spent) in [
                (&mut most.join, join),
                (&mut most.leave, leave),
                (&mut most.list_present, listed),
                (&mut most.find_overview, overview),
                (&mut most.find_by_code, by_code),
                (&mut most.trail, page),
            ] {
                *most = spent.buffers.max(*most);
            }
        }
        most
    }

    fn all(self) -> [i64; 6] {
        [
            self.join,
            self.leave,
            self.list_present,
            self.find_overview,
            self.find_by_code,
            self.trail,
        ]
    }
}

/// SQL: past stays of others in the room, with their events, each a minute after the last.
fn stays(room: &room::Model, first: u32, last: u32) -> String {
    let (room, count) = (room.id.as_uuid(), last - first + 1);
    format!(
        "INSERT INTO room_participants
            (id, user_id, room_id, role, joined_at, left_at, is_kicked, is_banned, duration_seconds)
        SELECT gen_random_uuid(), md5('user' || n % 2000)::uuid, '{room}', 'PARTICIPANT',
            now() - interval '200 days' + n * interval '1 minute', now() - interval '200 days' + n * interval '1 minute'
                + interval '30 seconds', FALSE, FALSE, 30
        FROM generate_series({first}, {last}) AS n;
        INSERT INTO audit_logs (id, action, user_id, room_id, metadata, timestamp)
        SELECT gen_random_uuid(), CAST(action AS audit_action), md5('user' || n % 2000)::uuid, '{room}',
            CASE action WHEN 'USER_JOINED' THEN '{{\"role\": \"PARTICIPANT\"}}'::jsonb ELSE '{{\"duration_seconds\": 30}}' END,
            now() - interval '200 days' + n * interval '1 minute' + place * interval '30 seconds'
        FROM generate_series({first}, {last}) AS n, (VALUES ('USER_JOINED', 0), ('USER_LEFT', 1)) AS events (action, place);
        UPDATE rooms SET total_joins = total_joins + {count} WHERE id = '{room}'"
    )
}

const USERS: &str = "INSERT INTO users (id, username, display_name, is_active, is_verified, created_at, updated_at)
    SELECT md5('user' || n)::uuid, 'other' || n, 'Other', TRUE, FALSE, now(), now() FROM generate_series(0, 1999) AS n";

async fn past_stays_cost_nothing(db: TestDb) {
    let (owner, guest) = (db.user("owner").await, db.user("guest").await);
    let room = db.room(&owner, 20).await;
    for user in db.users("present", 5).await {
        db.seat(&room, &user).await;
    }
    let raw = one_connection(&db.url).await;
    for sql in [NO_AUTOVACUUM, USERS, &stays(&room, 1, 50), "ANALYZE"] {
        raw.run(sql).await;
    }
    raw.db.close().await.unwrap();
    let stage = Stage { room, guest };
    let kept = Meter::of(&db).await;
    let few = Most::of(&kept, &stage, RUNS).await;
    let mut seen = vec![("50 stays", few)];
    aside(&db, &kept, &stays(&stage.room, 51, 1_000)).await;
    seen.push(("1,000 stays, plans of 50", Most::of(&kept, &stage, 1).await));
    aside(&db, &kept, &stays(&stage.room, 1_001, 100_000)).await;
    seen.push(("100,000 stays, plans of 50", Most::of(&kept, &stage, 1).await));
    seen.push(("again", Most::of(&kept, &stage, RUNS).await));
    let new = kept.another(&db).await;
    seen.push(("100,000 stays, statistics of 50", Most::of(&new, &stage, RUNS).await));
    aside(&db, &kept, "ANALYZE").await;
    seen.push(("100,000 stays, the plan made anew", Most::of(&kept, &stage, RUNS).await));
    let new = kept.another(&db).await;
    seen.push(("100,000 stays", Most::of(&new, &stage, RUNS).await));
    println!("{seen:#?}");
    for (_, most) in &seen {
        let grown = most.all().into_iter().zip(few.all());
        assert!(grown.into_iter().all(|(many, few)| many <= few + GROWN), "{seen:#?}");
    }
    println!("{seen:#?}");
}

/// A sweep steps from node to node, past any number of seats on nodes in service and of nodes that were lost long ago; and what one node
/// lost is found past what others did. Its plans are those of five seats.
async fn seats_cost_a_sweep_of_nodes_nothing(db: TestDb) {
    let owner = db.user("owner").await;
    let room = db.room(&owner, 20).await;
    let node = db.system().nodes().register("sfu").await.unwrap().id;
    for user in db.users("present", 5).await {
        let people = db.system();
        people
            .participants()
            .join_on(room.id, user.id, Participant, node)
            .await
            .unwrap();
    }
    let raw = one_connection(&db.url).await;
    // Three that are in service, and what years of starts have left.
    let nodes = "INSERT INTO media_nodes SELECT md5('node' || n)::uuid, 'node' || n, now(), now(), CASE WHEN n > 3 THEN now() END
        FROM generate_series(1, 2003) AS n";
    for sql in [NO_AUTOVACUUM, USERS, nodes, "ANALYZE"] {
        raw.run(sql).await;
    }
    raw.db.close().await.unwrap();
    let meter = Meter::of(&db).await;
    let system = meter.store.acting(&Actor::system("sweeper"));
    let (page, hour) = (
        PageRequest::first(100, Order::OldestFirst).unwrap(),
        std::time::Duration::from_secs(3600),
    );
    let (mut few, mut looks) = ((0, 0), Vec::new());
    for many in [false, true] {
        if many {
            // 100,000 seats on the three; three each that 2,000 others have lost.
            let room = room.id.as_uuid();
            let seats = format!(
                "INSERT INTO rooms (id, owner_id, room_code, title, max_participants, is_public, is_recordable, require_auth, status,
                        started_at, peak_participants, total_joins, active_participants, created_at, updated_at)
                    SELECT md5('room' || n)::uuid, owner_id, 'room-' || n, 'Room', 2000, FALSE, TRUE, TRUE, 'LIVE', now(), 2000, 2000,
                        2000, now(), now() FROM rooms, generate_series(1, 50) AS n WHERE rooms.id = '{room}';
                INSERT INTO room_participants (id, user_id, room_id, role, joined_at, is_kicked, is_banned, node_id)
                    SELECT gen_random_uuid(), md5('user' || u)::uuid, md5('room' || r)::uuid, 'PARTICIPANT', now(), FALSE, FALSE,
                        md5('node' || (1 + u % 3))::uuid FROM generate_series(1, 50) AS r, generate_series(0, 1999) AS u;
                INSERT INTO room_participants (id, user_id, room_id, role, joined_at, left_at, duration_seconds, is_kicked, is_banned,
                        node_id)
                    SELECT gen_random_uuid(), md5('user' || n % 2000)::uuid, '{room}', 'PARTICIPANT', now() - n * interval '1 second',
                        now(), n, FALSE, FALSE, md5('node' || (4 + n % 2000))::uuid FROM generate_series(1, 6000) AS n"
            );
            aside(&db, &meter, &seats).await;
        }
        for run in 0..RUNS {
            let (swept, of_sweep) = meter.spent(system.nodes().sweep_silent(hour, 100)).await;
            assert_eq!(swept.unwrap(), conferencing_store::NodeSweep::default());
            let (lost, of_lost) = meter.spent(meter.store.nodes().lost_seats(node, &page)).await;
            assert_eq!(lost.unwrap().items, []);
            if many {
                looks.push((of_sweep.buffers, of_lost.buffers));
            } else if run > 0 {
                few = (of_sweep.buffers.max(few.0), of_lost.buffers.max(few.1));
            }
        }
    }
    println!("{few:?} {looks:?}");
    for (sweep, lost) in &looks[1..] {
        assert!(*sweep <= few.0 + GROWN && *lost <= few.1 + GROWN, "{few:?} {looks:?}");
    }
}

/// SQL: events of the room, every second one of all, over the twelve months from the first of the log on. They have a second part
/// so that no key is there twice.
fn events(room: &room::Model, count: u32) -> String {
    let room = room.id.as_uuid();
    format!(
        "INSERT INTO audit_logs (id, action, user_id, room_id, metadata, timestamp)
        SELECT gen_random_uuid(), 'USER_MUTED', md5('user' || n % 2000)::uuid, CASE WHEN n % 2 = 0 THEN '{room}'::uuid END,
            '{{\"kind\": \"audio\"}}', boundary - interval '3 months' + n * interval '12 months' / ({all} + 1)
        FROM ({BOUNDARY}) AS b, generate_series(1, {all}) AS n",
        all = count * 2,
    )
}

/// What a page costs at most: its rows, the one behind it, leaves that lead to them, and a look at each partition: three levels of its
/// index, the next leaf, and a row; and a look at each of its eight indexes by whoever makes a plan.
const fn page(partitions: i64) -> i64 {
    101 + 10 + (6 + 8) * partitions
}

async fn a_page_of_the_trail_costs_its_rows_and_the_partitions(db: TestDb) {
    let owner = db.user("owner").await;
    let room = db.room(&owner, 20).await;
    let raw = one_connection(&db.url).await;
    for sql in [NO_AUTOVACUUM, USERS] {
        raw.run(sql).await;
    }
    raw.run(&months(3, 8)).await;
    raw.run(&events(&room, 1_000)).await;
    raw.run(NO_AUTOVACUUM).await;
    raw.run("ANALYZE").await;
    raw.db.close().await.unwrap();
    let mut seen = Vec::new();
    let kept = Meter::of(&db).await;
    let pages = async |seen: &mut Vec<_>, what: &str, meter: &Meter, runs: usize, partitions: i64| {
        let newest = PageRequest::first(100, Order::NewestFirst).unwrap();
        for (filter, name) in [
            (AuditFilter::of_room(room.id), "room"),
            (AuditFilter::default(), "time"),
        ] {
            let mut most = 0;
            for run in 0..runs {
                let (done, spent) = meter.spent(meter.store.audit().list(&filter, &newest)).await;
                assert_eq!(done.unwrap().items.len(), 100);
                if run > 0 || runs == 1 {
                    most = spent.buffers.max(most);
                }
            }
            seen.push((format!("{what}, by {name}"), most, page(partitions)));
        }
    };
    let mut partitions = 11;
    pages(&mut seen, "1,000 events", &kept, RUNS, partitions).await;
    aside(&db, &kept, &events(&room, 100_000)).await;
    pages(&mut seen, "100,000 events, plans of 1,000", &kept, 1, partitions).await;
    let new = kept.another(&db).await;
    pages(&mut seen, "100,000 events, statistics of 1,000", &new, RUNS, partitions).await;
    aside(&db, &kept, "ANALYZE").await;
    pages(&mut seen, "100,000 events, the plan made anew", &kept, RUNS, partitions).await;
    aside(&db, &kept, &months(9, 58)).await;
    partitions = 61;
    pages(&mut seen, "60 months, the plan made anew", &kept, RUNS, partitions).await;
    let new = kept.another(&db).await;
    pages(&mut seen, "60 months", &new, RUNS, partitions).await;
    assert!(seen.iter().all(|(_, buffers, most)| buffers <= most), "{seen:#?}");
    println!("{seen:#?}");
}

/// The server makes five plans with the values, and then keeps one without them if it costs no more. Nothing is set for that.
async fn plans_of_what_services_do_most_are_kept(db: TestDb) {
    let (owner, users) = (db.user("owner").await, db.users("guest", RUNS).await);
    let room = db.room(&owner, 20).await.id;
    db.system().rooms().start(room).await.unwrap();
    let raw = one_connection(&db.url).await;
    let store = Store::from_connection(raw.db.clone(), StoreSettings::default())
        .await
        .unwrap();
    let (system, by_owner) = (
        store.acting(&Actor::system("test")),
        store.acting(&Actor::user(owner.id)),
    );
    for (number, user) in users.iter().enumerate() {
        let acting = store.acting(&Actor::user(user.id));
        for _ in 0..3 {
            acting.participants().join(room, user.id, Participant).await.unwrap();
            acting.participants().leave(room, user.id).await.unwrap();
        }
        acting
            .audit()
            .append(Some(room), Observation::UserLogout {})
            .await
            .unwrap();
        let name = format!("new{number}");
        let new = NewUser::named(&name, &name, password_hash());
        system.users().register(new).await.unwrap();
        let way_in = sign_in_methods(&store, user).await[0].id;
        system.users().record_login(user.id, way_in).await.unwrap();
        by_owner
            .rooms()
            .create(NewRoom::titled(owner.id, "A room"))
            .await
            .unwrap();
        acting.participants().join(room, user.id, Participant).await.unwrap();
        let recording = new_recording(room, user.id, &name);
        let begun = system.recordings().start(recording).await.unwrap();
        system
            .recordings()
            .stop(begun.id, RecordingMeasures::default())
            .await
            .unwrap();
        by_owner.participants().kick(room, user.id, None).await.unwrap();
        acting.participants().join(room, user.id, Participant).await.unwrap();
        by_owner.participants().ban(room, user.id, None, None).await.unwrap();
    }
    let kept = "SELECT CASE WHEN generic_plans > 0 THEN 'kept ' ELSE 'made anew ' END || left(statement, 200)
        FROM pg_prepared_statements WHERE statement LIKE '%INSERT INTO audit_logs%' AND generic_plans + custom_plans > 5";
    let plans = raw.texts(kept).await;
    assert_eq!(plans.len(), 10, "{plans:#?}");
    assert!(plans.iter().all(|plan| plan.starts_with("kept")), "{plans:#?}");
}
