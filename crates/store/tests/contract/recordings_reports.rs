//! What a media server reports of its recorders: late, twice, in any order, and it is recorded as in the right one.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use conferencing_store::clock::ManualClock;
use conferencing_store::entity::RecordingStatus::{Failed, InProgress, Processing, Ready, Started, Stopped};
use conferencing_store::entity::{RecordingId, RoomId, UserId, recording};
use conferencing_store::{
    Acting, Actor, Conflict, EgressReport, EgressState, Error, Order, PageRequest, RecordingMeasures, Rejected, Store,
    StoreSettings, Subject,
};
use std::sync::Arc;
use uuid::Uuid;

use crate::accounts_support::{appended, conflict, rejected};
use crate::harness::{Raw, TestDb, race, settings};
use crate::recordings::new_recording;

crate::cases![
    in_whatever_order_reports_come_they_leave_the_same,
    a_failure_is_a_failure_in_whatever_order,
    each_report_is_recorded_as_what_it_changed,
    a_recording_that_was_begun_here_gets_its_egress,
    a_late_report_leaves_what_has_gone_on,
    times_ahead_of_the_clock_are_now,
    an_egress_of_somebody_erased_is_due_for_purge,
    what_never_was_is_refused,
    ids_and_keys_are_one_recordings_alone,
    of_many_reports_at_once_one_records,
    reports_race_with_the_end_of_the_room,
    recordings_are_found_by_egress_and_by_key,
];

const MEASURES: RecordingMeasures<'static> = RecordingMeasures {
    size_bytes: Some(1_000),
    duration_seconds: None,
    codec: Some("h264"),
    resolution: Some("1920x1080"),
    fps: Some(30),
    bitrate: None,
};

struct Stage {
    store: Store,
    system: Acting,
    clock: Arc<ManualClock>,
    raw: Raw,
    owner: UserId,
    began: DateTime<Utc>,
}

impl Stage {
    async fn set(db: &TestDb) -> Self {
        let owner = db.user("ada").await.id;
        let (store, clock) = db.with_manual_clock().await;
        let began = store.begin(&Actor::system("media")).await.unwrap().now();
        Self {
            system: store.acting(&Actor::system("media")),
            store,
            clock,
            raw: db.raw().await,
            owner,
            began,
        }
    }

    /// A live room.
    async fn room(&self) -> RoomId {
        let room = conferencing_store::NewRoom::titled(self.owner, "A room");
        let room = self.system.rooms().create(room).await.unwrap().id;
        self.system.rooms().start(room).await.unwrap();
        room
    }

    fn at(&self, seconds: i64) -> DateTime<Utc> {
        self.began + TimeDelta::seconds(seconds)
    }

    fn report<'a>(&self, room: RoomId, egress_id: &'a str, state: EgressState<'a>) -> EgressReport<'a> {
        EgressReport {
            egress_id,
            room,
            owner: None,
            storage_bucket: "media",
            storage_key: egress_id,
            filename: "meeting.mp4",
            started_at: self.at(10),
            state,
        }
    }

    async fn tell(&self, room: RoomId, egress_id: &str, state: EgressState<'_>) -> recording::Model {
        let report = self.report(room, egress_id, state);
        self.system.recordings().report_egress(report).await.unwrap()
    }

    fn complete(&self) -> EgressState<'static> {
        EgressState::Complete {
            at: self.at(70),
            measures: MEASURES,
        }
    }

    fn failed(&self) -> EgressState<'static> {
        EgressState::Failed {
            at: self.at(70),
            message: "disk full",
        }
    }
}

/// All orders of so many things.
fn orders(things: usize) -> Vec<Vec<usize>> {
    if things == 0 {
        return vec![Vec::new()];
    }
    let insert = |order: &Vec<usize>, place: usize| {
        let mut order = order.clone();
        order.insert(place, things - 1);
        order
    };
    let shorter = orders(things - 1);
    let longer = shorter
        .iter()
        .flat_map(|order| (0..things).map(move |place| insert(order, place)));
    longer.collect()
}

/// What a recording has that depends on what happened, and not on when it was heard of or what it is called.
fn facts(row: recording::Model) -> recording::Model {
    recording::Model {
        id: RecordingId::from_uuid(Uuid::nil()),
        room_id: RoomId::from_uuid(Uuid::nil()),
        egress_id: None,
        storage_key: String::new(),
        created_at: DateTime::UNIX_EPOCH,
        updated_at: DateTime::UNIX_EPOCH,
        ..row
    }
}

