//! The writer against what the server does when `pgbench` sends it the writer's own statement.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use conferencing_store::entity::AuditLogId;
use conferencing_store::{Store, StoreSettings, WriterSettings};
use sea_orm::{ConnectionTrait, DatabaseConnection, Statement};
use serde_json::{Value as Json, json};

use crate::Scale;
use crate::appends::{feed, mean_batch};
use crate::measure::{Rounds, header, row};
use crate::world::{ADDRESS, AGENT, CONSUMER, PRODUCER, World, observation, raw};

/// In place of ids made by the application: one number a statement, then the latter half of the event's own id. As new each time,
/// and as close together in the index, as UUIDv7 are.
const NEW_ID: &str =
    "CAST(encode(int8send((SELECT nextval('bench_ids'))) || substring(uuid_send(event.id) FROM 9), 'hex') AS uuid)";

/// In place of times told by the application.
const NEW_TIME: &str = "clock_timestamp()";

pub async fn against_pgbench(scale: Scale) {
    let settings = WriterSettings::default();
    // A database each: what one has written must not slow down the other.
    let (world, served) = (World::on_postgres("writer").await, World::on_postgres("pgbench").await);
    let statement = renewing(&statement_of_the_writer(&world).await);
    let folder = tempfile::tempdir().unwrap();
    let db = raw(&served.url).await;
    db.execute_unprepared("CREATE SEQUENCE bench_ids; CREATE TABLE bench_batches (size int, events text)")
        .await
        .unwrap();
    let batches = Pgbench::of(
        settings.batch.into(),
        settings.lanes.into(),
        &statement,
        &served,
        &db,
        folder.path(),
    );
    let batches = batches.await;
    let singles = Pgbench::of(1, 10, &statement, &served, &db, folder.path()).await;

    let warm_up = scale.time / 3;
    feed(&world, settings, warm_up).await;
    batches.run(warm_up).await;
    let (mut writer, mut server, mut single, mut size) = (
        Rounds::default(),
        Rounds::default(),
        Rounds::default(),
        Rounds::default(),
    );
    for round in 1..=scale.rounds {
        let (fed, stats) = feed(&world, settings, scale.time).await;
        writer.push(fed);
        size.push(mean_batch(&stats));
        let sent = batches.run(scale.time).await;
        server.push(sent);
        single.push(singles.run(scale.time / 2).await);
        eprintln!("  round {round}: writer {fed:.0}, pgbench {sent:.0} events/s");
    }
    header(&["PostgreSQL", "events/s", "events in a statement", "writer / pgbench"]);
    let ratio = writer.over(&server).shown(2);
    let lanes = format!("writer, fed without waiting, {} lanes", settings.lanes);
    row(&[&lanes, &writer.shown(0), &format!("{:.0}", size.median()), &ratio]);
    let clients = format!("pgbench, {} clients", settings.lanes);
    row(&[&clients, &server.shown(0), &settings.batch.to_string(), ""]);
    let ratio = writer.over(&single).shown(1);
    row(&["pgbench, 10 clients", &single.shown(0), "1", &ratio]);
}

/// The text that the writer's own connection has prepared, so that no copy of it can grow old.
async fn statement_of_the_writer(world: &World) -> String {
    let settings = conferencing_store::ConnectSettings {
        max_connections: Some(1),
        ..conferencing_store::ConnectSettings::default()
    };
    let db = conferencing_store::connect::open(&world.url, &settings).await.unwrap();
    let store = Store::from_connection(db.clone(), StoreSettings::default())
        .await
        .unwrap();
    let writer = store.audit_writer(WriterSettings::default()).unwrap();
    writer
        .append(&world.actor(), Some(world.room), observation())
        .await
        .unwrap();
    writer.close().await;
    let sql = "SELECT statement FROM pg_prepared_statements WHERE statement LIKE 'WITH appended AS%'";
    let row = db
        .query_one_raw(Statement::from_string(db.get_database_backend(), sql))
        .await
        .unwrap()
        .expect("the writer has prepared its statement");
    row.try_get_by_index(0).unwrap()
}

/// The statement as `pgbench` can send it again and again: its value by name, ids and times new each time.
fn renewing(statement: &str) -> String {
    let replaced = |text: String, old: &str, new: &str| {
        assert_eq!(text.matches(old).count(), 1, "{old} in {text}");
        text.replace(old, new)
    };
    let text = replaced(statement.to_owned(), "SELECT event.id,", &format!("SELECT {NEW_ID},"));
    let text = replaced(
        text,
        r#"event.user_agent, event."timestamp""#,
        &format!("event.user_agent, {NEW_TIME}"),
    );
    replaced(text, "$1", ":events")
}

/// A script that appends a batch a transaction, and who runs it.
struct Pgbench {
    script: String,
    url: String,
    size: u32,
    clients: u32,
}

impl Pgbench {
    async fn of(
        size: u32,
        clients: u32,
        statement: &str,
        world: &World,
        db: &DatabaseConnection,
        folder: &Path,
    ) -> Self {
        let sql = "INSERT INTO bench_batches (size, events) VALUES ($1, $2)";
        let events: Json = (0..size).map(|_| event(world)).collect();
        let values = [i64::from(size).into(), events.to_string().into()];
        let insert = Statement::from_sql_and_values(db.get_database_backend(), sql, values);
        db.execute_raw(insert).await.unwrap();
        let script = folder.join(format!("{size}.sql"));
        // A client keeps its variables: it fetches the batch once, and sends it with each statement, as the writer does.
        let text = format!(
            "\\if :fetched = 0\nSELECT events FROM bench_batches WHERE size = {size} \\gset\n\\set fetched 1\n\\endif\n{statement};\n"
        );
        std::fs::write(&script, text).unwrap();
        Self {
            script: script.to_str().unwrap().to_owned(),
            url: world.url.clone(),
            size,
            clients,
        }
    }

    /// Events a second.
    async fn run(&self, time: Duration) -> f64 {
        let program = std::env::var("PGBENCH").unwrap_or_else(|_| "pgbench".to_owned());
        let mut command = Command::new(program);
        let (seconds, clients) = (time.as_secs().max(1).to_string(), self.clients.to_string());
        command.args([
            "-n",
            "-M",
            "prepared",
            "-D",
            "fetched=0",
            "-T",
            &seconds,
            "-c",
            &clients,
            "-j",
            &clients,
        ]);
        command.args(["-f", &self.script, &self.url]);
        let output = tokio::task::spawn_blocking(move || command.output())
            .await
            .unwrap()
            .unwrap();
        let told = String::from_utf8_lossy(&output.stdout);
        let rate = told
            .lines()
            .find_map(|line| line.strip_prefix("tps = ")?.split(' ').next()?.parse::<f64>().ok())
            .filter(|_| output.status.success());
        rate.unwrap_or_else(|| panic!("{told}{}", String::from_utf8_lossy(&output.stderr))) * f64::from(self.size)
    }
}

/// An event as the writer puts it into its list.
fn event(world: &World) -> Json {
    json!({
        "id": AuditLogId::from_uuid(uuid::Uuid::from_u128(rand::random())),
        "action": "CONSUMER_CREATED",
        "user_id": world.user,
        "room_id": world.room,
        "target_user_id": null,
        "metadata": {"consumer_id": CONSUMER, "producer_id": PRODUCER},
        "ip_address": ADDRESS,
        "user_agent": AGENT,
        "timestamp": "2026-04-01T12:00:00.123456+00:00",
    })
}
