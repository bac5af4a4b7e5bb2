use std::process::Stdio;
use std::time::Duration;

use reqwest::Method;
use serde_json::json;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::harness::{Client, Database, Service, soon};

cases![
    a_process_that_is_told_to_stop_says_goodbye,
    it_migrates_an_empty_database_from_several_processes_at_once,
    a_second_process_on_its_port_takes_nothing_from_it,
];

fn program(db: &Database, listen: &str) -> Command {
    let mut program = Command::new(env!("CARGO_BIN_EXE_conferencing-signaling"));
    program
        .env("DATABASE_URL", &db.url)
        .env("SIGNALING_LISTEN", listen)
        .env("SIGNALING_NODE_NAME", format!("signaling at {listen}"))
        .env("SIGNALING_PASSWORD_MEMORY_KIB", "8")
        .env("RUST_LOG", "info")
        .env("NO_COLOR", "1")
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    program
}

/// The program itself, on a port of its own.
async fn spawn(db: &Database) -> (Child, String) {
    let mut child = program(db, "127.0.0.1:0")
        .env_remove("SIGNALING_NODE_NAME")
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let base = soon(async {
        loop {
            let line = lines.next_line().await.unwrap().expect("it ended");
            if let Some((_, base)) = line.split_once("listening on ") {
                return base.trim().to_owned();
            }
        }
    })
    .await;
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    (child, base)
}

fn client(base: &str) -> Client {
    Client {
        http: reqwest::Client::new(),
        base: base.to_owned(),
        token: None,
        id: String::new(),
    }
}

async fn registered(base: &str) -> Client {
    let nobody = client(base);
    let account = json!({"username": "ada", "display_name": "Ada", "password": "a long password"});
    nobody.ok(Method::POST, "/accounts", account).await;
    nobody.signed_in("ada").await
}

async fn a_process_that_is_told_to_stop_says_goodbye(db: Database) {
    let (mut child, base) = spawn(&db).await;
    let ada = registered(&base).await;
    let code = ada.room(json!({})).await;
    ada.join(&code).await;
    let mut socket = ada.listen(&code).await;
    let process = child.id().unwrap().to_string();
    let told = Command::new("kill").args(["-TERM", &process]).status().await.unwrap();
    assert!(told.success());
    assert_eq!(socket.closed().await, ("restart".to_owned(), 1012));
    let status = tokio::time::timeout(Duration::from_secs(30), child.wait())
        .await
        .unwrap()
        .unwrap();
    assert!(status.success(), "{status}");
    // Its successor serves the same seat.
    let service = Service::start(&db).await;
    let again = ada.at(&service).listen(&code).await;
    assert_eq!(again.hello["stay"], socket.hello["stay"]);
    service.stop().await;
}

async fn it_migrates_an_empty_database_from_several_processes_at_once(db: Database) {
    let empty = Database::empty(db.backend).await;
    let (one, other) = tokio::join!(spawn(&empty), spawn(&empty));
    let ada = registered(&one.1).await;
    let same = Client {
        base: other.1.clone(),
        ..ada.clone()
    };
    assert_eq!(same.get("/me").await, ada.get("/me").await);
    assert_eq!(empty.number("SELECT count(*) FROM signaling_migrations").await, 1);
    // A process that is killed leaves nothing that keeps its successor from starting.
    let (mut child, _) = one;
    child.kill().await.unwrap();
    let (_third, base) = spawn(&empty).await;
    assert_eq!(client(&base).get("/readyz").await["status"], json!("ready"));
    assert_eq!(same.get("/me").await["id"], ada.id);
}

/// Started by mistake, with the same name: it must not take the name over before it knows that it can serve.
async fn a_second_process_on_its_port_takes_nothing_from_it(db: Database) {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = taken.local_addr().unwrap().to_string();
    let first = program(&db, &listen).spawn().unwrap().wait_with_output();
    let output = soon(first).await.unwrap();
    let said = String::from_utf8_lossy(&output.stderr).to_lowercase();
    assert!(!output.status.success() && said.contains("in use"), "{said}");
    assert_eq!(db.number("SELECT count(*) FROM media_nodes").await, 0);
}
