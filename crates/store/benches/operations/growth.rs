//! What costs grow with: stays that are over, events of the audit log, its months. One client; sizes in turns.

use std::time::Instant;

use conferencing_migration::{Migrator, MigratorTrait};
use conferencing_store::entity::{ParticipantRole, RoomId, UserId};
use conferencing_store::{Actor, AuditFilter, Order, PageRequest, Store, StoreSettings};
use sea_orm::ConnectionTrait;

use crate::calls::{requesting, trail};
use crate::contestants::{Server, number};
use crate::measure::{Rounds, header, row};
use crate::plot::{Line, Panel, svg};
use crate::seed::{self, PRESENT};
use crate::subject::Kind;
use crate::worker::open;

#[derive(Clone, Copy)]
pub struct Growth {
    /// Stays in a room, and in how many rooms, so that those that are added do not count.
    stays: &'static [(u64, u64)],
    events: &'static [u64],
    months: &'static [u64],
    /// In all months together.
    events_of_months: u64,
    repeats: usize,
    /// Where it is drawn, from this package's folder, which is where cargo runs benchmarks.
    drawing: &'static str,
}

pub const FULL: Growth = Growth {
    stays: &[(10, 50), (1_000, 5), (100_000, 1)],
    events: &[1_000, 10_000, 100_000, 1_000_000],
    months: &[12, 60],
    events_of_months: 200_000,
    repeats: 201,
    drawing: "../../docs/cost.svg",
};

pub const LARGE: Growth = Growth {
    events: &[1_000, 10_000, 100_000, 1_000_000, 10_000_000],
    ..FULL
};

/// Shows that everything runs, and nothing else.
pub const QUICK: Growth = Growth {
    stays: &[(10, 5), (1_000, 1)],
    events: &[1_000, 10_000],
    months: &[4, 12],
    events_of_months: 20_000,
    repeats: 11,
    drawing: "../../target/cost.svg",
};

/// Of each page.
const PAGE: u16 = 50;

/// A number of rows, the times of each thing that was done, in milliseconds.
struct Size {
    rows: u64,
    times: Vec<Rounds>,
}

pub async fn measure(growth: Growth) {
    let server = Server::new().await;
    server.execute("CREATE DATABASE growth").await;
    let url = server.url("growth");
    let db = open(&url, 2).await;
    Migrator::up(&db, None).await.unwrap();
    seed::people(&db).await;
    db.close().await.unwrap();
    let panels = [
        stays(&server, growth).await,
        events(&server, growth).await,
        months(&server, growth).await,
    ];
    std::fs::write(growth.drawing, svg(&panels)).unwrap();
    eprintln!("  drawn: {}", growth.drawing);
}

/// A copy of the database that has people only, and a store of one connection on it.
async fn copy(server: &Server, name: &str) -> (Store, sea_orm::DatabaseConnection) {
    server.execute(&format!("CREATE DATABASE {name} TEMPLATE growth")).await;
    let db = open(&server.url(name), 1).await;
    let store = Store::from_connection(db.clone(), StoreSettings::default())
        .await
        .unwrap();
    (store, db)
}

fn millis(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1_000.0
}

fn print(what: &str, names: &[&str], sizes: &[Size]) {
    let mut titles = vec![format!("ms, {what}")];
    titles.extend(sizes.iter().map(|size| size.rows.to_string()));
    titles.push("most / least".to_owned());
    header(&titles.iter().map(String::as_str).collect::<Vec<_>>());
    for (place, name) in names.iter().enumerate() {
        let medians: Vec<f64> = sizes.iter().map(|size| size.times[place].median()).collect();
        let mut cells = vec![(*name).to_owned()];
        cells.extend(medians.iter().map(|median| format!("{median:.2}")));
        let least = medians.iter().copied().fold(f64::INFINITY, f64::min);
        let most = medians.iter().copied().fold(0.0, f64::max);
        cells.push(format!("{:.2}", most / least));
        row(&cells.iter().map(String::as_str).collect::<Vec<_>>());
    }
}

fn panel(title: &str, across: &str, names: &[&str], sizes: &[Size]) -> Panel {
    #[expect(clippy::cast_precision_loss, reason = "for show")]
    let line = |(place, name): (usize, &&str)| Line {
        name: (*name).to_owned(),
        points: sizes
            .iter()
            .map(|size| (size.rows as f64, size.times[place].median()))
            .collect(),
    };
    Panel {
        title: title.to_owned(),
        across: across.to_owned(),
        lines: names.iter().enumerate().map(line).collect(),
    }
}

