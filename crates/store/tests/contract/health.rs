//! A probe is answered in time, whatever the database and the pool are at.

use std::time::Duration;

use conferencing_store::{Actor, Error, StoreSettings, TimeLimit};

use crate::harness::{TestDb, settings};
use crate::limits::soon;
use crate::pooler::Pooler;
use crate::wire::Wire;

crate::cases![
    an_exhausted_pool_is_not_waited_for,
    @Postgres a_silent_server_is_not_waited_for,
    @Postgres a_probe_is_one_round_trip,
];

/// One connection, and no limit of the settings' own that would end a wait in this test's time.
fn patient() -> StoreSettings {
    let mut patient = settings();
    patient.connect.max_connections = Some(1);
    patient.connect.acquire_timeout = Duration::from_secs(600);
    patient.connect.answer_grace = Duration::from_secs(600);
    patient
}

async fn an_exhausted_pool_is_not_waited_for(db: TestDb) {
    let store = db.store_with(patient()).await;
    soon(store.health()).await.unwrap();
    let unit = store.begin(&Actor::system("test")).await.unwrap();
    for _ in 0..3 {
        let busy = soon(store.health()).await;
        assert!(matches!(busy, Err(Error::Transient { .. })), "{busy:?}");
    }
    unit.commit().await.unwrap();
    soon(store.health()).await.unwrap();
}

async fn a_silent_server_is_not_waited_for(db: TestDb) {
    let pooler = Pooler::before(&db.url).await;
    let mut patient = patient();
    patient.connect.pgbouncer = true;
    let store = db.store_at(&pooler.url, patient).await;
    soon(store.health()).await.unwrap();
    pooler.fall_silent();
    let silent = soon(store.health()).await;
    let expected = TimeLimit::Answer;
    assert!(
        matches!(silent, Err(Error::TimedOut { during: "health", limit }) if limit == expected),
        "{silent:?}"
    );
    // No connection can be opened either.
    for _ in 0..2 {
        let silent = soon(store.health()).await;
        assert!(matches!(silent, Err(Error::Transient { .. })), "{silent:?}");
    }
    // None of them is stuck in the pool, which has room for one alone.
    pooler.speak();
    soon(store.health()).await.unwrap();
}

async fn a_probe_is_one_round_trip(db: TestDb) {
    let wire = Wire::before(&db.url).await;
    let store = db.store_at(&wire.url, settings()).await;
    store.health().await.unwrap();
    wire.executions();
    store.health().await.unwrap();
    assert_eq!(wire.executions(), ["execute"]);
}
