use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Database, Service};

cases![
    a_room_is_made_changed_and_ended,
    rooms_are_listed_page_by_page,
    rooms_that_are_not_theirs_are_left_alone,
    every_kind_of_error_has_its_status,
    what_happened_is_told_to_those_who_lead,
    recordings_are_started_and_stopped,
];

async fn a_room_is_made_changed_and_ended(db: Database) {
    let service = Service::start(&db).await;
    let ada = service.user("ada").await;
    let room = json!({"title": "Review", "description": "Plans", "max_participants": 5, "require_auth": false});
    let room = ada.ok(Method::POST, "/rooms", room).await;
    let code = room["code"].as_str().unwrap();
    assert_eq!(
        (&room["status"], &room["max_participants"]),
        (&json!("CREATED"), &json!(5))
    );
    // As people type it, and without an account: who has the code sees the door.
    let typed = format!("/rooms/{}", code.to_lowercase());
    assert_eq!(service.nobody().get(&typed).await, room);
    let path = format!("/rooms/{code}");
    let changed = ada
        .ok(
            Method::PATCH,
            &path,
            json!({"title": "Second review", "description": null}),
        )
        .await;
    assert_eq!(
        (&changed["title"], &changed["description"]),
        (&json!("Second review"), &Value::Null)
    );
    let schedule = json!({"schedule": {"start": "2030-01-01T10:00:00Z", "end": "2030-01-01T11:00:00Z"}});
    let changed = ada.ok(Method::PATCH, &path, schedule).await;
    assert_eq!(changed["scheduled_start"], "2030-01-01T10:00:00Z");
    let changed = ada.ok(Method::PATCH, &path, json!({"schedule": null})).await;
    assert_eq!(
        (&changed["scheduled_start"], &changed["title"]),
        (&Value::Null, &json!("Second review"))
    );
    ada.refused(Method::PATCH, &path, json!({}), (422, "invalid_not_empty"))
        .await;
    ada.refused(Method::PATCH, &path, json!({"colour": "red"}), (422, "malformed_body"))
        .await;
    assert_eq!(ada.post(&format!("{path}/start")).await["status"], "LIVE");
    ada.refused(Method::DELETE, &path, Value::Null, (409, "room_status"))
        .await;
    ada.refused(
        Method::POST,
        &format!("{path}/cancel"),
        Value::Null,
        (409, "room_status"),
    )
    .await;
    assert_eq!(ada.post(&format!("{path}/end")).await["status"], "ENDED");
    ada.ok(Method::DELETE, &path, Value::Null).await;
    ada.refused(Method::GET, &path, Value::Null, (404, "room_not_found"))
        .await;
    let other = ada.room(json!({})).await;
    assert_eq!(ada.post(&format!("/rooms/{other}/cancel")).await["status"], "CANCELLED");
    service.stop().await;
}

async fn rooms_are_listed_page_by_page(db: Database) {
    let service = Service::start(&db).await;
    let ada = service.user("ada").await;
    let mut codes = Vec::new();
    for number in 0..7 {
        codes.push(
            ada.room(json!({"title": format!("Room {number}"), "is_public": number % 2 == 0}))
                .await,
        );
    }
    let (mut seen, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = ada.get(&format!("/rooms?size=3{cursor}")).await;
        seen.extend(
            page["items"]
                .as_array()
                .unwrap()
                .iter()
                .map(|room| room["code"].as_str().unwrap().to_owned()),
        );
        match page["next"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    codes.reverse();
    assert_eq!(seen, codes);
    let number = async |client: &crate::harness::Client, filter: &str| {
        let page = client.get(&format!("/rooms?filter={filter}")).await;
        page["items"].as_array().unwrap().len()
    };
    for code in &codes[..3] {
        ada.post(&format!("/rooms/{code}/start")).await;
    }
    let ben = service.user("ben").await;
    ben.join(&codes[0]).await;
    assert_eq!(number(&ben, "mine").await, 0);
    assert_eq!(number(&ben, "live").await, 2);
    assert_eq!(number(&ben, "attended").await, 1);
    assert_eq!(number(&ada, "upcoming").await, 0);
    ada.refused(
        Method::GET,
        "/rooms?cursor=rubbish",
        Value::Null,
        (422, "invalid_cursor"),
    )
    .await;
    ada.refused(Method::GET, "/rooms?size=501", Value::Null, (422, "invalid_at_most"))
        .await;
    ada.refused(Method::GET, "/rooms?filter=all", Value::Null, (400, "malformed_query"))
        .await;
    service.stop().await;
}

async fn rooms_that_are_not_theirs_are_left_alone(db: Database) {
    let service = Service::start(&db).await;
    let (ada, ben) = (service.user("ada").await, service.user("ben").await);
    let code = ada.room(json!({})).await;
    for (method, what, body) in [
        (Method::PATCH, "", json!({"title": "Mine"})),
        (Method::POST, "/start", Value::Null),
        (Method::POST, "/cancel", Value::Null),
        (Method::POST, "/end", Value::Null),
        (Method::DELETE, "", Value::Null),
        (Method::GET, "/participants", Value::Null),
        (Method::GET, "/bans", Value::Null),
        (Method::GET, "/trail", Value::Null),
        (Method::GET, "/recordings", Value::Null),
        (Method::POST, "/recordings", json!({})),
    ] {
        ben.refused(method, &format!("/rooms/{code}{what}"), body, (403, "not_allowed"))
            .await;
    }
    service
        .nobody()
        .refused(
            Method::POST,
            &format!("/rooms/{code}/join"),
            Value::Null,
            (401, "not_signed_in"),
        )
        .await;
    service.stop().await;
}

/// Input 422, missing 404, conflict 409, forbidden 403, retry 503, fault 500; of what nobody knows a unit test tells.
async fn every_kind_of_error_has_its_status(db: Database) {
    let service = Service::start(&db).await;
    let (ada, ben) = (service.user("ada").await, service.user("ben").await);
    let code = ada.room(json!({"max_participants": 1})).await;
    let join = format!("/rooms/{code}/join");
    let problem = ada
        .refused(
            Method::POST,
            "/rooms",
            json!({"title": " "}),
            (422, "invalid_not_empty"),
        )
        .await;
    assert_eq!(problem["details"]["field"], "title");
    ada.refused(Method::POST, "/rooms/NOSUCH/join", Value::Null, (404, "room_not_found"))
        .await;
    ada.join(&code).await;
    let problem = ben.refused(Method::POST, &join, Value::Null, (409, "room_full")).await;
    assert_eq!(problem["details"]["capacity"], 1);
    assert_eq!(problem["title"], "Conflict");
    let problem = ada
        .refused(Method::POST, &join, Value::Null, (409, "already_present"))
        .await;
    assert!(problem["details"]["seat"].is_string(), "{problem}");
    let kick = format!("/rooms/{code}/participants/{}/kick", ada.id);
    ben.refused(Method::POST, &kick, json!({}), (403, "not_allowed")).await;
    // A fault is told without what the database said.
    db.run("ALTER TABLE recordings RENAME COLUMN filename TO renamed").await;
    let path = format!("/rooms/{code}/recordings");
    let (status, problem) = ada.send(Method::GET, &path, Value::Null).await;
    assert_eq!(status, 500, "{problem}");
    assert!(
        !problem.to_string().contains("filename") && problem.get("details").is_none(),
        "{problem}"
    );
    service.app.store().close().await.unwrap();
    let response = ada
        .request(Method::GET, &format!("/rooms/{code}"))
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), 503);
    assert_eq!(response.headers()["retry-after"], "1");
    service.stop().await;
}

