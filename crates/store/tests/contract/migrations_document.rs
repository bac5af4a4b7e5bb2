//! docs/MIGRATIONS.md: its SQL runs, on a migrated database, block by block in its order.

use sea_orm::DbBackend;

use crate::harness::{Raw, TestDb};
use crate::rows::with_fixture;

crate::cases![every_snippet_runs];

const DOCUMENT: &str = include_str!("../../../../docs/MIGRATIONS.md");

/// The blocks for this backend, statement by statement.
fn statements(backend: DbBackend) -> Vec<String> {
    let mark = match backend {
        DbBackend::Sqlite => "sql sqlite",
        _ => "sql postgres",
    };
    let blocks = DOCUMENT.split("\n```").filter_map(|block| block.strip_prefix(mark));
    let code = |block: &str| {
        let lines = block.lines().filter(|line| !line.starts_with("--"));
        lines.collect::<Vec<_>>().join("\n")
    };
    let all = blocks.map(code).collect::<String>();
    let all = all.split(';').map(|statement| statement.trim().to_owned());
    all.filter(|statement| !statement.is_empty()).collect()
}

async fn every_snippet_runs(db: TestDb) {
    let raw: Raw = with_fixture(&db).await;
    let statements = statements(raw.backend());
    let expected = if raw.backend() == DbBackend::Sqlite { 4 } else { 19 };
    assert_eq!(statements.len(), expected, "{statements:#?}");
    for statement in statements {
        raw.run(&statement).await;
    }
    // Every block says for which database it is.
    assert!(!DOCUMENT.contains("```sql\n"));
}
