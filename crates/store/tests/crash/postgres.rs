//! The server is killed, with all its processes, and started again; the store and its pool live on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use conferencing_store::{ConnectSettings, RetryPolicy, Store, StoreSettings};

use crate::appending::Run;
use crate::follower::{Follower, kick_for_ever};
use crate::ledger::raw;
use crate::script::Script;
use crate::{Case, EVENTS_A_ROUND, ROUNDS, Seen, TASKS, prepare};

/// A server of `scripts/crashable-postgres`.
struct Server {
    url: String,
    script: Script,
}

impl Server {
    fn start() -> Self {
        let mut script = Script::start("crashable-postgres");
        Self {
            url: script.answer(),
            script,
        }
    }

    /// Kills it and waits until it answers again.
    fn crash(&mut self) {
        self.script.order("crash", "started");
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
    let over = Arc::<AtomicBool>::default();
    let run = Arc::new(Run::of((case.appends)(&store, room), Arc::clone(&over)));
    let moderator = tokio::spawn(kick_for_ever(store.clone(), room, user, Arc::clone(&over)));
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
    over.store(true, Ordering::SeqCst);
    for task in tasks {
        task.await.unwrap();
    }
    moderator.await.unwrap();
    let ledger = run.take_ledger();
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
