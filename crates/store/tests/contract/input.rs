//! Bad input: reported by field and rule, and never sent to the database.

use chrono::{DateTime, Utc};
use conferencing_store::entity::{RoomId, Secret, UserId};
use conferencing_store::{Acting, Actor, Error, Invalid, NewRoom, NewUser, Observation, Rule, Store, Unit};

use crate::harness::{Backend, TestDb, password_hash};
use crate::wire::Wire;

crate::cases![
    bad_input_is_told_by_field_and_rule_and_not_sent,
    input_at_the_limits_is_kept_whole,
    texts_of_the_audit_log_with_a_nul_are_no_error_of_the_database,
];

enum Input<'a> {
    User(NewUser<'a>),
    Room(Box<NewRoom<'a>>),
    KickReason(&'a str),
}

fn user() -> NewUser<'static> {
    NewUser::named("somebody", "Somebody", password_hash())
}

fn room() -> NewRoom<'static> {
    NewRoom::titled(UserId::from_uuid(uuid::Uuid::from_u128(1)), "A room")
}

fn username(username: &str) -> Input<'_> {
    Input::User(NewUser { username, ..user() })
}

fn email(email: &str) -> Input<'_> {
    Input::User(NewUser {
        email: Some(email),
        ..user()
    })
}

fn display_name(display_name: &str) -> Input<'_> {
    Input::User(NewUser { display_name, ..user() })
}

fn hash(hash: &str) -> Input<'_> {
    Input::User(NewUser {
        password_hash: Secret::new(hash),
        ..user()
    })
}

fn title(title: &str) -> Input<'_> {
    Input::Room(Box::new(NewRoom { title, ..room() }))
}

fn description(description: &str) -> Input<'_> {
    Input::Room(Box::new(NewRoom {
        description: Some(description),
        ..room()
    }))
}

fn seats(max_participants: i32) -> Input<'static> {
    Input::Room(Box::new(NewRoom {
        max_participants,
        ..room()
    }))
}

fn schedule(start: Option<&str>, end: Option<&str>) -> Input<'static> {
    let time = |text: &str| text.parse::<DateTime<Utc>>().unwrap();
    Input::Room(Box::new(NewRoom {
        scheduled_start: start.map(time),
        scheduled_end: end.map(time),
        ..room()
    }))
}

fn start_at(at: DateTime<Utc>) -> Input<'static> {
    Input::Room(Box::new(NewRoom {
        scheduled_start: Some(at),
        ..room()
    }))
}

struct Texts {
    a101: String,
    dotted_capitals: String,
    e151: String,
    e256: String,
    e501: String,
    long_address: String,
    long_hash: String,
    e10_001: String,
}

impl Texts {
    fn new() -> Self {
        Self {
            a101: "ä".repeat(101),
            // Small, each of these is an `i` and a dot.
            dotted_capitals: "İ".repeat(51),
            e151: "é".repeat(151),
            e256: "🎥".repeat(256),
            e501: "é".repeat(501),
            long_address: format!("ada@{}.org", ["x".repeat(61).as_str(); 5].join(".")),
            long_hash: format!("$argon2id${}", "x".repeat(246)),
            e10_001: "é".repeat(10_001),
        }
    }
}

