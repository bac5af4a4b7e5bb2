//! The queue of files to purge: the file of a deleted recording is due until it is confirmed to be gone, whatever becomes of the
//! workers, and a recording whose file was handed out does not come back.

use std::collections::HashSet;
use std::time::Duration;

use chrono::TimeDelta;
use conferencing_store::clock::Clock;
use conferencing_store::entity::RecordingId;
use conferencing_store::entity::RecordingStatus::{Ready, Started, Stopped};
use conferencing_store::{Acting, Actor, Error, Rejected, Store, StoreSettings, StoredFile};
use sea_orm::{DbBackend, Statement};

use crate::harness::{Backend, TestDb, race, settings};
use crate::recordings::{events, rejected};
use crate::recordings_sweeps::{Stage, each_once, let_sweep, many};

crate::cases![
    every_deleted_file_is_due_until_it_is_confirmed,
    a_file_is_kept_back_while_its_recording_can_be_restored,
    a_worker_that_dies_loses_no_file,
    workers_share_the_queue,
    a_claim_that_is_rolled_back_took_nothing,
    what_was_handed_out_is_not_restored,
    what_was_restored_is_not_purged,
    restores_race_with_workers,
    a_claim_walks_its_index,
];

const LEASE: Duration = Duration::from_secs(60);

/// A worker of a store of its own that keeps nothing back, on the stage's clock.
async fn worker(db: &TestDb, stage: &Stage) -> (Store, Acting) {
    let settings = StoreSettings {
        clock: stage.clock.clone(),
        purge_grace: Duration::ZERO,
        ..settings()
    };
    let store = db.store_with(settings).await;
    let acting = store.acting(&Actor::system("worker"));
    (store, acting)
}

/// One that its owner deleted.
async fn deleted(stage: &Stage, tag: &str) -> RecordingId {
    let id = stage.recording(Stopped, tag).await;
    stage.sweeper.recordings().delete(id).await.unwrap();
    id
}

/// The keys of what is due, in order.
async fn claim(worker: &Acting, limit: u16) -> Vec<String> {
    let files = worker.recordings().claim_purges(limit, LEASE).await.unwrap();
    let mut keys: Vec<String> = files.into_iter().map(|file| file.storage_key).collect();
    keys.sort_unstable();
    keys
}

async fn every_deleted_file_is_due_until_it_is_confirmed(db: TestDb) {
    let stage = Stage::set(&db).await;
    let (_store, worker) = worker(&db, &stage).await;
    let nothing: [String; 0] = [];
    let kept = stage.recording(Ready, "kept").await;
    assert_eq!(claim(&worker, 10).await, nothing);
    // By its owner, by a sweep, with its owner; the sweep's file is in nobody's hands but the sweeper's, who does nothing.
    let by_hand = deleted(&stage, "1 \"ü\\").await;
    stage.clock.advance(TimeDelta::minutes(1));
    let expired = stage.expiring(Ready, "2", 1).await;
    stage.clock.advance(TimeDelta::minutes(1));
    assert_eq!(stage.sweeper.recordings().sweep_expired(10).await.unwrap().len(), 1);
    stage.clock.advance(TimeDelta::minutes(1));
    let ben = db.user("ben").await;
    let of_ben = crate::recordings::recording_in(&stage.sweeper, stage.room.id, ben.id, Started, "3").await;
    stage.sweeper.users().erase(ben.id).await.unwrap();

    let (raw, before) = (
        db.raw().await,
        stage.store.recordings().deleted().get(by_hand).await.unwrap(),
    );
    let recorded = events(&raw).await.len();
    let file = |recording, key: &str| StoredFile {
        recording,
        storage_bucket: "media".to_owned(),
        storage_key: key.to_owned(),
    };
    let first = worker.recordings().claim_purges(1, LEASE).await.unwrap();
    assert_eq!(first, [file(by_hand, "1 \"ü\\")], "the longest deleted");
    assert_eq!(claim(&worker, 10).await, ["2", "3"]);
    assert_eq!(claim(&worker, 10).await, nothing, "somebody is at all of them");
    let claimed = stage.store.recordings().deleted().get(by_hand).await.unwrap();
    assert_eq!(claimed.purge_claimed_until, Some(stage.clock.now() + LEASE));
    assert_eq!((claimed.updated_at, claimed.purged_at), (before.updated_at, None));

    let confirmed = worker.recordings().confirm_purged(&[expired, kept]).await.unwrap();
    assert_eq!(confirmed, [expired], "nothing is purged that is not deleted");
    let purged = stage.store.recordings().deleted().get(expired).await.unwrap();
    assert_eq!(
        (purged.purged_at, purged.updated_at),
        (Some(stage.clock.now()), stage.clock.now())
    );
    // Who could not purge their files says nothing, and they are due again.
    stage.clock.advance(TimeDelta::seconds(59));
    assert_eq!(claim(&worker, 10).await, nothing);
    stage.clock.advance(TimeDelta::seconds(1));
    assert_eq!(claim(&worker, 10).await, ["1 \"ü\\", "3"]);
    let unknown = RecordingId::from_uuid(uuid::Uuid::from_u128(7));
    let all = [by_hand, expired, of_ben, unknown, by_hand];
    let confirmed: HashSet<_> = worker
        .recordings()
        .confirm_purged(&all)
        .await
        .unwrap()
        .into_iter()
        .collect();
    assert_eq!(confirmed, HashSet::from([by_hand, of_ben]));
    assert_eq!(worker.recordings().confirm_purged(&all).await.unwrap(), []);
    assert_eq!(worker.recordings().confirm_purged(&[]).await.unwrap(), []);
    assert_eq!(
        stage.store.recordings().deleted().get(expired).await.unwrap(),
        purged,
        "once and for all"
    );
    stage.clock.advance(TimeDelta::days(1000));
    assert_eq!(claim(&worker, 10).await, nothing);
    assert_eq!(events(&raw).await.len(), recorded, "the audit log is not told");
    assert_eq!(
        stage.store.recordings().get(kept).await.unwrap().purge_claimed_until,
        None
    );
}

