//! The inbox: what is delivered more than once is acted on once.

use std::time::Duration;

use chrono::TimeDelta;
use conferencing_store::authority::{ActorRole, Operation};
use conferencing_store::{Actor, AuditFilter, Error, Invalid, Observation, Rejected, Rule, Store, Unit};

use crate::accounts_support::{rejected, until_blocked};
use crate::harness::{TestDb, race, settings};

crate::cases![
    an_event_is_there_once_whoever_delivers_it,
    what_is_rolled_back_was_not_received,
    of_many_at_once_one_is_the_first,
    @Postgres whoever_comes_second_waits_for_the_first_to_end,
    what_is_old_is_purged_in_batches,
    purgers_share_the_work,
    @Postgres a_purge_walks_its_index,
    ids_are_kept_as_they_are_and_limits_are_held,
];

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

async fn once(store: &Store, source: &str, event: &str) -> Result<bool, Error> {
    let work = |unit: Unit| async move { unit.inbox().once(source, event).await };
    store.transact(&Actor::system("webhooks"), work).await
}

async fn an_event_is_there_once_whoever_delivers_it(db: TestDb) {
    let other = db.store_with(settings()).await;
    let unit = db.store.begin(&Actor::system("webhooks")).await.unwrap();
    assert!(unit.inbox().once("livekit", "EV_1").await.unwrap());
    assert!(!unit.inbox().once("livekit", "EV_1").await.unwrap());
    assert!(unit.inbox().once("livekit", "EV_2").await.unwrap());
    assert!(unit.inbox().once("stripe", "EV_1").await.unwrap());
    unit.commit().await.unwrap();
    for store in [&db.store, &other] {
        assert!(!once(store, "livekit", "EV_1").await.unwrap());
        assert!(!once(store, "livekit", "EV_2").await.unwrap());
    }
    // Compared to the last character.
    assert!(once(&db.store, "livekit", "ev_1").await.unwrap());
    assert!(once(&db.store, "livekit", "EV_1 ").await.unwrap());
}

async fn what_is_rolled_back_was_not_received(db: TestDb) {
    let system = Actor::system("webhooks");
    let unit = db.store.begin(&system).await.unwrap();
    assert!(unit.inbox().once("livekit", "EV_1").await.unwrap());
    unit.roll_back().await.unwrap();
    let unit = db.store.begin(&system).await.unwrap();
    assert!(unit.inbox().once("livekit", "EV_1").await.unwrap());
    // As in a process that dies.
    drop(unit);
    let failing = |unit: Unit| async move {
        assert!(unit.inbox().once("livekit", "EV_1").await?);
        Err::<(), _>(Error::QueueFull { capacity: 1 })
    };
    assert!(db.store.transact(&system, failing).await.is_err());
    assert!(once(&db.store, "livekit", "EV_1").await.unwrap());
}

async fn of_many_at_once_one_is_the_first(db: TestDb) {
    let other = db.store_with(settings()).await;
    for event in ["EV_1", "EV_2", "EV_3"] {
        let stores = [&db.store, &other];
        let deliver = |at: usize| {
            let store = stores[at % 2].clone();
            async move {
                let work = |unit: Unit| async move {
                    let first = unit.inbox().once("livekit", event).await?;
                    if first {
                        unit.audit().append(None, Observation::UserLogout {}).await?;
                    }
                    Ok::<_, Error>(first)
                };
                store.transact(&Actor::system("webhooks"), work).await.unwrap()
            }
        };
        let first = race((0..16).map(deliver)).await;
        assert_eq!(first.into_iter().filter(|first| *first).count(), 1);
    }
    assert_eq!(db.store.audit().count(&AuditFilter::default()).await.unwrap(), 3);
}

async fn whoever_comes_second_waits_for_the_first_to_end(db: TestDb) {
    let raw = db.raw().await;
    for commits in [false, true] {
        let event = if commits { "EV_1" } else { "EV_2" };
        let first = db.store.begin(&Actor::system("webhooks")).await.unwrap();
        assert!(first.inbox().once("livekit", event).await.unwrap());
        let store = db.store.clone();
        let second = tokio::spawn(async move { once(&store, "livekit", event).await.unwrap() });
        until_blocked(&raw, 1).await;
        if commits {
            first.commit().await.unwrap();
        } else {
            first.roll_back().await.unwrap();
        }
        assert_eq!(second.await.unwrap(), !commits);
    }
}

