//! What an erasure leaves of a person: markers in every text that the store takes, and where they are found afterwards.

use std::collections::BTreeSet;

use conferencing_store::entity::AuthProviderType::Google;
use conferencing_store::entity::ParticipantRole::Participant;
use conferencing_store::entity::{RecordingId, RecordingStatus, Secret, UserId, user};
use conferencing_store::{
    Acting, Actor, KeyRing, MediaKind, ModerationReasons, NewRecording, NewRoom, NewUser, Observation, ProviderAccount,
    ProviderTokens, RecordingMeasures, Store, StoreSettings, TokenKey,
};
use sea_orm::{ConnectionTrait, TransactionTrait};

use crate::accounts_support::until_blocked;
use crate::declared;
use crate::harness::{Raw, TestDb, settings};
use crate::recordings::recording_in;

crate::cases![
    markers_are_left_where_the_document_says,
    reasons_are_kept_where_that_is_asked_for,
    the_document_names_every_column,
    @Postgres nothing_is_said_of_somebody_who_is_erased,
    @Postgres a_purge_that_meets_an_erasure_forgets_the_place,
];

const DOCUMENT: &str = include_str!("../../../../docs/PRIVACY.md");

/// Marker and column: what is left when the person is erased and the files are purged. All others are gone.
const LEFT: &[(&str, &str)] = &[
    // Immutable, until its month is archived.
    ("login", "audit_logs.metadata"),
    ("kickreason", "audit_logs.metadata"),
    ("banreason", "audit_logs.metadata"),
    ("absentreason", "audit_logs.metadata"),
    ("saidofben", "audit_logs.metadata"),
    ("failure", "audit_logs.metadata"),
    ("description", "audit_logs.metadata"),
    ("limit", "audit_logs.metadata"),
    ("viewed", "audit_logs.metadata"),
    ("attempted", "audit_logs.metadata"),
    ("producer", "audit_logs.metadata"),
    ("consumer", "audit_logs.metadata"),
    ("agent", "audit_logs.user_agent"),
    ("203.0.113.77", "audit_logs.ip_address"),
    // The others'.
    ("saidofben", "room_participants.kick_reason"),
    ("saidofben", "room_participants.ban_reason"),
    ("benstitle", "rooms.title"),
    ("bensabout", "rooms.description"),
    ("bensfile", "recordings.filename"),
    ("givenaway", "rooms.title"),
    ("givenaway", "rooms.description"),
];

/// Where files lie, until they are purged.
const LEFT_TO_PURGE: &[(&str, &str)] = &[
    ("key0", "recordings.storage_key"),
    ("key1", "recordings.storage_key"),
    ("key2", "recordings.storage_key"),
    ("egress0", "recordings.egress_id"),
    ("egress1", "recordings.egress_id"),
    ("egress2", "recordings.egress_id"),
    ("bucket", "recordings.storage_bucket"),
    ("url", "recordings.storage_url"),
];

/// Every marker. Tokens are encrypted, so theirs are found nowhere, ever.
const MARKERS: &[&str] = &[
    "username",
    "email",
    "displayname",
    "hash",
    "providerid",
    "provideremail",
    "metadata",
    "access",
    "refresh",
    "title",
    "about",
    "closedtitle",
    "goneabout",
    "givenaway",
    "key0",
    "key1",
    "key2",
    "key3",
    "egress0",
    "egress1",
    "egress2",
    "egress3",
    "bucket",
    "url",
    "file",
    "codec",
    "size",
    "failure",
    "kickreason",
    "banreason",
    "absentreason",
    "saidofben",
    "login",
    "description",
    "limit",
    "viewed",
    "attempted",
    "producer",
    "consumer",
    "agent",
    "203.0.113.77",
    "benstitle",
    "bensabout",
    "bensfile",
];

/// How a marker is written.
fn mark(marker: &str) -> String {
    format!("mk{marker}mk")
}