/// Plays every order of starting, active, the end reported twice, and the end of the room; each must leave `expected`.
async fn play(stage: &Stage, end: EgressState<'_>, expected: impl Fn(&recording::Model)) {
    stage.clock.advance(TimeDelta::seconds(200));
    for (number, order) in orders(5).into_iter().enumerate() {
        let room = stage.room().await;
        let egress = format!("EG_{number}");
        for event in &order {
            match event {
                0 => drop(stage.tell(room, &egress, EgressState::Starting).await),
                1 => drop(stage.tell(room, &egress, EgressState::Active).await),
                2 => drop(stage.system.rooms().end(room).await.unwrap()),
                _ => drop(stage.tell(room, &egress, end).await),
            }
            stage.clock.advance(TimeDelta::seconds(1));
        }
        let row = stage
            .store
            .recordings()
            .find_by_egress_id(&egress)
            .await
            .unwrap()
            .unwrap();
        let all = stage
            .store
            .recordings()
            .list_of_room(room, &PageRequest::first(10, Order::OldestFirst).unwrap())
            .await
            .unwrap();
        assert_eq!(all.items.len(), 1, "{order:?}");
        expected(&facts(row));
    }
}

async fn in_whatever_order_reports_come_they_leave_the_same(db: TestDb) {
    let stage = Stage::set(&db).await;
    play(&stage, stage.complete(), |row| {
        assert_eq!(row.status, Stopped);
        assert_eq!(row.started_at, stage.at(10));
        assert_eq!(row.stopped_at, Some(stage.at(70)));
        assert_eq!(row.duration_seconds, Some(60));
        assert_eq!((row.size_bytes, row.fps, row.bitrate), (Some(1_000), Some(30), None));
        assert_eq!(row.codec.as_deref(), Some("h264"));
        assert_eq!(row.owner_id, stage.owner);
    })
    .await;
}

async fn a_failure_is_a_failure_in_whatever_order(db: TestDb) {
    let stage = Stage::set(&db).await;
    play(&stage, stage.failed(), |row| {
        assert_eq!(row.status, Failed);
        assert_eq!(row.error_message.as_deref(), Some("disk full"));
        assert_eq!((row.started_at, row.stopped_at), (stage.at(10), Some(stage.at(70))));
        assert_eq!(row.duration_seconds, Some(60));
    })
    .await;
}

async fn each_report_is_recorded_as_what_it_changed(db: TestDb) {
    let stage = Stage::set(&db).await;
    let room = stage.room().await;
    stage.clock.advance(TimeDelta::seconds(200));
    let (begun, events) = appended(&stage.raw, stage.tell(room, "EG_1", EgressState::Starting)).await;
    assert_eq!(begun.status, Started);
    assert_eq!(events, ["RECORDING_STARTED"]);
    let (_, events) = appended(&stage.raw, stage.tell(room, "EG_1", EgressState::Starting)).await;
    assert!(events.is_empty());
    let (active, events) = appended(&stage.raw, stage.tell(room, "EG_1", EgressState::Active)).await;
    assert_eq!((active.id, active.status), (begun.id, InProgress));
    assert_eq!(events, ["RECORDING_PROGRESSED"]);
    let (_, events) = appended(&stage.raw, stage.system.rooms().end(room)).await;
    assert_eq!(events, ["RECORDING_STOPPED", "ROOM_ENDED"]);
    let (_, events) = appended(&stage.raw, stage.tell(room, "EG_1", stage.complete())).await;
    assert_eq!(events, ["RECORDING_REPORTED"]);
    let before = stage.raw.snapshot().await;
    for state in [EgressState::Starting, EgressState::Active, stage.complete()] {
        stage.tell(room, "EG_1", state).await;
    }
    assert_eq!(stage.raw.snapshot().await, before);

    // The first that is heard of it is that it is over, and the room too.
    let (late, events) = appended(&stage.raw, stage.tell(room, "EG_2", stage.complete())).await;
    assert_eq!((late.status, late.stopped_at), (Stopped, Some(stage.at(70))));
    assert_eq!(events, ["RECORDING_STARTED", "RECORDING_STOPPED", "RECORDING_REPORTED"]);
    let other = stage.room().await;
    let (_, events) = appended(&stage.raw, stage.tell(other, "EG_3", stage.complete())).await;
    assert_eq!(events, ["RECORDING_STARTED", "RECORDING_STOPPED"]);
    let (_, events) = appended(&stage.raw, stage.tell(other, "EG_4", stage.failed())).await;
    assert_eq!(events, ["RECORDING_STARTED", "RECORDING_FAILED"]);
}

