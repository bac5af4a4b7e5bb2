//! Takes events from the queue and writes them. Several lanes share one queue.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use entity::{AuditLogId, RoomId, UserId};
use sea_orm::DbErr;
use tokio::sync::{Mutex, mpsc, oneshot, watch};

use super::WriterSettings;
use super::stats::Tally;
use crate::actor::Actor;
use crate::audit::batch::{self as sql, AppendedIds};
use crate::audit::{PreparedEvent, missing_reference};
use crate::clock;
use crate::context::Context;
use crate::database::fault;
use crate::error::{Error, Result};
use crate::operation::Plan;
use crate::operation::{Moment, Operation};
use crate::unit::{Acting, Attempt, Reach, Sink};

/// The first pause before a batch is tried again; each further one may be twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(5);

/// An event that waits, and who waits for it. It is answered once, at the latest when it is dropped.
#[derive(Debug)]
pub(super) struct Queued {
    event: PreparedEvent,
    reply: Option<oneshot::Sender<Result<AuditLogId>>>,
    since: Instant,
    /// It was sent to the database, which has not said what became of it.
    in_doubt: bool,
}

impl Queued {
    pub(super) fn new(event: PreparedEvent, reply: oneshot::Sender<Result<AuditLogId>>, since: Instant) -> Self {
        Self {
            event,
            reply: Some(reply),
            since,
            in_doubt: false,
        }
    }

    fn answer(mut self, result: Result<AuditLogId>) {
        self.send(result);
    }

    fn send(&mut self, result: Result<AuditLogId>) {
        if let Some(reply) = self.reply.take() {
            // Nobody need be waiting.
            let _ = reply.send(result);
        }
    }
}

impl Drop for Queued {
    fn drop(&mut self) {
        let error = if self.in_doubt {
            Error::Indeterminate {
                during: "audit_writer.append",
            }
        } else {
            Error::Aborted {
                reason: "the audit writer ended before the event was written",
            }
        };
        self.send(Err(error));
    }
}

/// Shared by the lanes: the last of them that goes tells what was left.
#[derive(Debug)]
pub(super) struct Ending {
    tally: Arc<Tally>,
    end: watch::Sender<bool>,
}

impl Ending {
    pub(super) fn new(tally: Arc<Tally>, end: watch::Sender<bool>) -> Self {
        Self { tally, end }
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        let unwritten = self.tally.abandon();
        if unwritten > 0 {
            tracing::error!(unwritten, "the audit writer ended before all events were written");
        }
        self.end.send_replace(true);
    }
}

pub(super) struct Lane {
    pub(super) context: Context,
    pub(super) settings: WriterSettings,
    pub(super) waiting: Arc<Mutex<mpsc::Receiver<Queued>>>,
    pub(super) closing: watch::Receiver<bool>,
    pub(super) tally: Arc<Tally>,
    /// The last field: the events of a lane are answered before the end is announced.
    pub(super) ending: Arc<Ending>,
}

impl Lane {
    pub(super) async fn run(mut self) {
        loop {
            let batch = self.take().await;
            if batch.is_empty() {
                break;
            }
            self.write(batch).await;
        }
        drop(self.ending);
    }

    /// The next batch; empty when nothing will come any more. One lane takes at a time, while the others write.
    async fn take(&mut self) -> Vec<Queued> {
        let limit = usize::from(self.settings.batch);
        let mut waiting = self.waiting.lock().await;
        let mut batch = Vec::new();
        if !waiting.is_closed() {
            tokio::select! {
                _ = waiting.recv_many(&mut batch, limit) => {}
                _ = self.closing.wait_for(|closing| *closing) => {}
            }
        }
        if *self.closing.borrow() {
            waiting.close();
        }
        if batch.is_empty() {
            // Closed: there is what was taken before, or nothing.
            waiting.recv_many(&mut batch, limit).await;
            return batch;
        }
        let full = async {
            while batch.len() < limit {
                let room = limit - batch.len();
                if waiting.recv_many(&mut batch, room).await == 0 {
                    break;
                }
            }
        };
        // No matter if time runs out: what was received is in the batch.
        let _ = tokio::time::timeout(self.settings.linger, full).await;
        batch
    }

