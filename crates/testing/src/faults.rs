//! Faults on demand.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use conferencing_store::faults::{BEGIN, COMMIT, Failure, FaultInjector, Point, PointKind, Struck};
use tokio::sync::watch;

/// How the database fails an operation. What the caller sees is up to the store, as in earnest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// For a passing reason, with nothing done: PostgreSQL says 40001, SQLite SQLITE_BUSY. A change is tried again by the store, as its
    /// [`RetryPolicy`](conferencing_store::RetryPolicy) says, and so is a unit of `transact`; reads are not: they end with `Error::Transient`.
    Transient,
    /// By a limit on statements, with nothing done: `Error::TimedOut`, which is not tried again.
    TimedOut,
    /// The connection breaks, and who called cannot know what became of it. A change that stands alone ends with `Error::Indeterminate`: on
    /// PostgreSQL its one statement breaks off, elsewhere the commit of its own transaction. Within a caller's unit nothing can have been
    /// committed: `Error::Transient`, and so for reads. With `"commit"` it is the unit's end that nobody knows.
    Indeterminate(Outcome),
    /// It takes so much longer, and works. A [`Gate`] needs no time.
    Slow(Duration),
}

/// What became of an operation whose caller does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was done. One that is refused does nothing, so the fault waits for the next that does.
    TookEffect,
    /// It was not.
    DidNothing,
}

/// Lets the statements of a kit's store fail, by the names of their operations: those of spans and metrics, such as `participants.join`, and
/// `begin` and `commit` for those of a caller's unit. What was asked for one name is done in order, one thing for each statement. The kit's own
/// builders and assertions never fail so.
///
/// Many waiters for one room are seated by one statement, which counts once and fails for all of them.
#[derive(Clone, Debug)]
pub struct Faults {
    plans: Arc<Mutex<Vec<Plan>>>,
    names: Arc<BTreeSet<&'static str>>,
}

#[derive(Clone, Debug)]
struct Plan {
    operation: &'static str,
    what: What,
    /// None: always.
    left: Option<u32>,
    met: Arc<AtomicU32>,
}

#[derive(Clone, Debug)]
enum What {
    Fail(Fault),
    Hold(Arc<Barrier>, Side),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Before,
    After,
}

#[derive(Debug)]
struct Barrier {
    reached: watch::Sender<bool>,
    released: watch::Sender<bool>,
}

impl Barrier {
    /// Says that somebody is here, and waits to be let go.
    async fn pass(&self) {
        self.reached.send_replace(true);
        // It cannot be closed: this has the sender.
        let _ = self.released.subscribe().wait_for(|released| *released).await;
    }
}

/// A fault that was asked for.
#[derive(Clone, Debug)]
pub struct Planned {
    met: Arc<AtomicU32>,
}

impl Planned {
    /// How often it has happened.
    pub fn met(&self) -> u32 {
        self.met.load(Ordering::SeqCst)
    }
}

/// Holds up one statement until it is released, or dropped.
#[derive(Debug)]
pub struct Gate {
    operation: &'static str,
    barrier: Arc<Barrier>,
}

/// How long [`Gate::reached`] waits before the test has failed.
const PATIENCE: Duration = Duration::from_secs(30);

impl Gate {
    /// Waits until the statement is there and held.
    ///
    /// # Panics
    /// When nobody comes within 30 s.
    #[expect(clippy::panic, reason = "a test fails by panicking")]
    pub async fn reached(&self) {
        let mut reached = self.barrier.reached.subscribe();
        let come = tokio::time::timeout(PATIENCE, reached.wait_for(|reached| *reached)).await;
        if come.is_err() {
            panic!(
                "no {} has come to the gate within {} s",
                self.operation,
                PATIENCE.as_secs()
            );
        }
    }

    /// Whether the statement is there and held.
    pub fn is_reached(&self) -> bool {
        *self.barrier.reached.borrow()
    }

    /// Lets it go on.
    pub fn release(self) {
        drop(self);
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.barrier.released.send_replace(true);
    }
}

impl Faults {
    pub(crate) fn new(names: Arc<BTreeSet<&'static str>>) -> Self {
        Self {
            plans: Arc::default(),
            names,
        }
    }

    /// The next statement of `operation` fails.
    ///
    /// # Panics
    /// When there is no such operation, with the list of those that there are.
    #[track_caller]
    pub fn fail_next(&self, operation: &str, fault: Fault) -> Planned {
        self.fail_times(1, operation, fault)
    }

    /// The next so many statements of `operation` fail: `fail_times(2, "rooms.end", Fault::Transient)` is seen by nobody but the metrics.
    ///
    /// # Panics
    /// As [`Faults::fail_next`].
    #[track_caller]
    pub fn fail_times(&self, times: u32, operation: &str, fault: Fault) -> Planned {
        self.plan(operation, What::Fail(fault), Some(times))
    }

    /// All statements of `operation` fail from now on, until [`Faults::clear`]: the store's own tries are used up.
    ///
    /// # Panics
    /// As [`Faults::fail_next`].
    #[track_caller]
    pub fn fail_always(&self, operation: &str, fault: Fault) -> Planned {
        self.plan(operation, What::Fail(fault), None)
    }

    /// The connection breaks at the next COMMIT of a unit: whoever commits hears `Error::Indeterminate`.
    pub fn drop_connection_at_commit(&self, outcome: Outcome) -> Planned {
        self.push(COMMIT, What::Fail(Fault::Indeterminate(outcome)), Some(1))
    }

