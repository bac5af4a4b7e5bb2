//! The server is killed, with all its processes, and started again; the store and its pool live on.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use conferencing_store::{ConnectSettings, RetryPolicy, Store, StoreSettings};
use tokio::sync::watch;

use crate::follower::{Follower, kick_for_ever};
use crate::ledger::{Ledger, raw};
use crate::{Append, Case, EVENTS_A_ROUND, PATIENCE, ROUNDS, Seen, TASKS, prepare};

/// A server of `scripts/crashable-postgres`. It is gone when this is dropped, and also when this process is killed.
struct Server {
    url: String,
    script: Child,
    commands: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Server {
    fn start() -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/crashable-postgres");
        let mut script = Command::new(script)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut server = Self {
            url: String::new(),
            commands: script.stdin.take(),
            answers: BufReader::new(script.stdout.take().unwrap()),
            script,
        };
        server.url = server.answer();
        server
    }

    /// Kills it and waits until it answers again.
    fn crash(&mut self) {
        self.commands.as_mut().unwrap().write_all(b"crash\n").unwrap();
        assert_eq!(self.answer(), "started");
    }

    fn answer(&mut self) -> String {
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        assert!(line.ends_with('\n'), "the server's script has ended");
        line.trim_end().to_owned()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The end of its input tells it to clean up.
        self.commands = None;
        let _ = self.script.wait();
    }
}

/// What the tasks share.
struct Run {
    append: Append,
    ledger: Mutex<Ledger>,
    acknowledged: watch::Sender<usize>,
    over: Arc<AtomicBool>,
}

impl Run {
    /// Appends one event after the other, each with a text of its own, whatever becomes of them.
    async fn append(&self, task: usize) {
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
    async fn more(&self, events: usize) {
        let target = *self.acknowledged.borrow() + events;
        let mut seen = self.acknowledged.subscribe();
        let waited = tokio::time::timeout(PATIENCE, seen.wait_for(|count| *count >= target)).await;
        if waited.is_err() {
            panic!("nothing is acknowledged any more: {:?}", self.ledger.lock().unwrap());
        }
    }
}

/// Runs the case.
pub async fn crash(case: Case) {
    let mut server = tokio::task::block_in_place(Server::start);
    let (room, user) = prepare(&server.url).await;
    let follower = Follower::start(&server.url, &raw(&server.url).await, room).await;
    let settings = StoreSettings {
        // Less patient than the server is slow to come back, so that callers are told of its absence too.
        connect: ConnectSettings {
            max_connections: Some(16),
            acquire_timeout: Duration::from_millis(250),
            ..ConnectSettings::default()
        },
        retry: RetryPolicy {
            attempts: 2,
            ..RetryPolicy::default()
        },
        ..StoreSettings::default()
    };
    let store = Store::connect_with(&server.url, settings).await.unwrap();
    let run = Arc::new(Run {
        append: (case.appends)(&store, room),
        ledger: Mutex::default(),
        acknowledged: watch::Sender::new(0),
        over: Arc::default(),
    });
    let moderator = tokio::spawn(kick_for_ever(store.clone(), room, user, Arc::clone(&run.over)));
    let tasks: Vec<_> = (0..TASKS)
        .map(|task| {
            let run = Arc::clone(&run);
            tokio::spawn(async move { run.append(task).await })
        })
        .collect();
    for _ in 0..ROUNDS {
        run.more(EVENTS_A_ROUND).await;
        tokio::task::block_in_place(|| server.crash());
    }
    // The pool finds back after the last crash, too.
    run.more(EVENTS_A_ROUND).await;
    run.over.store(true, Ordering::SeqCst);
    for task in tasks {
        task.await.unwrap();
    }
    moderator.await.unwrap();
    let ledger = std::mem::take(&mut *run.ledger.lock().unwrap());
    eprintln!("{} acknowledged, errors: {:?}", ledger.acknowledged(), ledger.errors());
    let db = raw(&server.url).await;
    ledger.assert_is_what_the_audit_log_has(&db).await;
    let (events, kicks) = follower.heard_all(&db).await;
    eprintln!("{events} events were heard by another process, {kicks} of them kicks");
    assert!(kicks >= ROUNDS, "{kicks} kicks");
    match case.crash_is {
        // Otherwise no crash hit an append under way, and nothing was tried.
        Seen::ByCallers => assert!(ledger.errors().contains_key("indeterminate"), "{:?}", ledger.errors()),
        Seen::ByNobody => assert!(ledger.errors().is_empty(), "{:?}", ledger.errors()),
    }
}
