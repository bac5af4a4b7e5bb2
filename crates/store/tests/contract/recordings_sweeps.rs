//! The sweeps: what has expired is deleted, what is stuck has failed, and sweepers share the work.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use conferencing_store::authority::{ActorRole, Operation};
use conferencing_store::clock::{Clock, ManualClock};
use conferencing_store::entity::RecordingStatus::{Failed, InProgress, Processing, Ready, Started, Stopped};
use conferencing_store::entity::{RecordingId, RecordingStatus, room, user};
use conferencing_store::{Acting, Actor, Change, Error, Rejected, SweptRecording};

use crate::harness::{Backend, TestDb};
use crate::recordings::{events, live_room, recording_in, rejected, told_of};

crate::cases![
    what_has_expired_is_deleted_and_handed_out,
    sweepers_share_the_expired,
    what_is_stuck_has_failed,
    sweepers_share_the_stuck,
    a_sweep_that_is_rolled_back_took_nothing,
    sweeps_are_for_the_platform,
];

/// A stage whose clock is moved by hand.
pub struct Stage {
    pub store: conferencing_store::Store,
    pub clock: Arc<ManualClock>,
    pub sweeper: Acting,
    pub ada: user::Model,
    pub room: room::Model,
}

impl Stage {
    pub async fn set(db: &TestDb) -> Self {
        let ada = db.user("ada").await;
        let room = live_room(db, &ada).await;
        let (store, clock) = db.with_manual_clock().await;
        let sweeper = store.acting(&Actor::system("sweeper"));
        Self {
            store,
            clock,
            sweeper,
            ada,
            room,
        }
    }

    pub async fn recording(&self, status: RecordingStatus, tag: &str) -> RecordingId {
        recording_in(&self.sweeper, self.room.id, self.ada.id, status, tag).await
    }

    /// One that expires in so many minutes.
    pub async fn expiring(&self, status: RecordingStatus, tag: &str, minutes: i64) -> RecordingId {
        let id = self.recording(status, tag).await;
        let expires_at = self.clock.now() + TimeDelta::minutes(minutes);
        self.sweeper
            .recordings()
            .set_expiry(id, Some(expires_at))
            .await
            .unwrap();
        id
    }

    fn swept(&self, id: RecordingId, tag: &str) -> SweptRecording {
        SweptRecording {
            id,
            room_id: self.room.id,
            storage_bucket: "media".to_owned(),
            storage_key: tag.to_owned(),
        }
    }
}

async fn what_has_expired_is_deleted_and_handed_out(db: TestDb) {
    let stage = Stage::set(&db).await;
    assert_eq!(stage.sweeper.recordings().sweep_expired(10).await.unwrap(), []);
    let third = stage.expiring(Failed, "3 \"ü\\", 3).await;
    let first = stage.expiring(Ready, "1", 1).await;
    let second = stage.expiring(Processing, "2", 2).await;
    let running = [
        stage.expiring(Started, "s", 1).await,
        stage.expiring(InProgress, "p", 1).await,
    ];
    let later = stage.expiring(Stopped, "later", 4).await;
    let never = stage.recording(Stopped, "never").await;
    let gone = stage.expiring(Stopped, "gone", 1).await;
    stage.sweeper.recordings().delete(gone).await.unwrap();
    let before = told_of(&db, stage.room.id).await.len();

    stage.clock.advance(TimeDelta::minutes(3));
    let recordings = stage.sweeper.recordings();
    let mut longest_due = recordings.sweep_expired(2).await.unwrap();
    longest_due.sort_by_key(|swept| swept.storage_key.clone());
    assert_eq!(longest_due, [stage.swept(first, "1"), stage.swept(second, "2")]);
    assert_eq!(
        recordings.sweep_expired(2).await.unwrap(),
        [stage.swept(third, "3 \"ü\\")]
    );
    assert_eq!(recordings.sweep_expired(2).await.unwrap(), []);
    for id in [first, second, third] {
        let row = stage.store.recordings().deleted().get(id).await.unwrap();
        assert_eq!(
            (row.deleted_at, row.updated_at),
            (Some(stage.clock.now()), stage.clock.now())
        );
    }
    for id in [running[0], running[1], later, never] {
        stage.store.recordings().get(id).await.unwrap();
    }
    let recorded = told_of(&db, stage.room.id).await.split_off(before);
    let deleted = |recording| Change::RecordingDeleted {
        recording,
        expired: true,
    };
    let mut expected = [first, second];
    expected.sort();
    assert_eq!(recorded, [expected[0], expected[1], third].map(deleted));

    // What ran is swept once it stops; what was swept does not come back.
    stage.sweeper.rooms().end(stage.room.id).await.unwrap();
    let swept: HashSet<_> = recordings
        .sweep_expired(9)
        .await
        .unwrap()
        .into_iter()
        .map(|swept| swept.id)
        .collect();
    assert_eq!(swept, HashSet::from(running));
    let back = stage.sweeper.recordings().deleted().restore(first).await;
    assert!(matches!(rejected(back), Rejected::RecordingExpired { recording, .. } if recording == first));
    let back = db.system().recordings().deleted().restore(first).await;
    assert!(
        matches!(rejected(back), Rejected::RecordingExpired { .. }),
        "not by a clock that is behind either"
    );
}

