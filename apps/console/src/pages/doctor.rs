//! What the store's doctor finds.

use axum::extract::State;
use axum::response::Html;
use maud::{Markup, html};

use super::now;
use crate::access::Viewer;
use crate::app::App;
use crate::error::Failure;
use crate::view::{self, Place};

pub(crate) async fn page(State(app): State<App>, viewer: Viewer) -> Result<Html<String>, Failure> {
    let report = app.report.get((), app.store.doctor()).await?;
    let cells: Vec<Markup> = report
        .findings
        .iter()
        .map(|finding| {
            html! {
                td { (view::severity(finding.severity)) }
                td.code { (finding.check.to_string()) }
                td { (finding.what) }
                td { (finding.remedy) }
            }
        })
        .collect();
    let content = html! {
        h1 { "Doctor" }
        p { "Everything that can be wrong with this " (report.database) " database: its schema, rights, settings, counters and months. Asked at most once a minute." }
        (view::table(&["Severity", "Check", "What", "Remedy"], "Nothing is wrong.", &cells))
    };
    Ok(view::page(&viewer.operator, Place::Doctor, "Doctor", now(), &content))
}
