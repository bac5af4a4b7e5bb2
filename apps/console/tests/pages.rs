//! The console over HTTP, on a seeded platform; on both backends.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod platform;

use std::pin::Pin;
use std::process::ExitCode;

use conferencing_store::entity::{AuditAction, ParticipantRole, Secret};
use conferencing_store::{
    Actor, AuditEvent, AuditFilter, Change, NewRoom, NewUser, Observation, Order, PageRequest, RoomFilter, UserSearch,
};
use libtest_mimic::{Arguments, Trial};
use platform::{Backend, OPERATOR, PASSWORD, Platform, remove_templates, server_is_there};

fn first(size: u16) -> PageRequest {
    PageRequest::first(size, Order::NewestFirst).unwrap()
}

/// The newest events of an action.
async fn newest(platform: &Platform, action: AuditAction) -> Vec<conferencing_store::AuditEntry> {
    let filter = AuditFilter::of_actions([action]);
    platform.store.audit().list(&filter, &first(100)).await.unwrap().items
}

/// As it stands in a page.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

async fn nobody_sees_anything_without_signing_in(backend: Backend) {
    let platform = Platform::new(backend).await;
    let room = platform.some_room().await;
    for path in [
        "/".to_owned(),
        "/rooms".to_owned(),
        format!("/rooms/{}", room.id),
        "/people".to_owned(),
        format!("/people/{}", room.owner_id),
        format!("/people/{}/logins", room.owner_id),
        "/audit".to_owned(),
        "/doctor".to_owned(),
    ] {
        for cookie in ["", "console_session=guessed"] {
            let response = platform.get_as(cookie, &path).await;
            assert_eq!(response.status, 303, "{path}");
            assert_eq!(response.header("location"), "/sign-in", "{path}");
            assert!(response.body.is_empty(), "{path}");
        }
    }
    for path in ["/audit/export", "/sign-out"] {
        assert_eq!(platform.post_as("", path, &[]).await.status, 303, "{path}");
    }
    assert!(newest(&platform, AuditAction::PersonalDataViewed).await.is_empty());
    assert!(newest(&platform, AuditAction::AuditExported).await.is_empty());
    platform.close().await;
}

async fn only_operators_with_their_password_come_in(backend: Backend) {
    let platform = Platform::new(backend).await;
    let ordinary = platform.somebody_else().await;
    let failed = |platform: &Platform| {
        let store = platform.store.clone();
        async move {
            store
                .audit()
                .count(&AuditFilter::of_actions([AuditAction::UserLoginFailed]))
                .await
                .unwrap()
        }
    };
    let before = failed(&platform).await;
    // The seed gives everybody the same password: whoever is no operator is refused for that alone.
    for (name, password) in [
        (OPERATOR, "a wrong guess"),
        (ordinary.username.as_str(), PASSWORD),
        ("nobody", PASSWORD),
        ("", ""),
    ] {
        let response = platform
            .post_as("", "/sign-in", &[("username", name), ("password", password)])
            .await;
        assert_eq!(response.status, 403, "{name}");
        assert!(response.header("set-cookie").is_empty(), "{name}");
        assert!(response.body.contains("not the name and password of an operator"));
        assert!(!response.body.contains(password) || password.is_empty());
    }
    assert_eq!(failed(&platform).await, before + 4);
    let response = platform
        .post_as("", "/sign-in", &[("username", "ADA.operator"), ("password", PASSWORD)])
        .await;
    assert_eq!((response.status, response.header("location")), (303, "/"));
    let cookie = response.header("set-cookie");
    for part in ["HttpOnly", "SameSite=Strict", "Path=/"] {
        assert!(cookie.contains(part), "{cookie}");
    }
    let login = &newest(&platform, AuditAction::UserLoginSuccess).await[0];
    assert_eq!(login.system.as_deref(), Some("console"));
    assert!(login.address.is_some());

    // A deactivated operator is out at once, and stays out.
    let session = cookie.split_once(';').unwrap().0.to_owned();
    assert_eq!(platform.get_as(&session, "/rooms").await.status, 200);
    platform
        .system()
        .users()
        .deactivate(platform.operator.id)
        .await
        .unwrap();
    assert_eq!(platform.get_as(&session, "/rooms").await.status, 303);
    let response = platform
        .post_as("", "/sign-in", &[("username", OPERATOR), ("password", PASSWORD)])
        .await;
    assert_eq!(response.status, 403);
    platform.close().await;
}