/// Which markers are in which columns.
async fn found(raw: &Raw) -> BTreeSet<(String, String)> {
    let mut found = BTreeSet::new();
    for table in declared::tables() {
        for column in &table.columns {
            let (table, name) = (table.name, column.name);
            let text = match raw.backend() {
                sea_orm::DbBackend::Sqlite => {
                    format!("CASE typeof({name}) WHEN 'blob' THEN hex({name}) ELSE CAST({name} AS text) END")
                }
                _ => format!("CAST({name} AS text)"),
            };
            let texts = raw
                .texts(&format!("SELECT {text} FROM {table} WHERE {name} IS NOT NULL"))
                .await;
            for marker in MARKERS {
                let written = if marker.starts_with("203") {
                    (*marker).to_owned()
                } else {
                    mark(marker)
                };
                if texts.iter().any(|text| text.contains(&written)) {
                    found.insert(((*marker).to_owned(), format!("{table}.{name}")));
                }
            }
        }
    }
    found
}

/// Holds what is found to the lists.
async fn assert_left(raw: &Raw, lists: &[&[(&str, &str)]]) {
    let listed = places(lists);
    let found = found(raw).await;
    let surplus: Vec<_> = found.difference(&listed).collect();
    let missing: Vec<_> = listed.difference(&found).collect();
    assert!(
        surplus.is_empty() && missing.is_empty(),
        "left and not listed: {surplus:?}; listed and not left: {missing:?}"
    );
}

fn places(lists: &[&[(&str, &str)]]) -> BTreeSet<(String, String)> {
    let all = lists.iter().flat_map(|list| list.iter());
    all.map(|(marker, place)| ((*marker).to_owned(), (*place).to_owned()))
        .collect()
}

async fn keyed(db: &TestDb, moderation_reasons: ModerationReasons) -> Store {
    let key = TokenKey::new("k1", [7; 32]).unwrap();
    let settings = StoreSettings {
        token_keys: Some(KeyRing::new(key, Vec::new()).unwrap()),
        moderation_reasons,
        ..settings()
    };
    db.store_with(settings).await
}

struct Life {
    ada: UserId,
    ben: user::Model,
    recordings: Vec<RecordingId>,
}

/// Lives, with a marker in every text.
async fn live(db: &TestDb, store: &Store) -> Life {
    let (username, email) = (mark("username"), format!("{}@example.org", mark("email")));
    let system = store.acting(&Actor::system("test"));
    let ada = system
        .users()
        .register(NewUser {
            username: &username,
            email: Some(&email),
            display_name: &mark("displayname"),
            password_hash: Secret::new(format!("$argon2id${}", mark("hash"))),
        })
        .await
        .unwrap();
    let ben = db.user("ben").await;
    let actor = Actor::user(ada.id)
        .from_address("203.0.113.77".parse().unwrap())
        .with_user_agent(&mark("agent"));
    let by_ada = store.acting(&actor);
    sign_in_methods(&by_ada, ada.id).await;
    system.users().record_failed_login(&mark("login")).await.unwrap();
    observe(&by_ada).await;
    let recordings = meet(&by_ada, &system, &ada, &ben).await;
    be_moderated(&by_ada, &system, &ada, &ben).await;
    Life {
        ada: ada.id,
        ben,
        recordings,
    }
}

async fn sign_in_methods(by_ada: &Acting, ada: UserId) {
    let metadata = serde_json::json!({ "note": mark("metadata") });
    let account = ProviderAccount {
        provider: Google,
        provider_id: &mark("providerid"),
        email: Some(&format!("{}@example.org", mark("provideremail"))),
        metadata: Some(&metadata),
    };
    let linked = by_ada.auth_providers().link(ada, account).await.unwrap();
    let tokens = ProviderTokens {
        access_token: Secret::new(mark("access")),
        refresh_token: Some(Secret::new(mark("refresh"))),
        expires_at: None,
    };
    by_ada
        .auth_providers()
        .store_tokens(ada, linked.id, tokens)
        .await
        .unwrap();
}

