use std::sync::Arc;

use chrono::TimeDelta;
use conferencing_store::clock::{Clock, ManualClock, SystemClock};
use conferencing_store::{Actor, StoreSettings};
use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Client, Database, Service, config};

cases![
    guests_come_where_no_account_is_asked_for,
    guests_have_a_seat_and_nothing_else,
    guests_who_were_not_seen_are_erased,
];

/// A guest in the room, who has a session.
async fn guest(service: &Service, code: &str, name: &str) -> Client {
    let visit = format!("/rooms/{code}/guests");
    let nobody = service.nobody();
    let session = nobody.ok(Method::POST, &visit, json!({"display_name": name})).await;
    assert!(session["seat"]["stay"].is_string(), "{session}");
    nobody.of_session(&session)
}

async fn guests_come_where_no_account_is_asked_for(db: Database) {
    let service = Service::start(&db).await;
    let ada = service.user("ada").await;
    let (open, closed) = (
        ada.room(json!({"require_auth": false})).await,
        ada.room(json!({})).await,
    );
    let name = json!({"display_name": "Gia"});
    let path = format!("/rooms/{closed}/guests");
    let problem = service
        .nobody()
        .refused(Method::POST, &path, name.clone(), (403, "account_required"))
        .await;
    assert!(problem["details"]["room"].is_string(), "{problem}");
    service
        .nobody()
        .refused(Method::POST, "/rooms/NOSUCH/guests", name, (404, "room_not_found"))
        .await;
    let empty = json!({"display_name": " "});
    service
        .nobody()
        .refused(
            Method::POST,
            &format!("/rooms/{open}/guests"),
            empty,
            (422, "invalid_not_empty"),
        )
        .await;
    // Whoever was not let in has left nothing.
    assert_eq!(db.number("SELECT count(*) FROM users").await, 1);
    assert_eq!(db.number("SELECT count(*) FROM signaling_sessions").await, 1);
    let gia = guest(&service, &open, "Gia").await;
    let me = gia.get("/me").await;
    assert_eq!(
        (&me["username"], &me["is_guest"], &me["display_name"]),
        (&Value::Null, &json!(true), &json!("Gia"))
    );
    ada.join(&open).await;
    let people = ada.get(&format!("/rooms/{open}/participants")).await;
    assert_eq!(people["items"][0]["person"]["is_guest"], true);
    assert_eq!(people["items"][1]["person"]["is_guest"], false);
    service.stop().await;
}

async fn guests_have_a_seat_and_nothing_else(db: Database) {
    let service = Service::start(&db).await;
    let ada = service.user("ada").await;
    let (open, closed) = (
        ada.room(json!({"require_auth": false})).await,
        ada.room(json!({})).await,
    );
    ada.join(&open).await;
    let gia = guest(&service, &open, "Gia").await;
    gia.refused(
        Method::POST,
        "/rooms",
        json!({"title": "Mine"}),
        (403, "account_required"),
    )
    .await;
    gia.refused(
        Method::POST,
        &format!("/rooms/{closed}/join"),
        Value::Null,
        (403, "account_required"),
    )
    .await;
    // They leave and come back by the session of their visit, and are put out like anybody.
    gia.post(&format!("/rooms/{open}/leave")).await;
    gia.join(&open).await;
    ada.ok(Method::PUT, &format!("/rooms/{open}/bans/{}", gia.id), json!({}))
        .await;
    gia.refused(
        Method::POST,
        &format!("/rooms/{open}/join"),
        Value::Null,
        (403, "banned"),
    )
    .await;
    // The door is closed to further ones.
    ada.ok(Method::PATCH, &format!("/rooms/{open}"), json!({"require_auth": true}))
        .await;
    let name = json!({"display_name": "Gil"});
    service
        .nobody()
        .refused(
            Method::POST,
            &format!("/rooms/{open}/guests"),
            name,
            (403, "account_required"),
        )
        .await;
    service.stop().await;
}

async fn guests_who_were_not_seen_are_erased(db: Database) {
    let clock = Arc::new(ManualClock::at(SystemClock.now()));
    let settings = StoreSettings {
        clock: clock.clone(),
        ..StoreSettings::default()
    };
    let service = Service::with(config(&db), settings).await;
    let ada = service.user("ada").await;
    let open = ada.room(json!({"require_auth": false})).await;
    let (gia, gil) = (guest(&service, &open, "Gia").await, guest(&service, &open, "Gil").await);
    gia.post(&format!("/rooms/{open}/leave")).await;
    // More than one sweep takes.
    let door = service.app.store().acting(&Actor::system("door"));
    for _ in 0..120 {
        door.users().admit_guest("Gus").await.unwrap();
    }
    clock.advance(TimeDelta::hours(13));
    // Their visit is over, whether they are there or not.
    for guest in [&gia, &gil] {
        guest
            .refused(Method::GET, "/me", Value::Null, (401, "not_signed_in"))
            .await;
    }
    service.app.tidy_up_once().await.unwrap();
    let erased = "SELECT count(*) FROM users WHERE guest_since IS NOT NULL AND deleted_at IS NOT NULL";
    assert_eq!(db.number(erased).await, 121);
    assert_eq!(
        db.number("SELECT count(*) FROM users WHERE display_name = 'Gil'").await,
        1
    );
    assert_eq!(db.number("SELECT count(*) FROM signaling_sessions").await, 1);
    service.stop().await;
}