async fn what_is_old_is_purged_in_batches(db: TestDb) {
    let (store, clock) = db.with_manual_clock().await;
    let raw = db.raw().await;
    for number in 0..25 {
        assert!(once(&store, "livekit", &format!("old {number}")).await.unwrap());
        clock.advance(TimeDelta::seconds(1));
    }
    clock.advance(TimeDelta::days(2));
    assert!(once(&store, "livekit", "new").await.unwrap());
    let system = store.acting(&Actor::system("purger"));
    for left in [10, 10, 5, 0] {
        assert_eq!(system.inbox().purge(DAY, 10).await.unwrap(), left);
    }
    assert_eq!(raw.texts("SELECT event_id FROM inbox").await, ["new"]);
    // What was forgotten counts as new.
    assert!(once(&store, "livekit", "old 0").await.unwrap());
    assert!(!once(&store, "livekit", "new").await.unwrap());
    assert_eq!(system.inbox().purge(Duration::MAX, 10).await.unwrap(), 0);

    let ada = db.user("ada").await;
    let refused = rejected(store.acting(&Actor::user(ada.id)).inbox().purge(DAY, 10).await);
    let not_allowed = Rejected::NotAllowed {
        operation: Operation::PurgeInbox,
        actor_role: ActorRole::Outsider,
        room: None,
        user: None,
    };
    assert_eq!(refused, not_allowed);
}

async fn purgers_share_the_work(db: TestDb) {
    let (store, clock) = db.with_manual_clock().await;
    let work = |unit: Unit| async move {
        for number in 0..200 {
            assert!(unit.inbox().once("livekit", &number.to_string()).await?);
        }
        Ok::<_, Error>(())
    };
    store.transact(&Actor::system("webhooks"), work).await.unwrap();
    clock.advance(TimeDelta::days(2));
    let purge = |_| {
        let system = store.acting(&Actor::system("purger"));
        async move {
            let mut purged = 0;
            for _ in 0..8 {
                purged += system.inbox().purge(DAY, 10).await.unwrap();
            }
            purged
        }
    };
    let purged: u64 = race((0..8).map(purge)).await.into_iter().sum();
    let left = db.raw().await.number("SELECT count(*) FROM inbox").await;
    assert_eq!(purged + u64::try_from(left).unwrap(), 200);
    assert!(purged >= 80, "each of eight rounds of at least one takes ten: {purged}");
}

/// Many more are kept than are due.
async fn a_purge_walks_its_index(db: TestDb) {
    let raw = db.raw().await;
    raw.run(
        "INSERT INTO inbox (source, event_id, received_at)
        SELECT 'livekit', 'event ' || number, TIMESTAMPTZ '2026-01-01 00:00+00' + number * INTERVAL '1 second'
        FROM generate_series(1, 50000) AS number",
    )
    .await;
    raw.run("ANALYZE inbox").await;
    let plan = raw
        .texts(
            "EXPLAIN (ANALYZE, BUFFERS, COSTS OFF, TIMING OFF, SUMMARY OFF) SELECT ctid FROM inbox WHERE received_at < '2026-01-01 00:05+00'
            ORDER BY received_at LIMIT 100 FOR UPDATE SKIP LOCKED",
        )
        .await
        .join("\n");
    assert!(plan.contains("ix_inbox_received"), "{plan}");
    let plan = raw
        .texts("EXPLAIN (COSTS OFF) DELETE FROM inbox WHERE ctid = ANY (ARRAY(SELECT ctid FROM inbox LIMIT 100))")
        .await
        .join("\n");
    assert!(plan.contains("Tid Scan"), "{plan}");
}

async fn ids_are_kept_as_they_are_and_limits_are_held(db: TestDb) {
    let invalid = |result: Result<bool, Error>, field, rule| {
        assert_eq!(
            result.unwrap_err().to_string(),
            Error::from(Invalid { field, rule }).to_string()
        );
    };
    let unit = db.store.begin(&Actor::system("webhooks")).await.unwrap();
    let inbox = unit.inbox();
    invalid(inbox.once("", "EV_1").await, "source", Rule::NotEmpty);
    invalid(inbox.once("livekit", "").await, "event_id", Rule::NotEmpty);
    invalid(
        inbox.once("livekit", "a\0b").await,
        "event_id",
        Rule::NoControlCharacters,
    );
    let long = |max: usize| "é".repeat(max + 1);
    let too_long = |max| Rule::MaxLength { max, actual: max + 1 };
    invalid(inbox.once(&long(100), "EV_1").await, "source", too_long(100));
    invalid(inbox.once("livekit", &long(255)).await, "event_id", too_long(255));
    assert!(inbox.once(&"é".repeat(100), &"é".repeat(255)).await.unwrap());
    // Bad input leaves the unit usable.
    unit.commit().await.unwrap();

    let system = db.system();
    for (age, limit) in [(Duration::ZERO, 10), (DAY, 0), (DAY, 10_001)] {
        assert!(
            matches!(system.inbox().purge(age, limit).await, Err(Error::Invalid(_))),
            "{age:?} {limit}"
        );
    }
    assert_eq!(system.inbox().purge(Duration::from_secs(1), 10_000).await.unwrap(), 0);
}
