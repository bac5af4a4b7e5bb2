//! Room codes: what they look like, that each is handed out once, and how they are found.

use std::collections::{BTreeSet, VecDeque};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use chrono::{DateTime, Utc};
use conferencing_store::clock::{Ids, ROOM_CODE_ALPHABET, ROOM_CODE_LENGTH, RandomIds};
use conferencing_store::{Actor, Conflict, Error, NewRoom, Observation, Store, StoreSettings};
use uuid::Uuid;

use crate::harness::{TestDb, race, settings};

crate::cases![
    codes_are_eight_characters_that_cannot_be_mistaken,
    a_taken_code_is_passed_over,
    a_unit_passes_over_taken_codes_and_goes_on_when_there_are_none,
    a_deleted_rooms_code_is_not_handed_out_again,
    when_every_code_is_taken_nothing_is_made,
    racing_creates_get_codes_of_their_own,
    codes_are_found_as_people_type_them,
    what_could_be_no_code_is_not_found,
];

fn assert_code(code: &str) {
    assert_eq!(code.len(), ROOM_CODE_LENGTH, "{code}");
    assert!(code.bytes().all(|c| ROOM_CODE_ALPHABET.contains(&c)), "{code}");
}

/// Hands out the given codes first; with `forever`, nothing but the last of them afterwards.
#[derive(Default)]
struct Codes {
    given: Mutex<VecDeque<String>>,
    forever: Option<String>,
    asked: AtomicU32,
    random: RandomIds,
}

impl Codes {
    fn first(codes: &[&str]) -> Arc<Self> {
        Arc::new(Self {
            given: Mutex::new(codes.iter().map(|&code| code.to_owned()).collect()),
            ..Self::default()
        })
    }

    fn only(code: &str) -> Arc<Self> {
        Arc::new(Self {
            forever: Some(code.to_owned()),
            ..Self::default()
        })
    }

    async fn store(self: &Arc<Self>, db: &TestDb) -> Store {
        let ids = Arc::clone(self);
        db.store_with(StoreSettings { ids, ..settings() }).await
    }
}

impl Ids for Codes {
    fn uuid(&self, at: DateTime<Utc>) -> Uuid {
        self.random.uuid(at)
    }

    fn room_code(&self) -> String {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let given = self.given.lock().unwrap().pop_front();
        given
            .or_else(|| self.forever.clone())
            .unwrap_or_else(|| self.random.room_code())
    }
}

async fn codes_are_eight_characters_that_cannot_be_mistaken(db: TestDb) {
    assert_eq!(ROOM_CODE_LENGTH, 8);
    for mistakable in b"0OQD1IL2Z5S8BV" {
        assert!(!ROOM_CODE_ALPHABET.contains(mistakable), "{}", char::from(*mistakable));
    }
    let ada = db.user("ada").await;
    let mut codes = BTreeSet::new();
    for _ in 0..32 {
        let code = db.room(&ada, 5).await.room_code;
        assert_code(&code);
        assert!(codes.insert(code));
    }
    // With a fair generator, that any place shows one character 32 times is less likely than 1e-41.
    for place in 0..ROOM_CODE_LENGTH {
        let seen: BTreeSet<u8> = codes.iter().map(|code| code.as_bytes()[place]).collect();
        assert!(seen.len() > 1, "place {place} is always {seen:?}");
    }
}

async fn a_taken_code_is_passed_over(db: TestDb) {
    let ada = db.user("ada").await;
    let (first, second) = (db.room(&ada, 5).await.room_code, db.room(&ada, 5).await.room_code);
    let codes = Codes::first(&[&first, &second, &first, "FREEWXYZ"]);
    let store = codes.store(&db).await;
    let made = store
        .acting(&Actor::user(ada.id))
        .rooms()
        .create(NewRoom::titled(ada.id, "A room"))
        .await
        .unwrap();
    assert_eq!(made.room_code, "FREEWXYZ");
    assert_eq!(codes.asked.load(Ordering::SeqCst), 4);
    let raw = db.raw().await;
    assert_eq!(raw.number("SELECT count(*) FROM rooms").await, 3);
    raw.assert_invariants().await;
    assert_eq!(db.actions(made.id).await, ["ROOM_CREATED"]);
}

