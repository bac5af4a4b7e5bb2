//! What a page of the audit log costs: the plans, read on a table of 220,000 events. PostgreSQL only.
//!
//! Buffers are what is bounded, not time: they are the same on every machine.

use std::collections::{BTreeSet, HashMap};
use std::fmt::Write;

use chrono::{DateTime, TimeDelta, Utc};
use conferencing_store::entity::{AuditAction, AuditLogId, RoomId, UserId};
use conferencing_store::{
    AuditEntry, AuditEvent, AuditFilter, Cursor, Observation, Order, PageRequest, Store, StoreSettings,
};
use sea_orm::{ActiveEnum, Iterable};
use serde_json::Value as Json;
use uuid::Uuid;

use crate::harness::{Raw, TestDb};
use crate::metering::{NO_AUTOVACUUM, alone, one_connection};

crate::cases![@Postgres every_filter_costs_the_same_at_any_depth];

const EVENTS: u32 = 220_000;
/// Rows of a page, and the one behind it.
const PAGE: u16 = 100;
const FETCHED: u64 = PAGE as u64 + 1;
/// As in `audit/search.rs`.
const SCANNED: u64 = 5_000;
/// A partition is asked for its first row even if another has all that is wanted: three levels of an index, the next leaf where
/// the first is at its end, and the row. One more where a cursor stands between two rows of the same time.
const EACH_PARTITION: u64 = 6;
/// Indexes of a partition, of each of which a plan's maker looks at one page when its connection is new.
const PLANNED: u64 = 8;
/// Entries that a leaf of the widest of the indexes holds at least, half full.
const IN_A_LEAF: u64 = 50;

/// A filter, and how its pages are come by.
struct Kind {
    name: &'static str,
    filter: AuditFilter,
    /// What follows `ix_audit_logs_` in the name of the whole's index; nothing for its key.
    index: &'static str,
    /// How many walks are merged.
    walks: u64,
    /// How many events one walk yields at most.
    yields: u64,
}

fn user(number: u128) -> UserId {
    UserId::from_uuid(Uuid::from_u128(number))
}

fn room(number: u128) -> RoomId {
    RoomId::from_uuid(Uuid::from_u128(number))
}

/// The one that has half of all events.
const BIG: u128 = 1;

fn actions(places: &[usize]) -> Vec<AuditAction> {
    let all: Vec<_> = AuditAction::iter().collect();
    places.iter().map(|place| all[*place]).collect()
}

/// Every line of the table in `audit/search.rs`.
fn kinds() -> Vec<Kind> {
    let walk = |name, filter, index| Kind {
        name,
        filter,
        index,
        walks: 1,
        yields: FETCHED,
    };
    let merged = |name, filter: AuditFilter, index| Kind {
        walks: filter.actions.len() as u64,
        ..walk(name, filter, index)
    };
    let scan = |name, filter, index| Kind {
        yields: SCANNED,
        ..walk(name, filter, index)
    };
    let address = || AuditFilter {
        address: "10.0.0.4".parse().ok(),
        ..AuditFilter::default()
    };
    vec![
        walk("nothing", AuditFilter::default(), ""),
        walk("a big room", AuditFilter::of_room(room(BIG)), "room"),
        walk("a room", AuditFilter::of_room(room(7)), "room"),
        walk("an actor", AuditFilter::by(user(9)), "user"),
        walk("a target", AuditFilter::about(user(11)), "target_user"),
        walk("an address", address(), "address"),
        merged("an action", AuditFilter::of_actions(actions(&[0])), "action"),
        merged("a rare action", AuditFilter::of_actions(actions(&[20])), "action"),
        merged("actions", AuditFilter::of_actions(actions(&[0, 3, 12, 20])), "action"),
        merged(
            "a room's actions",
            AuditFilter {
                actions: actions(&[1, 4, 19]),
                ..AuditFilter::of_room(room(BIG))
            },
            "room_action",
        ),
        merged(
            "an actor's actions",
            AuditFilter {
                actions: actions(&[1, 4, 19]),
                ..AuditFilter::by(user(9))
            },
            "user_action",
        ),
        scan("traffic", AuditFilter::of_actions(AuditAction::TRAFFIC), ""),
        scan(
            "traffic and more",
            AuditFilter::of_actions([AuditAction::UserJoined, AuditAction::UserKicked]),
            "",
        ),
        scan(
            "a room's traffic",
            AuditFilter {
                actions: AuditAction::TRAFFIC.into(),
                ..AuditFilter::of_room(room(BIG))
            },
            "room",
        ),
        scan(
            "an actor's traffic",
            AuditFilter {
                actions: vec![AuditAction::UserJoined],
                ..AuditFilter::by(user(9))
            },
            "user",
        ),
        scan(
            "a room and an actor",
            AuditFilter {
                actor: Some(user(9)),
                ..AuditFilter::of_room(room(BIG))
            },
            "room",
        ),
        scan(
            "a room, an actor and actions",
            AuditFilter {
                actor: Some(user(9)),
                actions: actions(&[0, 20]),
                ..AuditFilter::of_room(room(BIG))
            },
            "room",
        ),
        scan(
            "a target and a room",
            AuditFilter {
                target: Some(user(11)),
                ..AuditFilter::of_room(room(BIG))
            },
            "target_user",
        ),
        scan(
            "a target and actions",
            AuditFilter {
                actions: actions(&[0, 1]),
                ..AuditFilter::about(user(11))
            },
            "target_user",
        ),
        scan(
            "an actor and an address",
            AuditFilter {
                actor: Some(user(9)),
                ..address()
            },
            "user",
        ),
        scan(
            "an address and actions",
            AuditFilter {
                actions: actions(&[0, 1]),
                ..address()
            },
            "address",
        ),
    ]
}

