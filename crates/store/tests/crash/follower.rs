//! Another process follows the room by the feed all the while, and hears of each event once, kicks included. The process is this very
//! program, started once more with a variable that names the room.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::pin::pin;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use conferencing_store::entity::ParticipantRole::Participant;
use conferencing_store::entity::{AuditAction, AuditLogId, RecordedAction, RoomId, UserId, audit_log};
use conferencing_store::{Actor, Error, FeedFilter, FeedPosition, Store, StoreSettings};
use futures_util::TryStreamExt;
use sea_orm::{ColumnTrait, DatabaseConnection, EntityTrait, QueryFilter};
use tokio::sync::watch;

use crate::PATIENCE;

/// Names the room, the position and, last, the database's address.
const VARIABLE: &str = "CRASH_TEST_FOLLOWER";

/// What the following process does, if this is it.
pub async fn follow(orders: String) -> ExitCode {
    let mut orders = orders.splitn(3, ' ');
    let mut next = || orders.next().unwrap().to_owned();
    let room: RoomId = next().parse().unwrap();
    let mut position: FeedPosition = next().parse().unwrap();
    let store = Store::connect_with(&next(), StoreSettings::default()).await.unwrap();
    loop {
        let events = store
            .feed()
            .subscribe(FeedFilter::of_room(room), Some(position.clone()))
            .await;
        let mut events = pin!(events.unwrap());
        loop {
            match events.try_next().await {
                Ok(Some(event)) => {
                    let mut out = std::io::stdout().lock();
                    if writeln!(out, "{}", event.entry.id).and_then(|()| out.flush()).is_err() {
                        return ExitCode::SUCCESS;
                    }
                    position = event.position;
                }
                // It goes on from where it was.
                Err(Error::SlowSubscriber { .. }) => break,
                other => {
                    eprintln!("the feed has ended: {other:?}");
                    return ExitCode::FAILURE;
                }
            }
        }
    }
}

/// The orders, in the process that follows.
pub fn orders_of_environment() -> Option<String> {
    std::env::var(VARIABLE).ok()
}

/// The other process, and what it has said.
pub struct Follower {
    child: Child,
    heard: Arc<Mutex<Vec<AuditLogId>>>,
    count: watch::Receiver<usize>,
    room: RoomId,
    before: BTreeSet<AuditLogId>,
}

impl Follower {
    /// Follows from now on. `db` is the database at `url`.
    pub async fn start(url: &str, db: &DatabaseConnection, room: RoomId) -> Self {
        let before = events(db, room).await.into_iter().map(|row| row.id).collect();
        let store = Store::connect_with(url, StoreSettings::default()).await.unwrap();
        let position = store.feed().now().await.unwrap();
        store.close().await.unwrap();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .env(VARIABLE, format!("{room} {position} {url}"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (heard, (told, count)) = (Arc::new(Mutex::new(Vec::new())), watch::channel(0));
        let (lines, ids) = (BufReader::new(child.stdout.take().unwrap()).lines(), Arc::clone(&heard));
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let mut ids = ids.lock().unwrap();
                ids.push(line.parse().unwrap());
                told.send_replace(ids.len());
            }
        });
        Self {
            child,
            heard,
            count,
            room,
            before,
        }
    }

    /// Holds what was heard against the audit log, once nothing is appended any more. Returns how many events and kicks there were.
    pub async fn heard_all(mut self, db: &DatabaseConnection) -> (usize, usize) {
        let rows = events(db, self.room).await;
        let new: Vec<_> = rows.iter().filter(|row| !self.before.contains(&row.id)).collect();
        let all = new.len();
        let waited = tokio::time::timeout(PATIENCE, self.count.wait_for(|count| *count >= all)).await;
        let heard = self.heard.lock().unwrap().clone();
        assert!(waited.is_ok(), "{} of {all} events were heard", heard.len());
        let once: BTreeSet<_> = heard.iter().copied().collect();
        assert_eq!(once.len(), heard.len(), "events were heard twice");
        assert_eq!(once, new.iter().map(|row| row.id).collect());
        let kicked = RecordedAction::Known(AuditAction::UserKicked);
        (all, new.iter().filter(|row| row.action == kicked).count())
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn events(db: &DatabaseConnection, room: RoomId) -> Vec<audit_log::Model> {
    let of_room = audit_log::Entity::find().filter(audit_log::Column::RoomId.eq(room));
    of_room.all(db).await.unwrap()
}

/// Somebody comes into the room and is put out again, as often as the database lets them, until it is `over`.
pub async fn kick_for_ever(store: Store, room: RoomId, user: UserId, over: Arc<AtomicBool>) {
    let system = store.acting(&Actor::system("moderator"));
    while !over.load(Ordering::SeqCst) {
        // Where the server is away, both fail; a seat that was taken all the same is left by the next kick.
        let _ = system.participants().join(room, user, Participant).await;
        let _ = system.participants().kick(room, user, None).await;
        tokio::task::yield_now().await;
    }
}
