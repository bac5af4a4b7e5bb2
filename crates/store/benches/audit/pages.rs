//! The first page of a long audit log, and one far down.

use std::fmt::Write as _;
use std::time::Instant;

use conferencing_store::entity::{AuditAction, RoomId, UserId};
use conferencing_store::{Actor, AuditFilter, NewRoom, Order, PageRequest, Store};
use sea_orm::ConnectionTrait;
use serde_json::Value as Json;

use crate::Scale;
use crate::measure::{Rounds, header, row};
use crate::world::{World, raw};

const PAGE: u16 = 100;
/// How often each page is read in a round.
const REPEATS: usize = 41;
/// Rooms beside the one whose audit log is read, and users beside the one who is asked for.
const OTHERS: usize = 19;

pub async fn near_and_far(scale: Scale) {
    let world = World::on_postgres("pages").await;
    eprintln!("  filling the audit_log");
    fill(&world, scale.events).await;
    let actions = [
        AuditAction::ConsumerCreated,
        AuditAction::ConsumerClosed,
        AuditAction::ProducerClosed,
    ];
    let filters = [
        ("room", AuditFilter::of_room(world.room)),
        ("3 actions", AuditFilter::of_actions(actions)),
        (
            "room and 3 actions",
            AuditFilter {
                actions: actions.to_vec(),
                ..AuditFilter::of_room(world.room)
            },
        ),
        ("actor", AuditFilter::by(world.user)),
    ];
    let deep = format!("page {}", scale.depth);
    header(&[
        &format!("filter, of {} events", scale.events),
        "events it names",
        "page 1, ms",
        &format!("{deep}, ms"),
        &format!("{deep} / page 1"),
        "buffers of page 1",
        &format!("buffers of {deep}"),
    ]);
    for (name, filter) in filters {
        eprintln!("  {name}");
        let first = PageRequest::first(PAGE, Order::NewestFirst).unwrap();
        let last = walk(&world.store, &filter, &first, scale.depth).await;
        let (mut near, mut far) = (Rounds::default(), Rounds::default());
        for _ in 0..scale.rounds {
            let (mut of_near, mut of_far) = (Rounds::default(), Rounds::default());
            for _ in 0..REPEATS {
                of_near.push(millis(&world.store, &filter, &first).await);
                of_far.push(millis(&world.store, &filter, &last).await);
            }
            near.push(of_near.median());
            far.push(of_far.median());
        }
        row(&[
            name,
            &world.store.audit().count(&filter).await.unwrap().to_string(),
            &near.shown(2),
            &far.shown(2),
            &far.over(&near).shown(2),
            &buffers(&world.store, &filter, &first).await.to_string(),
            &buffers(&world.store, &filter, &last).await.to_string(),
        ]);
    }
}

/// The page that is number `depth`.
async fn walk(store: &Store, filter: &AuditFilter, first: &PageRequest, depth: usize) -> PageRequest {
    let mut page = first.clone();
    for _ in 1..depth {
        let next = store.audit().list(filter, &page).await.unwrap().next;
        page = first.clone().after(next.expect("the audit_log is long enough"));
    }
    page
}

async fn millis(store: &Store, filter: &AuditFilter, page: &PageRequest) -> f64 {
    let begun = Instant::now();
    let found = store.audit().list(filter, page).await.unwrap();
    let millis = begun.elapsed().as_secs_f64() * 1_000.0;
    assert_eq!(found.items.len(), usize::from(PAGE));
    millis
}

/// Pages of the database that are touched for a page of the audit log, in memory or not.
async fn buffers(store: &Store, filter: &AuditFilter, page: &PageRequest) -> u64 {
    let plan = store.audit().explain(filter, page).await.unwrap();
    let touched = |kind: &str| {
        let name = format!("Shared {kind} Blocks");
        plan.pointer("/0/0/Plan")
            .and_then(|top| top.get(&name))
            .and_then(Json::as_u64)
    };
    touched("Hit").unwrap() + touched("Read").unwrap()
}

/// A audit log of 20 rooms and 20 users, a month long. A fifth of it is of the world's room, a fifth by its user, and each of the four
/// commonest actions is a fifth, all independent of one another.
async fn fill(world: &World, events: u32) {
    let (mut users, mut rooms): (Vec<UserId>, Vec<RoomId>) = (Vec::new(), Vec::new());
    let system = world.store.acting(&Actor::system("bench"));
    for number in 0..OTHERS {
        let name = format!("user{number}");
        let user = system.users().register(crate::world::user(&name)).await.unwrap().id;
        let room = system.rooms().create(NewRoom::titled(user, &name)).await.unwrap();
        users.push(user);
        rooms.push(room.id);
    }
    let (users, rooms) = (array(&users), array(&rooms));
    let World { user, room, url, .. } = world;
    let db = raw(url).await;
    // The foreign keys hold: they need not be asked a million times.
    let sql = format!(
        r#"BEGIN;
        SET LOCAL session_replication_role = replica;
        INSERT INTO audit_logs (id, action, user_id, room_id, metadata, ip_address, user_agent, "timestamp")
        SELECT CAST(lpad(to_hex(i), 32, '0') AS uuid),
            CASE i / 25 % 5
                WHEN 0 THEN 'CONSUMER_CREATED' WHEN 1 THEN 'CONSUMER_CLOSED'
                WHEN 2 THEN 'PRODUCER_CREATED' WHEN 3 THEN 'PRODUCER_CLOSED'
                ELSE (SELECT enum_range(CAST(NULL AS audit_action)))[1 + i % 40]
            END,
            CASE i / 5 % 5 WHEN 0 THEN '{user}' ELSE ({users})[1 + i % {OTHERS}] END,
            CASE i % 5 WHEN 0 THEN '{room}' ELSE ({rooms})[1 + i % {OTHERS}] END,
            jsonb_build_object('consumer_id', md5(CAST(i AS text)), 'producer_id', md5(CAST(-i AS text))),
            '203.0.113.7', 'Mozilla/5.0', now() - interval '30 days' + i * (interval '29 days' / {events})
        FROM generate_series(1, {events}) AS i;
        COMMIT"#
    );
    db.execute_unprepared(&sql).await.unwrap();
    db.execute_unprepared("VACUUM (ANALYZE) audit_logs").await.unwrap();
    db.execute_unprepared("CHECKPOINT").await.unwrap();
}

fn array(ids: &[impl std::fmt::Display]) -> String {
    let mut text = String::new();
    for id in ids {
        let lead = if text.is_empty() { "" } else { ", " };
        let _ = write!(text, "{lead}'{id}'");
    }
    format!("CAST(ARRAY[{text}] AS uuid[])")
}
