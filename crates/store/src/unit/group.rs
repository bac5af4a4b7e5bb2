//! Group commit: operations that wait for the same room within this process are done together, by one statement and one commit.
//!
//! The first to come runs as if it were alone, which it mostly is. Those that come meanwhile wait in line; when it is done, all of
//! them are taken at once, and so on until nobody waits. Whatever a group could not do, for a reason or because its statement failed,
//! is done alone afterwards, one after the other in the order in which they came, before anybody who came later; so each caller gets the
//! answer and the refusal that the operation alone would have given.
//!
//! Callers own nothing that others need: groups run in a task of their own. A caller who gives up before the group is taken is left
//! out; one who gives up later has done what they asked for, as with any operation.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use entity::RoomId;
use sea_orm::{ConnectionTrait, DbErr, QueryResult, Statement};
use tokio::sync::oneshot;

use super::{Acting, Attempt, OpenUnit, moment};
use crate::actor::Actor;
use crate::context::Context;
use crate::database::{Dialect, fault};
use crate::error::{Error, Result};
use crate::faults::{Point, PointKind};
use crate::operation::{Answer, Grouped, Member};
use crate::telemetry;

/// The most that one statement does. Beyond that a statement's own cost grows, and with it the time that the room is locked.
const MOST: usize = 256;

/// Who waits for which room. A room is in here while somebody is at it.
struct Lines<O: Grouped>(Mutex<HashMap<RoomId, VecDeque<Waiting<O>>>>);

impl<O: Grouped> Default for Lines<O> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<O: Grouped> Lines<O> {
    fn lock(&self) -> MutexGuard<'_, HashMap<RoomId, VecDeque<Waiting<O>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Waiting<O: Grouped> {
    operation: O,
    actor: Actor,
    reply: oneshot::Sender<Reply<O>>,
}

enum Reply<O: Grouped> {
    Answer(Result<O::Output>),
    /// Nobody else waits: it is as if it had come first.
    First(O, Turn<O>),
}

/// The right to be at a room. When it goes, those who wait are next.
struct Turn<O: Grouped> {
    context: Context,
    lines: Arc<Lines<O>>,
    room: RoomId,
    /// False once the room is nobody's.
    held: bool,
    /// It was given to a task that has not begun.
    is_handed_on: bool,
}

impl<O: Grouped> Turn<O> {
    /// Those who wait, in order: at most [`MOST`], each user once, and only ordinary ones, or one who is not. Without any, the room is
    /// given up.
    fn next(&mut self) -> Vec<Waiting<O>> {
        let mut lines = self.lines.lock();
        let Some(line) = lines.get_mut(&self.room) else {
            self.held = false;
            return Vec::new();
        };
        line.retain(|waiting| !waiting.reply.is_closed());
        let mut users = HashSet::new();
        let those = line
            .iter()
            .take(MOST)
            .take_while(|waiting| {
                waiting.operation.is_ordinary(&waiting.actor) && users.insert(waiting.operation.user())
            })
            .count()
            .max(1)
            .min(line.len());
        let those: Vec<_> = line.drain(..those).collect();
        if those.is_empty() {
            lines.remove(&self.room);
            self.held = false;
        }
        those
    }

    /// Serves all who wait, until nobody does.
    async fn serve(mut self) {
        self.is_handed_on = false;
        loop {
            let mut those = self.next();
            match those.len() {
                0 => return,
                1 => {
                    if let Some(Waiting { operation, reply, .. }) = those.pop() {
                        // If they have given up since, the turn comes back by being dropped.
                        let _ = reply.send(Reply::First(operation, self));
                    }
                    return;
                }
                _ => self.together(those).await,
            }
        }
    }