async fn a_file_is_kept_back_while_its_recording_can_be_restored(db: TestDb) {
    let stage = Stage::set(&db).await;
    let id = deleted(&stage, "a").await;
    let nothing: [String; 0] = [];
    stage.clock.advance(TimeDelta::days(7) - TimeDelta::microseconds(1));
    assert_eq!(claim(&stage.sweeper, 1).await, nothing, "a week, unless told otherwise");
    stage.sweeper.recordings().deleted().restore(id).await.unwrap();
    stage.sweeper.recordings().delete(id).await.unwrap();
    stage.clock.advance(TimeDelta::days(7) - TimeDelta::microseconds(1));
    assert_eq!(
        claim(&stage.sweeper, 1).await,
        nothing,
        "counted from the last deletion"
    );
    stage.clock.advance(TimeDelta::microseconds(1));
    assert_eq!(claim(&stage.sweeper, 1).await, ["a"]);

    // Who never purges says so.
    deleted(&stage, "b").await;
    let settings = StoreSettings {
        clock: stage.clock.clone(),
        purge_grace: Duration::MAX,
        ..settings()
    };
    let never = db.store_with(settings).await.acting(&Actor::system("worker"));
    stage.clock.advance(TimeDelta::days(300));
    assert_eq!(claim(&never, 10).await, nothing);
}

async fn a_worker_that_dies_loses_no_file(db: TestDb) {
    let stage = Stage::set(&db).await;
    let id = deleted(&stage, "a").await;
    let (store, dying) = worker(&db, &stage).await;
    assert_eq!(claim(&dying, 10).await, ["a"]);
    // It has the file's name in its memory alone, and whether it purged the file nobody knows.
    drop(dying);
    store.close().await.unwrap();

    let (_store, next) = worker(&db, &stage).await;
    let nothing: [String; 0] = [];
    stage.clock.advance(TimeDelta::seconds(60) - TimeDelta::microseconds(1));
    assert_eq!(claim(&next, 10).await, nothing);
    stage.clock.advance(TimeDelta::microseconds(1));
    assert_eq!(claim(&next, 10).await, ["a"]);
    assert_eq!(next.recordings().confirm_purged(&[id]).await.unwrap(), [id]);
}