/// The audit log's partitions go on for nine months behind the boundary, and there are events in all of them but the default one:
/// three months of them before the boundary, and nine behind it. Appended in the order of their times, of which three share one.
async fn fill(raw: &Raw) {
    raw.run(
        "INSERT INTO users SELECT lpad(to_hex(n), 32, '0')::uuid, 'user' || n, NULL, NULL, 'User', true, false, NULL, now(), now()
            FROM generate_series(1, 200) AS n;
         INSERT INTO rooms (id, owner_id, room_code, title, max_participants, is_public, is_recordable, require_auth, status,
                peak_participants, total_joins, active_participants, created_at, updated_at)
            SELECT lpad(to_hex(n), 32, '0')::uuid, lpad(to_hex(n), 32, '0')::uuid, 'room' || n, 'Room', 9, true, true,
                true, 'CREATED', 0, 0, 0, now(), now()
            FROM generate_series(1, 50) AS n",
    )
    .await;
    raw.run(&months(3, 8)).await;
    raw.run(NO_AUTOVACUUM).await;
    let names: Vec<_> = AuditAction::iter()
        .map(|action| format!("'{}'", action.to_value().value))
        .collect();
    // Numbers from 0 to 1 that look like chance and are the same in each run.
    let dice = |seed| format!("((hashint8extended(n, {seed}) & 65535) / 65536.0)");
    let one_of = |seed, first, count| {
        format!(
            "lpad(to_hex({first} + floor({count} * {})::int), 32, '0')::uuid",
            dice(seed)
        )
    };
    // Without the foreign keys' triggers, which would take most of the time.
    raw.run(&format!(
        "BEGIN;
         SET LOCAL session_replication_role = replica;
         INSERT INTO audit_logs (id, action, user_id, room_id, target_user_id, metadata, ip_address, timestamp)
            SELECT lpad(to_hex(n), 32, '0')::uuid,
                (CAST(ARRAY[{}] AS audit_action[]))[CASE WHEN n % 7001 = 0 THEN 21 ELSE 1 + floor(20 * power({}, 3)) END],
                CASE WHEN {} < 0.8 THEN {} END,
                CASE WHEN n % 2 = 0 THEN lpad(to_hex({BIG}), 32, '0')::uuid WHEN {} < 0.8 THEN {} END,
                CASE WHEN {} < 0.3 THEN {} END,
                '{{\"kind\": \"audio\"}}',
                CASE WHEN {} < 0.3 THEN '10.0.0.0'::inet + floor(20 * {})::int END,
                first + (n / 3) * (last - first) / ({EVENTS} / 3.0)
            FROM generate_series(1, {EVENTS}) AS n,
                (SELECT boundary - interval '3 months' AS first, boundary + interval '9 months' AS last FROM ({BOUNDARY}) AS b) AS times;
         COMMIT",
        names.join(", "),
        dice(1),
        dice(2),
        one_of(3, 1, 200),
        dice(4),
        one_of(5, 2, 49),
        dice(6),
        one_of(7, 1, 200),
        dice(8),
        dice(9),
    ))
    .await;
    raw.run("ANALYZE").await;
}