    async fn together(&self, those: Vec<Waiting<O>>) {
        let done = match self.context.dialect() {
            Dialect::Postgres => self.as_one_statement(&those).await,
            Dialect::Sqlite => self.in_one_transaction(&those).await,
        };
        let mut outputs = match done {
            Ok(outputs) => {
                self.context.tell_committed();
                outputs
            }
            // Whose fault it was shows when each stands alone.
            Err(Failure::NothingDone) => HashMap::new(),
            Err(Failure::Unsettled(error)) => {
                for waiting in those {
                    let _ = waiting.reply.send(Reply::Answer(Err(error.clone())));
                }
                return;
            }
        };
        let mut left = VecDeque::new();
        for (place, waiting) in those.into_iter().enumerate() {
            match outputs.remove(&place) {
                Some(output) => drop(waiting.reply.send(Reply::Answer(Ok(output)))),
                None => left.push_back(waiting),
            }
        }
        self.one_by_one(left).await;
    }

    /// Does what a group has left, in order, until one comes off: those behind it may be a group again.
    async fn one_by_one(&self, mut left: VecDeque<Waiting<O>>) {
        while let Some(Waiting {
            operation,
            actor,
            reply,
        }) = left.pop_front()
        {
            if reply.is_closed() {
                continue;
            }
            let outcome = Acting::new(self.context.clone(), actor).do_it(operation).await;
            let done = outcome.is_ok();
            if let Err(error @ Error::TimedOut { .. }) = &outcome {
                // The others would wait as long, one after the other.
                for waiting in left.drain(..) {
                    let _ = waiting.reply.send(Reply::Answer(Err(error.clone())));
                }
            }
            let _ = reply.send(Reply::Answer(outcome));
            if done {
                if let Some(line) = self.lines.lock().get_mut(&self.room) {
                    while let Some(waiting) = left.pop_back() {
                        line.push_front(waiting);
                    }
                }
                return;
            }
        }
    }

    async fn as_one_statement(&self, those: &[Waiting<O>]) -> Result<HashMap<usize, O::Output>, Failure> {
        let dialect = self.context.dialect();
        let members: Vec<_> = those.iter().map(Waiting::member).collect();
        let at = moment(&self.context, self.context.now(), &those[0].actor);
        let statement = O::together(&at, self.room, &members).as_one_statement();
        let begun = Instant::now();
        let rows = if self.context.changes_in_units() {
            self.in_a_unit(statement, &those[0].actor).await?
        } else {
            let asking = self.context.connections().query_all_raw(statement);
            let point = Point::new(O::NAME, PointKind::Change);
            let did = |rows: &Vec<QueryResult>| !rows.is_empty();
            let rows = self.context.faults().around(dialect, point, asking, did).await;
            self.context.sent(O::NAME, begun);
            rows.map_err(|error| Failure::of(fault::read(dialect, &error, O::NAME, true)))?
        };
        let read = |row: &QueryResult| {
            let place: i32 = row.try_get_by("place")?;
            Ok((usize::try_from(place).unwrap_or(usize::MAX), O::Output::read(row)?))
        };
        let outputs: Result<_, DbErr> = rows.iter().map(read).collect();
        // What was done is done, though it cannot be read.
        outputs.map_err(|error| Failure::Unsettled(fault::read(dialect, &error, O::NAME, false)))
    }

    /// The statement in a transaction, which has the limits that the sessions do not have.
    async fn in_a_unit(&self, statement: Statement, actor: &Actor) -> Result<Vec<QueryResult>, Failure> {
        let unit = OpenUnit::begin_for(O::NAME, &self.context, actor)
            .await
            .map_err(Failure::of)?;
        let point = Point::new(O::NAME, PointKind::Step { alone: true });
        let did = |rows: &Vec<QueryResult>| !rows.is_empty();
        let rows = {
            let (executor, dialect) = (unit.executor(), self.context.dialect());
            let asking = executor.query_all_raw(statement);
            self.context.faults().around(dialect, point, asking, did).await
        };
        match rows {
            Ok(rows) => {
                unit.commit().await.map_err(Failure::of)?;
                Ok(rows)
            }
            Err(error) => {
                unit.roll_back().await;
                Err(Failure::of(fault::read(self.context.dialect(), &error, O::NAME, false)))
            }
        }
    }

