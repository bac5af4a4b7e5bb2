//! What an operation costs, counted: statements, commits, write-ahead log, buffers.

use crate::Scale;
use crate::capture::counts;
use crate::contestants::{Contestant, Server, Turn, Who, number};
use crate::measure::{header, row};
use crate::operation::{AppendBatch, End, Operation};

/// Of one operation.
struct Cost {
    statements: usize,
    commits: usize,
    wal: f64,
    /// None where the server cannot tell.
    buffers: Option<f64>,
}

pub async fn exact(server: &Server, contestants: &mut [Contestant], asked: &[Operation], scale: Scale) {
    let asked: Vec<_> = asked
        .iter()
        .copied()
        .filter(|operation| *operation != AppendBatch)
        .collect();
    let library = "SELECT count(*) FROM pg_available_extensions WHERE name = 'pg_stat_statements' AND
        current_setting('shared_preload_libraries') LIKE '%pg_stat_statements%'";
    let told = number(&server.db, library).await > 0.0;
    if told {
        server
            .execute("CREATE EXTENSION IF NOT EXISTS pg_stat_statements")
            .await;
    } else {
        eprintln!("  without buffers: the server has no pg_stat_statements");
    }
    // Whole pages come with the first change after a checkpoint, and are not the operation's.
    settings(server, "off").await;
    let mut table = Vec::new();
    for operation in asked {
        let mut cells = vec![operation.title().to_owned()];
        let mut costs = Vec::new();
        for who in [Who::This, Who::Before] {
            let contestant = contestants.iter_mut().find(|contestant| contestant.who == who);
            costs.push(match contestant {
                Some(contestant) => cost(server, contestant, operation, scale, told).await,
                None => None,
            });
        }
        let shown = |of: &dyn Fn(&Cost) -> Option<String>| -> Vec<String> {
            let cells = costs.iter().map(|cost| cost.as_ref().and_then(of).unwrap_or_default());
            cells.collect()
        };
        cells.extend(shown(&|cost| Some(cost.statements.to_string())));
        cells.extend(shown(&|cost| Some(cost.commits.to_string())));
        cells.extend(shown(&|cost| Some(format!("{:.0}", cost.wal))));
        cells.extend(shown(&|cost| cost.buffers.map(|buffers| format!("{buffers:.1}"))));
        eprintln!("  {}", cells.join(" | "));
        table.push(cells);
    }
    settings(server, "on").await;
    header(&[
        "of one operation",
        "statements, this",
        "before",
        "commits, this",
        "before",
        "WAL bytes, this",
        "before",
        "buffers, this",
        "before",
    ]);
    for cells in table {
        row(&cells.iter().map(String::as_str).collect::<Vec<_>>());
    }
}

async fn settings(server: &Server, to: &str) {
    for setting in ["full_page_writes", "autovacuum"] {
        server.execute(&format!("ALTER SYSTEM SET {setting} = {to}")).await;
    }
    server.execute("SELECT pg_reload_conf()").await;
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    server.execute("CHECKPOINT").await;
}

async fn cost(
    server: &Server,
    contestant: &mut Contestant,
    operation: Operation,
    scale: Scale,
    told: bool,
) -> Option<Cost> {
    let (_, sent) = match contestant.sent(operation, scale.depth).await {
        Ok(sent) => sent,
        Err(failure) => {
            eprintln!("  {} {}: {failure}", contestant.who.name(), operation.name());
            return None;
        }
    };
    let (statements, commits) = counts(&sent);
    let database = contestant.database();
    let track = |to: &str| format!("ALTER DATABASE {database} SET pg_stat_statements.track = '{to}'");
    if told {
        server.execute(&track("top")).await;
    }
    // One connection, opened now; the first turn is not counted.
    let times = if operation == End { 10 } else { scale.counted };
    contestant.reserve(operation, WARM_UP + times).await;
    let mut turn = Turn {
        operation,
        clients: 1,
        connections: 1,
        millis: 60_000,
        depth: scale.depth,
    };
    contestant.exactly(turn, WARM_UP).await.ok()?;
    turn.millis = 120_000;
    if told {
        server.execute("SELECT pg_stat_statements_reset()").await;
    }
    let before = number(&server.db, WAL).await;
    contestant.exactly(turn, times).await.ok()?;
    #[expect(clippy::cast_precision_loss, reason = "a small number")]
    let times = times as f64;
    let wal = (number(&server.db, WAL).await - before) / times;
    let buffers = format!(
        "SELECT sum(shared_blks_hit + shared_blks_read) FROM pg_stat_statements
        WHERE dbid = (SELECT oid FROM pg_database WHERE datname = '{database}')"
    );
    let buffers = if told {
        Some(number(&server.db, &buffers).await / times)
    } else {
        None
    };
    if told {
        server.execute(&track("none")).await;
    }
    Some(Cost {
        statements,
        commits,
        wal,
        buffers,
    })
}

/// Operations that are not counted: they prepare the statements.
const WARM_UP: u64 = 10;

const WAL: &str = "SELECT pg_current_wal_insert_lsn() - '0/0'";
