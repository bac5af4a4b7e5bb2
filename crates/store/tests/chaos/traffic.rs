//! What the tasks do: appends, joins, leaves, units and reads, some of which are dropped half way.

use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Poll;

use conferencing_store::entity::ParticipantRole::Participant;
use conferencing_store::entity::{AuditLogId, RoomId, UserId};
use conferencing_store::{
    Actor, AuditFilter, AuditWriter, Error, Observation, Order, PageRequest, Rejected, Result, Store,
};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::ledger::Ledger;

/// What all tasks together have seen.
#[derive(Default)]
pub struct Report {
    pub ledger: Ledger,
    /// Calls that were made, dropped ones included.
    pub calls: u64,
    /// Calls that were dropped before they ended.
    pub dropped: u64,
    /// Of users whose calls were never dropped: how often they came and went.
    pub visits: BTreeMap<UserId, Visits>,
    /// What no caller may see here, appends aside: the ledger has theirs.
    pub faults: Vec<String>,
}

#[derive(Clone, Copy, Default)]
pub struct Visits {
    pub joins: i64,
    pub leaves: i64,
}

/// One task, whose calls come one after the other.
pub struct Task {
    pub number: u64,
    pub store: Store,
    pub writer: AuditWriter,
    pub room: RoomId,
    /// Comes and goes, and is waited for each time.
    pub patient: UserId,
    /// Comes and goes, and may be dropped.
    pub hasty: UserId,
    pub report: Arc<Mutex<Report>>,
    pub over: Arc<AtomicBool>,
}

impl Task {
    pub async fn work(self, seed: u64) {
        let mut random = StdRng::seed_from_u64(seed.wrapping_add(self.number));
        let mut is_in = false;
        let mut next = 0;
        while !self.over.load(Ordering::SeqCst) {
            next += 1;
            self.report.lock().unwrap().calls += 1;
            let text = format!("{}-{next}", self.number);
            // Of the calls that may be, one in four is dropped, after so many looks at it.
            let looks = random.random_bool(0.25).then(|| random.random_range(1..6));
            match random.random_range(0..100) {
                0..25 => self.append(text, looks).await,
                25..40 => self.write(text, looks).await,
                40..55 => self.append_two(text, looks).await,
                55..75 => {
                    self.come_or_go(is_in).await;
                    is_in = !is_in;
                }
                75..85 => self.come_or_go_in_haste(random.random_bool(0.5), looks).await,
                _ => self.read(random.random_range(0..3), looks).await,
            }
        }
    }

    async fn append(&self, text: String, looks: Option<usize>) {
        let acting = self.store.acting(&self.actor());
        let outcome = dropped_after(acting.audit().append(Some(self.room), observation(&text)), looks).await;
        self.enter(vec![text], outcome.map(|done| done.map(|id| vec![id])));
    }

    async fn write(&self, text: String, looks: Option<usize>) {
        let (actor, room) = (self.actor(), Some(self.room));
        let outcome = dropped_after(self.writer.append(&actor, room, observation(&text)), looks).await;
        self.enter(vec![text], outcome.map(|done| done.map(|id| vec![id])));
    }

    /// A unit of two appends: both are there, or neither.
    async fn append_two(&self, text: String, looks: Option<usize>) {
        let texts = ["a", "b"].map(|half| format!("pair-{text}-{half}"));
        let (actor, room) = (self.actor(), Some(self.room));
        let work = self.store.transact(&actor, |unit| {
            let [first, second] = texts.each_ref().map(|text| observation(text));
            async move {
                let first = unit.audit().append(room, first).await?;
                let second = unit.audit().append(room, second).await?;
                Ok::<_, Error>(vec![first, second])
            }
        });
        let outcome = dropped_after(work, looks).await;
        self.enter(texts.to_vec(), outcome);
    }

    async fn come_or_go(&self, is_in: bool) {
        let acting = self.store.acting(&self.actor());
        let done = if is_in {
            acting.participants().leave(self.room, self.patient).await
        } else {
            acting.participants().join(self.room, self.patient, Participant).await
        };
        let mut report = self.report.lock().unwrap();
        match done {
            Ok(_) => {
                let visits = report.visits.entry(self.patient).or_default();
                *if is_in { &mut visits.leaves } else { &mut visits.joins } += 1;
            }
            Err(error) => report.faults.push(format!("come or go: {error:?}")),
        }
    }

    async fn come_or_go_in_haste(&self, goes: bool, looks: Option<usize>) {
        let acting = self.store.acting(&self.actor());
        let done = if goes {
            dropped_after(acting.participants().leave(self.room, self.hasty), looks).await
        } else {
            dropped_after(acting.participants().join(self.room, self.hasty, Participant), looks).await
        };
        self.note("come or go in haste", done);
    }

    async fn read(&self, which: usize, looks: Option<usize>) {
        let page = PageRequest::first(20, Order::NewestFirst).unwrap();
        match which {
            0 => {
                let done = dropped_after(self.store.rooms().get(self.room), looks).await;
                self.note("get a room", done);
            }
            1 => {
                let done = dropped_after(self.store.participants().list_present(self.room, &page), looks).await;
                self.note("list who is present", done);
            }
            _ => {
                let filter = AuditFilter::of_room(self.room);
                let done = dropped_after(self.store.audit().list(&filter, &page), looks).await;
                self.note("list the audit log", done);
            }
        }
    }

    fn actor(&self) -> Actor {
        Actor::system("chaos")
    }

    fn enter(&self, texts: Vec<String>, outcome: Option<Result<Vec<AuditLogId>>>) {
        let mut report = self.report.lock().unwrap();
        match outcome {
            Some(Ok(ids)) => {
                for (text, id) in texts.into_iter().zip(ids) {
                    report.ledger.acknowledge(id, text);
                }
            }
            Some(Err(error)) => {
                for text in texts {
                    report.ledger.enter(text, Err(error.clone()));
                }
            }
            None => {
                report.dropped += 1;
                for text in texts {
                    report.ledger.leave_open(text);
                }
            }
        }
    }

    /// A refusal is an answer: nobody knows what became of the dropped call before.
    fn note<T>(&self, what: &str, outcome: Option<Result<T>>) {
        let mut report = self.report.lock().unwrap();
        match outcome {
            None => report.dropped += 1,
            Some(Ok(_) | Err(Error::Rejected(Rejected::NotPresent { .. } | Rejected::AlreadyPresent { .. }))) => {}
            Some(Err(error)) => report.faults.push(format!("{what}: {error:?}")),
        }
    }
}

fn observation(text: &str) -> Observation {
    Observation::ProducerClosed {
        producer_id: text.to_owned(),
    }
}

/// Polls so many times and drops it then; without a number to the end. None: it was dropped.
async fn dropped_after<F: Future>(future: F, looks: Option<usize>) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut left = looks;
    poll_fn(|context| {
        match &mut left {
            Some(0) => return Poll::Ready(None),
            Some(left) => *left -= 1,
            None => {}
        }
        future.as_mut().poll(context).map(Some)
    })
    .await
}
