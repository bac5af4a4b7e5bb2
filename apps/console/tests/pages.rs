//! The console over HTTP, on a seeded platform; on both backends.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod platform;

use std::collections::BTreeMap;
use std::pin::Pin;
use std::process::ExitCode;

use conferencing_console::{App, ConsoleSettings, StartError};
use conferencing_store::entity::{AuditAction, ParticipantRole, RoomId, Secret, UserId};
use conferencing_store::{
    Actor, AuditEvent, AuditFilter, Change, EmailChange, NewRoom, NewUser, Observation, Order, PageRequest,
    ProfileChange, RoomFilter, UserSearch,
};
use futures_util::future::join_all;
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

async fn who_guesses_by_all_names_at_once_is_held_off(backend: Backend) {
    let platform = Platform::new(backend).await;
    let email = "ada@platform.example";
    let change = ProfileChange {
        email: EmailChange::To(email),
        ..ProfileChange::default()
    };
    let system = platform.system();
    system
        .users()
        .update_profile(platform.operator.id, change)
        .await
        .unwrap();
    let guess = [("username", OPERATOR), ("password", "a wrong guess")];
    let answers = join_all((0..12).map(|_| platform.post_as("", "/sign-in", &guess))).await;
    let refused = |status| answers.iter().filter(|answer| answer.status == status).count();
    assert_eq!((refused(403), refused(429)), (5, 7));
    // Their other name is held off as well, and does not tell whose it is: the answer is that of a wrong password.
    let right = [("username", email), ("password", PASSWORD)];
    let answer = platform.post_as("", "/sign-in", &right).await;
    assert_eq!((answer.status, answer.header("set-cookie")), (403, ""));
    let nobodys = [("username", "nobody@platform.example"), ("password", PASSWORD)];
    assert_eq!(platform.post_as("", "/sign-in", &nobodys).await.body, answer.body);
    assert_eq!(newest(&platform, AuditAction::RateLimitExceeded).await.len(), 1);
    platform.close().await;
}

async fn whoever_takes_the_name_of_an_operator_is_none(backend: Backend) {
    let platform = Platform::new(backend).await;
    let system = platform.system();
    let users = system.users();
    let named = |username| ProfileChange {
        username: Some(username),
        ..ProfileChange::default()
    };
    let newcomer = platform.somebody_else().await;
    users
        .update_profile(platform.operator.id, named("ada.elsewhere"))
        .await
        .unwrap();
    users.update_profile(newcomer.id, named(OPERATOR)).await.unwrap();
    // Everybody has this password.
    for (username, status) in [(OPERATOR, 403), ("ada.elsewhere", 303)] {
        let right = [("username", username), ("password", PASSWORD)];
        assert_eq!(
            platform.post_as("", "/sign-in", &right).await.status,
            status,
            "{username}"
        );
    }

    let started = |operator: String| App::new(platform.store.clone(), ConsoleSettings::for_operators([operator]));
    for unknown in [
        "nobody.is.called.so",
        "ada.elsewher",
        "",
        "\u{7}",
        "018f0000-0000-7000-8000-000000000000",
    ] {
        let error = started(unknown.to_owned()).await.err().unwrap();
        assert!(
            matches!(&error, StartError::UnknownOperator(name) if name == unknown),
            "{error}"
        );
    }
    for known in ["ADA.elsewhere".to_owned(), platform.operator.id.to_string()] {
        let app = started(known).await.unwrap();
        let operators: Vec<_> = app.operators().collect();
        assert_eq!(operators, [(platform.operator.id, "ada.elsewhere")]);
    }
    platform.close().await;
}