    /// The next statement of `operation` is held before it is sent.
    ///
    /// # Panics
    /// As [`Faults::fail_next`].
    #[track_caller]
    pub fn hold_next(&self, operation: &str) -> Gate {
        self.hold(operation, Side::Before)
    }

    /// The next statement of `operation` that does something is held when it is done, and before anybody hears of it. Within a unit it has its locks
    /// then; one that stands alone on PostgreSQL is committed.
    ///
    /// # Panics
    /// As [`Faults::fail_next`].
    #[track_caller]
    pub fn hold_next_when_done(&self, operation: &str) -> Gate {
        self.hold(operation, Side::After)
    }

    /// Forgets what was asked for and has not happened. What is held stays held by its gate.
    pub fn clear(&self) {
        self.lock().clear();
    }

    /// What was asked for and has not happened yet; what was asked for always is left out.
    pub fn pending(&self) -> Vec<String> {
        let plans = self.lock();
        let pending = plans.iter().filter_map(|plan| {
            let left = plan.left?;
            let what = match &plan.what {
                What::Fail(fault) => format!("{fault:?}"),
                What::Hold(..) => "a gate".to_owned(),
            };
            Some(format!("{}: {what}, {left} times", plan.operation))
        });
        pending.collect()
    }

    /// Fails if something that was asked for has not happened: a test with a fault that nobody met has shown nothing.
    ///
    /// # Panics
    /// Then, with what is left.
    #[track_caller]
    #[expect(clippy::panic, reason = "a test fails by panicking")]
    pub fn assert_all_met(&self) {
        let pending = self.pending();
        if !pending.is_empty() {
            panic!("nobody has met these faults:\n  {}", pending.join("\n  "));
        }
    }

    #[track_caller]
    fn hold(&self, operation: &str, side: Side) -> Gate {
        let barrier = Arc::new(Barrier {
            reached: watch::Sender::new(false),
            released: watch::Sender::new(false),
        });
        let operation = self.known(operation);
        self.push(operation, What::Hold(Arc::clone(&barrier), side), Some(1));
        Gate { operation, barrier }
    }

    #[track_caller]
    fn plan(&self, operation: &str, what: What, left: Option<u32>) -> Planned {
        let operation = self.known(operation);
        self.push(operation, what, left)
    }

    fn push(&self, operation: &'static str, what: What, left: Option<u32>) -> Planned {
        let met = Arc::<AtomicU32>::default();
        if left != Some(0) {
            self.lock().push(Plan {
                operation,
                what,
                left,
                met: Arc::clone(&met),
            });
        }
        Planned { met }
    }

    #[track_caller]
    #[expect(clippy::panic, reason = "a test fails by panicking")]
    fn known(&self, operation: &str) -> &'static str {
        if let Some(name) = self.names.get(operation) {
            return name;
        }
        let mut list = String::new();
        for name in self.names.iter() {
            let _ = write!(list, "\n  {name}");
        }
        panic!("the store has no operation {operation:?}; it has{list}");
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Plan>> {
        self.plans.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is to be done at this point, if it is the turn of something.
    fn take(&self, point: Point, side: Side) -> Option<What> {
        let mut plans = self.lock();
        let index = plans.iter().position(|plan| plan.operation == point.operation)?;
        let plan = &mut plans[index];
        if !plan.what.is_for(point, side) {
            return None;
        }
        plan.met.fetch_add(1, Ordering::SeqCst);
        let what = plan.what.clone();
        if let Some(left) = &mut plan.left {
            *left -= 1;
            if *left == 0 {
                plans.remove(index);
            }
        }
        Some(what)
    }

    async fn meet(&self, point: Point, side: Side) -> Option<Failure> {
        match self.take(point, side)? {
            What::Fail(Fault::Transient) => Some(Failure::Passing),
            What::Fail(Fault::TimedOut) => Some(Failure::Limit),
            What::Fail(Fault::Indeterminate(_)) => Some(Failure::ConnectionLost),
            What::Fail(Fault::Slow(by)) => {
                tokio::time::sleep(by).await;
                None
            }
            What::Hold(barrier, _) => {
                barrier.pass().await;
                None
            }
        }
    }
}

impl What {
    /// Whether it happens at this point, which has the right name.
    fn is_for(&self, point: Point, side: Side) -> bool {
        // BEGIN and COMMIT of an operation's own transaction have its name, and those of a caller's unit their own.
        let is_statement = match point.kind {
            PointKind::Begin => point.operation == BEGIN,
            PointKind::Commit => point.operation == COMMIT,
            _ => true,
        };
        match self {
            Self::Fail(Fault::Indeterminate(outcome)) => {
                let settles = match point.kind {
                    PointKind::Step { alone } => !alone,
                    PointKind::Begin => point.operation == BEGIN,
                    PointKind::Read | PointKind::Change | PointKind::Commit => true,
                };
                // Nothing of a caller's unit took effect before its commit, nor did a BEGIN.
                let wanted = match (outcome, point.kind) {
                    (_, PointKind::Begin | PointKind::Step { .. }) | (Outcome::DidNothing, _) => Side::Before,
                    (Outcome::TookEffect, _) => Side::After,
                };
                settles && side == wanted
            }
            Self::Fail(_) => is_statement && side == Side::Before,
            Self::Hold(_, wanted) => is_statement && side == *wanted,
        }
    }
}

impl FaultInjector for Faults {
    fn before(&self, point: Point) -> Struck<'_> {
        Box::pin(self.meet(point, Side::Before))
    }

    fn after(&self, point: Point) -> Struck<'_> {
        Box::pin(self.meet(point, Side::After))
    }
}