async fn a_recording_that_was_begun_here_gets_its_egress(db: TestDb) {
    let stage = Stage::set(&db).await;
    let room = stage.room().await;
    let begun = stage
        .system
        .recordings()
        .start(new_recording(room, stage.owner, "EG_1"))
        .await
        .unwrap();
    assert_eq!(begun.egress_id, None);
    let (told, events) = appended(&stage.raw, stage.tell(room, "EG_1", EgressState::Active)).await;
    assert_eq!(
        (told.id, told.egress_id.as_deref(), told.status),
        (begun.id, Some("EG_1"), InProgress)
    );
    // It began when the store says.
    assert_eq!(told.started_at, begun.started_at);
    assert_eq!(events, ["RECORDING_REPORTED", "RECORDING_PROGRESSED"]);

    let mut named = new_recording(room, stage.owner, "a key");
    named.egress_id = Some("EG_2");
    let named = stage.system.recordings().start(named).await.unwrap();
    assert_eq!(named.egress_id.as_deref(), Some("EG_2"));
    stage.clock.advance(TimeDelta::seconds(200));
    let (told, events) = appended(&stage.raw, stage.tell(room, "EG_2", stage.complete())).await;
    assert_eq!((told.id, told.storage_key.as_str()), (named.id, "a key"));
    assert_eq!(events, ["RECORDING_STOPPED"]);
}

async fn a_late_report_leaves_what_has_gone_on(db: TestDb) {
    let stage = Stage::set(&db).await;
    let room = stage.room().await;
    stage.clock.advance(TimeDelta::seconds(200));
    let id = stage.tell(room, "EG_1", EgressState::Active).await.id;
    let recordings = stage.system.recordings();
    recordings.stop(id, RecordingMeasures::default()).await.unwrap();
    recordings.process(id).await.unwrap();
    let told = stage.tell(room, "EG_1", stage.failed()).await;
    assert_eq!((told.status, told.error_message), (Processing, None));
    let measures = RecordingMeasures {
        size_bytes: Some(7),
        ..RecordingMeasures::default()
    };
    let ready = recordings.ready(id, "https://media.example/1", measures).await.unwrap();
    let told = stage.tell(room, "EG_1", stage.complete()).await;
    let expected = recording::Model {
        codec: Some("h264".to_owned()),
        resolution: Some("1920x1080".to_owned()),
        fps: Some(30),
        updated_at: told.updated_at,
        ..ready
    };
    assert_eq!((told.status, &told), (Ready, &expected));

    recordings.delete(id).await.unwrap();
    let before = stage.raw.snapshot().await;
    let told = stage.tell(room, "EG_1", EgressState::Active).await;
    assert!(told.deleted_at.is_some());
    assert_eq!(stage.raw.snapshot().await, before);

    // A sweep gave it up; what the file measures is taken all the same.
    let stuck = stage.tell(room, "EG_2", EgressState::Active).await;
    stage.clock.advance(TimeDelta::hours(2));
    recordings.sweep_stuck(Duration::from_secs(3600), 10).await.unwrap();
    let told = stage.tell(room, "EG_2", stage.complete()).await;
    assert_eq!((told.id, told.status, told.size_bytes), (stuck.id, Failed, Some(1_000)));
}

async fn times_ahead_of_the_clock_are_now(db: TestDb) {
    let stage = Stage::set(&db).await;
    let room = stage.room().await;
    // Ten seconds before the egress says that it began.
    let told = stage.tell(room, "EG_1", stage.complete()).await;
    assert_eq!((told.started_at, told.stopped_at), (stage.began, Some(stage.began)));
    assert_eq!(told.duration_seconds, Some(0));
    // Ended before it began.
    stage.clock.advance(TimeDelta::seconds(200));
    let early = EgressState::Complete {
        at: stage.at(5),
        measures: RecordingMeasures::default(),
    };
    let told = stage.tell(room, "EG_2", early).await;
    assert_eq!((told.started_at, told.stopped_at), (stage.at(10), Some(stage.at(10))));
}