async fn observe(by_ada: &Acting) {
    let (producer_id, consumer_id) = (mark("producer"), mark("consumer"));
    for seen in [
        Observation::SuspiciousActivity {
            description: mark("description"),
        },
        Observation::RateLimitExceeded { limit: mark("limit") },
        Observation::PersonalDataViewed {
            target: None,
            by: mark("viewed"),
        },
        Observation::UnauthorizedAccessAttempt {
            target: None,
            attempted: mark("attempted"),
            actor_role: None,
        },
        Observation::ProducerCreated {
            producer_id: producer_id.clone(),
            kind: MediaKind::Audio,
        },
        Observation::ConsumerCreated {
            consumer_id,
            producer_id,
        },
    ] {
        by_ada.audit().append(None, seen).await.unwrap();
    }
}

/// A live room with recordings, one that is over, one that is deleted, and one that was given away.
async fn meet(by_ada: &Acting, system: &Acting, ada: &user::Model, ben: &user::Model) -> Vec<RecordingId> {
    let room = |title: &str, about: &str| {
        let (title, about, owner) = (mark(title), mark(about), ada.id);
        async move {
            let new = NewRoom {
                description: Some(&about),
                ..NewRoom::titled(owner, &title)
            };
            by_ada.rooms().create(new).await.unwrap().id
        }
    };
    let (live, over) = (room("title", "about").await, room("closedtitle", "about").await);
    let (gone, given) = (room("title", "goneabout").await, room("givenaway", "givenaway").await);
    for room in [live, over] {
        by_ada.rooms().start(room).await.unwrap();
        by_ada.participants().join(room, ada.id, Participant).await.unwrap();
    }
    by_ada.rooms().end(over).await.unwrap();
    by_ada.rooms().delete(gone).await.unwrap();
    by_ada.rooms().transfer(given, ben.id).await.unwrap();

    let recordings = system.recordings();
    let mut ids = Vec::new();
    for number in 0..4 {
        let new = NewRecording {
            room: live,
            owner: ada.id,
            storage_bucket: &mark("bucket"),
            storage_key: &mark(&format!("key{number}")),
            filename: &mark("file"),
            egress_id: Some(&mark(&format!("egress{number}"))),
            is_public: false,
            expires_at: None,
        };
        let id = recordings.start(new).await.unwrap().id;
        ids.push(id);
        // The first goes on.
        if number > 0 {
            let (codec, size) = (mark("codec"), mark("size"));
            let found = RecordingMeasures {
                codec: Some(&codec),
                resolution: Some(&size),
                ..RecordingMeasures::default()
            };
            recordings.stop(id, found).await.unwrap();
            recordings.process(id).await.unwrap();
        }
    }
    let url = format!("https://media.example/{}", mark("url"));
    for id in [ids[1], ids[3]] {
        recordings.ready(id, &url, RecordingMeasures::default()).await.unwrap();
    }
    recordings.fail(ids[2], &mark("failure")).await.unwrap();
    // Purged before.
    recordings.delete(ids[3]).await.unwrap();
    recordings.confirm_purged(&ids[3..]).await.unwrap();
    ids
}

