//! Tasks that append to a room's audit log without a pause, and enter what becomes of each append.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use conferencing_store::entity::{AuditLogId, RoomId};
use conferencing_store::{Actor, Observation, Result, Store};
use tokio::sync::watch;

use crate::PATIENCE;
use crate::ledger::Ledger;

/// What is on trial: appends an event with this text, and returns its id once it must survive a crash.
pub type Append = Arc<dyn Fn(String) -> Pin<Box<dyn Future<Output = Result<AuditLogId>> + Send>> + Send + Sync>;

/// `audit().append`, a unit of work for each event.
pub fn one_by_one(store: &Store, room: RoomId) -> Append {
    let acting = store.acting(&Actor::system("test"));
    Arc::new(move |text| {
        let acting = acting.clone();
        Box::pin(async move { acting.audit().append(Some(room), observation(text)).await })
    })
}

/// The event with which the texts are appended; `ledger` finds them by it.
pub fn observation(text: String) -> Observation {
    Observation::ProducerClosed { producer_id: text }
}

/// What the tasks share.
pub struct Run {
    append: Append,
    ledger: Mutex<Ledger>,
    acknowledged: watch::Sender<usize>,
    over: Arc<AtomicBool>,
}

impl Run {
    /// Until it is `over`.
    pub fn of(append: Append, over: Arc<AtomicBool>) -> Self {
        Self {
            append,
            ledger: Mutex::default(),
            acknowledged: watch::Sender::new(0),
            over,
        }
    }

    /// Appends one event after the other, each with a text of its own, whatever becomes of them.
    pub async fn append(&self, task: usize) {
        for number in 0.. {
            if self.over.load(Ordering::SeqCst) {
                return;
            }
            let text = format!("{task}-{number}");
            let outcome = (self.append)(text.clone()).await;
            let mut ledger = self.ledger.lock().unwrap();
            ledger.enter(text, outcome);
            self.acknowledged.send_replace(ledger.acknowledged());
        }
    }

    /// Waits until so many more than now were acknowledged.
    pub async fn more(&self, events: usize) {
        let target = *self.acknowledged.borrow() + events;
        let mut seen = self.acknowledged.subscribe();
        let waited = tokio::time::timeout(PATIENCE, seen.wait_for(|count| *count >= target)).await;
        if waited.is_err() {
            let ledger = self.ledger.lock().unwrap();
            panic!(
                "nothing is acknowledged any more, after {} and {:?}",
                ledger.acknowledged(),
                ledger.errors()
            );
        }
    }

    /// What was entered.
    pub fn take_ledger(&self) -> Ledger {
        std::mem::take(&mut *self.ledger.lock().unwrap())
    }
}
