//! Five hundred people at once. It asserts that nothing failed and nobody is lost, and takes no time; run it by `SIGNALING_LOAD=1`.

use std::collections::BTreeSet;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use conferencing_store::StoreSettings;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::sync::{Barrier, Semaphore};
use tokio::task::JoinSet;

use crate::harness::{Client, Database, Service, config};

cases![five_hundred_people_meet];

const PEOPLE: usize = 500;
const ROOMS: usize = 5;

/// All leave at the same moment. A service that has too much to do says so by 503 and when to come back, and the client does.
async fn leave(me: &Client, code: &str) {
    for _ in 0..20 {
        let left = me
            .request(Method::POST, &format!("/rooms/{code}/leave"))
            .send()
            .await
            .unwrap();
        let status = left.status().as_u16();
        if status != 503 {
            assert_eq!(status, 204);
            return;
        }
        let seconds = left.headers()["retry-after"].to_str().unwrap().parse().unwrap();
        tokio::time::sleep(Duration::from_secs(seconds)).await;
    }
    panic!("twenty times 503");
}

/// Guests of five rooms at two processes: each comes in, opens a socket, hears of everybody who is in the room, and leaves when all have.
async fn five_hundred_people_meet(db: Database) {
    let mut config = config(&db);
    config.request_seconds = 60;
    let services = [
        Service::with(config.clone(), StoreSettings::default()).await,
        Service::with(config, StoreSettings::default()).await,
    ];
    let ada = services[0].user("ada").await;
    let mut codes = Vec::new();
    for _ in 0..ROOMS {
        codes.push(
            ada.room(json!({"require_auth": false, "max_participants": PEOPLE}))
                .await,
        );
    }
    let in_a_room = PEOPLE / ROOMS;
    let (everybody, connecting) = (Arc::new(Barrier::new(PEOPLE)), Arc::new(Semaphore::new(64)));
    let mut people = JoinSet::new();
    for number in 0..PEOPLE {
        let (code, service) = (codes[number % ROOMS].clone(), &services[number % 2]);
        let nobody = Client {
            http: ada.http.clone(),
            ..service.nobody()
        };
        let (everybody, connecting) = (Arc::clone(&everybody), Arc::clone(&connecting));
        people.spawn(async move {
            let turn = connecting.acquire().await.unwrap();
            let name = json!({"display_name": format!("Guest {number}")});
            let session = nobody.ok(Method::POST, &format!("/rooms/{code}/guests"), name).await;
            let me = nobody.of_session(&session);
            let mut socket = me.listen(&code).await;
            drop(turn);
            let listed = socket.hello["participants"].as_array().unwrap().iter();
            let mut present: BTreeSet<String> = listed.map(|one| one["stay"].as_str().unwrap().to_owned()).collect();
            while present.len() < in_a_room {
                let joined = socket.next().await;
                assert_eq!(joined["action"], "USER_JOINED", "{joined}");
                present.insert(joined["details"]["stay"].as_str().unwrap().to_owned());
            }
            // Who does not read does not answer pings, and is taken for gone.
            let mut all_are_here = pin!(everybody.wait());
            let mut before = Value::Null;
            loop {
                tokio::select! {
                    biased;
                    _ = &mut all_are_here => break,
                    event = socket.message() => {
                        assert!(event.get("action").is_some(), "{event} behind {before}");
                        before = event;
                    }
                }
            }
            let ((), closed) = tokio::join!(leave(&me, &code), socket.closed());
            assert_eq!(closed, ("left".to_owned(), 4004));
        });
    }
    // The first who fails ends it: the others would wait for them.
    while let Some(person) = people.join_next().await {
        person.unwrap();
    }
    let seated = i64::try_from(PEOPLE).unwrap();
    assert_eq!(db.number("SELECT count(*) FROM room_participants").await, seated);
    assert_eq!(
        db.number("SELECT count(*) FROM room_participants WHERE left_at IS NULL")
            .await,
        0
    );
    for action in ["GUEST_ADMITTED", "USER_JOINED", "USER_LEFT"] {
        let sql = format!("SELECT count(*) FROM audit_logs WHERE action = '{action}'");
        assert_eq!(db.number(&sql).await, seated, "{action}");
    }
    let wrong = format!(
        "SELECT count(*) FROM rooms WHERE active_participants <> 0 OR total_joins <> {in_a_room} OR peak_participants <> {in_a_room}"
    );
    assert_eq!(db.number(&wrong).await, 0);
    for service in services {
        service.stop().await;
    }
}
