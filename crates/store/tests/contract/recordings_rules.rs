//! The rules of recordings: who may do what, and what input is taken.

use chrono::{DateTime, TimeDelta, Utc};
use conferencing_store::authority::{ActorRole, Operation, may};
use conferencing_store::clock::{Clock, SystemClock};
use conferencing_store::entity::ParticipantRole::{CoHost, Participant};
use conferencing_store::entity::RecordingStatus::{Failed, InProgress, Processing, Started, Stopped};
use conferencing_store::recordings::MAX_PURGE_LEASE;
use conferencing_store::{Actor, Error, Invalid, NewRecording, RecordingMeasures, Rejected, Rule};

use crate::harness::TestDb;
use crate::recordings::{Act, events, live_room, new_recording, recording_in, rejected, told_of};

crate::cases![
    each_actor_may_do_what_the_table_says,
    nothing_stops_before_it_started,
    retries_have_a_budget,
    bad_input_is_named_and_changes_nothing,
];

fn asked(act: Act) -> Operation {
    match act {
        Act::Progress | Act::Stop | Act::Fail => Operation::Record,
        Act::Process | Act::Ready | Act::Retry => Operation::ProcessRecording,
        Act::Delete | Act::Restore | Act::SetExpiry => Operation::ManageRecording,
    }
}

async fn each_actor_may_do_what_the_table_says(db: TestDb) {
    let [ada, ben, cleo, dora, eve, fay] = ["ada", "ben", "cleo", "dora", "eve", "fay"];
    let (ada, ben, cleo) = (db.user(ada).await, db.user(ben).await, db.user(cleo).await);
    let (dora, eve, fay) = (db.user(dora).await, db.user(eve).await, db.user(fay).await);
    let (system, raw) = (db.system(), db.raw().await);
    // Ada owns the room and is not in it; Ben is HOST; Fay owns the recordings and is not in either.
    let room = db.room(&ada, 20).await;
    db.seat(&room, &ben).await;
    raw.execute("UPDATE room_participants SET role = 'HOST'").await.unwrap();
    system.participants().join(room.id, cleo.id, CoHost).await.unwrap();
    system.participants().join(room.id, dora.id, Participant).await.unwrap();
    let actors = [
        (Actor::system("test"), ActorRole::System),
        (Actor::user(ada.id), ActorRole::Owner),
        (Actor::user(fay.id), ActorRole::Owner),
        (Actor::user(ben.id), ActorRole::Host),
        (Actor::user(cleo.id), ActorRole::CoHost),
        (Actor::user(dora.id), ActorRole::Participant),
        (Actor::user(eve.id), ActorRole::Outsider),
        (Actor::anonymous(), ActorRole::Outsider),
    ];
    for (number, (actor, actor_role)) in actors.into_iter().enumerate() {
        let acting = db.store.acting(&actor);
        for act in Act::ALL {
            let from = match act {
                Act::Progress | Act::Stop | Act::Fail => InProgress,
                Act::Process | Act::Delete | Act::Restore | Act::SetExpiry => Stopped,
                Act::Ready => Processing,
                Act::Retry => Failed,
            };
            let case = format!("{act:?} by {actor_role:?}, number {number}");
            let id = recording_in(&system, room.id, fay.id, from, &case).await;
            if act == Act::Restore {
                system.recordings().delete(id).await.unwrap();
            }
            check(&db, &acting, act, id, actor_role, &case).await;
        }
        // That the processing failed is the system's to say, whoever asks.
        let case = format!("Fail of a stopped one by {actor_role:?}, number {number}");
        let id = recording_in(&system, room.id, fay.id, Stopped, &case).await;
        let done = Act::Fail.by(&acting, id).await;
        match may(Operation::ProcessRecording, actor_role, None) {
            true => assert!(done.is_ok(), "{case}: {done:?}"),
            false => assert!(matches!(rejected(done), Rejected::NotAllowed { .. }), "{case}"),
        }
    }
}

async fn check(
    db: &TestDb,
    acting: &conferencing_store::Acting,
    act: Act,
    id: conferencing_store::entity::RecordingId,
    actor_role: ActorRole,
    case: &str,
) {
    let raw = db.raw().await;
    let before = events(&raw).await.len();
    let row = db.store.recordings().any().get(id).await.unwrap();
    let done = act.by(acting, id).await;
    let recorded = events(&raw).await.split_off(before);
    if may(asked(act), actor_role, None) {
        assert!(done.is_ok(), "{case}: {done:?}");
        return;
    }
    let refusal = Rejected::NotAllowed {
        operation: asked(act),
        actor_role,
        room: Some(row.room_id),
        user: Some(row.owner_id),
    };
    assert_eq!(rejected(done), refusal, "{case}");
    assert_eq!(recorded, ["UNAUTHORIZED_ACCESS_ATTEMPT"], "{case}");
    assert_eq!(db.store.recordings().any().get(id).await.unwrap(), row, "{case}");
}