async fn who_guesses_is_held_off(backend: Backend) {
    let platform = Platform::new(backend).await;
    for _ in 0..5 {
        let response = platform
            .post_as("", "/sign-in", &[("username", OPERATOR), ("password", "a wrong guess")])
            .await;
        assert_eq!(response.status, 403);
    }
    let right = [("username", OPERATOR), ("password", PASSWORD)];
    assert_eq!(platform.post_as("", "/sign-in", &right).await.status, 429);
    let limits = newest(&platform, AuditAction::RateLimitExceeded).await;
    assert_eq!(limits.len(), 1);
    platform.close().await;
}

async fn forms_from_elsewhere_are_refused(backend: Backend) {
    let platform = Platform::new(backend).await;
    let cookie = platform.sign_in().await;
    let token = platform.token(&cookie).await;
    for (path, fields) in [
        ("/sign-out", vec![]),
        ("/sign-out", vec![("token", "guessed")]),
        ("/audit/export", vec![]),
        ("/audit/export", vec![("token", "guessed")]),
    ] {
        assert_eq!(platform.post_as(&cookie, path, &fields).await.status, 403, "{path}");
    }
    let right = [("token", token.as_str())];
    let evil = [("origin", "http://evil.example")];
    assert_eq!(
        platform.post_from(&evil, &cookie, "/audit/export", &right).await.status,
        403
    );
    let credentials = [("username", OPERATOR), ("password", PASSWORD)];
    assert_eq!(
        platform
            .post_from(&[("sec-fetch-site", "cross-site")], "", "/sign-in", &credentials)
            .await
            .status,
        403
    );
    assert!(newest(&platform, AuditAction::AuditExported).await.is_empty());
    // The session is still there; and then no more.
    assert_eq!(platform.get_as(&cookie, "/").await.status, 200);
    assert_eq!(platform.post_as(&cookie, "/sign-out", &right).await.status, 303);
    assert_eq!(platform.get_as(&cookie, "/").await.status, 303);
    assert_eq!(
        newest(&platform, AuditAction::UserLogout).await[0].actor,
        Some(platform.operator.id)
    );
    platform.close().await;
}

async fn every_page_shows_what_is_there(backend: Backend) {
    let platform = Platform::new(backend).await;
    let cookie = platform.sign_in().await;
    let live = platform
        .store
        .rooms()
        .list(RoomFilter::Live, &first(1))
        .await
        .unwrap()
        .items
        .remove(0);
    let ended = platform.some_room().await;
    let person = platform.store.users().get(ended.owner_id).await.unwrap();
    let (room, user) = (format!("/rooms/{}", ended.id), format!("/people/{}", person.id));
    let actor = format!("/audit?actor={}&action=ROOM_CREATED", person.username);
    for (path, expected) in [
        ("/", vec!["Live rooms", live.room_code.as_str(), "<svg", "Doctor"]),
        ("/rooms", vec![live.room_code.as_str(), "private"]),
        ("/rooms?show=planned", vec!["planned"]),
        (
            room.as_str(),
            vec![
                ended.room_code.as_str(),
                "class=\"timeline\"",
                "host",
                "Recordings",
                "ROOM_ENDED",
                person.display_name.as_str(),
            ],
        ),
        (&format!("{room}/stays"), vec![person.username.as_str()]),
        (&format!("{room}/bans"), vec!["Bans in force"]),
        ("/people", vec![OPERATOR]),
        (
            &format!("/people?prefix={}", person.username),
            vec![person.username.as_str()],
        ),
        (
            &format!("/people?by=email&prefix={}", person.email.as_deref().unwrap()),
            vec![person.username.as_str()],
        ),
        (
            user.as_str(),
            vec![
                person.username.as_str(),
                "Logins",
                "Bans",
                ended.room_code.as_str(),
                "What they did last",
            ],
        ),
        (&format!("{user}/stays"), vec![ended.room_code.as_str()]),
        (&format!("{user}/bans"), vec!["Bans of"]),
        (&format!("{user}/bans-by"), vec!["Bans that they put"]),
        (&format!("{user}/logins"), vec!["Logins of"]),
        (&format!("{user}/rooms"), vec![ended.room_code.as_str()]),
        (&format!("{user}/recordings"), vec!["Recordings of"]),
        ("/audit", vec!["PERSONAL_DATA_VIEWED", "Export what this search finds"]),
        (&actor, vec![person.username.as_str(), "ROOM_CREATED"]),
        (
            "/audit?action=USER_KICKED&action=USER_BANNED&order=oldest",
            vec!["USER_KICKED"],
        ),
        ("/audit?since=2020-01-01&until=2020-02-01", vec!["Nothing."]),
        ("/doctor", vec!["What", "Doctor"]),
    ] {
        let response = platform.get_as(&cookie, path).await;
        assert_eq!(response.status, 200, "{path}: {}", response.body);
        for text in expected {
            let is_there = response.body.contains(text) || response.body.contains(&escaped(text));
            assert!(is_there, "{path} does not say {text}");
        }
        let policy = response.header("content-security-policy");
        assert!(
            policy.contains("default-src 'none'") && !policy.contains("unsafe"),
            "{policy}"
        );
        assert_eq!(response.header("cache-control"), "no-store");
        assert!(
            !response.body.contains("<script") && !response.body.contains(" style="),
            "{path}"
        );
        assert!(!response.body.contains("$argon2"), "{path}");
    }
    let by_code = platform
        .get_as(&cookie, &format!("/rooms?code={}", ended.room_code.to_lowercase()))
        .await;
    assert_eq!((by_code.status, by_code.header("location")), (303, room.as_str()));
    platform.close().await;
}