async fn a_unit_passes_over_taken_codes_and_goes_on_when_there_are_none(db: TestDb) {
    let ada = db.user("ada").await;
    let taken = db.room(&ada, 5).await.room_code;
    let store = Codes::only(&taken).store(&db).await;
    let owner = ada.id;
    let done: Result<(), Error> = store
        .transact(&Actor::user(owner), |unit| async move {
            let failed = unit.rooms().create(NewRoom::titled(owner, "A room")).await;
            assert!(
                matches!(failed, Err(Error::Conflict(Conflict::RoomCodesExhausted { .. }))),
                "{failed:?}"
            );
            unit.audit().append(None, Observation::ScreenShareStarted {}).await?;
            Ok(())
        })
        .await;
    done.unwrap();
    let store = Codes::first(&[&taken, &taken, "FREEWXYZ"]).store(&db).await;
    let unit = store.begin(&Actor::user(owner)).await.unwrap();
    let made = unit.rooms().create(NewRoom::titled(owner, "A room")).await.unwrap();
    unit.commit().await.unwrap();
    assert_eq!(made.room_code, "FREEWXYZ");
    let raw = db.raw().await;
    assert_eq!(raw.number("SELECT count(*) FROM rooms").await, 2);
    let kept = "SELECT count(*) FROM audit_logs WHERE action = 'SCREEN_SHARE_STARTED'";
    assert_eq!(raw.number(kept).await, 1);
    raw.assert_invariants().await;
}

async fn a_deleted_rooms_code_is_not_handed_out_again(db: TestDb) {
    let ada = db.user("ada").await;
    let old = db.room(&ada, 5).await;
    db.raw().await.run("UPDATE rooms SET deleted_at = updated_at").await;
    let store = Codes::first(&[&old.room_code, "FREEWXYZ"]).store(&db).await;
    let system = store.acting(&Actor::system("test"));
    let made = system.rooms().create(NewRoom::titled(ada.id, "A room")).await.unwrap();
    assert_eq!(made.room_code, "FREEWXYZ");
}

async fn when_every_code_is_taken_nothing_is_made(db: TestDb) {
    let ada = db.user("ada").await;
    let taken = db.room(&ada, 5).await.room_code;
    let codes = Codes::only(&taken);
    let store = codes.store(&db).await;
    let raw = db.raw().await;
    let before = raw.snapshot().await;
    let failed = store
        .acting(&Actor::user(ada.id))
        .rooms()
        .create(NewRoom::titled(ada.id, "A room"))
        .await;
    match failed {
        Err(Error::Conflict(Conflict::RoomCodesExhausted { tries })) => {
            assert!(tries > 1);
            assert_eq!(codes.asked.load(Ordering::SeqCst), tries);
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(raw.snapshot().await, before);
}

async fn racing_creates_get_codes_of_their_own(db: TestDb) {
    let ada = db.user("ada").await;
    // Everybody is handed the same two codes before others.
    let codes: Vec<&str> = [["SAMEWXYZ"; 16], ["SAMEACEF"; 16]].concat();
    let store = Codes::first(&codes).store(&db).await;
    let tasks = (0..16).map(|_| {
        let (system, ada) = (store.acting(&Actor::system("test")), ada.id);
        async move { system.rooms().create(NewRoom::titled(ada, "A room")).await }
    });
    let made: BTreeSet<String> = race(tasks)
        .await
        .into_iter()
        .map(|room| room.unwrap().room_code)
        .collect();
    assert_eq!(made.len(), 16);
    assert!(made.contains("SAMEWXYZ"));
    db.raw().await.assert_invariants().await;
}

async fn codes_are_found_as_people_type_them(db: TestDb) {
    let ada = db.user("ada").await;
    let (room, other) = (db.room(&ada, 5).await, db.room(&ada, 5).await);
    let code = &room.room_code;
    let (head, tail) = code.split_at(4);
    for typed in [
        code.clone(),
        code.to_lowercase(),
        format!("  {code}\n"),
        format!("{head}-{tail}"),
        format!("{} {}", head.to_lowercase(), tail),
        format!("\t{head}\u{a0}-\u{2009}{tail}"),
        code.chars().map(|c| format!("{c}-")).collect(),
    ] {
        let found = db.store.rooms().find_by_code(&typed).await.unwrap();
        assert_eq!(found, Some(room.clone()), "{typed:?}");
        let found = db.store.rooms().find_overview(&typed).await.unwrap();
        assert_eq!(found.map(|found| found.room), Some(room.clone()), "{typed:?}");
    }
    let found = db.store.rooms().find_by_code(&other.room_code).await.unwrap();
    assert_eq!(found, Some(other));
}

async fn what_could_be_no_code_is_not_found(db: TestDb) {
    let ada = db.user("ada").await;
    let room = db.room(&ada, 5).await;
    let long = "A".repeat(100_000);
    for typed in [
        "",
        " ",
        "-",
        "%",
        "'",
        "ÄÖÜ",
        &long,
        &room.room_code[1..],
        "\u{0}",
        &format!("{}\u{0}", room.room_code),
    ] {
        let found = db.store.rooms().find_by_code(typed).await;
        assert!(matches!(found, Ok(None)), "{:.20}: {found:?}", typed.escape_debug());
        let found = db.store.rooms().find_overview(typed).await;
        assert!(matches!(found, Ok(None)), "{:.20}: {found:?}", typed.escape_debug());
    }
}