async fn nothing_stops_before_it_started(db: TestDb) {
    let ada = db.user("ada").await;
    let room = live_room(&db, &ada).await;
    let (ahead, clock) = db.with_manual_clock().await;
    clock.advance(TimeDelta::hours(1));
    let ahead = ahead.acting(&conferencing_store::Actor::system("ahead"));
    let (stopped, failed, with_room) = (
        recording_in(&ahead, room.id, ada.id, InProgress, "1").await,
        recording_in(&ahead, room.id, ada.id, InProgress, "2").await,
        recording_in(&ahead, room.id, ada.id, InProgress, "3").await,
    );
    let system = db.system();
    system
        .recordings()
        .stop(stopped, RecordingMeasures::default())
        .await
        .unwrap();
    system.recordings().fail(failed, "no signal").await.unwrap();
    system.rooms().end(room.id).await.unwrap();
    for id in [stopped, failed, with_room] {
        let row = db.store.recordings().get(id).await.unwrap();
        assert_eq!((row.stopped_at, row.duration_seconds), (Some(row.started_at), Some(0)));
        assert!(row.updated_at >= row.created_at);
    }
}

async fn retries_have_a_budget(db: TestDb) {
    let ada = db.user("ada").await;
    let room = live_room(&db, &ada).await;
    let settings = conferencing_store::StoreSettings {
        max_recording_retries: 2,
        ..conferencing_store::StoreSettings::default()
    };
    let strict = db
        .store_with(settings)
        .await
        .acting(&conferencing_store::Actor::system("test"));
    let id = recording_in(&strict, room.id, ada.id, Failed, "a").await;
    for count in 1..=2 {
        assert_eq!(strict.recordings().retry(id).await.unwrap().retry_count, count);
        strict.recordings().fail(id, "again").await.unwrap();
    }
    let exhausted = Rejected::RetriesExhausted {
        recording: id,
        retries: 2,
    };
    assert_eq!(rejected(strict.recordings().retry(id).await), exhausted);
    let usual = db.system();
    assert_eq!(
        usual.recordings().retry(id).await.unwrap().retry_count,
        3,
        "3 unless told otherwise"
    );
    usual.recordings().fail(id, "again").await.unwrap();
    let exhausted = Rejected::RetriesExhausted {
        recording: id,
        retries: 3,
    };
    assert_eq!(rejected(usual.recordings().retry(id).await), exhausted);
}

fn invalid<T: std::fmt::Debug>(done: Result<T, Error>) -> Invalid {
    match done {
        Err(Error::Invalid(invalid)) => invalid,
        other => panic!("Invalid was expected and {other:?} came"),
    }
}