/// Where the months begin.
pub const BOUNDARY: &str =
    "SELECT substring(pg_get_expr(relpartbound, oid) FROM 'TO \\(''([^'']+)')::timestamptz AS boundary
    FROM pg_class WHERE relname = 'audit_logs_before'";

/// SQL that makes partitions for these months behind the boundary.
pub fn months(first: u32, last: u32) -> String {
    format!(
        "SELECT attach_audit_partition(to_char(since, '\"audit_logs_\"YYYY_MM'), since AT TIME ZONE 'UTC',
                (since + interval '1 month') AT TIME ZONE 'UTC')
            FROM ({BOUNDARY}) AS b, generate_series({first}, {last}) AS month,
                LATERAL (SELECT boundary AT TIME ZONE 'UTC' + month * interval '1 month' AS since) AS begins"
    )
}

/// The filter as it is asked by hand.
fn condition(raw: &Raw, filter: &AuditFilter) -> String {
    let mut all = "TRUE".to_owned();
    for (column, id) in [
        ("room_id", filter.room.map(|id| id.as_uuid())),
        ("user_id", filter.actor.map(|id| id.as_uuid())),
        ("target_user_id", filter.target.map(|id| id.as_uuid())),
    ] {
        if let Some(id) = id {
            write!(all, " AND {column} = {}", raw.id(id)).unwrap();
        }
    }
    if let Some(address) = filter.address {
        write!(all, " AND ip_address = '{address}'").unwrap();
    }
    if !filter.actions.is_empty() {
        let names = filter
            .actions
            .iter()
            .map(|action| format!("'{}'", action.to_value().value));
        write!(all, " AND action IN ({})", names.collect::<Vec<_>>().join(", ")).unwrap();
    }
    for (comparison, at) in [(">=", filter.since), ("<", filter.until)] {
        if let Some(at) = at {
            write!(all, " AND timestamp {comparison} '{}'", at.to_rfc3339()).unwrap();
        }
    }
    all
}

/// So many of the filter's ids behind the first `skipped`, and the cursor before them.
async fn behind(raw: &Raw, filter: &AuditFilter, order: Order, skipped: i64, count: u16) -> (Vec<AuditLogId>, Cursor) {
    let direction = match order {
        Order::NewestFirst => "DESC",
        Order::OldestFirst => "ASC",
    };
    let sql = format!(
        "SELECT id, timestamp FROM audit_logs WHERE {} ORDER BY timestamp {direction}, id {direction} OFFSET {} LIMIT {}",
        condition(raw, filter),
        skipped - 1,
        count + 1
    );
    let rows = raw.rows(&sql).await;
    let id = |row: &sea_orm::QueryResult| AuditLogId::from_uuid(row.try_get_by_index(0).unwrap());
    let last = AuditEntry {
        id: id(&rows[0]),
        at: rows[0].try_get_by_index(1).unwrap(),
        actor: None,
        system: None,
        room: None,
        event: AuditEvent::Observation(Observation::UserLogout {}),
        address: None,
        user_agent: None,
    };
    (rows[1..].iter().map(id).collect(), last.cursor())
}

/// What is of interest in a plan.
#[derive(Debug, Default)]
struct Cost {
    buffers: u64,
    /// The most rows that were sorted anywhere.
    sorted: u64,
    indexes: BTreeSet<String>,
    /// Nodes that read a table in another way than along an index.
    others: Vec<String>,
}

impl Cost {
    fn of(explained: &Json) -> Self {
        let plan = &explained[0][0]["Plan"];
        let number = |name| plan[name].as_u64().unwrap();
        let mut cost = Self {
            buffers: number("Shared Hit Blocks") + number("Shared Read Blocks"),
            ..Self::default()
        };
        cost.add(plan);
        cost
    }

    fn add(&mut self, node: &Json) {
        let kind = node["Node Type"].as_str().unwrap();
        let below = node["Plans"].as_array().map(Vec::as_slice).unwrap_or_default();
        if let Some(index) = node["Index Name"].as_str() {
            self.indexes.insert(index.to_owned());
        }
        if node["Relation Name"].is_string() && kind != "Index Scan" {
            self.others.push(format!("{kind} on {}", node["Relation Name"]));
        }
        if kind.ends_with("Sort") {
            let rows = below.iter().map(|node| node["Actual Rows"].as_f64().unwrap());
            self.sorted = self.sorted.max(rows.sum::<f64>() as u64);
        }
        for node in below {
            self.add(node);
        }
    }
}

