//! Five hundred people at once. It asserts that nothing failed and nobody is lost, and takes no time; run it by `SIGNALING_LOAD=1`.

use std::sync::Arc;

use conferencing_store::StoreSettings;
use futures_util::future::join_all;
use reqwest::Method;
use serde_json::json;
use tokio::sync::{Barrier, Semaphore};

use crate::harness::{Client, Database, Service, config};

cases![five_hundred_people_meet];

const PEOPLE: usize = 500;
const ROOMS: usize = 5;

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
    let people = (0..PEOPLE).map(|number| {
        let (code, service) = (codes[number % ROOMS].clone(), &services[number % 2]);
        let nobody = Client {
            http: ada.http.clone(),
            ..service.nobody()
        };
        let (everybody, connecting) = (Arc::clone(&everybody), Arc::clone(&connecting));
        tokio::spawn(async move {
            let turn = connecting.acquire().await.unwrap();
            let name = json!({"display_name": format!("Guest {number}")});
            let session = nobody.ok(Method::POST, &format!("/rooms/{code}/guests"), name).await;
            let me = nobody.of_session(&session);
            let mut socket = me.listen(&code).await;
            drop(turn);
            let mut present: std::collections::BTreeSet<String> = socket.hello["participants"]
                .as_array()
                .unwrap()
                .iter()
                .map(|one| one["stay"].as_str().unwrap().to_owned())
                .collect();
            while present.len() < in_a_room {
                let joined = socket.next().await;
                assert_eq!(joined["action"], "USER_JOINED", "{joined}");
                present.insert(joined["details"]["stay"].as_str().unwrap().to_owned());
            }
            everybody.wait().await;
            me.post(&format!("/rooms/{code}/leave")).await;
            assert_eq!(socket.closed().await, ("left".to_owned(), 4004));
        })
    });
    for person in join_all(people).await {
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