async fn bad_input_is_named_and_changes_nothing(db: TestDb) {
    let ada = db.user("ada").await;
    let room = live_room(&db, &ada).await;
    let system = db.system();
    let id = recording_in(&system, room.id, ada.id, Started, "a").await;
    let row = db.store.recordings().get(id).await.unwrap();
    let long = "é".repeat(2049);
    let cut = |length: usize| &long[..2 * length];
    let too_long = |max| Rule::MaxLength { max, actual: max + 1 };
    let good = new_recording(room.id, ada.id, "b");
    let past = SystemClock.now() - TimeDelta::seconds(1);
    let starts = [
        (
            NewRecording {
                storage_key: "",
                ..good.clone()
            },
            "storage_key",
            Rule::NotEmpty,
        ),
        (
            NewRecording {
                storage_key: "a\u{0}b",
                ..good.clone()
            },
            "storage_key",
            Rule::NoControlCharacters,
        ),
        (
            NewRecording {
                storage_key: cut(501),
                ..good.clone()
            },
            "storage_key",
            too_long(500),
        ),
        (
            NewRecording {
                storage_key: "purged:1",
                ..good.clone()
            },
            "storage_key",
            Rule::Reserved("purged:"),
        ),
        (
            NewRecording {
                storage_bucket: "",
                ..good.clone()
            },
            "storage_bucket",
            Rule::NotEmpty,
        ),
        (
            NewRecording {
                storage_bucket: "a\n",
                ..good.clone()
            },
            "storage_bucket",
            Rule::NoControlCharacters,
        ),
        (
            NewRecording {
                storage_bucket: cut(101),
                ..good.clone()
            },
            "storage_bucket",
            too_long(100),
        ),
        (
            NewRecording {
                filename: " ",
                egress_id: None,
                ..good.clone()
            },
            "filename",
            Rule::NotEmpty,
        ),
        (
            NewRecording {
                filename: "a\tb",
                egress_id: None,
                ..good.clone()
            },
            "filename",
            Rule::NoControlCharacters,
        ),
        (
            NewRecording {
                filename: cut(256),
                egress_id: None,
                ..good.clone()
            },
            "filename",
            too_long(255),
        ),
        (
            NewRecording {
                expires_at: Some(past),
                ..good.clone()
            },
            "expires_at",
            Rule::After("now"),
        ),
        (
            NewRecording {
                expires_at: Some(DateTime::<Utc>::MAX_UTC),
                ..good.clone()
            },
            "expires_at",
            Rule::Year,
        ),
    ];
    for (new, field, rule) in starts {
        let done = system.recordings().start(new).await;
        assert_eq!(invalid(done), Invalid { field, rule });
    }
    let none = RecordingMeasures::default();
    let measures = [
        (
            RecordingMeasures {
                size_bytes: Some(-1),
                ..none
            },
            "size_bytes",
            Rule::AtLeast(0),
        ),
        (
            RecordingMeasures {
                duration_seconds: Some(-1),
                ..none
            },
            "duration_seconds",
            Rule::AtLeast(0),
        ),
        (RecordingMeasures { fps: Some(0), ..none }, "fps", Rule::AtLeast(1)),
        (
            RecordingMeasures {
                bitrate: Some(-1),
                ..none
            },
            "bitrate",
            Rule::AtLeast(0),
        ),
        (
            RecordingMeasures {
                codec: Some(cut(51)),
                ..none
            },
            "codec",
            too_long(50),
        ),
        (
            RecordingMeasures {
                codec: Some("h\n264"),
                ..none
            },
            "codec",
            Rule::NoControlCharacters,
        ),
        (
            RecordingMeasures {
                resolution: Some(cut(21)),
                ..none
            },
            "resolution",
            too_long(20),
        ),
    ];
    for (found, field, rule) in measures {
        let stopped = system.recordings().stop(id, found).await;
        assert_eq!(
            invalid(stopped),
            Invalid {
                field,
                rule: rule.clone()
            }
        );
        let ready = system.recordings().ready(id, "https://media.example/1", found).await;
        assert_eq!(invalid(ready), Invalid { field, rule });
    }
    for (message, rule) in [
        (" \n", Rule::NotEmpty),
        ("\u{7}", Rule::NoControlCharacters),
        (cut(2001), too_long(2000)),
    ] {
        let field = "error_message";
        assert_eq!(
            invalid(system.recordings().fail(id, message).await),
            Invalid { field, rule }
        );
    }
    for (url, rule) in [
        ("", Rule::NotEmpty),
        ("a\nb", Rule::NoControlCharacters),
        (cut(2049), too_long(2048)),
    ] {
        let field = "storage_url";
        assert_eq!(
            invalid(system.recordings().ready(id, url, none).await),
            Invalid { field, rule }
        );
    }
    let (field, rule) = ("expires_at", Rule::After("now"));
    assert_eq!(
        invalid(system.recordings().set_expiry(id, Some(past)).await),
        Invalid { field, rule }
    );
    for (limit, rule) in [(0, Rule::AtLeast(1)), (501, Rule::AtMost(500))] {
        let field = "limit";
        let expired = system.recordings().sweep_expired(limit).await;
        assert_eq!(
            invalid(expired),
            Invalid {
                field,
                rule: rule.clone()
            }
        );
        let stuck = system.recordings().sweep_stuck(std::time::Duration::MAX, limit).await;
        assert_eq!(
            invalid(stuck),
            Invalid {
                field,
                rule: rule.clone()
            }
        );
        let claimed = system.recordings().claim_purges(limit, MAX_PURGE_LEASE).await;
        assert_eq!(invalid(claimed), Invalid { field, rule });
    }
    let second = std::time::Duration::from_secs(1);
    for (lease, rule) in [
        (second / 2, Rule::AtLeast(1)),
        (MAX_PURGE_LEASE + second / 2, Rule::AtMost(86_400)),
        (std::time::Duration::MAX, Rule::AtMost(86_400)),
    ] {
        let claimed = system.recordings().claim_purges(1, lease).await;
        assert_eq!(invalid(claimed), Invalid { field: "lease", rule });
    }
    let (field, rule) = ("recordings", Rule::AtMost(500));
    let confirmed = system.recordings().confirm_purged(&[id; 501]).await;
    assert_eq!(invalid(confirmed), Invalid { field, rule });
    let stuck = system.recordings().sweep_stuck(std::time::Duration::ZERO, 1).await;
    let (field, rule) = ("older_than", Rule::AtLeast(1));
    assert_eq!(invalid(stuck), Invalid { field, rule });
    assert_eq!(db.store.recordings().get(id).await.unwrap(), row);
    assert_eq!(told_of(&db, room.id).await.len(), 1);

    // The longest that fits does.
    let new = NewRecording {
        storage_key: cut(500),
        storage_bucket: cut(100),
        filename: cut(255),
        egress_id: None,
        ..good
    };
    let longest = system.recordings().start(new).await.unwrap().id;
    let found = RecordingMeasures {
        size_bytes: Some(i64::MAX),
        duration_seconds: Some(i32::MAX),
        codec: Some(cut(50)),
        resolution: Some(cut(20)),
        fps: Some(i32::MAX),
        bitrate: Some(0),
    };
    system.recordings().stop(longest, found).await.unwrap();
    system.recordings().process(longest).await.unwrap();
    system.recordings().ready(longest, cut(2048), found).await.unwrap();
    system.recordings().fail(id, cut(2000)).await.unwrap();
}