/// What all the explaining is done with.
struct Explaining {
    raw: Raw,
    /// Names of the partitions, the whole's included.
    partitions: Vec<String>,
    /// The deep pages: how many events are before each, and its cursor. By kind, window and order.
    deep: HashMap<String, (i64, Cursor)>,
    /// Where the server makes plans that do not know the values. EXPLAIN cannot show them.
    generic: Option<String>,
    /// All that is not as it should be.
    wrong: Vec<String>,
}

impl Explaining {
    /// What the server counted while a store of its own read the page.
    async fn measured(&self, url: &str, kind: &Kind, page: &PageRequest) -> Cost {
        let before = self.counted().await;
        let reading = one_connection(url).await;
        let store = Store::from_connection(reading.db, StoreSettings::default())
            .await
            .unwrap();
        store.audit().list(&kind.filter, page).await.unwrap();
        store.close().await.unwrap();
        // Its counts are there when the server's process has ended.
        alone(&self.raw).await;
        let mut cost = Cost::default();
        for (name, (kind, buffers, scans)) in self.counted().await {
            let (_, buffers_before, scans_before) = before[&name];
            cost.buffers += u64::try_from(buffers - buffers_before).unwrap();
            if scans > scans_before {
                match kind {
                    'i' => drop(cost.indexes.insert(name)),
                    _ => cost.others.push(format!("Seq Scan on {name}")),
                }
            }
        }
        cost
    }

    /// Each table and index of the audit log: which it is, its buffers and its scans.
    async fn counted(&self) -> HashMap<String, (char, i64, i64)> {
        let sql = "SELECT CAST(relname AS text), 't', heap_blks_hit + heap_blks_read, seq_scan
                FROM pg_statio_user_tables JOIN pg_stat_user_tables USING (relid, relname)
            UNION ALL SELECT CAST(indexrelname AS text), 'i', idx_blks_hit + idx_blks_read, idx_scan
                FROM pg_statio_user_indexes JOIN pg_stat_user_indexes USING (indexrelid, indexrelname)";
        let rows = self.raw.rows(sql).await;
        let counts = rows.iter().filter_map(|row| {
            let name: String = row.try_get_by_index(0).unwrap();
            let kind: String = row.try_get_by_index(1).unwrap();
            let counts = (
                kind.chars().next()?,
                row.try_get_by_index(2).unwrap(),
                row.try_get_by_index(3).unwrap(),
            );
            name.contains("audit_logs").then_some((name, counts))
        });
        counts.collect()
    }

    async fn cost(&mut self, store: &Store, kind: &Kind, page: &PageRequest, what: &str) -> u64 {
        let mut cost = if let Some(url) = self.generic.clone() {
            self.measured(&url, kind, page).await
        } else {
            Cost::of(&store.audit().explain(&kind.filter, page).await.unwrap())
        };
        let mut wrong = Vec::new();
        let partitions = self.partitions.len() as u64;
        // Each walk: a row each, the leaves that lead to them, and what the partitions cost by being there.
        let each = kind.yields + kind.yields / IN_A_LEAF + partitions * EACH_PARTITION;
        let counted_with_it = if self.generic.is_some() {
            partitions * PLANNED
        } else {
            0
        };
        let most = kind.walks * each + counted_with_it;
        if cost.buffers > most {
            wrong.push(format!("{} buffers, expected at most {most}", cost.buffers));
        }
        if cost.sorted > kind.walks * FETCHED {
            wrong.push(format!("{} rows sorted", cost.sorted));
        }
        if !cost.others.is_empty() {
            wrong.push(format!("{:?}", cost.others));
        }
        let expected: BTreeSet<_> = self
            .partitions
            .iter()
            .map(|partition| match kind.index {
                "" => format!("pk_{partition}"),
                index => format!("ix_{partition}_{index}"),
            })
            .collect();
        // Of an empty partition, one index is as good as another.
        cost.indexes.retain(|index| !index.contains("_default_"));
        if cost.indexes.is_empty() || !cost.indexes.is_subset(&expected) {
            wrong.push(format!("walks {:?}", cost.indexes));
        }
        if !wrong.is_empty() {
            self.wrong.push(format!("{}, {what}: {}", kind.name, wrong.join("; ")));
        }
        cost.buffers
    }

