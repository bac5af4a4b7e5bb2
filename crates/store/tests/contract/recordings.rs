//! Recordings: who may start one, what becomes of it, and who may say so.

use chrono::TimeDelta;
use conferencing_store::audit::AuditEvent;
use conferencing_store::entity::RecordingStatus::{self, Failed, InProgress, Processing, Ready, Started, Stopped};
use conferencing_store::entity::{RecordingId, RoomId, UserId, recording, room, user};
use conferencing_store::{
    Acting, AuditFilter, Change, Conflict, Error, NewRecording, Order, PageRequest, RecordingMeasures, Rejected,
};

use crate::harness::{Raw, TestDb};

crate::cases![
    a_recording_lives_from_start_to_ready,
    every_status_allows_what_the_list_says_and_is_told_once,
    a_unit_that_is_rolled_back_leaves_no_trace,
];

/// What a recording of `room` is made of, its file named after `tag`.
pub fn new_recording(room: RoomId, owner: UserId, tag: &str) -> NewRecording<'_> {
    NewRecording {
        room,
        owner,
        storage_bucket: "media",
        storage_key: tag,
        filename: "meeting.mp4",
        egress_id: None,
        is_public: false,
        expires_at: None,
    }
}

/// A live room of `owner`'s, who is in it.
pub async fn live_room(db: &TestDb, owner: &user::Model) -> room::Model {
    let room = db.room(owner, 20).await;
    db.seat(&room, owner).await;
    room
}

/// A recording in that status, by the system.
pub async fn recording_in(
    system: &Acting,
    room: RoomId,
    owner: UserId,
    status: RecordingStatus,
    tag: &str,
) -> RecordingId {
    let recordings = system.recordings();
    let id = recordings.start(new_recording(room, owner, tag)).await.unwrap().id;
    let found = RecordingMeasures::default();
    if status == InProgress {
        recordings.progress(id).await.unwrap();
    }
    if matches!(status, Stopped | Processing | Ready) {
        recordings.stop(id, found).await.unwrap();
    }
    if status == Failed {
        recordings.fail(id, "disk full").await.unwrap();
    }
    if matches!(status, Processing | Ready) {
        recordings.process(id).await.unwrap();
    }
    if status == Ready {
        recordings.ready(id, "https://media.example/1", found).await.unwrap();
    }
    id
}

/// One of the operations on a recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    Progress,
    Stop,
    Fail,
    Process,
    Ready,
    Retry,
    Delete,
    SetExpiry,
    Restore,
}

impl Act {
    pub const ALL: [Self; 9] = [
        Self::Progress,
        Self::Stop,
        Self::Fail,
        Self::Process,
        Self::Ready,
        Self::Retry,
        Self::Delete,
        Self::SetExpiry,
        Self::Restore,
    ];

    pub async fn by(self, acting: &Acting, id: RecordingId) -> Result<recording::Model, Error> {
        let (recordings, found) = (acting.recordings(), RecordingMeasures::default());
        match self {
            Self::Progress => recordings.progress(id).await,
            Self::Stop => recordings.stop(id, found).await,
            Self::Fail => recordings.fail(id, "disk full").await,
            Self::Process => recordings.process(id).await,
            Self::Ready => recordings.ready(id, "https://media.example/1", found).await,
            Self::Retry => recordings.retry(id).await,
            Self::Delete => recordings.delete(id).await,
            Self::SetExpiry => recordings.set_expiry(id, None).await,
            Self::Restore => acting.recordings().deleted().restore(id).await,
        }
    }

    fn action(self) -> &'static str {
        match self {
            Self::Progress => "RECORDING_PROGRESSED",
            Self::Stop => "RECORDING_STOPPED",
            Self::Fail => "RECORDING_FAILED",
            Self::Process => "RECORDING_PROCESSING",
            Self::Ready => "RECORDING_READY",
            Self::Retry => "RECORDING_RETRIED",
            Self::Delete => "RECORDING_DELETED",
            Self::SetExpiry => "RECORDING_EXPIRY_CHANGED",
            Self::Restore => "RECORDING_RESTORED",
        }
    }

    /// The status it leads to, from one that allows it. The pairs of different statuses are the list in docs/SCHEMA.md.
    pub fn leads(self, from: RecordingStatus) -> Option<RecordingStatus> {
        match (self, from) {
            (Self::Progress, Started | InProgress) => Some(InProgress),
            (Self::Stop, Started | InProgress) => Some(Stopped),
            (Self::Fail, Started | InProgress | Stopped | Processing) => Some(Failed),
            (Self::Process, Stopped) | (Self::Retry, Failed) => Some(Processing),
            (Self::Ready, Processing) => Some(Ready),
            (Self::Delete, Stopped | Failed | Processing | Ready) => Some(from),
            (Self::SetExpiry, _) => Some(from),
            _ => None,
        }
    }
}

