use chrono::{DateTime, Utc};
use conferencing_signaling::webhook_signature::WebhookKey;
use conferencing_store::clock::{Clock, SystemClock};
use conferencing_store::entity::Secret;
use serde_json::{Value, json};

use crate::harness::{Database, Service, WEBHOOKS, config, soon};

cases![
    a_webhook_is_acted_on_once,
    recorders_are_told_of_by_webhooks,
    what_the_media_server_did_not_sign_is_refused,
];

/// Delivers as the media server does.
async fn deliver(service: &Service, id: &str, at: DateTime<Utc>, body: &Value) -> (u16, Value) {
    let body = body.to_string();
    let signature = WebhookKey::new(&Secret::new(WEBHOOKS))
        .unwrap()
        .sign(id, at, body.as_bytes());
    let request = reqwest::Client::new()
        .post(format!("{}/webhooks/media", service.base))
        .header("webhook-id", id)
        .header("webhook-timestamp", at.timestamp().to_string())
        .header("webhook-signature", signature)
        .body(body);
    let response = soon(request.send()).await.unwrap();
    let status = response.status().as_u16();
    (status, response.json().await.unwrap())
}

fn outcome(what: &str) -> (u16, Value) {
    (200, json!({"outcome": what}))
}

async fn a_webhook_is_acted_on_once(db: Database) {
    let service = Service::start(&db).await;
    let (ada, ben) = (service.user("ada").await, service.user("ben").await);
    let code = ada.room(json!({})).await;
    ada.join(&code).await;
    let stay = ben.join(&code).await["stay"].clone();
    let mut socket = ada.listen(&code).await;
    let now = SystemClock.now();
    let muted = json!({"event": "track_muted", "at": now, "stay": stay, "kind": "audio"});
    assert_eq!(deliver(&service, "msg_1", now, &muted).await, outcome("done"));
    assert_eq!(deliver(&service, "msg_1", now, &muted).await, outcome("duplicate"));
    let heard = socket.event("USER_MUTED").await;
    assert_eq!(heard["target"]["id"], ben.id);
    let left = json!({"event": "participant_left", "at": now, "stay": stay, "connection_lost": true});
    // Many at once, as they are delivered when the answer was lost.
    let deliveries = (0..8).map(|_| deliver(&service, "msg_2", now, &left));
    let outcomes = futures_util::future::join_all(deliveries).await;
    assert_eq!(
        outcomes.iter().filter(|one| **one == outcome("done")).count(),
        1,
        "{outcomes:?}"
    );
    assert_eq!(
        outcomes.iter().filter(|one| **one == outcome("duplicate")).count(),
        7,
        "{outcomes:?}"
    );
    assert_eq!(socket.event("USER_LEFT").await["details"]["reason"], "lost_connection");
    // A rejoin is another stay: what comes late is of the former.
    ben.join(&code).await;
    socket.event("USER_JOINED").await;
    assert_eq!(deliver(&service, "msg_3", now, &left).await, outcome("done"));
    let joined = json!({"event": "participant_joined", "at": now, "stay": stay});
    // The answer may be lost, and is the same when it is delivered again.
    for _ in 0..2 {
        assert_eq!(deliver(&service, "msg_4", now, &joined).await, outcome("disconnect"));
    }
    let people = ben.get(&format!("/rooms/{code}/participants")).await;
    assert_eq!(people["items"].as_array().unwrap().len(), 2);
    service.stop().await;
}

async fn recorders_are_told_of_by_webhooks(db: Database) {
    let service = Service::start(&db).await;
    let ada = service.user("ada").await;
    let code = ada.room(json!({})).await;
    ada.join(&code).await;
    let room = ada.get(&format!("/rooms/{code}")).await["id"].clone();
    let now = SystemClock.now();
    let egress = |event: &str, more: Value| {
        let mut body =
            json!({"event": event, "at": now, "egress_id": "EG_1", "room": room, "file": "a.mp4", "started_at": now});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    // The end before the begin.
    let ended = egress("egress_ended", json!({"size_bytes": 5000, "duration_seconds": 7}));
    assert_eq!(deliver(&service, "msg_1", now, &ended).await, outcome("done"));
    assert_eq!(
        deliver(&service, "msg_2", now, &egress("egress_started", json!({}))).await,
        outcome("done")
    );
    let list = ada.get(&format!("/rooms/{code}/recordings")).await;
    assert_eq!(list["items"].as_array().unwrap().len(), 1);
    let recording = &list["items"][0];
    assert_eq!(
        (&recording["status"], &recording["size_bytes"]),
        (&json!("STOPPED"), &json!(5000))
    );
    let mut failed = egress("egress_ended", json!({"error": "disk full"}));
    failed["egress_id"] = json!("EG_2");
    failed["file"] = json!("b.mp4");
    assert_eq!(deliver(&service, "msg_3", now, &failed).await, outcome("done"));
    let list = ada.get(&format!("/rooms/{code}/recordings")).await;
    assert!(
        list["items"]
            .as_array()
            .unwrap()
            .iter()
            .any(|one| one["status"] == "FAILED"),
        "{list}"
    );
    service.stop().await;
}

async fn what_the_media_server_did_not_sign_is_refused(db: Database) {
    let service = Service::start(&db).await;
    let now = SystemClock.now();
    let unknown = json!({"event": "participant_left", "at": now, "stay": uuid()});
    let (status, problem) = deliver(&service, "msg_1", now, &unknown).await;
    assert_eq!((status, problem["code"].as_str()), (404, Some("participant_not_found")));
    // It was not taken in, so that it is not lost when the participation is there by the next try.
    assert_eq!(db.number("SELECT count(*) FROM inbox").await, 0);
    let (status, problem) = deliver(&service, "msg_1", now, &json!({"event": "nothing", "at": now})).await;
    assert_eq!((status, problem["code"].as_str()), (422, Some("malformed_body")));
    let old = now - chrono::TimeDelta::minutes(10);
    let (status, problem) = deliver(&service, "msg_1", old, &unknown).await;
    assert_eq!((status, problem["code"].as_str()), (401, Some("wrong_signature")));
    let unsigned = reqwest::Client::new()
        .post(format!("{}/webhooks/media", service.base))
        .body("{}");
    assert_eq!(unsigned.send().await.unwrap().status(), 401);
    let (status, problem) = deliver(&service, "msg_1", now, &json!("x".repeat(100_000))).await;
    assert_eq!((status, problem["code"].as_str()), (413, Some("body_too_large")));
    service.stop().await;
    let mut config = config(&db);
    config.webhook_secret = None;
    let service = Service::with(config, conferencing_store::StoreSettings::default()).await;
    assert_eq!(deliver(&service, "msg_1", now, &unknown).await.0, 404);
    service.stop().await;
}

fn uuid() -> String {
    format!("{:032x}", 7)
}
