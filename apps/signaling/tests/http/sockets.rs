use std::sync::Arc;

use chrono::TimeDelta;
use conferencing_store::clock::{Clock, ManualClock, SystemClock};
use conferencing_store::entity::{ParticipantRole, RecordingId};
use conferencing_store::{Actor, Error, MediaKind, Observation, StoreSettings, Unit};
use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Backend, Database, Service, config, soon};

cases![
    a_socket_tells_what_happens_in_the_room,
    what_another_process_does_is_told,
    who_is_put_out_hears_why_and_others_do_not,
    an_end_closes_every_socket,
    a_socket_goes_on_behind_a_position,
    who_joins_by_a_slower_clock_is_told_of,
    nobody_hears_what_was_before_they_came,
    a_position_that_never_was_hides_nothing,
    who_missed_too_much_begins_anew,
    what_a_recorder_says_is_for_operators,
    a_join_that_is_cut_off_leaves_no_seat_behind,
    a_seat_that_nobody_heard_of_is_given_up,
    a_ticket_opens_one_socket,
    sockets_are_for_those_who_are_present,
    a_seat_is_kept_while_its_person_comes_back,
    a_seat_without_a_socket_is_given_up,
    seats_of_a_dead_process_are_closed,
    somebody_who_comes_back_elsewhere_keeps_the_seat,
    no_more_sockets_than_allowed,
    a_seat_has_as_many_sockets_as_one_person_needs,
];

async fn a_socket_tells_what_happens_in_the_room(db: Database) {
    let service = Service::start(&db).await;
    let (ada, ben) = (service.user("ada").await, service.user("ben").await);
    let code = ada.room(json!({})).await;
    let seat = ada.join(&code).await;
    let mut socket = ada.listen(&code).await;
    assert_eq!(socket.hello["stay"], seat["stay"]);
    assert_eq!(socket.hello["participants"][0]["person"]["display_name"], "ADA");
    let stay = ben.join(&code).await["stay"].clone();
    let joined = socket.event("USER_JOINED").await;
    assert_eq!(
        (&joined["actor"]["display_name"], &joined["details"]["stay"]),
        (&json!("BEN"), &stay)
    );
    ada.post(&format!("/rooms/{code}/participants/{}/promote", ben.id))
        .await;
    let promoted = socket.event("ROLE_PROMOTION").await;
    assert_eq!(
        (&promoted["target"]["id"], &promoted["details"]["to"]),
        (&json!(ben.id), &json!("CO_HOST"))
    );
    let recording = ada
        .ok(Method::POST, &format!("/rooms/{code}/recordings"), json!({}))
        .await;
    socket.event("RECORDING_STARTED").await;
    ada.post(&format!("/recordings/{}/stop", recording["id"].as_str().unwrap()))
        .await;
    socket.event("RECORDING_STOPPED").await;
    ada.ok(Method::PATCH, &format!("/rooms/{code}"), json!({"title": "Other"}))
        .await;
    assert_eq!(
        socket.event("ROOM_UPDATED").await["details"]["fields"],
        json!(["title"])
    );
    ben.post(&format!("/rooms/{code}/leave")).await;
    let left = socket.event("USER_LEFT").await;
    assert_eq!(
        (&left["details"]["stay"], &left["details"]["reason"]),
        (&stay, &json!("left"))
    );
    // Nothing of where they acted from.
    assert!(left.get("address").is_none() && left.get("user_agent").is_none());
    service.stop().await;
}