async fn stays(server: &Server, growth: Growth) -> Panel {
    const NAMES: [&str; 4] = ["join", "leave", "list 20 present", "room by code, 20 present"];
    eprintln!("  stays");
    let (store, db) = copy(server, "growth_stays").await;
    let mut sizes = Vec::new();
    let mut first = 0;
    for (past, rooms) in growth.stays {
        seed::rooms_with_past(&db, first, first + rooms, *past).await;
        let times = vec![Rounds::default(); NAMES.len()];
        sizes.push((first, *rooms, Size { rows: *past, times }));
        first += rooms;
    }
    server.execute("CHECKPOINT").await;
    let page = PageRequest::first(PAGE, Order::OldestFirst).unwrap();
    for turn in 0..growth.repeats as u64 {
        for (first, rooms, size) in &mut sizes {
            let number = *first + turn % *rooms;
            let room = RoomId::from_uuid(Kind::CodedRoom.uuid(number));
            // Nobody who is present: those came last, as the users from `past % USERS` on.
            let user = UserId::from_uuid(Kind::User.uuid(5_000 + turn));
            let acting = store.acting(&requesting(Actor::user(user)));
            let begun = Instant::now();
            let role = ParticipantRole::Participant;
            acting.participants().join(room, user, role).await.unwrap();
            size.times[0].push(millis(begun));
            let begun = Instant::now();
            acting.participants().leave(room, user).await.unwrap();
            size.times[1].push(millis(begun));
            let begun = Instant::now();
            let present = store.participants().list_present(room, &page).await.unwrap().items;
            size.times[2].push(millis(begun));
            let begun = Instant::now();
            let found = store
                .rooms()
                .find_overview(&format!("C{number}"))
                .await
                .unwrap()
                .unwrap();
            size.times[3].push(millis(begun));
            assert_eq!((present.len() as u64, found.present.len() as u64), (PRESENT, PRESENT));
        }
    }
    let sizes: Vec<Size> = sizes.into_iter().map(|(.., size)| size).collect();
    print("past stays of the room", &NAMES, &sizes);
    panel("A room's past", "past stays of the room", &NAMES, &sizes)
}

const PAGES: [&str; 2] = ["page of a room", "page before a time"];

/// A store whose audit log is read, and where its middle is.
struct Log {
    store: Store,
    middle: AuditFilter,
    size: Size,
}

async fn log(server: &Server, name: &str, rows: u64, begin: &str, span: &str, months: u64, events: u64) -> Log {
    eprintln!("  {name}");
    let (store, db) = copy(server, name).await;
    if months > 0 {
        db.execute_unprepared(&attach(months)).await.unwrap();
    }
    seed::audit_log(&db, events, begin, span).await;
    let micros = number(&db, &format!("extract(epoch FROM {begin} + {span} / 2) * 1000000")).await;
    #[expect(clippy::cast_possible_truncation, reason = "a time")]
    let middle = AuditFilter {
        until: chrono::DateTime::from_timestamp_micros(micros as i64),
        ..AuditFilter::default()
    };
    let times = vec![Rounds::default(); PAGES.len()];
    let size = Size { rows, times };
    Log { store, middle, size }
}

async fn read(logs: &mut [Log], repeats: usize) {
    let page = PageRequest::first(PAGE, Order::NewestFirst).unwrap();
    for _ in 0..repeats {
        for log in logs.iter_mut() {
            for (place, filter) in [trail(), log.middle.clone()].iter().enumerate() {
                let begun = Instant::now();
                let found = log.store.audit().list(filter, &page).await.unwrap();
                log.size.times[place].push(millis(begun));
                assert_eq!(found.items.len(), usize::from(PAGE));
            }
        }
    }
}

async fn events(server: &Server, growth: Growth) -> Panel {
    let mut logs = Vec::new();
    for count in growth.events {
        let name = format!("growth_events_{count}");
        let (begin, span) = ("now() - interval '30 days'", "interval '29 days'");
        logs.push(log(server, &name, *count, begin, span, 0, *count).await);
    }
    server.execute("CHECKPOINT").await;
    read(&mut logs, growth.repeats).await;
    let sizes: Vec<Size> = logs.into_iter().map(|log| log.size).collect();
    print("events of the audit log, 50 in a page", &PAGES, &sizes);
    panel("The audit log", "events", &PAGES, &sizes)
}

async fn months(server: &Server, growth: Growth) -> Panel {
    let mut logs = Vec::new();
    for months in growth.months {
        let name = format!("growth_months_{months}");
        let span = format!("interval '{months} months'");
        logs.push(
            log(
                server,
                &name,
                *months,
                FIRST_MONTH,
                &span,
                *months,
                growth.events_of_months,
            )
            .await,
        );
    }
    read(&mut logs, growth.repeats).await;
    let sizes: Vec<Size> = logs.into_iter().map(|log| log.size).collect();
    print("monthly partitions", &PAGES, &sizes);
    panel("The audit log's months", "monthly partitions", &PAGES, &sizes)
}

/// When the first of the monthly partitions begins: the migration makes those that are to come.
const FIRST_MONTH: &str = "(SELECT to_timestamp(min(relname), '\"audit_logs_\"YYYY_MM') FROM pg_class
    WHERE relkind = 'r' AND relname ~ '^audit_logs_[0-9]{4}_[0-9]{2}$')";

/// Makes monthly partitions until there are so many.
fn attach(months: u64) -> String {
    format!(
        "SET timezone = 'UTC'; DO $$ DECLARE month timestamptz := {FIRST_MONTH}; BEGIN
            FOR ahead IN 1..{months} LOOP
                PERFORM attach_audit_partition(to_char(month, '\"audit_logs_\"YYYY_MM'), month, month + interval '1 month');
                month := month + interval '1 month';
            END LOOP;
        END $$"
    )
}