/// Makes `count` recordings and hands their state to SQL.
pub async fn many(stage: &Stage, db: &TestDb, count: usize, set: &str) {
    for number in 0..count {
        stage.recording(Started, &format!("many {number}")).await;
    }
    db.raw()
        .await
        .execute(&format!("UPDATE recordings SET {set}"))
        .await
        .unwrap();
}

/// Lets four sweepers, each with a pool of its own, sweep until there is nothing left. Returns what each took.
pub async fn let_sweep<T, F>(db: &TestDb, stage: &Stage, sweep: fn(Acting) -> F) -> Vec<Vec<T>>
where
    T: Send + 'static,
    F: Future<Output = Result<Vec<T>, Error>> + Send + 'static,
{
    let start = Arc::new(tokio::sync::Barrier::new(4));
    let mut tasks = Vec::new();
    for _ in 0..4 {
        let settings = conferencing_store::StoreSettings {
            clock: stage.clock.clone(),
            purge_grace: Duration::ZERO,
            ..conferencing_store::StoreSettings::default()
        };
        let sweeper = db.store_with(settings).await.acting(&Actor::system("sweeper"));
        let start = start.clone();
        tasks.push(tokio::spawn(async move {
            start.wait().await;
            let (mut took, mut empty) = (Vec::new(), 0);
            // Nothing may mean that others are at it, so it looks again a few times.
            while empty < 5 {
                let some = sweep(sweeper.clone()).await.unwrap();
                empty = if some.is_empty() { empty + 1 } else { 0 };
                took.extend(some);
            }
            took
        }));
    }
    let mut took = Vec::new();
    for task in tasks {
        took.push(task.await.unwrap());
    }
    took
}

pub fn each_once(took: impl IntoIterator<Item = RecordingId>, count: usize) {
    let all: Vec<RecordingId> = took.into_iter().collect();
    let distinct: HashSet<RecordingId> = all.iter().copied().collect();
    assert_eq!((all.len(), distinct.len()), (count, count));
}

/// One event for each recording, and no id twice.
async fn told_once_each(db: &TestDb, action: &str, count: i64) {
    let raw = db.raw().await;
    let of = format!("FROM audit_logs WHERE action = '{action}'");
    assert_eq!(raw.number(&format!("SELECT count(*) {of}")).await, count);
    let member = match raw.backend() {
        sea_orm::DbBackend::Sqlite => "metadata ->> '$.recording'",
        _ => "metadata ->> 'recording'",
    };
    assert_eq!(
        raw.number(&format!("SELECT count(DISTINCT {member}) {of}")).await,
        count
    );
    let known = match raw.backend() {
        sea_orm::DbBackend::Sqlite => format!("SELECT lower(replace({member}, '-', '')) {of}"),
        _ => format!("SELECT replace({member}, '-', '') {of}"),
    };
    let id = match raw.backend() {
        sea_orm::DbBackend::Sqlite => "lower(hex(id))",
        _ => "replace(CAST(id AS text), '-', '')",
    };
    let matching = format!("SELECT count(*) FROM recordings WHERE {id} IN ({known})");
    assert_eq!(raw.number(&matching).await, count, "each event names its recording");
}

async fn sweepers_share_the_expired(db: TestDb) {
    let stage = Stage::set(&db).await;
    let set = "status = 'STOPPED', stopped_at = started_at, duration_seconds = 0, expires_at = started_at";
    many(&stage, &db, 200, set).await;
    stage.clock.advance(TimeDelta::minutes(1));
    let took = let_sweep(&db, &stage, |sweeper| async move {
        sweeper.recordings().sweep_expired(7).await
    })
    .await;
    each_once(took.iter().flatten().map(|swept| swept.id), 200);
    told_once_each(&db, "RECORDING_DELETED", 200).await;
    let raw = db.raw().await;
    assert_eq!(
        raw.number("SELECT count(*) FROM recordings WHERE deleted_at IS NULL")
            .await,
        0
    );
}