async fn what_makes_no_sense_is_said_and_not_a_fault(backend: Backend) {
    let platform = Platform::new(backend).await;
    let cookie = platform.sign_in().await;
    for (path, status) in [
        ("/audit?since=yesterday", 422),
        ("/audit?since=2026-02-01&until=2026-01-01", 422),
        ("/audit?action=NO_SUCH_ACTION", 422),
        ("/audit?address=somewhere", 422),
        ("/audit?actor=nobody-is-called-so", 422),
        ("/audit?after=rubbish", 422),
        ("/people?after=rubbish", 422),
        ("/rooms?code=NOTACODE", 422),
        ("/rooms/018f0000-0000-7000-8000-000000000000", 404),
        ("/people/018f0000-0000-7000-8000-000000000000", 404),
        ("/people/018f0000-0000-7000-8000-000000000000/stays", 404),
        ("/rooms/rubbish", 400),
        ("/no/such/page", 404),
    ] {
        let response = platform.get_as(&cookie, path).await;
        assert_eq!(response.status, status, "{path}: {}", response.body);
    }
    let somebody = format!("/people/{}/secrets", platform.operator.id);
    assert_eq!(platform.get_as(&cookie, &somebody).await.status, 404);
    platform.close().await;
}

async fn hostile_names_are_shown_as_text(backend: Backend) {
    let platform = Platform::new(backend).await;
    let cookie = platform.sign_in().await;
    let hostile = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>";
    let anybody = platform.store.acting(&Actor::anonymous());
    let name = NewUser::named(
        "<b>mallory</b>",
        hostile,
        Secret::new("$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHQ$aGFzaGhhc2g"),
    );
    let mallory = anybody.users().register(name).await.unwrap();
    let acting = platform.store.acting(&Actor::user(mallory.id).with_user_agent(hostile));
    let room = acting
        .rooms()
        .create(NewRoom {
            description: Some(hostile),
            ..NewRoom::titled(mallory.id, hostile)
        })
        .await
        .unwrap();
    acting
        .participants()
        .join(room.id, mallory.id, ParticipantRole::Host)
        .await
        .unwrap();
    let ben = platform.somebody_else().await;
    let system = platform.system();
    system
        .participants()
        .join(room.id, ben.id, ParticipantRole::Participant)
        .await
        .unwrap();
    acting
        .participants()
        .ban(room.id, ben.id, Some(hostile), None)
        .await
        .unwrap();
    anybody.users().record_failed_login(&mallory.username).await.unwrap();
    let description = hostile.to_owned();
    acting
        .audit()
        .append(Some(room.id), Observation::SuspiciousActivity { description })
        .await
        .unwrap();
    let typed = "%3Cscript%3E%22%3E";
    for path in [
        "/".to_owned(),
        "/rooms".to_owned(),
        format!("/rooms/{}", room.id),
        format!("/rooms/{}/stays", room.id),
        format!("/people/{}", mallory.id),
        format!("/people/{}/stays", mallory.id),
        format!("/people/{}", ben.id),
        format!("/people?prefix={typed}"),
        "/people?prefix=%3Cb%3E".to_owned(),
        format!("/audit?room={}", room.id),
        format!("/audit?actor={typed}"),
        format!("/audit?room={typed}"),
    ] {
        let response = platform.get_as(&cookie, &path).await;
        for forbidden in ["<script", "<img", "<b>mallory"] {
            assert!(!response.body.contains(forbidden), "{path} has {forbidden}");
        }
    }
    let shown = platform.get_as(&cookie, &format!("/rooms/{}", room.id)).await.body;
    assert!(shown.contains("&lt;script&gt;alert(1)"), "{shown}");
    platform.close().await;
}