async fn an_egress_of_somebody_erased_is_due_for_purge(db: TestDb) {
    let stage = Stage::set(&db).await;
    let room = stage.room().await;
    stage.clock.advance(TimeDelta::seconds(200));
    let settings = StoreSettings {
        clock: stage.clock.clone(),
        purge_grace: Duration::ZERO,
        ..settings()
    };
    let store = db.store_with(settings).await;
    let system = store.acting(&Actor::system("media"));
    system.users().erase(stage.owner).await.unwrap();
    let (told, events) = appended(&stage.raw, stage.tell(room, "EG_1", EgressState::Active)).await;
    assert_eq!((told.status, told.filename.as_str()), (Stopped, "Deleted recording"));
    assert_eq!(told.deleted_at, Some(stage.at(200)));
    assert_eq!(events, ["RECORDING_STARTED", "RECORDING_STOPPED", "RECORDING_DELETED"]);
    let files = system
        .recordings()
        .claim_purges(10, Duration::from_secs(60))
        .await
        .unwrap();
    assert_eq!(files.len(), 1);
    assert_eq!((files[0].recording, files[0].storage_key.as_str()), (told.id, "EG_1"));
    let (_, events) = appended(&stage.raw, stage.tell(room, "EG_1", stage.complete())).await;
    assert!(events.is_empty());
}

async fn what_never_was_is_refused(db: TestDb) {
    let stage = Stage::set(&db).await;
    let nobody = UserId::from_uuid(Uuid::from_u128(1));
    let nowhere = RoomId::from_uuid(Uuid::from_u128(2));
    let room = stage.room().await;
    let recordings = stage.system.recordings();
    let before = stage.raw.snapshot().await;
    let missing = recordings
        .report_egress(stage.report(nowhere, "EG_1", EgressState::Active))
        .await;
    assert_eq!(
        missing.unwrap_err().to_string(),
        Error::NotFound(Subject::Room(nowhere)).to_string()
    );
    let mut report = stage.report(room, "EG_1", EgressState::Active);
    report.owner = Some(nobody);
    let missing = recordings.report_egress(report).await;
    assert_eq!(
        missing.unwrap_err().to_string(),
        Error::NotFound(Subject::User(nobody)).to_string()
    );
    for (egress_id, key, filename) in [
        ("", "key", "name"),
        ("EG_1", "", "name"),
        ("EG_1", "purged:1", "name"),
        ("EG_1", "key", " "),
    ] {
        let report = EgressReport {
            egress_id,
            storage_key: key,
            filename,
            ..stage.report(room, "EG_1", EgressState::Active)
        };
        assert!(matches!(recordings.report_egress(report).await, Err(Error::Invalid(_))));
    }
    assert_eq!(stage.raw.snapshot().await, before);
    let owner = stage.store.acting(&Actor::user(stage.owner));
    let refused = owner
        .recordings()
        .report_egress(stage.report(room, "EG_1", EgressState::Active))
        .await;
    assert!(matches!(rejected(refused), Rejected::NotAllowed { .. }));
    let planned = conferencing_store::NewRoom::titled(stage.owner, "Not begun");
    let planned = stage.system.rooms().create(planned).await.unwrap().id;
    let refused = recordings
        .report_egress(stage.report(planned, "EG_1", EgressState::Active))
        .await;
    assert!(matches!(rejected(refused), Rejected::RoomStatus { room, .. } if room == planned));

    // A room that is over and deleted had a meeting all the same.
    stage.system.rooms().end(room).await.unwrap();
    stage.system.rooms().delete(room).await.unwrap();
    assert_eq!(stage.tell(room, "EG_1", EgressState::Active).await.status, Stopped);
}

async fn ids_and_keys_are_one_recordings_alone(db: TestDb) {
    let stage = Stage::set(&db).await;
    let (room, other) = (stage.room().await, stage.room().await);
    let first = stage.tell(room, "EG_1", EgressState::Active).await;
    let recordings = stage.system.recordings();
    let elsewhere = recordings
        .report_egress(stage.report(other, "EG_1", EgressState::Active))
        .await;
    assert_eq!(conflict(elsewhere), Conflict::EgressIdTaken { recording: first.id });
    for room in [room, other] {
        let mut report = stage.report(room, "EG_2", EgressState::Active);
        report.storage_key = "EG_1";
        assert_eq!(
            conflict(recordings.report_egress(report).await),
            Conflict::StorageKeyTaken
        );
    }
    let mut again = new_recording(room, stage.owner, "another key");
    again.egress_id = Some("EG_1");
    assert_eq!(
        conflict(recordings.start(again).await),
        Conflict::EgressIdTaken { recording: first.id }
    );
    // Deleted ones keep theirs.
    recordings.stop(first.id, RecordingMeasures::default()).await.unwrap();
    recordings.delete(first.id).await.unwrap();
    let mut again = new_recording(room, stage.owner, "another key");
    again.egress_id = Some("EG_1");
    assert_eq!(
        conflict(recordings.start(again).await),
        Conflict::EgressIdTaken { recording: first.id }
    );
}

