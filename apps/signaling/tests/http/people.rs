use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Client, Database, Service};

cases![
    people_come_and_go,
    people_are_put_out_and_let_in_again,
    roles_go_from_one_to_another,
];

async fn names(client: &Client, code: &str) -> Vec<String> {
    let page = client.get(&format!("/rooms/{code}/participants")).await;
    let items = page["items"].as_array().unwrap();
    let told = items.iter().map(|one| {
        let (name, role) = (&one["person"]["display_name"], &one["role"]);
        format!("{} {}", name.as_str().unwrap(), role.as_str().unwrap())
    });
    told.collect()
}

async fn people_come_and_go(db: Database) {
    let service = Service::start(&db).await;
    let (ada, ben) = (service.user("ada").await, service.user("ben").await);
    let code = ada.room(json!({})).await;
    let seat = ben.join(&code).await;
    assert_eq!((&seat["user"], &seat["role"]), (&json!(ben.id), &json!("PARTICIPANT")));
    assert_eq!(ada.join(&code).await["role"], "HOST");
    assert_eq!(names(&ben, &code).await, ["BEN PARTICIPANT", "ADA HOST"]);
    ben.post(&format!("/rooms/{code}/leave")).await;
    ben.refused(
        Method::POST,
        &format!("/rooms/{code}/leave"),
        Value::Null,
        (409, "not_present"),
    )
    .await;
    assert_eq!(names(&ada, &code).await, ["ADA HOST"]);
    // A rejoin is another stay.
    assert_ne!(ben.join(&code).await["stay"], seat["stay"]);
    service.stop().await;
}

async fn people_are_put_out_and_let_in_again(db: Database) {
    let service = Service::start(&db).await;
    let (ada, ben) = (service.user("ada").await, service.user("ben").await);
    let code = ada.room(json!({})).await;
    ada.join(&code).await;
    ben.join(&code).await;
    let (kick, ban) = (
        format!("/rooms/{code}/participants/{}/kick", ben.id),
        format!("/rooms/{code}/bans/{}", ben.id),
    );
    ben.refused(
        Method::POST,
        &format!("/rooms/{code}/participants/{}/kick", ada.id),
        json!({}),
        (403, "not_allowed"),
    )
    .await;
    ada.ok(Method::POST, &kick, json!({"reason": "noise"})).await;
    ada.refused(Method::POST, &kick, json!({}), (409, "not_present")).await;
    ben.join(&code).await;
    ada.ok(
        Method::PUT,
        &ban,
        json!({"until": "2100-01-01T00:00:00Z", "reason": "spam"}),
    )
    .await;
    let join = format!("/rooms/{code}/join");
    let problem = ben.refused(Method::POST, &join, Value::Null, (403, "banned")).await;
    assert_eq!(problem["details"]["until"], "2100-01-01T00:00:00Z");
    let bans = ada.get(&format!("/rooms/{code}/bans")).await;
    assert_eq!(bans["items"][0]["person"]["display_name"], "BEN");
    assert_eq!(bans["items"][0]["reason"], "spam");
    ada.ok(Method::DELETE, &ban, Value::Null).await;
    ada.refused(Method::DELETE, &ban, Value::Null, (409, "not_banned"))
        .await;
    ben.join(&code).await;
    let rubbish = format!("/rooms/{code}/bans/rubbish");
    ada.refused(Method::PUT, &rubbish, json!({}), (404, "malformed_path"))
        .await;
    service.stop().await;
}

async fn roles_go_from_one_to_another(db: Database) {
    let service = Service::start(&db).await;
    let [ada, ben, cyd] = service.users(["ada", "ben", "cyd"]).await;
    let code = ada.room(json!({})).await;
    for user in [&ada, &ben, &cyd] {
        user.join(&code).await;
    }
    let of = |user: &Client, what: &str| format!("/rooms/{code}/participants/{}/{what}", user.id);
    ben.refused(Method::POST, &of(&cyd, "promote"), Value::Null, (403, "not_allowed"))
        .await;
    assert_eq!(ada.post(&of(&ben, "promote")).await["role"], "CO_HOST");
    // A co-host puts participants out.
    ben.ok(Method::POST, &of(&cyd, "kick"), json!({})).await;
    assert_eq!(ada.post(&of(&ben, "demote")).await["role"], "PARTICIPANT");
    assert_eq!(ada.post(&of(&ben, "host")).await["role"], "HOST");
    assert_eq!(names(&ada, &code).await, ["ADA CO_HOST", "BEN HOST"]);
    // The host may end the meeting, owner or not.
    assert_eq!(ben.post(&format!("/rooms/{code}/end")).await["status"], "ENDED");
    service.stop().await;
}
