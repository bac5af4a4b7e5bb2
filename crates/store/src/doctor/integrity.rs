//! Whether an SQLite file is whole. Both questions read all of it.

use super::{Check, Examined, Finding};
use crate::database::statement::Query;
use crate::error::Result;

/// Without the comparison of indexes with their tables, which takes many times as long.
pub(super) fn damage() -> Query {
    Query::new("SELECT quick_check AS fault FROM pragma_quick_check WHERE quick_check <> 'ok' LIMIT 5")
}

pub(super) fn loose_ends() -> Query {
    Query::new(
        r#"SELECT "table" AS of, parent, count(*) AS loose FROM pragma_foreign_key_check GROUP BY "table", parent ORDER BY 1, 2"#,
    )
}

pub(super) async fn file(examined: &Examined<'_>) -> Result<Vec<Finding>> {
    let faults: Vec<String> = examined.read(&damage(), |cells| cells.next("fault")).await?;
    Ok(faults
        .into_iter()
        .map(|fault| Finding::of(Check::FileDamaged, fault))
        .collect())
}

pub(super) async fn references(examined: &Examined<'_>) -> Result<Vec<Finding>> {
    let loose: Vec<(String, String, i64)> = examined
        .read(&loose_ends(), |cells| {
            Ok((cells.next("of")?, cells.next("parent")?, cells.next("loose")?))
        })
        .await?;
    let finding = |(table, parent, rows): &(String, String, i64)| {
        let what = format!("{rows} rows of {table} point at rows of {parent} that are not there");
        Finding::of(Check::BrokenReference, what).with("table", table)
    };
    Ok(loose.iter().map(finding).collect())
}