    /// Writes a batch, however often it takes. One that the database refuses for its rows is halved until it is clear which event is to
    /// blame; for any other reason it is tried again whole.
    async fn write(&self, batch: Vec<Queued>) {
        let mut parts = vec![batch];
        let mut pause = FIRST_PAUSE;
        while let Some(mut part) = parts.pop() {
            for queued in &mut part {
                queued.in_doubt = true;
            }
            match self.append(&part).await {
                Ok(outcome) => {
                    pause = FIRST_PAUSE;
                    let undecided = self.settle(part, outcome);
                    if !undecided.is_empty() {
                        parts.push(undecided);
                    }
                }
                Err(error) if fault::blames_the_rows(self.context.dialect(), &error) => {
                    if part.len() > 1 {
                        let second = part.split_off(part.len() / 2);
                        parts.extend([second, part]);
                        continue;
                    }
                    for queued in part {
                        self.tally.refuse();
                        queued.answer(Err(error.clone()));
                    }
                }
                Err(error) => {
                    self.tally.retry();
                    tracing::warn!(%error, events = part.len(), "a batch of audit events is tried again");
                    let micros = u64::try_from(pause.as_micros()).unwrap_or(u64::MAX);
                    tokio::time::sleep(pause / 2 + Duration::from_micros(clock::jitter(micros / 2))).await;
                    pause = Ord::min(pause * 2, self.settings.longest_pause);
                    parts.push(part);
                }
            }
        }
    }

    /// Appends a batch, and finds out what became of those events that it did not append.
    async fn append(&self, batch: &[Queued]) -> Result<Outcome> {
        let acting = Acting::new(self.context.clone(), Actor::system("audit writer"));
        let failed = |error: DbErr| acting.failed(&error, ForAll::NAME);
        let append = ForAll {
            events: sql::list(batch.iter().map(|queued| &queued.event)).map_err(failed)?,
            plan: sql::append,
        };
        let mut outcome = Outcome {
            there: done(acting.attempt(&append).await?)?.0,
            refused: HashMap::new(),
        };
        self.tally.batch(outcome.there.len());
        if outcome.there.len() == batch.len() {
            return Ok(outcome);
        }
        // Those that an earlier try had appended, of which nobody had heard.
        let rest = batch.iter().filter(|queued| !outcome.there.contains(&queued.event.id));
        let find = ForAll {
            events: sql::list(rest.map(|queued| &queued.event)).map_err(failed)?,
            plan: sql::find,
        };
        outcome.there.extend(done(acting.attempt(&find).await?)?.0);
        for queued in batch.iter().filter(|queued| !outcome.there.contains(&queued.event.id)) {
            let PreparedEvent {
                id,
                room,
                target,
                actor,
                ..
            } = queued.event;
            let reason = missing_reference(&acting, room, [target, actor]).await?;
            if let Some(reason) = reason {
                outcome.refused.insert(id, reason);
            }
        }
        Ok(outcome)
    }

    /// Answers those whose fate is known, and gives back the others: what they point at has come to be meanwhile.
    fn settle(&self, batch: Vec<Queued>, mut outcome: Outcome) -> Vec<Queued> {
        let mut undecided = Vec::new();
        for queued in batch {
            let id = queued.event.id;
            if outcome.there.contains(&id) {
                self.tally.write(queued.since.elapsed());
                queued.answer(Ok(id));
            } else if let Some(reason) = outcome.refused.remove(&id) {
                self.tally.refuse();
                queued.answer(Err(reason));
            } else {
                undecided.push(queued);
            }
        }
        undecided
    }
}

struct Outcome {
    there: HashSet<AuditLogId>,
    refused: HashMap<AuditLogId, Error>,
}

/// Neither operation refuses, so there is always an answer.
fn done<T>(attempt: Attempt<T>) -> Result<T> {
    match attempt {
        Attempt::Done(output) => Ok(output),
        Attempt::Refused(error) => Err(error),
        Attempt::NoReason => Err(Error::Transient {
            reason: "the database did not say what it appended".to_owned(),
        }),
    }
}

/// One of the statements of [`sql`] over a list of events: those that it appended, or found.
struct ForAll {
    events: String,
    plan: fn(&Moment<'_>, &str) -> Plan,
}

impl Operation for ForAll {
    const NAME: &'static str = "audit_writer.append";
    type Output = AppendedIds;

    fn plan(&self, at: &Moment<'_>) -> Plan {
        (self.plan)(at, &self.events)
    }
}

/// For the list of all statements.
pub(crate) async fn list_statements<S: Sink>(on: &S) {
    for plan in [sql::append, sql::find] {
        let events = "[]".to_owned();
        let _ = on.perform(ForAll { events, plan }).await;
    }
    let nobody = UserId::from_uuid(uuid::Uuid::nil());
    let _ = missing_reference(on, None, [Some(nobody), None]).await;
    let _ = missing_reference(on, Some(RoomId::from_uuid(uuid::Uuid::nil())), [None, None]).await;
}