    /// Where a deep page begins: the thousandth, where there are so many.
    async fn deep(&mut self, store: &Store, kind: &Kind, order: Order) -> (i64, Cursor) {
        let key = format!("{} {:?} {order:?}", kind.name, kind.filter.since);
        if let Some(known) = self.deep.get(&key) {
            return known.clone();
        }
        let events = format!(
            "SELECT count(*) FROM audit_logs WHERE {}",
            condition(&self.raw, &kind.filter)
        );
        let skipped = (999 * i64::from(PAGE))
            .min(self.raw.number(&events).await * 9 / 10)
            .max(1);
        let (ids, cursor) = behind(&self.raw, &kind.filter, order, skipped, PAGE).await;
        let page = PageRequest::first(PAGE, order).unwrap().after(cursor.clone());
        let listed = store.audit().list(&kind.filter, &page).await.unwrap();
        let listed: Vec<_> = listed.items.iter().map(|entry| entry.id).collect();
        if kind.yields == FETCHED {
            assert_eq!(listed, ids, "{key}");
        } else {
            // It comes back short where it has looked at its 5,000.
            assert!(ids.starts_with(&listed), "{key}");
        }
        self.deep.insert(key, (skipped, cursor.clone()));
        (skipped, cursor)
    }

    /// What the first and a deep page of a filter cost in both orders.
    async fn pages(&mut self, store: &Store, kind: &Kind, what: &str) {
        for order in [Order::NewestFirst, Order::OldestFirst] {
            let (skipped, cursor) = self.deep(store, kind, order).await;
            let what = format!("{what}, {order:?}");
            let page = PageRequest::first(PAGE, order).unwrap();
            let first = self.cost(store, kind, &page, &format!("{what}, first page")).await;
            let page = page.after(cursor);
            let far = self
                .cost(store, kind, &page, &format!("{what}, behind {skipped}"))
                .await;
            // Of a scan both pages look at as many events, which lie in as many places as they happen to.
            let more = kind.walks * self.partitions.len() as u64 * EACH_PARTITION + kind.yields / IN_A_LEAF;
            if far > first + more {
                let line = format!(
                    "{}, {what}: {far} buffers behind {skipped}, {first} at the beginning",
                    kind.name
                );
                self.wrong.push(line);
            }
        }
    }
}

async fn partitions(raw: &Raw) -> Vec<String> {
    raw.texts("SELECT CAST(relid AS text) FROM pg_partition_tree('audit_logs') WHERE isleaf")
        .await
}

async fn every_filter_costs_the_same_at_any_depth(db: TestDb) {
    let raw = db.raw().await;
    fill(&raw).await;
    let big = condition(&raw, &AuditFilter::of_room(room(BIG)));
    assert!(
        raw.number(&format!("SELECT count(*) FROM audit_logs WHERE {big}"))
            .await
            >= 1_000 * i64::from(PAGE)
    );
    let begins: DateTime<Utc> = raw.rows(BOUNDARY).await[0].try_get_by_index(0).unwrap();
    let mut explaining = Explaining {
        partitions: partitions(&raw).await,
        raw,
        deep: HashMap::new(),
        generic: None,
        wrong: Vec::new(),
    };
    let name = db.url.rsplit('/').next().unwrap().split('?').next().unwrap();
    let generic = format!("ALTER DATABASE {name} SET plan_cache_mode = force_generic_plan");
    for plans in ["custom", "generic"] {
        if plans == "generic" {
            explaining.raw.run(&generic).await;
            // What others have read is counted when their connections are closed.
            db.store.clone().close().await.unwrap();
            explaining.raw.db.close().await.unwrap();
            explaining.raw = one_connection(&db.url).await;
            alone(&explaining.raw).await;
            explaining.generic = Some(db.url.clone());
        }
        for mut kind in kinds() {
            explaining.pages(&db.store, &kind, plans).await;
            kind.filter.since = Some(begins - TimeDelta::days(40));
            kind.filter.until = Some(begins + TimeDelta::days(200));
            explaining.pages(&db.store, &kind, &format!("{plans}, window")).await;
        }
    }
    // Years later: what a page costs grows by the partitions alone.
    explaining.generic = None;
    explaining.raw.run(&months(9, 58)).await;
    explaining.partitions = partitions(&explaining.raw).await;
    assert_eq!(explaining.partitions.len(), 61);
    let store = db.store_with(crate::harness::settings()).await;
    for kind in kinds() {
        explaining.pages(&store, &kind, "60 partitions").await;
    }
    assert!(explaining.wrong.is_empty(), "{}", explaining.wrong.join("\n"));
}
