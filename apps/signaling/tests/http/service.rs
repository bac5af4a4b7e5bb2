use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use clap::CommandFactory;
use conferencing_signaling::Config;
use conferencing_signaling::routes::openapi;
use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Database, Service};

cases![
    probes_and_metrics_answer,
    the_page_runs_no_script_but_its_own,
    every_route_is_described,
    the_document_has_every_setting_and_route,
    every_request_has_an_id,
];

async fn probes_and_metrics_answer(db: Database) {
    let service = Service::start(&db).await;
    let nobody = service.nobody();
    assert_eq!(nobody.get("/healthz").await["status"], "alive");
    let ready = nobody.get("/readyz").await;
    assert_eq!(ready["status"], "ready");
    let ada = service.user("ada").await;
    let code = ada.room(json!({})).await;
    ada.join(&code).await;
    let socket = ada.listen(&code).await;
    let text = nobody
        .request(Method::GET, "/metrics")
        .send()
        .await
        .unwrap()
        .text()
        .await
        .unwrap();
    for line in [
        r#"signaling_http_requests_total{method="POST",route="/rooms/{code}/join",status="200"}"#,
        r#"signaling_http_request_seconds_bucket{method="POST",route="/accounts""#,
        "signaling_sockets ",
        "store_operation_seconds",
    ] {
        assert!(text.contains(line), "{line} is not told");
    }
    // No path of a client's is a label.
    assert!(!text.contains(&code));
    drop(socket);
    service.app.store().close().await.unwrap();
    nobody.get("/healthz").await;
    assert_eq!(nobody.send(Method::GET, "/readyz", Value::Null).await.0, 503);
    service.stop().await;
}

async fn the_page_runs_no_script_but_its_own(db: Database) {
    let service = Service::start(&db).await;
    for (path, kind) in [
        ("/", "text/html"),
        ("/app.js", "text/javascript"),
        ("/style.css", "text/css"),
    ] {
        let response = service.nobody().request(Method::GET, path).send().await.unwrap();
        assert_eq!(response.status(), 200);
        let headers = response.headers();
        assert!(headers["content-type"].to_str().unwrap().starts_with(kind), "{path}");
        let policy = headers["content-security-policy"].to_str().unwrap();
        assert!(
            policy.contains("default-src 'none'") && !policy.contains("unsafe"),
            "{policy}"
        );
        let text = response.text().await.unwrap();
        assert!(!text.trim().is_empty());
        if path == "/" {
            for forbidden in ["<script>", "onclick", "style=", "javascript:", "http://", "https://"] {
                assert!(!text.contains(forbidden), "{forbidden}");
            }
        }
    }
    service.stop().await;
}

fn files_in(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let files = entries.map(|path| if path.is_dir() { files_in(&path) } else { vec![path] });
    files.flatten().collect()
}

/// The routes as the source registers them, beside those of the description.
async fn every_route_is_described(db: Database) {
    let service = Service::start(&db).await;
    let served = service.nobody().get("/openapi.json").await;
    let described = serde_json::to_value(openapi()).unwrap();
    assert_eq!(served, described);
    assert!(served["openapi"].as_str().unwrap().starts_with("3."));
    let paths = served["paths"].as_object().unwrap();
    let methods: usize = paths.values().map(|path| path.as_object().unwrap().len()).sum();
    let mut handlers = 0;
    for file in files_in(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src/routes")) {
        let text = std::fs::read_to_string(file).unwrap();
        handlers += text.matches("#[utoipa::path(").count();
        // What is described by no attribute is no part of the API: the description itself, and the page.
        let by_hand = text.matches(".route(\"").count();
        assert!(by_hand == 0 || by_hand == 4, "{by_hand} routes are not described");
    }
    assert_eq!(methods, handlers);
    // Each is there: it answers, and not that there is nothing at this path.
    for (path, operations) in paths {
        let path = path
            .replace("{code}", "NOSUCH")
            .replace("{user}", &format!("{:032x}", 1));
        let path = path.replace("{id}", &format!("{:032x}", 1));
        for method in operations.as_object().unwrap().keys() {
            let method: Method = method.to_uppercase().parse().unwrap();
            let response = service.nobody().request(method.clone(), &path).send().await.unwrap();
            assert!(
                !matches!(response.status().as_u16(), 405 | 500),
                "{method} {path}: {response:?}"
            );
            let text = response.text().await.unwrap();
            assert!(!text.contains("no_such_path"), "{method} {path}");
        }
    }
    service.stop().await;
}

/// docs/SIGNALING.md has a row for each variable, with its default, and for each route. `WRITE_SIGNALING=1` writes both tables anew.
async fn the_document_has_every_setting_and_route(_: Database) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/SIGNALING.md");
    let text = std::fs::read_to_string(&path).unwrap();
    let wanted = with_table(&with_table(&text, "| variable |", &settings()), "| route |", &routes());
    if std::env::var_os("WRITE_SIGNALING").is_some() {
        std::fs::write(&path, wanted).unwrap();
    } else {
        assert!(
            text == wanted,
            "docs/SIGNALING.md is not that of the code; WRITE_SIGNALING=1 writes it"
        );
    }
}

fn with_table(text: &str, begin: &str, table: &str) -> String {
    let at = text
        .find(begin)
        .unwrap_or_else(|| panic!("no table begins with {begin}"));
    let (before, rest) = text.split_at(at);
    let after = rest.find("\n\n").map_or("", |end| &rest[end + 1..]);
    format!("{before}{table}{after}")
}

fn settings() -> String {
    let mut table = "| variable | default | what it sets |\n|---|---|---|\n".to_owned();
    for argument in Config::command().get_arguments() {
        let Some(name) = argument.get_env() else { continue };
        let default: Vec<_> = argument
            .get_default_values()
            .iter()
            .map(|value| value.to_string_lossy())
            .collect();
        let default = if default.is_empty() {
            String::new()
        } else {
            format!("`{}`", default.join(" "))
        };
        let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
        table += &format!("| `{}` | {default} | {help} |\n", name.to_string_lossy());
    }
    table
}

fn routes() -> String {
    let api = serde_json::to_value(openapi()).unwrap();
    let mut rows = BTreeSet::new();
    for (path, operations) in api["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            let tag = operation["tags"][0].as_str().unwrap();
            let summary = operation["summary"].as_str().unwrap_or_default();
            let more = operation["description"].as_str().unwrap_or_default();
            let text = if more.starts_with(summary) || more.is_empty() {
                summary.to_owned()
            } else {
                format!("{summary} {more}")
            };
            let text = text.replace('\n', " ");
            rows.insert((
                tag.to_owned(),
                format!("| `{} {path}` | {text} |\n", method.to_uppercase()),
            ));
        }
    }
    let rows: String = rows.into_iter().map(|(_, row)| row).collect();
    format!("| route | what it does |\n|---|---|\n{rows}")
}

async fn every_request_has_an_id(db: Database) {
    let service = Service::start(&db).await;
    let get = |id: Option<&'static str>| {
        let request = service.nobody().request(Method::GET, "/healthz");
        match id {
            Some(id) => request.header("x-request-id", id),
            None => request,
        }
        .send()
    };
    let response = get(None).await.unwrap();
    assert!(!response.headers()["x-request-id"].is_empty());
    let response = get(Some("from the proxy")).await.unwrap();
    assert_eq!(response.headers()["x-request-id"], "from the proxy");
    service.stop().await;
}