async fn workers_share_the_queue(db: TestDb) {
    let stage = Stage::set(&db).await;
    let set = "status = 'STOPPED', stopped_at = started_at, duration_seconds = 0, deleted_at = started_at";
    many(&stage, &db, 200, set).await;
    let took = let_sweep(&db, &stage, |worker| async move {
        let files = worker.recordings().claim_purges(7, LEASE).await?;
        let purged: Vec<RecordingId> = files.iter().map(|file| file.recording).collect();
        let confirmed = worker.recordings().confirm_purged(&purged).await?;
        assert_eq!(confirmed.len(), purged.len());
        Ok(purged)
    })
    .await;
    each_once(took.into_iter().flatten(), 200);
    let raw = db.raw().await;
    let purged = "SELECT count(*) FROM recordings WHERE purged_at IS NOT NULL";
    assert_eq!(raw.number(purged).await, 200);
}

async fn a_claim_that_is_rolled_back_took_nothing(db: TestDb) {
    let stage = Stage::set(&db).await;
    let (store, worker) = worker(&db, &stage).await;
    deleted(&stage, "a").await;
    stage.clock.advance(TimeDelta::seconds(1));
    deleted(&stage, "free").await;
    let unit = store.begin(&Actor::system("worker")).await.unwrap();
    let taken = unit.recordings().claim_purges(1, LEASE).await.unwrap();
    assert_eq!(taken[0].storage_key, "a");
    if db.backend == Backend::Postgres {
        // Another worker does not wait for it. On SQLite there is one writer at a time.
        let others = tokio::time::timeout(Duration::from_secs(20), claim(&worker, 10)).await;
        assert_eq!(others.unwrap(), ["free"]);
    }
    unit.roll_back().await.unwrap();
    assert_eq!(claim(&worker, 1).await, ["a"]);
}

async fn what_was_handed_out_is_not_restored(db: TestDb) {
    let stage = Stage::set(&db).await;
    let (_store, worker) = worker(&db, &stage).await;
    let (claimed, confirmed) = (deleted(&stage, "claimed").await, deleted(&stage, "confirmed").await);
    let refused = async |recording| {
        let row = stage.store.recordings().deleted().get(recording).await.unwrap();
        for acting in [&stage.sweeper, &db.acting(&stage.ada)] {
            let back = acting.recordings().deleted().restore(recording).await;
            assert_eq!(rejected(back), Rejected::FileHandedOut { recording });
        }
        assert_eq!(stage.store.recordings().deleted().get(recording).await.unwrap(), row);
    };
    // Confirmed without a claim, as after a sweep.
    worker.recordings().confirm_purged(&[confirmed]).await.unwrap();
    refused(confirmed).await;
    assert_eq!(claim(&worker, 10).await, ["claimed"]);
    refused(claimed).await;
    stage.clock.advance(TimeDelta::days(1));
    refused(claimed).await;
    worker.recordings().confirm_purged(&[claimed]).await.unwrap();
    refused(claimed).await;
}

async fn what_was_restored_is_not_purged(db: TestDb) {
    let stage = Stage::set(&db).await;
    let (_store, worker) = worker(&db, &stage).await;
    let id = deleted(&stage, "a").await;
    stage.sweeper.recordings().deleted().restore(id).await.unwrap();
    let row = stage.store.recordings().get(id).await.unwrap();
    let nothing: [String; 0] = [];
    assert_eq!(claim(&worker, 10).await, nothing);
    assert_eq!(worker.recordings().confirm_purged(&[id]).await.unwrap(), []);
    assert_eq!(stage.store.recordings().get(id).await.unwrap(), row);
}

/// What became of one of the 32.
enum Outcome {
    Restored(RecordingId),
    Refused,
    HandedOut(Vec<RecordingId>),
    Confirmed(Vec<RecordingId>),
}