async fn what_is_looked_at_is_recorded_before_it_is_shown(backend: Backend) {
    let platform = Platform::new(backend).await;
    let cookie = platform.sign_in().await;
    let room = platform.some_room().await;
    let owner = room.owner_id;
    for (path, by, target, place) in [
        (format!("/people/{owner}"), "console: person", Some(owner), None),
        (format!("/people/{owner}/logins"), "console: person", Some(owner), None),
        ("/people?prefix=a".to_owned(), "console: people", None, None),
        (format!("/rooms/{}", room.id), "console: room", None, Some(room.id)),
        (
            format!("/rooms/{}/stays", room.id),
            "console: room",
            None,
            Some(room.id),
        ),
        (
            format!("/audit?target={owner}&room={}", room.id),
            "console: audit log",
            Some(owner),
            Some(room.id),
        ),
        ("/audit".to_owned(), "console: audit log", None, None),
    ] {
        let before = newest(&platform, AuditAction::PersonalDataViewed).await.len();
        assert_eq!(platform.get_as(&cookie, &path).await.status, 200);
        let views = newest(&platform, AuditAction::PersonalDataViewed).await;
        assert_eq!(views.len(), before + 1, "{path}");
        let view = &views[0];
        assert_eq!((view.actor, view.room), (Some(platform.operator.id), place), "{path}");
        assert!(view.address.is_some());
        let AuditEvent::Observation(Observation::PersonalDataViewed { target: seen, by: what }) = &view.event else {
            panic!("{:?}", view.event);
        };
        assert_eq!((*seen, what.as_str()), (target, by), "{path}");
    }
    // Figures, rooms and findings are nobody's.
    let before = newest(&platform, AuditAction::PersonalDataViewed).await.len();
    for path in ["/", "/rooms", "/doctor"] {
        assert_eq!(platform.get_as(&cookie, path).await.status, 200);
    }
    assert_eq!(newest(&platform, AuditAction::PersonalDataViewed).await.len(), before);
    platform.close().await;
}

async fn an_export_is_the_search_line_by_line_and_recorded(backend: Backend) {
    let platform = Platform::new(backend).await;
    let cookie = platform.sign_in().await;
    let token = platform.token(&cookie).await;
    let fields = [
        ("token", token.as_str()),
        ("action", "PRODUCER_CREATED"),
        ("action", "ROOM_ENDED"),
    ];
    let response = platform.post_as(&cookie, "/audit/export", &fields).await;
    assert_eq!(response.status, 200, "{}", response.body);
    assert_eq!(response.header("content-type"), "application/x-ndjson");
    assert!(
        response
            .header("content-disposition")
            .starts_with("attachment; filename=\"audit-")
    );
    let filter = AuditFilter::of_actions([AuditAction::ProducerCreated, AuditAction::RoomEnded]);
    let counted = platform.store.audit().count(&filter).await.unwrap();
    let lines: Vec<serde_json::Value> = response
        .body
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(u64::try_from(lines.len()).unwrap(), counted);
    assert!(lines.len() > 500, "more than one page of the walk: {}", lines.len());
    assert!(
        lines
            .iter()
            .all(|line| line["action"] == "PRODUCER_CREATED" || line["action"] == "ROOM_ENDED")
    );
    let exported = &newest(&platform, AuditAction::AuditExported).await[0];
    assert_eq!(exported.system, Some(format!("console for {}", platform.operator.id)));
    let AuditEvent::Change(Change::AuditExported { actions, .. }) = &exported.event else {
        panic!("{:?}", exported.event);
    };
    assert_eq!(actions.len(), 2);
    let view = &newest(&platform, AuditAction::PersonalDataViewed).await[0];
    assert_eq!(view.actor, Some(platform.operator.id));
    platform.close().await;
}

