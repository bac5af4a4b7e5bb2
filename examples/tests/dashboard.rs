//! The dashboard asks for metrics that there are, with labels that they have: against the text that is exported, and where PROMETHEUS names
//! the program of one, against a real server that has read it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use conferencing_migration::{Migrator, MigratorTrait};
use conferencing_store::telemetry::METRICS;
use conferencing_store::{ConnectSettings, Store, StoreSettings, connect};
use examples::{follow, play, recorder};
use serde_json::Value;

/// Metrics of what does not happen in a meeting that goes well, on one server.
const SILENT: [&str; 9] = [
    "store_retries_total",
    "store_slow_statements_total",
    "store_feed_slow_subscribers_total",
    "store_failover_seconds",
    "store_replica_lag_seconds",
    "store_replica_reads_total",
    "audit_writer_rejected_total",
    "audit_writer_refused_total",
    "audit_writer_retries_total",
];

fn expressions() -> Vec<String> {
    let text = std::fs::read_to_string(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../docs/grafana/conferencing-store.json"
    ));
    let dashboard: Value = serde_json::from_str(&text.unwrap()).unwrap();
    let panels = dashboard["panels"].as_array().unwrap().iter();
    let targets = panels.flat_map(|panel| panel["targets"].as_array().unwrap());
    targets
        .map(|target| target["expr"].as_str().unwrap().to_owned())
        .collect()
}

/// The metrics that an expression reads: their series' names, without what a histogram adds.
fn series_of(expression: &str) -> BTreeSet<String> {
    let words = expression.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    let ours = words.filter(|word| word.starts_with("store_") || word.starts_with("audit_writer_"));
    ours.map(ToOwned::to_owned).collect()
}

fn metric_of(series: &str) -> &str {
    let histogram = |suffix| {
        let name = series.strip_suffix(suffix)?;
        METRICS
            .iter()
            .any(|one| one.name == name && one.kind == "histogram")
            .then_some(name)
    };
    histogram("_bucket")
        .or(histogram("_sum"))
        .or(histogram("_count"))
        .unwrap_or(series)
}

#[test]
fn the_dashboard_asks_for_what_there_is() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let handle = recorder().unwrap();
    let (store, _folder) = runtime.block_on(async {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}?mode=rwc", folder.path().join("dashboard.sqlite").display());
        let db = connect::open(&url, &ConnectSettings::default()).await.unwrap();
        Migrator::up(&db, None).await.unwrap();
        let store = Store::from_connection(db, StoreSettings::default()).await.unwrap();
        follow(&store).await.unwrap();
        (store, folder)
    });
    store.pool_usage();
    let text = handle.render();
    let mut asked = BTreeSet::new();
    for expression in expressions() {
        for series in series_of(&expression) {
            let name = metric_of(&series);
            let metric = METRICS.iter().find(|one| one.name == name);
            let metric = metric.unwrap_or_else(|| panic!("{series} of {expression} is no metric"));
            asked.insert(name.to_owned());
            if SILENT.contains(&name) {
                continue;
            }
            let is_of = |line: &&str| {
                let rest = line.strip_prefix(series.as_str());
                rest.is_some_and(|rest| rest.starts_with(['{', ' ']))
            };
            let line = text.lines().find(is_of);
            let line = line.unwrap_or_else(|| panic!("{series} is not exported:\n{text}"));
            assert!(
                metric.labels.iter().all(|label| line.contains(&format!("{label}=\""))),
                "{line}"
            );
        }
    }
    let all: BTreeSet<String> = METRICS.iter().map(|one| one.name.to_owned()).collect();
    assert_eq!(asked, all, "the dashboard shows every metric");
    if let Some(program) = std::env::var_os("PROMETHEUS") {
        let text = Arc::new(Mutex::new(text));
        let exporter = serve(Arc::clone(&text));
        let server = Prometheus::start(&program, exporter);
        let refresh = || {
            runtime.block_on(async { play(&store).await.unwrap() });
            store.pool_usage();
            *text.lock().unwrap() = handle.render();
        };
        for expression in expressions() {
            let may_be_empty = series_of(&expression)
                .iter()
                .any(|series| SILENT.contains(&metric_of(series)));
            server.assert_answers(&expression.replace("$__rate_interval", "30s"), may_be_empty, &refresh);
        }
    }
}

/// Serves the text to whoever asks.
fn serve(text: Arc<Mutex<String>>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let (mut client, body) = (client.unwrap(), text.lock().unwrap().clone());
            let mut request = [0; 2048];
            let _ = client.read(&mut request);
            let head = "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\nConnection: close\r\n";
            let _ = write!(client, "{head}Content-Length: {}\r\n\r\n{body}", body.len());
        }
    });
    port
}

struct Prometheus {
    child: Child,
    port: u16,
    _folder: tempfile::TempDir,
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Prometheus {
    fn start(program: &std::ffi::OsStr, exporter: u16) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("prometheus.yml");
        let jobs = format!(
            "scrape_configs:\n- job_name: store\n  scrape_interval: 1s\n  static_configs:\n  - targets: ['127.0.0.1:{exporter}']\n"
        );
        std::fs::write(&config, jobs).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let child = Command::new(program)
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self {
            child,
            port,
            _folder: folder,
        }
    }

    fn ask(&self, expression: &str) -> Option<Value> {
        let encoded: String = expression.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let mut server = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        write!(server, "GET /api/v1/query?query={encoded} HTTP/1.0\r\n\r\n").ok()?;
        let mut answer = String::new();
        server.read_to_string(&mut answer).ok()?;
        serde_json::from_str(answer.split_once("\r\n\r\n")?.1).ok()
    }

    /// A rate needs two scrapes: it is asked until there is something, while meetings go on.
    fn assert_answers(&self, expression: &str, may_be_empty: bool, refresh: &impl Fn()) {
        let until = Instant::now() + Duration::from_secs(60);
        loop {
            refresh();
            if let Some(answer) = self.ask(expression) {
                assert_eq!(answer["status"], "success", "{expression}: {answer}");
                if may_be_empty || !answer["data"]["result"].as_array().unwrap().is_empty() {
                    return;
                }
            }
            assert!(Instant::now() < until, "{expression} has no answer");
            std::thread::sleep(Duration::from_millis(200));
        }
    }
}