async fn restores_race_with_workers(db: TestDb) {
    let stage = Stage::set(&db).await;
    let (_store, worker) = worker(&db, &stage).await;
    let (mut back, mut gone) = (HashSet::new(), HashSet::new());
    for round in 0..4 {
        let mut ids = Vec::new();
        for number in 0..16 {
            ids.push(deleted(&stage, &format!("race {round} {number}")).await);
        }
        let tasks = (0..32).map(|number| {
            let (restoring, worker, id) = (stage.sweeper.clone(), worker.clone(), ids[number / 2]);
            async move {
                match number % 8 {
                    // A worker that was handed the file by something else, and one that asks the queue.
                    1 => Outcome::Confirmed(worker.recordings().confirm_purged(&[id]).await.unwrap()),
                    3 => {
                        let files = worker.recordings().claim_purges(3, LEASE).await.unwrap();
                        Outcome::HandedOut(files.into_iter().map(|file| file.recording).collect())
                    }
                    _ => match restoring.recordings().deleted().restore(id).await {
                        Ok(_) => Outcome::Restored(id),
                        Err(Error::NotFound(_) | Error::Rejected(Rejected::FileHandedOut { .. })) => Outcome::Refused,
                        Err(error) => panic!("{error:?}"),
                    },
                }
            }
        });
        for outcome in race(tasks).await {
            match outcome {
                Outcome::Restored(id) => assert!(back.insert(id), "restored twice"),
                Outcome::HandedOut(ids) | Outcome::Confirmed(ids) => gone.extend(ids),
                Outcome::Refused => {}
            }
        }
    }
    assert!(back.is_disjoint(&gone), "restored, and its file handed out");
    assert!(!gone.is_empty() && !back.is_empty());
    for id in back {
        let row = stage.store.recordings().get(id).await.unwrap();
        assert_eq!((row.purge_claimed_until, row.purged_at), (None, None));
    }
    for id in gone {
        stage.store.recordings().deleted().get(id).await.unwrap();
    }
}

/// Beside many that are not deleted, and many that are purged, whatever the database believes of them.
async fn a_claim_walks_its_index(db: TestDb) {
    let stage = Stage::set(&db).await;
    let (raw, backend) = (db.raw().await, db.raw().await.backend());
    let seen = format!("room_id = {}", raw.id(stage.room.id.as_uuid()));
    let copy = |count: u32, key: &str, deleted_at: &str, purged_at: &str| {
        let (id, number) = match backend {
            DbBackend::Sqlite => (
                "randomblob(16)",
                format!("WITH RECURSIVE s(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s WHERE n < {count}) "),
            ),
            _ => (
                "gen_random_uuid()",
                format!("WITH s AS (SELECT n FROM generate_series(1, {count}) AS n) "),
            ),
        };
        format!(
            "INSERT INTO recordings (id, room_id, owner_id, storage_key, storage_bucket, filename, status, started_at, stopped_at,
                retry_count, is_public, deleted_at, purged_at, created_at, updated_at)
            {number}SELECT {id}, room_id, owner_id, '{key}' || n, 'b', 'f', 'STOPPED', started_at, started_at, 0, FALSE,
                {deleted_at}, {purged_at}, created_at, updated_at
            FROM recordings, s WHERE storage_key = 'first' AND {seen}"
        )
    };
    stage.recording(Stopped, "first").await;
    raw.run(&copy(3000, "live", "NULL", "NULL")).await;
    raw.run(&copy(3000, "purged", "started_at", "started_at")).await;
    raw.run(&copy(50, "due", "started_at", "NULL")).await;
    raw.run("ANALYZE").await;
    let listed = conferencing_store::statements::list(backend).await;
    let claims = listed.into_iter().filter(|one| one.name == "recordings.claim_purges");
    let mut plans = String::new();
    for listed in claims.filter(|one| one.statement.sql.contains("ORDER BY deleted_at")) {
        let explain = match backend {
            DbBackend::Sqlite => "EXPLAIN QUERY PLAN ",
            _ => "EXPLAIN ",
        };
        let sql = format!("{explain}{}", listed.statement.sql);
        let explain = match listed.statement.values {
            Some(values) => Statement::from_sql_and_values(backend, sql, values.0),
            None => Statement::from_string(backend, sql),
        };
        for row in sea_orm::ConnectionTrait::query_all_raw(&raw.db, explain).await.unwrap() {
            let place = usize::from(backend == DbBackend::Sqlite) * 3;
            plans.push_str(&row.try_get_by_index::<String>(place).unwrap());
            plans.push('\n');
        }
    }
    assert!(plans.contains("ix_recordings_purge"), "{plans}");
    assert!(
        !plans.contains("Seq Scan") && !plans.contains("SCAN recordings"),
        "{plans}"
    );
    assert!(!plans.contains("Sort") && !plans.contains("TEMP B-TREE"), "{plans}");
}