async fn behind_a_proxy_the_address_is_the_one_that_it_saw(backend: Backend) {
    let settings = || ConsoleSettings::for_operators([OPERATOR]);
    let behind_tls = ConsoleSettings {
        behind_tls: true,
        ..settings()
    };
    let right = [("username", OPERATOR), ("password", PASSWORD)];
    let forwarded = [("x-forwarded-for", "198.51.100.9, ::ffff:203.0.113.7")];
    for (settings, expected) in [(behind_tls, "203.0.113.7"), (settings(), "127.0.0.1")] {
        let platform = Platform::with(backend, settings).await;
        let answer = platform.post_from(&forwarded, "", "/sign-in", &right).await;
        let cookie = answer.header("set-cookie").split_once(';').unwrap().0;
        let token = platform.token(cookie).await;
        let fields = [("token", token.as_str())];
        let answer = platform.post_from(&forwarded, cookie, "/sign-out", &fields).await;
        assert_eq!(answer.status, 303);
        for action in [AuditAction::UserLoginSuccess, AuditAction::UserLogout] {
            let address = newest(&platform, action).await[0].address;
            assert_eq!(address, Some(expected.parse().unwrap()), "{action:?}");
        }
        platform.close().await;
    }
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

/// What stands between these, of each part of the page that has them.
fn parts<'a>(body: &'a str, begin: &str, end: &str) -> Vec<&'a str> {
    let after = body.split(begin).skip(1);
    after.map(|rest| rest.split_once(end).unwrap().0).collect()
}

/// The rows of all tables of a page, without what every page has and what a form says of what was typed.
fn rows_of(body: &str) -> Vec<&str> {
    let tables = parts(body, "<tbody>", "</tbody>");
    tables
        .into_iter()
        .flat_map(|table| parts(table, "<tr>", "</tr>"))
        .collect()
}

fn room_link(id: RoomId) -> String {
    format!("href=\"/rooms/{id}\"")
}

fn user_link(id: UserId) -> String {
    format!("href=\"/people/{id}\"")
}

fn action_cell(action: &str) -> String {
    format!("<td class=\"code\">{action}</td>")
}

/// A page, and what is to stand in its tables.
#[derive(Default)]
struct Look {
    path: String,
    some: Vec<String>,
    all: Vec<String>,
    none: Vec<String>,
    elsewhere: Vec<String>,
}

fn look(path: impl Into<String>) -> Look {
    Look {
        path: path.into(),
        ..Look::default()
    }
}

impl Look {
    /// In a row.
    fn has(mut self, text: impl Into<String>) -> Self {
        self.some.push(text.into());
        self
    }

    /// In all rows, of which there is one at least.
    fn all_have(mut self, text: impl Into<String>) -> Self {
        self.all.push(text.into());
        self
    }

    /// In no row.
    fn lacks(mut self, text: impl Into<String>) -> Self {
        self.none.push(text.into());
        self
    }

    /// Between header and footer, for what is in no table.
    fn says(mut self, text: impl Into<String>) -> Self {
        self.elsewhere.push(text.into());
        self
    }

    fn check(&self, body: &str) {
        let (path, rows) = (&self.path, rows_of(body));
        let content = parts(body, "<main>", "</main>").concat();
        for text in &self.some {
            assert!(
                rows.iter().any(|row| row.contains(text)),
                "{path} has no {text}: {content}"
            );
        }
        assert!(!rows.is_empty() || self.all.is_empty(), "{path} has no rows: {content}");
        for text in &self.all {
            let other = rows.iter().find(|row| !row.contains(text));
            assert_eq!(other, None, "{path} has one without {text}");
        }
        for text in &self.none {
            let other = rows.iter().find(|row| row.contains(text));
            assert_eq!(other, None, "{path} has {text}");
        }
        for text in &self.elsewhere {
            assert!(content.contains(text), "{path} does not say {text}: {content}");
        }
    }
}