/// All that the audit log tells of a room's recordings, oldest first.
pub async fn told_of(db: &TestDb, room: RoomId) -> Vec<Change> {
    let page = PageRequest::first(500, Order::OldestFirst).unwrap();
    let audit_log = db.store.audit().list(&AuditFilter::of_room(room), &page).await.unwrap();
    assert!(audit_log.next.is_none(), "more than one page of events");
    let changes = audit_log.items.into_iter().filter_map(|entry| match entry.event {
        AuditEvent::Change(change) => Some(change),
        _ => None,
    });
    changes
        .filter(|change| AuditEvent::from(change.clone()).action().starts_with("RECORDING"))
        .collect()
}

pub async fn events(raw: &Raw) -> Vec<String> {
    raw.texts(r#"SELECT CAST(action AS text) FROM audit_logs ORDER BY "timestamp", id"#)
        .await
}

async fn a_recording_lives_from_start_to_ready(db: TestDb) {
    let ada = db.user("ada").await;
    let room = live_room(&db, &ada).await;
    let (store, clock) = db.with_manual_clock().await;
    let acting = store.acting(&conferencing_store::Actor::user(ada.id));
    let system = store.acting(&conferencing_store::Actor::system("recorder"));
    let expires_at = conferencing_store::clock::Clock::now(&*clock) + TimeDelta::days(30);
    let new = NewRecording {
        expires_at: Some(expires_at),
        is_public: true,
        ..new_recording(room.id, ada.id, " 2026/stand-up.webm ")
    };
    let begun = acting.recordings().start(new).await.unwrap();
    assert_eq!((begun.status, begun.retry_count), (Started, 0));
    assert_eq!((begun.room_id, begun.owner_id), (room.id, ada.id));
    assert_eq!(begun.storage_key, " 2026/stand-up.webm ", "a key is not ours to trim");
    assert_eq!(
        (begun.storage_bucket.as_str(), begun.filename.as_str()),
        ("media", "meeting.mp4")
    );
    assert_eq!((begun.is_public, begun.expires_at), (true, Some(expires_at)));
    assert_eq!((begun.stopped_at, begun.deleted_at), (None, None));
    assert_eq!(
        (begun.created_at, begun.updated_at),
        (begun.started_at, begun.started_at)
    );

    let id = begun.id;
    clock.advance(TimeDelta::seconds(5));
    let written = system.recordings().progress(id).await.unwrap();
    assert_eq!(written.status, InProgress);
    assert_eq!(written.updated_at - begun.updated_at, TimeDelta::seconds(5));
    clock.advance(TimeDelta::milliseconds(60_900));
    let found = RecordingMeasures {
        size_bytes: Some(5_000_000_000),
        codec: Some(" vp9 "),
        resolution: Some("1920x1080"),
        fps: Some(30),
        bitrate: Some(2_500),
        ..RecordingMeasures::default()
    };
    let stopped = acting.recordings().stop(id, found).await.unwrap();
    assert_eq!((stopped.status, stopped.duration_seconds), (Stopped, Some(65)));
    assert_eq!(
        stopped.stopped_at.unwrap() - begun.started_at,
        TimeDelta::milliseconds(65_900)
    );
    assert_eq!(stopped.size_bytes, Some(5_000_000_000));
    assert_eq!(
        (stopped.codec.as_deref(), stopped.resolution.as_deref()),
        (Some("vp9"), Some("1920x1080"))
    );
    assert_eq!((stopped.fps, stopped.bitrate), (Some(30), Some(2_500)));

    system.recordings().process(id).await.unwrap();
    let failed = system.recordings().fail(id, "out of memory\nat frame 7").await.unwrap();
    assert_eq!(
        (failed.status, failed.error_message.as_deref()),
        (Failed, Some("out of memory\nat frame 7"))
    );
    assert_eq!(
        (failed.stopped_at, failed.duration_seconds),
        (stopped.stopped_at, Some(65))
    );
    let again = system.recordings().retry(id).await.unwrap();
    assert_eq!(
        (again.status, again.retry_count, again.error_message),
        (Processing, 1, None)
    );
    let found = RecordingMeasures {
        size_bytes: Some(3_000_000_000),
        duration_seconds: Some(64),
        codec: Some("h264"),
        ..RecordingMeasures::default()
    };
    let ready = system
        .recordings()
        .ready(id, "https://media.example/stand-up.mp4", found)
        .await
        .unwrap();
    assert_eq!(
        (ready.status, ready.storage_url.as_deref()),
        (Ready, Some("https://media.example/stand-up.mp4"))
    );
    assert_eq!(
        (ready.size_bytes, ready.duration_seconds),
        (Some(3_000_000_000), Some(64))
    );
    assert_eq!(
        (ready.codec.as_deref(), ready.fps),
        (Some("h264"), Some(30)),
        "what is not given participations"
    );
    assert_eq!(db.store.recordings().get(id).await.unwrap(), ready);

    let message = "out of memory\nat frame 7".to_owned();
    let recorded = [
        Change::RecordingStarted { recording: id },
        Change::RecordingProgressed { recording: id },
        Change::RecordingStopped {
            recording: id,
            with_room: false,
        },
        Change::RecordingProcessing { recording: id },
        Change::RecordingFailed {
            recording: id,
            message,
            stuck: false,
        },
        Change::RecordingRetried {
            recording: id,
            retry_count: 1,
        },
        Change::RecordingReady { recording: id },
    ];
    assert_eq!(told_of(&db, room.id).await, recorded);
}

async fn every_status_allows_what_the_list_says_and_is_told_once(db: TestDb) {
    let ada = db.user("ada").await;
    let room = live_room(&db, &ada).await;
    let (system, raw) = (db.system(), db.raw().await);
    for from in [Started, InProgress, Stopped, Failed, Processing, Ready] {
        for act in Act::ALL {
            let case = format!("{act:?} from {from:?}");
            let id = recording_in(&system, room.id, ada.id, from, &case).await;
            let (before, row) = (events(&raw).await.len(), db.store.recordings().get(id).await.unwrap());
            let done = act.by(&system, id).await;
            let recorded = events(&raw).await.split_off(before);
            match (act.leads(from), done) {
                (Some(to), Ok(changed)) => {
                    assert_eq!(changed.status, to, "{case}");
                    assert_eq!(recorded, [act.action()], "{case}");
                    assert_eq!(db.store.recordings().any().get(id).await.unwrap(), changed, "{case}");
                }
                (None, Err(error)) => {
                    match error {
                        Error::Rejected(Rejected::RecordingStatus { recording, status }) => {
                            assert_eq!((recording, status), (id, from), "{case}");
                        }
                        Error::NotFound(_) if act == Act::Restore => {}
                        other => panic!("{case}: {other:?}"),
                    }
                    assert!(recorded.is_empty(), "{case}: {recorded:?}");
                    assert_eq!(db.store.recordings().get(id).await.unwrap(), row, "{case}");
                }
                (expected, done) => panic!("{case}: {expected:?} was expected and {done:?} came"),
            }
        }
    }
}

pub fn rejected<T: std::fmt::Debug>(done: Result<T, Error>) -> Rejected {
    match done {
        Err(Error::Rejected(rejected)) => rejected,
        other => panic!("a refusal was expected and {other:?} came"),
    }
}

async fn a_unit_that_is_rolled_back_leaves_no_trace(db: TestDb) {
    let ada = db.user("ada").await;
    let room = live_room(&db, &ada).await;
    let raw = db.raw().await;
    let before = events(&raw).await;
    let unit = db.store.begin(&conferencing_store::Actor::user(ada.id)).await.unwrap();
    let begun = unit
        .recordings()
        .start(new_recording(room.id, ada.id, "a"))
        .await
        .unwrap();
    assert_eq!(unit.recordings().get(begun.id).await.unwrap(), begun);
    unit.recordings().progress(begun.id).await.unwrap();
    let twice = unit.recordings().start(new_recording(room.id, ada.id, "a")).await;
    assert!(matches!(twice, Err(Error::Conflict(Conflict::StorageKeyTaken))));
    unit.recordings()
        .stop(begun.id, RecordingMeasures::default())
        .await
        .unwrap();
    unit.roll_back().await.unwrap();
    assert_eq!(db.store.recordings().any().find(begun.id).await.unwrap(), None);
    assert_eq!(events(&raw).await, before);
}