async fn what_another_process_does_is_told(db: Database) {
    let (here, there) = (Service::start(&db).await, Service::start(&db).await);
    let (ada, ben) = (here.user("ada").await, here.user("ben").await.at(&there));
    let code = ada.room(json!({})).await;
    ada.join(&code).await;
    ben.join(&code).await;
    let (mut of_ada, mut of_ben) = (ada.listen(&code).await, ben.listen(&code).await);
    ada.ok(
        Method::POST,
        &format!("/rooms/{code}/participants/{}/kick", ben.id),
        json!({"reason": "noise"}),
    )
    .await;
    assert_eq!(of_ben.closed().await, ("kicked".to_owned(), 4001));
    of_ada.event("USER_KICKED").await;
    ben.join(&code).await;
    of_ada.event("USER_JOINED").await;
    let mut of_ben = ben.listen(&code).await;
    ada.post(&format!("/rooms/{code}/end")).await;
    assert_eq!(of_ben.closed().await, ("room_ended".to_owned(), 4003));
    here.stop().await;
    there.stop().await;
}

async fn who_is_put_out_hears_why_and_others_do_not(db: Database) {
    let service = Service::start(&db).await;
    let [ada, ben, cyd] = service.users(["ada", "ben", "cyd"]).await;
    let code = ada.room(json!({})).await;
    for user in [&ada, &ben, &cyd] {
        user.join(&code).await;
    }
    let (mut of_ben, mut of_cyd) = (ben.listen(&code).await, cyd.listen(&code).await);
    ada.ok(
        Method::PUT,
        &format!("/rooms/{code}/bans/{}", ben.id),
        json!({"reason": "spam"}),
    )
    .await;
    let banned = of_ben.event("USER_BANNED").await;
    assert_eq!(banned["details"]["reason"], "spam");
    let closing = of_ben.next().await;
    assert_eq!(
        (&closing["reason"], &closing["message"]),
        (&json!("banned"), &json!("spam"))
    );
    assert_eq!(of_ben.next().await["close"], 4002);
    let banned = of_cyd.event("USER_BANNED").await;
    assert!(banned["details"].get("reason").is_none(), "{banned}");
    service.stop().await;
}

async fn an_end_closes_every_socket(db: Database) {
    let service = Service::start(&db).await;
    let (ada, ben) = (service.user("ada").await, service.user("ben").await);
    let code = ada.room(json!({})).await;
    ada.join(&code).await;
    ben.join(&code).await;
    let (mut of_ada, mut of_ben) = (ada.listen(&code).await, ben.listen(&code).await);
    ben.post(&format!("/rooms/{code}/leave")).await;
    assert_eq!(of_ben.closed().await, ("left".to_owned(), 4004));
    ada.post(&format!("/rooms/{code}/end")).await;
    assert_eq!(of_ada.closed().await, ("room_ended".to_owned(), 4003));
    // Whoever is deactivated is signed out.
    let code = ada.room(json!({})).await;
    ben.join(&code).await;
    let mut of_ben = ben.listen(&code).await;
    let system = service.system();
    system.users().deactivate(ben.id.parse().unwrap()).await.unwrap();
    assert_eq!(of_ben.closed().await, ("signed_out".to_owned(), 4006));
    service.stop().await;
}

/// The path of a socket that goes on behind a position.
fn behind(code: &str, position: &str) -> String {
    let query: String = position.bytes().map(|byte| format!("%{byte:02x}")).collect();
    format!("/rooms/{code}/events?after={query}")
}

async fn a_socket_goes_on_behind_a_position(db: Database) {
    let service = Service::start(&db).await;
    let [ada, ben, cyd] = service.users(["ada", "ben", "cyd"]).await;
    let code = ada.room(json!({})).await;
    ben.join(&code).await;
    ada.join(&code).await;
    let mut socket = ada.listen(&code).await;
    cyd.join(&code).await;
    let heard = socket.event("USER_JOINED").await["position"]
        .as_str()
        .unwrap()
        .to_owned();
    drop(socket);
    cyd.post(&format!("/rooms/{code}/leave")).await;
    ben.post(&format!("/rooms/{code}/leave")).await;
    let mut socket = ada.open(&behind(&code, &heard)).await.unwrap();
    assert_eq!(socket.next().await["participants"].as_array().unwrap().len(), 1);
    for user in [&cyd, &ben] {
        assert_eq!(socket.event("USER_LEFT").await["actor"]["id"], user.id);
    }
    let refused = ada.open(&format!("/rooms/{code}/events?after=rubbish")).await;
    let (status, problem) = refused.err().unwrap();
    assert_eq!((status, problem["code"].as_str()), (422, Some("invalid_feed_position")));
    service.stop().await;
}