async fn every_page_shows_what_is_there(backend: Backend) {
    let platform = Platform::new(backend).await;
    let cookie = platform.sign_in().await;
    let store = &platform.store;
    let ended = platform.some_room().await;
    let person = store.users().get(ended.owner_id).await.unwrap();
    let people = platform.people().await;
    let were_in = |room: RoomId| async move {
        let history = store.participants().list_history(room, &first(500)).await.unwrap();
        history
            .items
            .into_iter()
            .map(|one| (one.user.id, one.participant.banned_at.is_none()))
            .collect::<BTreeMap<UserId, bool>>()
    };
    // A live room that is not the person's, and in which they were not.
    let mut live = None;
    for room in store.rooms().list(RoomFilter::Live, &first(10)).await.unwrap().items {
        if !were_in(room.id).await.contains_key(&person.id) && room.owner_id != person.id {
            live = Some(room);
        }
    }
    let live = live.unwrap();
    let (in_ended, in_live) = (were_in(ended.id).await, were_in(live.id).await);
    let (guest, _) = in_ended
        .iter()
        .find(|(id, stayed)| **stayed && **id != person.id)
        .unwrap();
    // Somebody else than all of them, who is banned from the live room by its owner.
    let other = people.iter().find(|user| {
        let is_new = !in_ended.contains_key(&user.id) && !in_live.contains_key(&user.id);
        is_new && user.is_active && ![person.id, live.owner_id, platform.operator.id].contains(&user.id)
    });
    let other = other.unwrap();
    let owner = store.acting(&Actor::user(live.owner_id));
    owner.participants().ban(live.id, other.id, None, None).await.unwrap();
    // Of a network from which nobody of the seed comes.
    for (user, address) in [(&person, "198.18.0.77"), (other, "198.18.0.88")] {
        let somebody = Actor::anonymous().from_address(address.parse().unwrap());
        let acting = store.acting(&somebody);
        acting.users().record_failed_login(&user.username).await.unwrap();
    }
    let mut recordings = Vec::new();
    for user in &people {
        let of_user = store
            .recordings()
            .any()
            .list_of_owner(user.id, &first(1))
            .await
            .unwrap();
        recordings.extend(of_user.items);
    }
    let planned = RoomFilter::Upcoming { owner: None };
    let planned = store
        .rooms()
        .list(planned, &PageRequest::first(1, Order::OldestFirst).unwrap())
        .await
        .unwrap();
    let planned = planned.items[0].id;
    let report = store.doctor().await.unwrap();
    let doctor = report.findings.iter().fold(look("/doctor"), |look, finding| {
        look.has(action_cell(&finding.check.to_string()))
    });
    let (room, user) = (format!("/rooms/{}", ended.id), format!("/people/{}", person.id));
    let email = person.email.as_deref().unwrap();
    let looks = [
        look("/")
            .has(room_link(live.id))
            .lacks(room_link(ended.id))
            .says("<figcaption>Meetings that began</figcaption><svg"),
        look("/rooms")
            .has(room_link(live.id))
            .has(">private</span>")
            .all_have("<span class=\"tag live\">")
            .lacks(room_link(planned)),
        look("/rooms?show=planned")
            .has(room_link(planned))
            .all_have("<span class=\"tag planned\">")
            .lacks(room_link(live.id)),
        look(&room)
            .has(action_cell("ROOM_ENDED"))
            .lacks(room_link(live.id))
            .says(format!("<span class=\"code\">{}</span>", ended.room_code))
            .says(format!("<a {}>{}</a>", user_link(person.id), person.username))
            .says("<svg class=\"timeline\"")
            .says(format!("<a {}><text", user_link(*guest))),
        look(format!("{room}/stays"))
            .has(user_link(*guest))
            .lacks(user_link(other.id)),
        look(format!("/rooms/{}/bans", live.id))
            .has(user_link(other.id))
            .lacks(user_link(live.owner_id)),
        look("/people").has(user_link(platform.operator.id)),
        look("/people?deleted=1")
            .all_have(">deleted</span>")
            .lacks(user_link(platform.operator.id)),
        look(format!("/people?prefix={}", person.username))
            .has(user_link(person.id))
            .lacks(user_link(platform.operator.id)),
        look(format!("/people?by=email&prefix={email}"))
            .has(user_link(person.id))
            .lacks(user_link(other.id)),
        look(&user)
            .has(room_link(ended.id))
            .has("198.18.0.77")
            .lacks(room_link(live.id))
            .lacks("198.18.0.88")
            .says(format!("<h1>{} ", escaped(&person.display_name)))
            .says(format!("<dd>{}</dd>", person.username))
            .says(format!("<dd>{email}</dd>")),
        look(format!("{user}/stays"))
            .has(room_link(ended.id))
            .lacks(room_link(live.id)),
        look(format!("/people/{}/bans", other.id))
            .has(room_link(live.id))
            .lacks(room_link(ended.id)),
        look(format!("/people/{}/bans-by", live.owner_id))
            .has(user_link(other.id))
            .has(room_link(live.id)),
        look(format!("/people/{}/bans-by", other.id)).lacks(user_link(other.id)),
        look(format!("{user}/logins")).has("198.18.0.77").lacks("198.18.0.88"),
        look(format!("{user}/rooms"))
            .has(room_link(ended.id))
            .lacks(room_link(live.id)),
        look(format!("/people/{}/recordings", recordings[0].owner_id))
            .has(format!("<td>{}", recordings[0].filename))
            .lacks(format!("<td>{}", recordings[1].filename)),
        look("/audit")
            .has(action_cell("PERSONAL_DATA_VIEWED"))
            .says("Export what this search finds"),
        look(format!("/audit?actor={}", person.username)).all_have(user_link(person.id)),
        look(format!("/audit?actor={}&action=ROOM_CREATED", person.id))
            .all_have(user_link(person.id))
            .all_have(action_cell("ROOM_CREATED")),
        look(format!("/audit?target={}", other.username)).all_have(user_link(other.id)),
        look(format!("/audit?room={}", ended.room_code)).all_have(room_link(ended.id)),
        look("/audit?address=198.18.0.77").all_have("198.18.0.77"),
        look("/audit?action=USER_KICKED&action=USER_BANNED&order=oldest")
            .has(action_cell("USER_KICKED"))
            .has(action_cell("USER_BANNED"))
            .all_have("<td class=\"code\">USER_"),
        look("/audit?since=2999-01-01").says("<p class=\"empty\">Nothing.</p>"),
        look("/audit?until=2020-02-01").says("<p class=\"empty\">Nothing.</p>"),
        doctor,
    ];
    for look in looks {
        let path = &look.path;
        let response = platform.get_as(&cookie, path).await;
        assert_eq!(response.status, 200, "{path}: {}", response.body);
        look.check(&response.body);
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
    for (order, is_oldest) in [("newest", false), ("oldest", true)] {
        let path = format!("/audit?order={order}&room={}", ended.id);
        let body = platform.get_as(&cookie, &path).await.body;
        let times = |row: &str| parts(row, "<td><time datetime=\"", "\"")[0].to_owned();
        let times: Vec<String> = rows_of(&body).into_iter().map(times).collect();
        let (begin, end) = (times.first().unwrap(), times.last().unwrap());
        assert_eq!(begin < end, is_oldest, "{order}: {times:?}");
    }
    let by_code = platform
        .get_as(&cookie, &format!("/rooms?code={}", ended.room_code.to_lowercase()))
        .await;
    assert_eq!((by_code.status, by_code.header("location")), (303, room.as_str()));
    platform.close().await;
}

async fn who_was_absent_and_banned_is_in_no_picture(backend: Backend) {
    let platform = Platform::new(backend).await;
    let cookie = platform.sign_in().await;
    let mut people = platform.people().await.into_iter().filter(|user| user.is_active);
    let (host, absent, present) = (people.next().unwrap(), people.next().unwrap(), people.next().unwrap());
    let acting = platform.store.acting(&Actor::user(host.id));
    let room = acting.rooms().create(NewRoom::titled(host.id, "Weekly")).await.unwrap();
    let system = platform.system();
    system.participants().ban(room.id, absent.id, None, None).await.unwrap();
    let path = format!("/rooms/{}", room.id);
    let body = platform.get_as(&cookie, &path).await.body;
    assert!(body.contains("Nobody has been in it."), "{body}");

    for (user, role) in [(&host, ParticipantRole::Host), (&present, ParticipantRole::Participant)] {
        system.participants().join(room.id, user.id, role).await.unwrap();
    }
    // Who was there and was put out by the ban stays.
    system
        .participants()
        .ban(room.id, present.id, None, None)
        .await
        .unwrap();
    let body = platform.get_as(&cookie, &path).await.body;
    let picture = parts(&body, "<svg class=\"timeline\"", "</svg>").concat();
    let stays = platform.get_as(&cookie, &format!("{path}/stays")).await.body;
    let stays = rows_of(&stays).concat();
    let bans = platform.get_as(&cookie, &format!("{path}/bans")).await.body;
    let bans = rows_of(&bans).concat();
    for (user, was_there, is_banned) in [(&host, true, false), (&present, true, true), (&absent, false, true)] {
        let link = user_link(user.id);
        assert_eq!(picture.contains(&link), was_there, "{}: {picture}", user.username);
        assert_eq!(stays.contains(&link), was_there, "{}: {stays}", user.username);
        assert_eq!(bans.contains(&link), is_banned, "{}: {bans}", user.username);
    }
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

async fn a_search_of_the_audit_log_is_recorded_of_all_whom_it_names(backend: Backend) {
    let platform = Platform::new(backend).await;
    let cookie = platform.sign_in().await;
    let token = platform.token(&cookie).await;
    let (one, other) = (platform.operator.clone(), platform.somebody_else().await);
    let nobody = "018f0000-0000-7000-8000-000000000000";
    for (actor, target, more, status, expected) in [
        (
            OPERATOR,
            other.username.as_str(),
            "",
            200,
            vec![Some(one.id), Some(other.id)],
        ),
        (OPERATOR, "", "", 200, vec![Some(one.id)]),
        (OPERATOR, OPERATOR, "", 200, vec![Some(one.id)]),
        // That nobody is called so is told as well.
        ("nobody-is-called-so", "", "", 422, vec![None]),
        (
            "nobody-is-called-so",
            &other.username,
            "",
            422,
            vec![Some(other.id), None],
        ),
        (nobody, "", "", 422, vec![None]),
        ("", "", "NOTACODE", 422, vec![None]),
    ] {
        let path = format!("/audit?actor={actor}&target={target}&room={more}");
        let before = newest(&platform, AuditAction::PersonalDataViewed).await.len();
        assert_eq!(platform.get_as(&cookie, &path).await.status, status, "{path}");
        let fields = [
            ("token", token.as_str()),
            ("actor", actor),
            ("target", target),
            ("room", more),
        ];
        assert_eq!(
            platform.post_as(&cookie, "/audit/export", &fields).await.status,
            status,
            "{path}"
        );
        let views = newest(&platform, AuditAction::PersonalDataViewed).await;
        let mut seen: Vec<_> = views[..views.len() - before]
            .iter()
            .map(|view| match &view.event {
                AuditEvent::Observation(Observation::PersonalDataViewed { target, by }) => (by.as_str(), *target),
                other => panic!("{other:?}"),
            })
            .collect();
        seen.reverse();
        let of = |by| expected.iter().map(move |whose| (by, *whose));
        let both: Vec<_> = of("console: audit log")
            .chain(of("console: export of the audit log"))
            .collect();
        assert_eq!(seen, both, "{path}");
    }
    // What makes no sense is told before anybody is looked up.
    let before = newest(&platform, AuditAction::PersonalDataViewed).await.len();
    for (wrong, told) in [
        ("since=yesterday", "yesterday is no time"),
        ("address=somewhere", "somewhere is no network address"),
        ("action=NO_SUCH", "there is no action NO_SUCH"),
    ] {
        for actor in [OPERATOR, "nobody-is-called-so"] {
            let answer = platform.get_as(&cookie, &format!("/audit?actor={actor}&{wrong}")).await;
            assert_eq!(answer.status, 422);
            assert!(answer.body.contains(told), "{}", answer.body);
        }
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
    who_guesses_by_all_names_at_once_is_held_off,
    whoever_takes_the_name_of_an_operator_is_none,
    behind_a_proxy_the_address_is_the_one_that_it_saw,
    forms_from_elsewhere_are_refused,
    every_page_shows_what_is_there,
    who_was_absent_and_banned_is_in_no_picture,
    what_makes_no_sense_is_said_and_not_a_fault,
    hostile_names_are_shown_as_text,
    what_is_looked_at_is_recorded_before_it_is_shown,
    a_search_of_the_audit_log_is_recorded_of_all_whom_it_names,
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