async fn of_many_reports_at_once_one_records(db: TestDb) {
    let stage = Stage::set(&db).await;
    stage.clock.advance(TimeDelta::seconds(200));
    for (round, begun_here) in [("EG_1", false), ("EG_2", true)] {
        let room = stage.room().await;
        if begun_here {
            stage
                .system
                .recordings()
                .start(new_recording(room, stage.owner, round))
                .await
                .unwrap();
        }
        let states = [EgressState::Starting, EgressState::Active, stage.complete()];
        let tell = |at: usize| {
            let (system, report) = (stage.system.clone(), stage.report(room, round, states[at % 3]));
            async move { system.recordings().report_egress(report).await.unwrap().id }
        };
        let ids = race((0..15).map(tell)).await;
        assert!(ids.windows(2).all(|pair| pair[0] == pair[1]));
        let row = stage.store.recordings().get(ids[0]).await.unwrap();
        // One that was begun here began later than the egress says it ended.
        let ended_at = if begun_here { row.started_at } else { stage.at(70) };
        assert_eq!((row.status, row.stopped_at), (Stopped, Some(ended_at)));
        let sql = |action: &str| {
            let room = stage.raw.id(room.as_uuid());
            format!("SELECT count(*) FROM audit_logs WHERE action = '{action}' AND room_id = {room}")
        };
        for action in ["RECORDING_STARTED", "RECORDING_STOPPED"] {
            assert_eq!(stage.raw.number(&sql(action)).await, 1, "{action}");
        }
    }
}

async fn reports_race_with_the_end_of_the_room(db: TestDb) {
    let stage = Stage::set(&db).await;
    stage.clock.advance(TimeDelta::seconds(200));
    for round in 0..10 {
        let room = stage.room().await;
        let egress: &str = format!("EG_{round}").leak();
        let states = [
            None,
            Some(EgressState::Starting),
            Some(EgressState::Active),
            Some(stage.complete()),
        ];
        let act = |state: Option<EgressState<'static>>| {
            let (system, report) = (
                stage.system.clone(),
                state.map(|state| stage.report(room, egress, state)),
            );
            async move {
                match report {
                    None => drop(system.rooms().end(room).await.unwrap()),
                    Some(report) => drop(system.recordings().report_egress(report).await.unwrap()),
                }
            }
        };
        race(states.map(act)).await;
        let row = stage
            .store
            .recordings()
            .find_by_egress_id(egress)
            .await
            .unwrap()
            .unwrap();
        assert_eq!(
            (row.status, row.stopped_at, row.size_bytes),
            (Stopped, Some(stage.at(70)), Some(1_000))
        );
    }
}

async fn recordings_are_found_by_egress_and_by_key(db: TestDb) {
    let stage = Stage::set(&db).await;
    let room = stage.room().await;
    let mut new = new_recording(room, stage.owner, "a/key");
    new.egress_id = Some("EG_1");
    let id = stage.system.recordings().start(new).await.unwrap().id;
    let recordings = || stage.store.recordings();
    let is = |found: Result<Option<recording::Model>, Error>| found.unwrap().map(|row| row.id);
    assert_eq!(is(recordings().find_by_egress_id("EG_1").await), Some(id));
    assert_eq!(is(recordings().find_by_storage_key("a/key").await), Some(id));
    assert_eq!(is(recordings().deleted().find_by_egress_id("EG_1").await), None);
    assert_eq!(is(recordings().find_by_egress_id("EG_2").await), None);
    stage
        .system
        .recordings()
        .stop(id, RecordingMeasures::default())
        .await
        .unwrap();
    stage.system.recordings().delete(id).await.unwrap();
    assert_eq!(is(recordings().find_by_egress_id("EG_1").await), None);
    assert_eq!(is(recordings().deleted().find_by_storage_key("a/key").await), Some(id));
    assert_eq!(is(recordings().any().find_by_egress_id("EG_1").await), Some(id));
}
