//! Collects what the process logs, at every level: the suite's one `tracing` subscriber and `log` logger.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::fmt::{Debug, Write as _};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use metrics_util::debugging::{DebuggingRecorder, Snapshotter};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::Interest;
use tracing::{Event, Metadata, Subscriber};
use tracing_core::span::Current;

use crate::harness::{note_examining, note_sent};

/// Where the store tells of statements.
const SQL: &str = "conferencing_store::sql";

/// How many cases look at what is logged now.
static LOOKING: AtomicUsize = AtomicUsize::new(0);
thread_local! {
    /// The spans that this thread is in.
    static ENTERED: RefCell<Vec<Id>> = const { RefCell::new(Vec::new()) };
}
static LOGGED: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

fn logged() -> MutexGuard<'static, BTreeSet<String>> {
    LOGGED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// While it is there, everything that anybody logs is collected.
pub struct Looking;

impl Looking {
    pub fn begin() -> Self {
        LOOKING.fetch_add(1, Ordering::SeqCst);
        Self
    }

    /// Every record so far, its target and level first. Others that run meanwhile are among them.
    pub fn records(&self) -> Vec<String> {
        logged().iter().cloned().collect()
    }
}

impl Drop for Looking {
    fn drop(&mut self) {
        LOOKING.fetch_sub(1, Ordering::SeqCst);
    }
}

static SNAPSHOTTER: OnceLock<Snapshotter> = OnceLock::new();

/// The metrics that this process has emitted so far, each by its name and its labels, the labels sorted.
pub fn emitted() -> BTreeSet<(String, Vec<(String, String)>)> {
    let all = SNAPSHOTTER.get().unwrap().snapshot().into_vec().into_iter();
    all.map(|(key, ..)| {
        let labels = key.key().labels();
        let mut labels: Vec<_> = labels
            .map(|one| (one.key().to_owned(), one.value().to_owned()))
            .collect();
        labels.sort();
        (key.key().name().to_owned(), labels)
    })
    .collect()
}

pub fn install() {
    let recorder = DebuggingRecorder::new();
    assert!(SNAPSHOTTER.set(recorder.snapshotter()).is_ok());
    recorder.install().unwrap();
    tracing::subscriber::set_global_default(Collector::default()).unwrap();
    log::set_boxed_logger(Box::new(Collector::default())).unwrap();
    log::set_max_level(log::LevelFilter::Trace);
}

#[derive(Default)]
struct Collector {
    spans: AtomicU64,
    known: Mutex<HashMap<u64, &'static Metadata<'static>>>,
}

/// The fields of a record, as text.
struct Fields(String);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let _ = write!(self.0, " {field}={value:?}");
    }
}

/// Notes the statement that an event tells of.
struct Sent;

impl Visit for Sent {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "statement" => note_sent(value),
            "examining" => note_examining(value),
            _ => {}
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn Debug) {}
}

fn collect(metadata: &Metadata<'_>, fields: impl FnOnce(&mut Fields)) {
    if LOOKING.load(Ordering::SeqCst) == 0 {
        return;
    }
    let mut text = Fields(format!(
        "{} {} {}",
        metadata.target(),
        metadata.level(),
        metadata.name()
    ));
    fields(&mut text);
    logged().insert(text.0);
}

impl Subscriber for Collector {
    fn register_callsite(&self, _: &'static Metadata<'static>) -> Interest {
        Interest::sometimes()
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == SQL || LOOKING.load(Ordering::SeqCst) > 0
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let id = Id::from_u64(1 + self.spans.fetch_add(1, Ordering::SeqCst));
        collect(span.metadata(), |fields| {
            span.record(fields);
            let _ = write!(fields.0, " span={}", id.into_u64());
        });
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(id.into_u64(), span.metadata());
        id
    }

    fn current_span(&self) -> Current {
        let innermost = ENTERED.with_borrow(|spans| spans.last().cloned());
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let span = innermost.and_then(|id| {
            known
                .get(&id.into_u64())
                .map(|metadata| Current::new(id.clone(), metadata))
        });
        span.unwrap_or_else(Current::none)
    }

    fn record(&self, span: &Id, values: &Record<'_>) {
        let mut text = Fields(format!("record span={}", span.into_u64()));
        values.record(&mut text);
        logged().insert(text.0);
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        if event.metadata().target() == SQL {
            event.record(&mut Sent);
        }
        collect(event.metadata(), |fields| event.record(fields));
    }

    fn enter(&self, span: &Id) {
        ENTERED.with_borrow_mut(|spans| spans.push(span.clone()));
    }

    fn exit(&self, _: &Id) {
        ENTERED.with_borrow_mut(|spans| {
            spans.pop();
        });
    }
}

impl log::Log for Collector {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        LOOKING.load(Ordering::SeqCst) > 0
    }

    fn log(&self, record: &log::Record<'_>) {
        if LOOKING.load(Ordering::SeqCst) > 0 {
            logged().insert(format!("{} {} {}", record.target(), record.level(), record.args()));
        }
    }

    fn flush(&self) {}
}