/// Processes' clocks differ, and on PostgreSQL joins are not committed in the order of their times.
async fn who_joins_by_a_slower_clock_is_told_of(db: Database) {
    let service = Service::start(&db).await;
    let slower = StoreSettings {
        clock: Arc::new(ManualClock::at(SystemClock.now() - TimeDelta::seconds(5))),
        ..StoreSettings::default()
    };
    let slower = Service::with(config(&db), slower).await;
    let (ada, ben) = (service.user("ada").await, slower.user("ben").await);
    let code = ada.room(json!({})).await;
    ada.join(&code).await;
    let mut socket = ada.listen(&code).await;
    let stay = ben.join(&code).await["stay"].clone();
    let joined = socket.event("USER_JOINED").await;
    assert_eq!(joined["details"]["stay"], stay);
    service.stop().await;
    slower.stop().await;
}

async fn nobody_hears_what_was_before_they_came(db: Database) {
    let service = Service::start(&db).await;
    let [ada, ben, cyd] = service.users(["ada", "ben", "cyd"]).await;
    let code = ada.room(json!({})).await;
    ada.join(&code).await;
    ben.join(&code).await;
    let before = ben.listen(&code).await.hello["position"].as_str().unwrap().to_owned();
    ben.post(&format!("/rooms/{code}/leave")).await;
    cyd.join(&code).await;
    ben.join(&code).await;
    cyd.post(&format!("/rooms/{code}/leave")).await;
    // A position of their stay before.
    let mut socket = ben.open(&behind(&code, &before)).await.unwrap();
    let hello = socket.next().await;
    assert_eq!(hello["participants"].as_array().unwrap().len(), 2, "{hello}");
    assert_eq!(socket.event("USER_LEFT").await["actor"]["id"], cyd.id);
    let begins = hello["position"].as_str().unwrap();
    let mut socket = ben.open(&behind(&code, begins)).await.unwrap();
    socket.next().await;
    assert_eq!(socket.event("USER_LEFT").await["actor"]["id"], cyd.id);
    service.stop().await;
}

/// A position is a client's text. One of the future must not skip what ends their own seat.
async fn a_position_that_never_was_hides_nothing(db: Database) {
    let service = Service::start(&db).await;
    let (ada, ben) = (service.user("ada").await, service.user("ben").await);
    let code = ada.room(json!({})).await;
    ada.join(&code).await;
    ben.join(&code).await;
    let forged: &[&str] = match db.backend {
        Backend::Sqlite => &["sqlite;9000000000000000000", "sqlite;0"],
        Backend::Postgres => &[
            "postgres;9000000000000000000:9000000000000000000:",
            "postgres;3:3:;9000000000000000000:9000000000000000000:;0",
            "postgres;3:3:",
        ],
    };
    let mut sockets = Vec::new();
    for position in forged {
        let mut socket = ben.open(&behind(&code, position)).await.unwrap();
        assert_eq!(socket.next().await["type"], "hello");
        sockets.push(socket);
    }
    ada.ok(
        Method::POST,
        &format!("/rooms/{code}/participants/{}/kick", ben.id),
        json!({}),
    )
    .await;
    for mut socket in sockets {
        // And nothing of what was before they came.
        assert_eq!(socket.event("USER_KICKED").await["target"]["id"], ben.id);
        assert_eq!(socket.closed().await, ("kicked".to_owned(), 4001));
    }
    service.stop().await;
}

