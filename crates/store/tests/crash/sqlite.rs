//! The process that has the file open is killed, and another one opens the file. The process is this very program, started
//! once more with a variable that names the file.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use conferencing_store::entity::RoomId;
use conferencing_store::{Store, StoreSettings};
use sea_orm::{ConnectionTrait, DbBackend, Statement};

use crate::appending::Append;
use crate::follower::{Follower, kick_for_ever};
use crate::ledger::{Ledger, raw};
use crate::{CASES, Case, EVENTS_A_ROUND, ROUNDS, TASKS, prepare};

/// Names the case, the round, the room and, last, the database's address.
const VARIABLE: &str = "CRASH_TEST_CHILD";

/// What the process does that is to be killed.
pub struct Child {
    case: Case,
    round: usize,
    room: RoomId,
    url: String,
}

impl Child {
    /// None in the process that kills.
    pub fn of_environment() -> Option<Self> {
        let orders = std::env::var(VARIABLE).ok()?;
        let mut orders = orders.splitn(4, ' ');
        let mut next = || orders.next().unwrap();
        let name = next();
        Some(Self {
            case: *CASES.iter().find(|case| case.name == name).unwrap(),
            round: next().parse().unwrap(),
            room: next().parse().unwrap(),
            url: next().to_owned(),
        })
    }

    fn start(&self) -> std::process::Child {
        let orders = format!("{} {} {} {}", self.case.name, self.round, self.room, self.url);
        Command::new(std::env::current_exe().unwrap())
            .env(VARIABLE, orders)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap()
    }

    /// Appends from many tasks. Says of each append that it begins, and under which id it was acknowledged. Ends by itself
    /// only when one fails or when nobody listens any more.
    pub async fn append_until_killed(self) -> ExitCode {
        let store = Store::connect_with(&self.url, StoreSettings::default()).await.unwrap();
        let append = (self.case.appends)(&store, self.room);
        let mut tasks = tokio::task::JoinSet::new();
        for task in 0..TASKS {
            tasks.spawn(append_for_ever(append.clone(), format!("{}-{task}", self.round)));
        }
        let first = tasks.join_next().await.unwrap();
        eprintln!("the process to be killed ended by itself: {first:?}");
        ExitCode::FAILURE
    }
}

async fn append_for_ever(append: Append, prefix: String) -> String {
    for number in 0.. {
        let text = format!("{prefix}-{number}");
        if let Err(error) = say(&format!("begun {text}\n")) {
            return error.to_string();
        }
        match append(text.clone()).await {
            Ok(id) => {
                if let Err(error) = say(&format!("acknowledged {text} {id}\n")) {
                    return error.to_string();
                }
            }
            Err(error) => return format!("{error:?}"),
        }
    }
    unreachable!()
}

/// In one piece, so that the kill does not cut it: a pipe takes so little at once or not at all.
fn say(line: &str) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(line.as_bytes())?;
    out.flush()
}

/// What a child said, until it was killed.
#[derive(Default)]
struct Heard {
    begun: BTreeSet<String>,
    acknowledged: usize,
}

impl Heard {
    fn line(&mut self, line: &str, ledger: &mut Ledger) {
        let words: Vec<_> = line.split(' ').collect();
        match words[..] {
            ["begun", text] => {
                self.begun.insert(text.to_owned());
            }
            ["acknowledged", text, id] => {
                assert!(self.begun.remove(text), "{text} was acknowledged before it began");
                ledger.acknowledge(id.parse().unwrap(), text.to_owned());
                self.acknowledged += 1;
            }
            _ => panic!("{line:?}"),
        }
    }
}

/// Runs the case.
pub async fn crash(case: Case) {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}?mode=rwc", folder.path().join("crash.sqlite").display());
    let (room, user) = prepare(&url).await;
    let follower = Follower::start(&url, &raw(&url).await, room).await;
    let store = Store::connect_with(&url, StoreSettings::default()).await.unwrap();
    let over: Arc<AtomicBool> = Arc::default();
    let moderator = tokio::spawn(kick_for_ever(store.clone(), room, user, Arc::clone(&over)));
    let mut ledger = Ledger::default();
    for round in 0..ROUNDS {
        let orders = Child {
            case,
            round,
            room,
            url: url.clone(),
        };
        tokio::task::block_in_place(|| kill_after(EVENTS_A_ROUND, &orders, &mut ledger));
    }
    over.store(true, Ordering::SeqCst);
    moderator.await.unwrap();
    store.close().await.unwrap();
    eprintln!("{} acknowledged", ledger.acknowledged());
    let db = raw(&url).await;
    ledger.assert_is_what_the_audit_log_has(&db).await;
    let (events, kicks) = follower.heard_all(&db).await;
    eprintln!("{events} events were heard by another process, {kicks} of them kicks");
    assert!(kicks > 0);
    let check = Statement::from_string(DbBackend::Sqlite, "PRAGMA integrity_check");
    let row = db.query_one_raw(check).await.unwrap().unwrap();
    assert_eq!(row.try_get_by_index::<String>(0).unwrap(), "ok");
    db.close().await.unwrap();
}

/// Starts a child, kills it once so many events were acknowledged, and enters what it said, up to its last word.
fn kill_after(events: usize, orders: &Child, ledger: &mut Ledger) {
    let mut child = orders.start();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut heard = Heard::default();
    while heard.acknowledged < events {
        let line = lines.next().expect("the child ended by itself").unwrap();
        heard.line(&line, ledger);
    }
    child.kill().unwrap();
    for line in lines {
        heard.line(&line.unwrap(), ledger);
    }
    let status = child.wait().unwrap();
    assert_eq!(status.code(), None, "it was not the kill that ended it");
    assert!(heard.begun.len() <= TASKS, "{:?}", heard.begun);
    for text in heard.begun {
        ledger.leave_open(text);
    }
}