/// In Ben's rooms, who also names her where all is his.
async fn be_moderated(by_ada: &Acting, system: &Acting, ada: &user::Model, ben: &user::Model) {
    let (title, about) = (mark("benstitle"), mark("bensabout"));
    let mut rooms = Vec::new();
    for _ in 0..3 {
        let new = NewRoom {
            description: Some(&about),
            ..NewRoom::titled(ben.id, &title)
        };
        rooms.push(system.rooms().create(new).await.unwrap().id);
    }
    for room in &rooms[..2] {
        system.participants().join(*room, ada.id, Participant).await.unwrap();
    }
    let moderating = system.participants();
    moderating
        .kick(rooms[0], ada.id, Some(&mark("kickreason")))
        .await
        .unwrap();
    moderating
        .ban(rooms[1], ada.id, Some(&mark("banreason")), None)
        .await
        .unwrap();
    moderating
        .ban(rooms[2], ada.id, Some(&mark("absentreason")), None)
        .await
        .unwrap();
    system.rooms().start(rooms[2]).await.unwrap();
    let new = NewRecording {
        room: rooms[2],
        owner: ben.id,
        storage_bucket: "media",
        storage_key: "of ben",
        filename: &mark("bensfile"),
        egress_id: None,
        is_public: false,
        expires_at: None,
    };
    system.recordings().start(new).await.unwrap();
    // She puts him out of a room of hers, for good.
    let own = by_ada.rooms().create(NewRoom::titled(ada.id, "Hers")).await.unwrap().id;
    system.participants().join(own, ben.id, Participant).await.unwrap();
    by_ada
        .participants()
        .kick(own, ben.id, Some(&mark("saidofben")))
        .await
        .unwrap();
    by_ada
        .participants()
        .ban(own, ben.id, Some(&mark("saidofben")), None)
        .await
        .unwrap();
}

async fn markers_are_left_where_the_document_says(db: TestDb) {
    let raw = db.raw().await;
    let store = keyed(&db, ModerationReasons::default()).await;
    let life = live(&db, &store).await;
    let before = found(&raw).await;
    for marker in MARKERS {
        let encrypted = ["access", "refresh"].contains(marker);
        let there = before.iter().any(|(found, _)| found == marker);
        assert_ne!(there, encrypted, "{marker}");
    }

    let system = store.acting(&Actor::system("test"));
    let receipt = system.users().erase(life.ada).await.unwrap();
    assert_eq!(receipt.files.len(), 3);
    assert_left(&raw, &[LEFT, LEFT_TO_PURGE]).await;
    let confirmed = system.recordings().confirm_purged(&life.recordings).await.unwrap();
    assert_eq!(confirmed.len(), 3);
    assert_left(&raw, &[LEFT]).await;
    let page = conferencing_store::PageRequest::first(10, conferencing_store::Order::OldestFirst).unwrap();
    let rows = store
        .recordings()
        .deleted()
        .list_of_owner(life.ada, &page)
        .await
        .unwrap();
    assert_eq!(rows.items.len(), 4);
    for row in rows.items {
        assert_eq!(row.storage_key, format!("purged:{}", row.id));
        assert_eq!((row.storage_bucket.as_str(), row.storage_url), ("purged", None));
        assert_eq!(row.filename, "Deleted recording");
    }
    let rooms = store
        .rooms()
        .any()
        .list(conferencing_store::RoomFilter::OwnedBy(life.ada), &page)
        .await
        .unwrap();
    assert_eq!(rooms.items.len(), 4);
    for room in rooms.items {
        assert_eq!((room.title.as_str(), room.description), ("Deleted room", None));
    }
    // What she said of Ben goes with Ben.
    system.users().erase(life.ben.id).await.unwrap();
    let left = found(&raw).await;
    assert!(
        left.iter().all(|(_, place)| place.starts_with("audit_logs.")),
        "{left:?}"
    );
}

async fn reasons_are_kept_where_that_is_asked_for(db: TestDb) {
    let raw = db.raw().await;
    let store = keyed(&db, ModerationReasons::Keep).await;
    let life = live(&db, &store).await;
    let system = store.acting(&Actor::system("test"));
    system.users().erase(life.ada).await.unwrap();
    let kept = [
        ("kickreason", "room_participants.kick_reason"),
        // A ban that puts somebody out is a kick as well.
        ("banreason", "room_participants.kick_reason"),
        ("banreason", "room_participants.ban_reason"),
        ("absentreason", "room_participants.ban_reason"),
    ];
    assert_left(&raw, &[LEFT, LEFT_TO_PURGE, &kept]).await;
}

