//! Checkpoints of consumers of the feed: work that is done in the unit that moves the checkpoint is done once.

use std::collections::BTreeMap;

use conferencing_store::entity::RoomId;
use conferencing_store::{
    Actor, AuditEvent, Conflict, Error, FeedFilter, FeedPosition, MediaKind, Observation, Store, Unit,
};

use crate::accounts_support::conflict;
use crate::harness::{TestDb, race, settings};

crate::cases![
    a_consumer_goes_on_from_where_it_was,
    workers_of_one_consumer_do_each_event_once,
    names_and_positions_are_checked,
];

async fn a_consumer_goes_on_from_where_it_was(db: TestDb) {
    let system = db.system();
    let other = db.store_with(settings()).await;
    assert_eq!(db.store.feed().checkpoint("mailer").await.unwrap(), None);
    let begin = db.store.feed().now().await.unwrap();
    system.feed().advance("mailer", None, &begin).await.unwrap();
    assert_eq!(other.feed().checkpoint("mailer").await.unwrap(), Some(begin.clone()));
    assert_eq!(other.feed().checkpoint("indexer").await.unwrap(), None);
    let moved = || Conflict::CheckpointMoved {
        consumer: "mailer".to_owned(),
    };
    assert_eq!(conflict(system.feed().advance("mailer", None, &begin).await), moved());

    db.user("ada").await;
    let later = db.store.feed().now().await.unwrap();
    assert_ne!(later, begin);
    assert_eq!(
        conflict(system.feed().advance("mailer", Some(&later), &later).await),
        moved()
    );
    let unit = db.store.begin(&Actor::system("mailer")).await.unwrap();
    unit.feed().advance("mailer", Some(&begin), &later).await.unwrap();
    assert_eq!(unit.feed().checkpoint("mailer").await.unwrap(), Some(later.clone()));
    unit.roll_back().await.unwrap();
    assert_eq!(db.store.feed().checkpoint("mailer").await.unwrap(), Some(begin.clone()));
    system.feed().advance("mailer", Some(&begin), &later).await.unwrap();
    assert_eq!(
        conflict(system.feed().advance("mailer", Some(&begin), &later).await),
        moved()
    );
    assert_eq!(other.feed().checkpoint("mailer").await.unwrap(), Some(later));
}

/// Reads a few events of a room and notes each in another room, in the unit that moves the checkpoint. False at the end.
async fn work(store: &Store, from: RoomId, to: RoomId, begin: &FeedPosition) -> Result<bool, Error> {
    let checkpoint = store.feed().checkpoint("copier").await?;
    let position = checkpoint.as_ref().unwrap_or(begin);
    let batch = store.feed().read(&FeedFilter::of_room(from), position, 7).await?;
    if batch.events.is_empty() && batch.is_end {
        return Ok(false);
    }
    let (checkpoint, batch) = (&checkpoint, &batch);
    let copy = |unit: Unit| async move {
        for event in &batch.events {
            let producer_id = event.entry.id.to_string();
            unit.audit()
                .append(Some(to), Observation::ProducerClosed { producer_id })
                .await?;
        }
        unit.feed()
            .advance("copier", checkpoint.as_ref(), &batch.position)
            .await
    };
    match store.transact(&Actor::system("copier"), copy).await {
        Ok(()) | Err(Error::Conflict(Conflict::CheckpointMoved { .. })) => Ok(true),
        Err(error) => Err(error),
    }
}

async fn workers_of_one_consumer_do_each_event_once(db: TestDb) {
    let ada = db.user("ada").await;
    let (from, to) = (db.room(&ada, 5).await.id, db.room(&ada, 5).await.id);
    let begin = db.store.feed().now().await.unwrap();
    let system = db.system();
    for _ in 0..100 {
        let (target, kind) = (ada.id, MediaKind::Audio);
        system
            .audit()
            .append(Some(from), Observation::UserMuted { target, kind })
            .await
            .unwrap();
    }
    let other = db.store_with(settings()).await;
    let stores = [db.store.clone(), other];
    let worker = |number: usize| {
        let (store, begin) = (stores[number % 2].clone(), begin.clone());
        async move { while work(&store, from, to, &begin).await.unwrap() {} }
    };
    race((0..8).map(worker)).await;
    let mut copied = BTreeMap::<String, usize>::new();
    let batch = db
        .store
        .feed()
        .read(&FeedFilter::of_room(to), &begin, 1_000)
        .await
        .unwrap();
    for event in batch.events {
        if let AuditEvent::Observation(Observation::ProducerClosed { producer_id }) = event.entry.event {
            *copied.entry(producer_id).or_default() += 1;
        }
    }
    assert_eq!(copied.len(), 100);
    assert!(copied.values().all(|times| *times == 1), "{copied:?}");
}

async fn names_and_positions_are_checked(db: TestDb) {
    let system = db.system();
    let now = db.store.feed().now().await.unwrap();
    for name in ["", " ", "a\nb", &"x".repeat(101)] {
        assert!(
            matches!(system.feed().advance(name, None, &now).await, Err(Error::Invalid(_))),
            "{name:?}"
        );
        assert!(
            matches!(db.store.feed().checkpoint(name).await, Err(Error::Invalid(_))),
            "{name:?}"
        );
    }
    let elsewhere = match now.to_string().starts_with("sqlite") {
        true => "postgres;725:725:",
        false => "sqlite;17",
    };
    let elsewhere: FeedPosition = elsewhere.parse().unwrap();
    assert!(matches!(
        system.feed().advance("mailer", None, &elsewhere).await,
        Err(Error::Invalid(_))
    ));
    // What somebody wrote past the store.
    let raw = db.raw().await;
    let time = match raw.backend() {
        sea_orm::DbBackend::Sqlite => "'2026-01-01T00:00:00+00:00'",
        _ => "now()",
    };
    raw.run(&format!(
        "INSERT INTO feed_checkpoints (consumer, position, updated_at) VALUES ('mailer', 'nowhere', {time})"
    ))
    .await;
    assert!(matches!(
        db.store.feed().checkpoint("mailer").await,
        Err(Error::Corrupt { .. })
    ));
}