async fn who_missed_too_much_begins_anew(db: Database) {
    let service = Service::start(&db).await;
    let ada = service.user("ada").await;
    let code = ada.room(json!({})).await;
    ada.join(&code).await;
    let position = ada.listen(&code).await.hello["position"].as_str().unwrap().to_owned();
    let room = service.room_id(&code).await;
    let target = ada.id.parse().unwrap();
    let mute = async |times: usize| {
        let work = |unit: Unit| async move {
            for _ in 0..times {
                let kind = MediaKind::Audio;
                unit.audit()
                    .append(Some(room), Observation::UserMuted { target, kind })
                    .await?;
            }
            Ok::<_, Error>(())
        };
        service
            .app
            .store()
            .transact(&Actor::system("test"), work)
            .await
            .unwrap();
    };
    for missed in [2_000, 1] {
        mute(missed).await;
        let mut socket = ada.open(&behind(&code, &position)).await.unwrap();
        let hello = socket.next().await;
        assert_eq!(
            hello["position"] == json!(position),
            missed == 2_000,
            "{missed}: {hello}"
        );
        if missed == 2_000 {
            for _ in 0..missed {
                socket.event("USER_MUTED").await;
            }
        }
        mute(1).await;
        socket.event("USER_MUTED").await;
    }
    service.stop().await;
}

async fn what_a_recorder_says_is_for_operators(db: Database) {
    let service = Service::start(&db).await;
    let ada = service.user("ada").await;
    let code = ada.room(json!({})).await;
    ada.join(&code).await;
    let recording = ada
        .ok(Method::POST, &format!("/rooms/{code}/recordings"), json!({}))
        .await["id"]
        .clone();
    let mut socket = ada.listen(&code).await;
    let recording: RecordingId = recording.as_str().unwrap().parse().unwrap();
    let system = service.system();
    system
        .recordings()
        .fail(recording, "bucket-7.internal: no space")
        .await
        .unwrap();
    let failed = socket.event("RECORDING_FAILED").await;
    assert_eq!(failed["details"].get("message"), None, "{failed}");
    service.stop().await;
}