/// The names of columns in the rows of tables.
fn named(text: &str) -> BTreeSet<&str> {
    let rows = text.lines().filter(|line| line.starts_with('|'));
    rows.flat_map(|row| row.split('`').filter(|word| word.contains('.') && !word.contains(' ')))
        .collect()
}

/// A column that nobody has thought of fails here.
async fn the_document_names_every_column(_: TestDb) {
    let (left, columns) = DOCUMENT.split_once("## Tables that change").unwrap();
    let listed: BTreeSet<&str> = LEFT.iter().chain(LEFT_TO_PURGE).map(|(_, place)| *place).collect();
    assert_eq!(named(left), listed);
    let tables = declared::tables();
    let all = tables.iter().flat_map(|table| {
        let columns = table.columns.iter();
        columns.map(|column| format!("{}.{}", table.name, column.name))
    });
    let all: Vec<String> = all.collect();
    assert_eq!(named(columns), all.iter().map(String::as_str).collect());
}

/// A ban of somebody absent that waits for its room, while they are erased.
async fn nothing_is_said_of_somebody_who_is_erased(db: TestDb) {
    let raw = db.raw().await;
    let (ada, ben) = (db.user("ada").await, db.user("ben").await);
    let room = db.room(&ben, 5).await;
    let held = raw.db.begin().await.unwrap();
    let touch = "UPDATE rooms SET updated_at = updated_at";
    held.execute_unprepared(touch).await.unwrap();
    let (banning, erasing) = (db.system(), db.system());
    let (room, user) = (room.id, ada.id);
    let ban = tokio::spawn(async move { banning.participants().ban(room, user, Some("noise"), None).await });
    until_blocked(&raw, 1).await;
    let erasure = tokio::spawn(async move { erasing.users().erase(user).await });
    let blocked =
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    while !erasure.is_finished() && raw.number(blocked).await < 2 {
        tokio::task::yield_now().await;
    }
    held.commit().await.unwrap();
    ban.await.unwrap().unwrap();
    erasure.await.unwrap().unwrap();
    let reasons = "SELECT count(*) FROM room_participants WHERE ban_reason IS NOT NULL OR kick_reason IS NOT NULL";
    assert_eq!(raw.number(reasons).await, 0);
    assert_eq!(raw.number("SELECT count(*) FROM room_participants").await, 1);
}

/// A confirmation that waits for a recording which an erasure waits for as well, in either order.
async fn a_purge_that_meets_an_erasure_forgets_the_place(db: TestDb) {
    let raw = db.raw().await;
    let ben = db.user("ben").await;
    let room = crate::recordings::live_room(&db, &ben).await;
    for erasure_first in [true, false] {
        let ada = db.user(&format!("ada{erasure_first}")).await;
        let key = format!("key {erasure_first}");
        let id = recording_in(&db.system(), room.id, ada.id, RecordingStatus::Stopped, &key).await;
        db.system().recordings().delete(id).await.unwrap();
        let held = raw.db.begin().await.unwrap();
        let touch = "UPDATE recordings SET updated_at = updated_at";
        held.execute_unprepared(touch).await.unwrap();
        let (erasing, confirming) = (db.system(), db.system());
        let erase = async move { erasing.users().erase(ada.id).await.map(drop) };
        let confirm = async move { confirming.recordings().confirm_purged(&[id]).await.map(drop) };
        let (first, second) = if erasure_first {
            let first = tokio::spawn(erase);
            until_blocked(&raw, 1).await;
            (first, tokio::spawn(confirm))
        } else {
            let first = tokio::spawn(confirm);
            until_blocked(&raw, 1).await;
            (first, tokio::spawn(erase))
        };
        until_blocked(&raw, 2).await;
        held.commit().await.unwrap();
        first.await.unwrap().unwrap();
        second.await.unwrap().unwrap();
        let row = db.store.recordings().deleted().get(id).await.unwrap();
        assert!(row.purged_at.is_some());
        assert_eq!(
            row.storage_key,
            format!("purged:{id}"),
            "erasure first: {erasure_first}"
        );
    }
}
