//! Searching the audit log, and exporting what was found.

use axum::body::{Body, Bytes};
use axum::extract::{Form, Query, State};
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use axum::response::{Html, IntoResponse, Response};
use conferencing_store::entity::{AuditAction, RecordedAction};
use conferencing_store::{Actor, AuditFilter, Error};
use futures_util::{StreamExt, TryStreamExt};
use maud::{Markup, html};
use sea_orm::Iterable;

use super::{Parameters, ROWS, now, rows};
use crate::access::Viewer;
use crate::app::App;
use crate::error::Failure;
use crate::filter::Typed;
use crate::sessions::same;
use crate::view::{self, Place};

pub(crate) async fn page(
    State(app): State<App>,
    viewer: Viewer,
    Query(parameters): Parameters,
) -> Result<Html<String>, Failure> {
    let typed = Typed(parameters);
    let order = typed.order();
    let page = typed.page(ROWS, order)?;
    let filter = looked_for(&app, &viewer, "audit log", &typed).await?;
    let found = app.store.audit().list_with_names(&filter, &page).await?;
    let cells: Vec<Markup> = found.items.iter().map(rows::of_event).collect();
    let empty = match found.next {
        // A search that no index serves stops after some thousand events.
        Some(_) => "Nothing among the events that were looked at; the next page looks further.",
        None => "Nothing.",
    };
    let content = html! {
        h1 { "Audit log" }
        (form(&typed, &viewer))
        (view::table(&rows::TRAIL, empty, &cells))
        (view::next("/audit", &typed.0, found.next.as_ref()))
    };
    Ok(view::page(&viewer.operator, Place::Audit, "Audit log", now(), &content))
}

/// The filter that was typed, once it is recorded of whom: an event for each. A name that is nobody's is a look too, since the answer tells so.
async fn looked_for(app: &App, viewer: &Viewer, by: &str, typed: &Typed) -> Result<AuditFilter, Failure> {
    let search = typed.search(&app.store).await?;
    for target in search.whose() {
        viewer.looks_at(app, by, target, search.room()).await?;
    }
    search.filter()
}

fn form(typed: &Typed, viewer: &Viewer) -> Markup {
    let value = |name: &str| typed.get(name).unwrap_or_default().to_owned();
    let chosen: Vec<&str> = typed.all("action").collect();
    let oldest = typed.get("order") == Some("oldest");
    let field = |name: &str, label: &str, hint: &str| {
        html! {
            div.field {
                label for=(name) { (label) }
                input id=(name) name=(name) value=(value(name)) placeholder=(hint);
            }
        }
    };
    html! {
        form.search method="get" action="/audit" {
            div.fields {
                (field("actor", "By", "username or id"))
                (field("target", "To", "username or id"))
                (field("room", "In room", "code or id"))
                (field("since", "Since", "2026-06-30 09:00"))
                (field("until", "Before", "2026-07-01"))
                (field("address", "From address", "203.0.113.7"))
                div.field {
                    label for="order" { "Order" }
                    select #order name="order" {
                        option value="newest" selected[!oldest] { "newest first" }
                        option value="oldest" selected[oldest] { "oldest first" }
                    }
                }
            }
            div.field.actions {
                label for="action" { "Actions" }
                select #action name="action" multiple size="7" {
                    @for name in action_names() {
                        option value=(name) selected[chosen.contains(&name.as_str())] { (name) }
                    }
                }
            }
            div.buttons {
                button type="submit" { "Search" }
                a href="/audit" { "Clear" }
            }
        }
        form.export method="post" action="/audit/export" {
            (view::token(&viewer.operator))
            @for (name, value) in typed.0.iter().filter(|(name, value)| name != "after" && name != "order" && !value.is_empty()) {
                input type="hidden" name=(name) value=(value);
            }
            button.quiet type="submit" { "Export what this search finds (JSON Lines)" }
        }
    }
}

fn action_names() -> Vec<String> {
    let mut names: Vec<String> = AuditAction::iter()
        .map(|action| RecordedAction::Known(action).name())
        .collect();
    names.sort_unstable();
    names
}

/// The events that the filter names, oldest first, as they are read. The store appends AUDIT_EXPORTED before the first.
pub(crate) async fn export(
    State(app): State<App>,
    viewer: Viewer,
    Form(fields): Form<Vec<(String, String)>>,
) -> Result<Response, Failure> {
    let typed = Typed(fields);
    if !same(typed.get("token").unwrap_or_default(), &viewer.operator.form_token) {
        return Err(Failure::Forged);
    }
    let filter = looked_for(&app, &viewer, "export of the audit log", &typed).await?;
    // Only the system may export; for whom it does is in its name.
    let system = Actor::system(format!("console for {}", viewer.operator.id));
    let acting = app.store.acting(&system);
    // A stream of its own, which has what it reads from.
    let (sender, receiver) = tokio::sync::mpsc::channel::<Result<Bytes, Error>>(256);
    let (begun, begins) = tokio::sync::oneshot::channel::<Result<(), Error>>();
    tokio::spawn(async move {
        let audit = acting.audit();
        let export = match audit.export(filter, None).await {
            Ok(export) => export,
            Err(error) => {
                let _ = begun.send(Err(error));
                return;
            }
        };
        let _ = begun.send(Ok(()));
        let mut events = std::pin::pin!(export.events);
        while let Some(event) = events.next().await {
            let line = event.map(|event| Bytes::from(event.to_json_line() + "\n"));
            // Whoever has gone away needs no more.
            if sender.send(line).await.is_err() {
                return;
            }
        }
    });
    if let Ok(Err(error)) = begins.await {
        return Err(error.into());
    }
    let lines = futures_util::stream::unfold(receiver, |mut receiver| async move {
        let line = receiver.recv().await?;
        Some((line, receiver))
    });
    let lines = lines.inspect_err(|error| tracing::error!(%error, "an export broke off"));
    let name = format!(
        "attachment; filename=\"audit-{}.jsonl\"",
        now().format("%Y%m%dT%H%M%SZ")
    );
    let headers = [
        (CONTENT_TYPE, "application/x-ndjson".to_owned()),
        (CONTENT_DISPOSITION, name),
    ];
    Ok((headers, Body::from_stream(lines)).into_response())
}