/// Every field, and every way to get it wrong.
fn table<'a>(texts: &'a Texts) -> Vec<(Input<'a>, &'static str, Rule)> {
    use Rule::{
        After, AtLeast, AtMost, EmailAddress, MaxLength, Needs, NoControlCharacters, NotEmpty, PasswordHash, Without,
        Year,
    };
    let too_long = |max, actual| MaxLength { max, actual };
    let start = Some("2026-01-01T00:00:00.1234561Z");
    let mut table = Vec::new();
    let mut add = |field, cases: Vec<(Input<'a>, Rule)>| {
        table.extend(cases.into_iter().map(|(input, rule)| (input, field, rule)));
    };
    add(
        "username",
        vec![
            (username(""), NotEmpty),
            (username(" \u{a0}\t\n"), NotEmpty),
            (username(&texts.a101), too_long(100, 101)),
            (username(&texts.dotted_capitals), too_long(100, 102)),
            (username("a\u{0}b"), NoControlCharacters),
            (username("\u{0}"), NoControlCharacters),
            (username("a\u{1b}[31m"), NoControlCharacters),
            (username("a\nb"), NoControlCharacters),
            (username("ada lovelace"), Without(' ')),
            (username("ada\u{a0}lovelace"), Without('\u{a0}')),
            (username("ada@example.org"), Without('@')),
            (username("@"), Without('@')),
        ],
    );
    let malformed = [
        "ada",
        "ada@",
        "@example.org",
        "a b@example.org",
        "ada@@example.org",
        "ada@exa mple.org",
        "ada@example..org",
        "ada.@example.org",
        ".ada@example.org",
        "Ada <ada@example.org>",
        "ada@[127.0.0.1]",
        "ada@-example.org",
        "ada@example.org,ben@example.org",
    ];
    add("email", malformed.map(|address| (email(address), EmailAddress)).into());
    add(
        "email",
        vec![
            (email(""), NotEmpty),
            (email("  "), NotEmpty),
            (email("a\u{0}da@example.org"), NoControlCharacters),
            (email("ada@example.org\u{0}"), NoControlCharacters),
            (email("ada\r\nBcc:x@example.org"), NoControlCharacters),
            (email(&texts.long_address), too_long(254, texts.long_address.len())),
        ],
    );
    add(
        "display_name",
        vec![
            (display_name(""), NotEmpty),
            (display_name("\u{2003}"), NotEmpty),
            (display_name(&texts.e151), too_long(150, 151)),
            (display_name("a\u{0}b"), NoControlCharacters),
            (display_name("a\u{85}b"), NoControlCharacters),
        ],
    );
    let no_hashes = [
        "",
        " ",
        "$",
        "$short",
        "hunter2hunter2",
        "$argon2id$with space",
        "$argon2id$\u{0}nul",
    ];
    add("password_hash", no_hashes.map(|text| (hash(text), PasswordHash)).into());
    add("password_hash", vec![(hash(&texts.long_hash), too_long(255, 256))]);
    add(
        "title",
        vec![
            (title(""), NotEmpty),
            (title("\t \n"), NotEmpty),
            (title(&texts.e256), too_long(255, 256)),
            (title("a\u{0}b"), NoControlCharacters),
            (title("a\nb"), NoControlCharacters),
        ],
    );
    add(
        "description",
        vec![
            (description(&texts.e10_001), too_long(10_000, 10_001)),
            (description("a\u{0}b"), NoControlCharacters),
            (description("a\u{7}"), NoControlCharacters),
        ],
    );
    add(
        "max_participants",
        vec![
            (seats(0), AtLeast(1)),
            (seats(-1), AtLeast(1)),
            (seats(i32::MIN), AtLeast(1)),
            (seats(10_001), AtMost(10_000)),
            (seats(i32::MAX), AtMost(10_000)),
        ],
    );
    add(
        "scheduled_end",
        vec![
            (schedule(None, start), Needs("scheduled_start")),
            (schedule(start, start), After("scheduled_start")),
            // The same microsecond, which is what is kept.
            (
                schedule(start, Some("2026-01-01T00:00:00.1234569Z")),
                After("scheduled_start"),
            ),
            (schedule(start, Some("2025-12-31T23:59:59Z")), After("scheduled_start")),
            (schedule(start, Some("+10000-01-01T00:00:00Z")), Year),
        ],
    );
    add(
        "scheduled_start",
        vec![
            (schedule(Some("1969-12-31T23:59:59.999999Z"), None), Year),
            (schedule(Some("+10000-01-01T00:00:00Z"), None), Year),
            (start_at(DateTime::<Utc>::MIN_UTC), Year),
            (start_at(DateTime::<Utc>::MAX_UTC), Year),
        ],
    );
    add(
        "kick_reason",
        vec![
            (Input::KickReason(&texts.e501), too_long(500, 501)),
            (Input::KickReason("a\u{0}b"), NoControlCharacters),
            (Input::KickReason("a\nb"), NoControlCharacters),
        ],
    );
    table
}

macro_rules! send {
    ($source:expr, $input:expr) => {
        match $input {
            Input::User(new) => $source.users().register(new.clone()).await.map(drop),
            Input::Room(new) => $source.rooms().create((**new).clone()).await.map(drop),
            Input::KickReason(reason) => {
                let (room, user) = (
                    RoomId::from_uuid(uuid::Uuid::nil()),
                    UserId::from_uuid(uuid::Uuid::nil()),
                );
                $source.participants().kick(room, user, Some(reason)).await.map(drop)
            }
        }
    };
}