async fn what_is_stuck_has_failed(db: TestDb) {
    let stage = Stage::set(&db).await;
    let recordings = stage.sweeper.recordings();
    let minutes = |count: u64| Duration::from_secs(60 * count);
    let silent = stage.recording(Started, "silent").await;
    let stopped = stage.recording(Stopped, "stopped").await;
    stage.clock.advance(TimeDelta::minutes(1));
    let alive = stage.recording(InProgress, "alive").await;
    stage.clock.advance(TimeDelta::minutes(4));
    assert_eq!(
        recordings.sweep_stuck(minutes(5), 10).await.unwrap(),
        [],
        "five minutes are not longer than five"
    );
    stage.clock.advance(TimeDelta::seconds(150));
    recordings.progress(alive).await.unwrap();
    let before = told_of(&db, stage.room.id).await.len();
    assert_eq!(
        recordings.sweep_stuck(minutes(5), 10).await.unwrap(),
        [stage.swept(silent, "silent")]
    );
    assert_eq!(recordings.sweep_stuck(minutes(5), 10).await.unwrap(), []);
    let row = stage.store.recordings().get(silent).await.unwrap();
    assert_eq!(
        (row.status, row.error_message.as_deref()),
        (Failed, Some("no progress for 300 s"))
    );
    assert_eq!(
        (row.stopped_at, row.duration_seconds),
        (Some(row.started_at), Some(0)),
        "its last sign of life"
    );
    assert_eq!(stage.store.recordings().get(alive).await.unwrap().status, InProgress);
    assert_eq!(stage.store.recordings().get(stopped).await.unwrap().status, Stopped);
    let recorded = told_of(&db, stage.room.id).await.split_off(before);
    let message = "no progress for 300 s".to_owned();
    assert_eq!(
        recorded,
        [Change::RecordingFailed {
            recording: silent,
            message,
            stuck: true
        }]
    );

    stage.clock.advance(TimeDelta::minutes(6));
    assert_eq!(
        recordings.sweep_stuck(minutes(5), 10).await.unwrap(),
        [stage.swept(alive, "alive")]
    );
    let row = stage.store.recordings().get(alive).await.unwrap();
    assert_eq!(row.duration_seconds, Some(390), "until its last sign of life");
    assert_eq!(recordings.sweep_stuck(Duration::MAX, 10).await.unwrap(), []);
    assert_eq!(recordings.retry(silent).await.unwrap().status, Processing);
}

async fn sweepers_share_the_stuck(db: TestDb) {
    let stage = Stage::set(&db).await;
    many(&stage, &db, 60, "status = 'IN_PROGRESS'").await;
    stage.clock.advance(TimeDelta::minutes(1));
    let took = let_sweep(&db, &stage, |sweeper| async move {
        sweeper.recordings().sweep_stuck(Duration::from_secs(30), 7).await
    })
    .await;
    each_once(took.iter().flatten().map(|swept| swept.id), 60);
    told_once_each(&db, "RECORDING_FAILED", 60).await;
    let raw = db.raw().await;
    assert_eq!(
        raw.number("SELECT count(*) FROM recordings WHERE status = 'FAILED'")
            .await,
        60
    );
}

async fn a_sweep_that_is_rolled_back_took_nothing(db: TestDb) {
    let stage = Stage::set(&db).await;
    let id = stage.expiring(Ready, "a", 1).await;
    let free = stage.expiring(Ready, "free", 2).await;
    stage.clock.advance(TimeDelta::minutes(2));
    let raw = db.raw().await;
    let (before, mut recorded) = (events(&raw).await.len(), 0);
    let unit = stage.store.begin(&Actor::system("sweeper")).await.unwrap();
    assert_eq!(
        unit.recordings().sweep_expired(1).await.unwrap(),
        [stage.swept(id, "a")]
    );
    if db.backend == Backend::Postgres {
        // Another sweeper does not wait for it. On SQLite there is one writer at a time.
        let other = stage.sweeper.recordings();
        let swept = tokio::time::timeout(Duration::from_secs(20), other.sweep_expired(10)).await;
        assert_eq!(swept.unwrap().unwrap(), [stage.swept(free, "free")]);
        recorded = 1;
    }
    unit.roll_back().await.unwrap();
    assert_eq!(events(&raw).await.len(), before + recorded);
    let took = stage.sweeper.recordings().sweep_expired(1).await.unwrap();
    assert_eq!(took, [stage.swept(id, "a")]);
}

async fn sweeps_are_for_the_platform(db: TestDb) {
    let ada = db.user("ada").await;
    let refusal = Rejected::NotAllowed {
        operation: Operation::ProcessRecording,
        actor_role: ActorRole::Outsider,
        room: None,
        user: None,
    };
    let acting = db.acting(&ada);
    assert_eq!(rejected(acting.recordings().sweep_expired(1).await), refusal);
    assert_eq!(
        rejected(acting.recordings().sweep_stuck(Duration::from_secs(9), 1).await),
        refusal
    );
    let claim = acting.recordings().claim_purges(1, Duration::from_secs(9)).await;
    assert_eq!(rejected(claim), refusal);
    assert_eq!(rejected(acting.recordings().confirm_purged(&[]).await), refusal);
    let raw = db.raw().await;
    assert_eq!(events(&raw).await[1..], ["UNAUTHORIZED_ACCESS_ATTEMPT"; 4]);
}