/// The request is given up while it waits: the seat is taken all the same, and given up like that of anybody who does not come.
async fn a_join_that_is_cut_off_leaves_no_seat_behind(db: Database) {
    let mut config = config(&db);
    (config.seat_grace_seconds, config.request_seconds) = (0, 1);
    let service = Service::with(config, StoreSettings::default()).await;
    let (ada, ben) = (service.user("ada").await, service.user("ben").await);
    let code = ada.room(json!({"require_auth": false})).await;
    for (path, body) in [("join", Value::Null), ("guests", json!({"display_name": "Guest"}))] {
        let held = db.hold_rooms().await;
        let (status, problem) = ben.send(Method::POST, &format!("/rooms/{code}/{path}"), body).await;
        assert_eq!((status, problem["code"].as_str()), (503, Some("request_timed_out")));
        held.rollback().await.unwrap();
        let closed = "SELECT count(*) FROM room_participants WHERE left_at IS NOT NULL";
        let so_far = i64::from(path == "guests");
        soon(async {
            while db.number(closed).await == so_far {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
    let left = "SELECT count(*) FROM audit_logs WHERE action = 'USER_LEFT'";
    assert_eq!(db.number(left).await, 2);
    service.stop().await;
}

/// As after a failover, where the commit of a join was lost from sight.
async fn a_seat_that_nobody_heard_of_is_given_up(db: Database) {
    let mut config = config(&db);
    config.seat_grace_seconds = 0;
    let service = Service::with(config, StoreSettings::default()).await;
    let (ada, ben) = (service.user("ada").await, service.user("ben").await);
    let code = ada.room(json!({})).await;
    let room = service.room_id(&code).await;
    let ([ada_id, ben], role) = (
        [&ada, &ben].map(|user| user.id.parse().unwrap()),
        ParticipantRole::Participant,
    );
    let system = service.system();
    system.participants().join(room, ada_id, role).await.unwrap();
    let mut socket = ada.listen(&code).await;
    let seat = system.participants().join_on(room, ben, role, service.app.node()).await;
    socket.event("USER_JOINED").await;
    service.app.tidy_up_once().await.unwrap();
    let left = socket.event("USER_LEFT").await;
    assert_eq!(
        (&left["details"]["stay"], &left["details"]["reason"]),
        (&json!(seat.unwrap().id), &json!("lost_connection"))
    );
    service.stop().await;
}

async fn a_ticket_opens_one_socket(db: Database) {
    let (here, there) = (Service::start(&db).await, Service::start(&db).await);
    let ada = here.user("ada").await;
    let code = ada.room(json!({})).await;
    ada.join(&code).await;
    let ticket = ada.post("/tickets").await["ticket"].as_str().unwrap().to_owned();
    let path = format!("/rooms/{code}/events?ticket={ticket}");
    // At another process than the one that made it.
    let mut socket = there.nobody().open(&path).await.unwrap();
    assert_eq!(socket.next().await["type"], "hello");
    for service in [&here, &there] {
        assert_eq!(service.nobody().open(&path).await.err().unwrap().0, 401);
    }
    here.stop().await;
    there.stop().await;
}

async fn sockets_are_for_those_who_are_present(db: Database) {
    let service = Service::start(&db).await;
    let ada = service.user("ada").await;
    let code = ada.room(json!({})).await;
    let path = format!("/rooms/{code}/events");
    let refused = async |client: &crate::harness::Client, path: &str| {
        let (status, problem) = client.open(path).await.err().unwrap();
        (status, problem["code"].as_str().unwrap().to_owned())
    };
    assert_eq!(refused(&ada, &path).await, (409, "not_present".to_owned()));
    assert_eq!(
        refused(&service.nobody(), &path).await,
        (401, "not_signed_in".to_owned())
    );
    assert_eq!(
        refused(&ada, "/rooms/NOSUCH/events").await,
        (404, "room_not_found".to_owned())
    );
    ada.refused(Method::GET, &path, Value::Null, (400, "not_a_websocket"))
        .await;
    service.stop().await;
}

async fn a_seat_is_kept_while_its_person_comes_back(db: Database) {
    let service = Service::start(&db).await;
    let (ada, ben) = (service.user("ada").await, service.user("ben").await);
    let code = ada.room(json!({})).await;
    ada.join(&code).await;
    let stay = ben.join(&code).await["stay"].clone();
    drop(ben.listen(&code).await);
    let socket = ben.listen(&code).await;
    assert_eq!(socket.hello["stay"], stay);
    assert_eq!(socket.hello["participants"].as_array().unwrap().len(), 2);
    service.stop().await;
}

async fn a_seat_without_a_socket_is_given_up(db: Database) {
    let mut config = config(&db);
    config.seat_grace_seconds = 0;
    let service = Service::with(config, StoreSettings::default()).await;
    let [ada, ben, cyd] = service.users(["ada", "ben", "cyd"]).await;
    let code = ada.room(json!({})).await;
    // Joined past the service, so that nobody waits for these sockets.
    let system = service.system();
    let room = service.room_id(&code).await;
    for user in [&ada, &ben] {
        let role = ParticipantRole::Participant;
        system
            .participants()
            .join(room, user.id.parse().unwrap(), role)
            .await
            .unwrap();
    }
    let (mut of_ada, of_ben) = (ada.listen(&code).await, ben.listen(&code).await);
    drop(of_ben);
    let left = of_ada.event("USER_LEFT").await;
    assert_eq!(
        (&left["target"]["id"], &left["details"]["reason"]),
        (&json!(ben.id), &json!("lost_connection"))
    );
    // And one whose socket never comes.
    cyd.join(&code).await;
    of_ada.event("USER_JOINED").await;
    assert_eq!(of_ada.event("USER_LEFT").await["target"]["id"], cyd.id);
    service.stop().await;
}

async fn seats_of_a_dead_process_are_closed(db: Database) {
    let quick = || {
        let mut config = config(&db);
        config.node_silence_seconds = 3;
        config
    };
    let here = Service::with(quick(), StoreSettings::default()).await;
    let there = Service::with(quick(), StoreSettings::default()).await;
    let (ada, ben) = (here.user("ada").await, here.user("ben").await.at(&there));
    let code = ada.room(json!({})).await;
    ada.join(&code).await;
    let mut of_ada = ada.listen(&code).await;
    ben.join(&code).await;
    of_ada.event("USER_JOINED").await;
    // It beats no more, and closes nothing.
    there.app.kill();
    let left = of_ada.event("USER_LEFT").await;
    assert_eq!(
        (&left["target"]["id"], &left["details"]["reason"]),
        (&json!(ben.id), &json!("node_lost"))
    );
    here.stop().await;
    there.stop().await;
}

/// The process that they were at stops; the seat goes over to the one that they come back to, which keeps it.
async fn somebody_who_comes_back_elsewhere_keeps_the_seat(db: Database) {
    let quick = || {
        let mut config = config(&db);
        config.node_silence_seconds = 3;
        config
    };
    let here = Service::with(quick(), StoreSettings::default()).await;
    let there = Service::with(quick(), StoreSettings::default()).await;
    let (ada, ben) = (here.user("ada").await, here.user("ben").await);
    let code = ada.room(json!({})).await;
    ada.join(&code).await;
    let stay = ben.join(&code).await["stay"].clone();
    let (mut of_ada, mut of_ben) = (ada.listen(&code).await, ben.listen(&code).await);
    let (ada, ben) = (ada.at(&there), ben.at(&there));
    let stopping = tokio::spawn(here.stop());
    assert_eq!(of_ben.closed().await, ("restart".to_owned(), 1012));
    let again = ben.listen(&code).await;
    assert_eq!(again.hello["stay"], stay);
    assert_eq!(of_ada.closed().await, ("restart".to_owned(), 1012));
    stopping.await.unwrap();
    // Ada does not come back: when her seat is swept, Ben's is there.
    let mut again = again;
    let left = again.event("USER_LEFT").await;
    assert_eq!(
        (&left["target"]["id"], &left["details"]["reason"]),
        (&json!(ada.id), &json!("node_lost"))
    );
    let people = ben.get(&format!("/rooms/{code}/participants")).await;
    assert_eq!(people["items"][0]["stay"], stay);
    there.stop().await;
}

async fn no_more_sockets_than_allowed(db: Database) {
    let mut config = config(&db);
    config.sockets = 1;
    let service = Service::with(config, StoreSettings::default()).await;
    let ada = service.user("ada").await;
    let code = ada.room(json!({})).await;
    ada.join(&code).await;
    let socket = ada.listen(&code).await;
    let refused = ada.open(&format!("/rooms/{code}/events")).await.err().unwrap();
    assert_eq!((refused.0, refused.1["code"].as_str()), (503, Some("too_many_sockets")));
    drop(socket);
    service.stop().await;
}

/// One person cannot take the sockets of all.
async fn a_seat_has_as_many_sockets_as_one_person_needs(db: Database) {
    let service = Service::start(&db).await;
    let ada = service.user("ada").await;
    let code = ada.room(json!({})).await;
    ada.join(&code).await;
    let mut sockets = Vec::new();
    for _ in 0..8 {
        sockets.push(ada.listen(&code).await);
    }
    let refused = ada.open(&format!("/rooms/{code}/events")).await.err().unwrap();
    let code_of = refused.1["code"].as_str();
    assert_eq!((refused.0, code_of), (409, Some("too_many_sockets_of_a_seat")));
    drop(sockets);
    service.stop().await;
}