async fn send_alone(acting: &Acting, input: &Input<'_>) -> Result<(), Error> {
    send!(acting, input)
}

async fn send_inside(unit: &Unit, input: &Input<'_>) -> Result<(), Error> {
    send!(unit, input)
}

fn assert_invalid(outcome: Result<(), Error>, field: &'static str, rule: Rule) {
    match outcome {
        Err(Error::Invalid(invalid)) => assert_eq!(invalid, Invalid { field, rule }),
        other => panic!("{field} {rule:?}: {other:?}"),
    }
}

async fn bad_input_is_told_by_field_and_rule_and_not_sent(db: TestDb) {
    let texts = Texts::new();
    let wire = match db.backend {
        Backend::Postgres => Some(Wire::before(&db.url).await),
        Backend::Sqlite => None,
    };
    let url = wire.as_ref().map_or(&db.url, |wire| &wire.url);
    let store = Store::connect(url).await.unwrap();
    let sent = || wire.as_ref().map(Wire::messages);
    let system = Actor::system("test");
    let acting = store.acting(&system);
    let before = sent();
    for (input, field, rule) in table(&texts) {
        assert_invalid(send_alone(&acting, &input).await, field, rule);
        assert_eq!(sent(), before, "{field}");
    }
    // In a unit, which stays usable.
    let unit = store.begin(&system).await.unwrap();
    let before = sent();
    for (input, field, rule) in table(&texts) {
        assert_invalid(send_inside(&unit, &input).await, field, rule);
    }
    assert_eq!(sent(), before);
    let raw = db.raw().await;
    assert_eq!(raw.snapshot().await, Vec::<String>::new());
    unit.users().register(user()).await.unwrap();
    unit.commit().await.unwrap();
    assert_eq!(raw.number("SELECT count(*) FROM users").await, 1);
}

async fn input_at_the_limits_is_kept_whole(db: TestDb) {
    let name = "ä".repeat(100);
    let shown = "🎥".repeat(150);
    let local = "a".repeat(64);
    let address = format!("{local}@{}.{}.{}.org", "x".repeat(60), "y".repeat(60), "z".repeat(60));
    let address = format!("{}@{}", local, &address[65..]);
    assert!(address.len() <= 254);
    let hash = format!("$argon2id${}", "x".repeat(245));
    let new = NewUser {
        email: Some(&address),
        ..NewUser::named(&name, &shown, Secret::new(&*hash))
    };
    let made = db.system().users().register(new).await.unwrap();
    let found = db.store.users().get(made.id).await.unwrap();
    assert_eq!((found.username, found.display_name), (name, shown));
    assert_eq!(found.email, Some(address));
    assert_eq!(found.password_hash.unwrap().expose(), hash);
    let about = "é\n".repeat(5_000) + "!";
    let about = &about[..about.len() - 2];
    let new = NewRoom {
        description: Some(about),
        scheduled_start: Some("1970-01-01T00:00:00Z".parse().unwrap()),
        scheduled_end: Some("9999-12-31T23:59:59.999999Z".parse().unwrap()),
        ..NewRoom::titled(made.id, "x")
    };
    let room = db.system().rooms().create(new.clone()).await.unwrap();
    let found = db.store.rooms().get(room.id).await.unwrap();
    assert_eq!(found.description.as_deref(), Some(about));
    assert_eq!(
        (found.scheduled_start, found.scheduled_end),
        (new.scheduled_start, new.scheduled_end)
    );
}

async fn texts_of_the_audit_log_with_a_nul_are_no_error_of_the_database(db: TestDb) {
    // The texts come from clients. PostgreSQL's jsonb cannot hold a NUL, SQLite's text can.
    let nul = || "a\u{0}b".to_owned();
    for observation in [
        Observation::SuspiciousActivity { description: nul() },
        Observation::UnauthorizedAccessAttempt {
            target: None,
            attempted: nul(),
            actor_role: None,
        },
        Observation::ProducerClosed { producer_id: nul() },
    ] {
        let appended = db.system().audit().append(None, observation.clone()).await;
        assert!(
            matches!(appended, Ok(_) | Err(Error::Invalid(_))),
            "{observation:?}: {appended:?}"
        );
    }
    let acting = db.store.acting(&Actor::system(nul()));
    let appended = acting.audit().append(None, Observation::ScreenShareStarted {}).await;
    assert!(matches!(appended, Ok(_) | Err(Error::Invalid(_))), "{appended:?}");
}