async fn what_happened_is_told_to_those_who_lead(db: Database) {
    let service = Service::start(&db).await;
    let (ada, ben) = (service.user("ada").await, service.user("ben").await);
    let code = ada.room(json!({})).await;
    ada.join(&code).await;
    ben.join(&code).await;
    let kick = format!("/rooms/{code}/participants/{}/kick", ben.id);
    ada.ok(Method::POST, &kick, json!({"reason": "noise"})).await;
    let trail = format!("/rooms/{code}/trail");
    let all = ada.get(&trail).await;
    let actions = |page: &Value| -> Vec<String> {
        let items = page["items"].as_array().unwrap();
        items
            .iter()
            .map(|entry| entry["action"].as_str().unwrap().to_owned())
            .collect()
    };
    let newest_first = [
        "USER_KICKED",
        "USER_JOINED",
        "USER_JOINED",
        "ROOM_STARTED",
        "ROOM_CREATED",
    ];
    assert_eq!(actions(&all), newest_first);
    let kicked = &all["items"][0];
    assert_eq!(kicked["actor"]["display_name"], "ADA");
    assert_eq!(
        (&kicked["target"]["id"], &kicked["details"]["reason"]),
        (&json!(ben.id), &json!("noise"))
    );
    assert!(
        !all.to_string().contains("127.0.0.1"),
        "from where they acted is not told"
    );
    let (mut seen, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = ada.get(&format!("{trail}?order=oldest&size=2{cursor}")).await;
        seen.extend(actions(&page));
        match page["next"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(seen, newest_first.into_iter().rev().collect::<Vec<_>>());
    for (query, expected) in [
        ("actions=USER_KICKED,ROOM_CREATED".to_owned(), 2),
        (format!("target={}", ben.id), 1),
        (format!("actor={}", ben.id), 1),
        ("since=2100-01-01T00:00:00Z".to_owned(), 0),
        ("until=2100-01-01T00:00:00Z".to_owned(), 5),
    ] {
        let page = ada.get(&format!("{trail}?{query}")).await;
        assert_eq!(actions(&page).len(), expected, "{query}");
    }
    ada.refused(
        Method::GET,
        &format!("{trail}?actions=NOTHING"),
        Value::Null,
        (422, "unknown_action"),
    )
    .await;
    ben.refused(Method::GET, &trail, Value::Null, (403, "not_allowed"))
        .await;
    service.stop().await;
}

async fn recordings_are_started_and_stopped(db: Database) {
    let service = Service::start(&db).await;
    let (ada, ben) = (service.user("ada").await, service.user("ben").await);
    let code = ada.room(json!({})).await;
    let path = format!("/rooms/{code}/recordings");
    ada.refused(Method::POST, &path, json!({}), (409, "room_status")).await;
    ada.join(&code).await;
    ben.join(&code).await;
    ben.refused(Method::POST, &path, json!({}), (403, "not_allowed")).await;
    let recording = ada.ok(Method::POST, &path, json!({"filename": "review.mp4"})).await;
    assert_eq!(
        (&recording["status"], &recording["filename"]),
        (&json!("STARTED"), &json!("review.mp4"))
    );
    let stop = format!("/recordings/{}/stop", recording["id"].as_str().unwrap());
    ben.refused(Method::POST, &stop, Value::Null, (403, "not_allowed"))
        .await;
    assert_eq!(ada.post(&stop).await["status"], "STOPPED");
    ada.refused(Method::POST, &stop, Value::Null, (409, "recording_status"))
        .await;
    let list = ben.get(&path).await;
    assert_eq!(list["items"].as_array().unwrap().len(), 1);
    assert!(!list.to_string().contains("storage"), "{list}");
    service.stop().await;
}