async fn pages_follow_one_another_without_loss(backend: Backend) {
    let platform = Platform::new(backend).await;
    let cookie = platform.sign_in().await;
    let all = platform
        .store
        .users()
        .search(
            &UserSearch::username(""),
            &PageRequest::first(500, Order::OldestFirst).unwrap(),
        )
        .await
        .unwrap();
    let (mut path, mut seen) = ("/people".to_owned(), 0);
    loop {
        let body = platform.get_as(&cookie, &path).await.body;
        seen += body.matches("href=\"/people/").count();
        let Some((_, rest)) = body.split_once("rel=\"next\" href=\"") else {
            break;
        };
        path = rest.split_once('"').unwrap().0.replace("&amp;", "&");
    }
    assert_eq!(seen, all.items.len());
    assert!(seen > 50, "more than one page");
    platform.close().await;
}

/// All pages, and then every table as it was but for the audit log, which has grown.
async fn the_console_changes_nothing_but_the_audit_log(backend: Backend) {
    let platform = Platform::new(backend).await;
    // That they signed in is theirs to change, and done before.
    let cookie = platform.sign_in().await;
    let token = platform.token(&cookie).await;
    let before = platform.digests().await;
    let room = platform.some_room().await;
    for path in [
        "/".to_owned(),
        "/rooms".to_owned(),
        "/rooms?show=planned".to_owned(),
        format!("/rooms/{}", room.id),
        format!("/rooms/{}/stays", room.id),
        format!("/rooms/{}/bans", room.id),
        "/people?prefix=a".to_owned(),
        format!("/people/{}", room.owner_id),
        format!("/people/{}/stays", room.owner_id),
        format!("/people/{}/bans", room.owner_id),
        format!("/people/{}/bans-by", room.owner_id),
        format!("/people/{}/logins", room.owner_id),
        format!("/people/{}/rooms", room.owner_id),
        format!("/people/{}/recordings", room.owner_id),
        "/audit".to_owned(),
        "/doctor".to_owned(),
    ] {
        assert_eq!(platform.get_as(&cookie, &path).await.status, 200, "{path}");
    }
    let fields = [("token", token.as_str())];
    assert_eq!(platform.post_as(&cookie, "/audit/export", &fields).await.status, 200);
    let wrong = [("username", OPERATOR), ("password", "a wrong guess")];
    assert_eq!(platform.post_as("", "/sign-in", &wrong).await.status, 403);
    assert_eq!(platform.post_as(&cookie, "/sign-out", &fields).await.status, 303);
    let after = platform.digests().await;
    for (table, digest) in &before {
        // SQLite keeps the feed's order of events in a table beside them, which a trigger fills.
        if table == "audit_logs" || table == "audit_feed" {
            assert!(after[table].0 > digest.0);
        } else {
            assert_eq!(&after[table], digest, "{table}");
        }
    }
    platform.close().await;
}

/// A case on a backend.
type Case = (&'static str, fn(Backend) -> Pin<Box<dyn Future<Output = ()>>>);

macro_rules! cases {
    ($($name:ident),+ $(,)?) => {
        const CASES: &[Case] = &[$((stringify!($name), |backend| Box::pin($name(backend)))),+];
    };
}

cases![
    nobody_sees_anything_without_signing_in,
    only_operators_with_their_password_come_in,
    who_guesses_is_held_off,
    forms_from_elsewhere_are_refused,
    every_page_shows_what_is_there,
    what_makes_no_sense_is_said_and_not_a_fault,
    hostile_names_are_shown_as_text,
    what_is_looked_at_is_recorded_before_it_is_shown,
    an_export_is_the_search_line_by_line_and_recorded,
    pages_follow_one_another_without_loss,
    the_console_changes_nothing_but_the_audit_log,
];

/// Each case once on each backend, by the names that the other suites have. Without a server those on PostgreSQL are shown as ignored.
fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let there = server_is_there();
    let trial = |prefix: &str, backend, (name, case): Case| {
        Trial::test(format!("{prefix}::{name}"), move || {
            let runtime = tokio::runtime::Runtime::new()?;
            runtime.block_on(case(backend));
            Ok(())
        })
    };
    let mut trials = Vec::new();
    for case in CASES {
        trials.push(trial("sqlite", Backend::Sqlite, *case));
        trials.push(trial("postgres", Backend::Postgres, *case).with_ignored_flag(!there));
    }
    let conclusion = libtest_mimic::run(&arguments, trials);
    remove_templates();
    conclusion.exit_code()
}