    /// SQLite has one writer at a time, to whom statements cost little and a commit much.
    async fn in_one_transaction(&self, those: &[Waiting<O>]) -> Result<HashMap<usize, O::Output>, Failure> {
        let unit = OpenUnit::begin_for(O::NAME, &self.context, &those[0].actor)
            .await
            .map_err(Failure::of)?;
        let mut outputs = HashMap::new();
        for (place, waiting) in those.iter().enumerate() {
            match unit.attempt_by(&waiting.actor, &waiting.operation).await {
                Ok(Attempt::Done(output)) => drop(outputs.insert(place, output)),
                Ok(_) => {}
                Err(_) => {
                    unit.roll_back().await;
                    return Err(Failure::NothingDone);
                }
            }
        }
        unit.commit().await.map_err(Failure::of)?;
        Ok(outputs)
    }
}

/// What became of a group that failed.
enum Failure {
    NothingDone,
    /// It may have been done, or was, and this is all that can be said; or it took too long, and would again for each alone.
    Unsettled(Error),
}

impl Failure {
    fn of(error: Error) -> Self {
        match error {
            Error::Indeterminate { .. } | Error::TimedOut { .. } => Self::Unsettled(error),
            _ => Self::NothingDone,
        }
    }
}

impl<O: Grouped> Waiting<O> {
    fn member(&self) -> Member<'_, O> {
        Member {
            operation: &self.operation,
            actor: &self.actor,
        }
    }
}

impl<O: Grouped> Drop for Turn<O> {
    fn drop(&mut self) {
        if !self.held {
            return;
        }
        let somebody_waits = {
            let mut lines = self.lines.lock();
            let somebody = lines.get(&self.room).is_some_and(|line| !line.is_empty());
            if !somebody {
                lines.remove(&self.room);
            }
            somebody
        };
        if !somebody_waits {
            return;
        }
        match tokio::runtime::Handle::try_current() {
            // A runtime that shuts down takes no tasks, but drops them at once: then this one would be followed by another for ever.
            Ok(runtime) if !self.is_handed_on => {
                let turn = Self {
                    context: self.context.clone(),
                    lines: Arc::clone(&self.lines),
                    room: self.room,
                    held: true,
                    is_handed_on: true,
                };
                runtime.spawn(turn.serve());
            }
            // The runtime is gone, and whoever waited with it.
            _ => {
                let left = self.lines.lock().remove(&self.room);
                drop(left);
            }
        }
    }
}

/// What [`super::Sink::perform_grouped`] does.
pub(super) async fn perform<O: Grouped>(acting: &Acting, operation: O) -> Result<O::Output> {
    let lines: Arc<Lines<O>> = acting.context.shared();
    let room = operation.room();
    let entered = {
        let mut all = lines.lock();
        match all.get_mut(&room) {
            None => {
                all.insert(room, VecDeque::new());
                Err(operation)
            }
            Some(line) => {
                let (reply, answer) = oneshot::channel();
                let actor = acting.actor.clone();
                line.push_back(Waiting {
                    operation,
                    actor,
                    reply,
                });
                Ok(answer)
            }
        }
    };
    if let Some(span) = telemetry::current() {
        telemetry::about(&span, "room", room.as_uuid());
    }
    let (operation, turn) = match entered {
        Err(operation) => {
            let turn = Turn {
                context: acting.context.clone(),
                lines,
                room,
                held: true,
                is_handed_on: false,
            };
            (operation, turn)
        }
        Ok(answer) => match answer.await {
            Ok(Reply::Answer(answer)) => return answer,
            Ok(Reply::First(operation, turn)) => (operation, turn),
            // The runtime is shutting down, and the group's task with it.
            Err(_) => return Err(Error::Indeterminate { during: O::NAME }),
        },
    };
    let output = acting.do_it(operation).await;
    drop(turn);
    output
}
