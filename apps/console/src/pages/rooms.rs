//! Rooms: those that are live, private ones too, and those that are planned; and the way to one by its code.

use axum::extract::{Query, State};
use axum::response::{IntoResponse, Redirect, Response};
use conferencing_store::{Order, RoomFilter};
use maud::{Markup, html};

use super::{Parameters, ROWS, now, rows};
use crate::access::Viewer;
use crate::app::App;
use crate::error::Failure;
use crate::filter::{self, Typed};
use crate::view::{self, Place};

pub(crate) async fn page(
    State(app): State<App>,
    viewer: Viewer,
    Query(parameters): Parameters,
) -> Result<Response, Failure> {
    let typed = Typed(parameters);
    if let Some(code) = typed.get("code") {
        let found = filter::room(&app.store, code).await?;
        let room = found.ok_or_else(|| filter::no_room(code))?;
        return Ok(Redirect::to(&format!("/rooms/{room}")).into_response());
    }
    let planned = typed.get("show") == Some("planned");
    let (filter, order, empty) = match planned {
        true => (
            RoomFilter::Upcoming { owner: None },
            Order::OldestFirst,
            "No meeting is planned.",
        ),
        false => (RoomFilter::Live, Order::NewestFirst, "No room is live."),
    };
    let list = app.store.rooms().list(filter, &typed.page(ROWS, order)?).await?;
    let cells: Vec<Markup> = list.items.iter().map(rows::of_room).collect();
    let now = now();
    let content = html! {
        h1 { "Rooms" }
        form.line method="get" action="/rooms" {
            label for="code" { "Code or id" }
            input #code name="code" required;
            button type="submit" { "Open" }
        }
        nav.tabs aria-label="Which rooms" {
            a href="/rooms" aria-current=[(!planned).then_some("page")] { "Live" }
            a href="/rooms?show=planned" aria-current=[planned.then_some("page")] { "Planned" }
        }
        (view::table(&rows::ROOMS, empty, &cells))
        (view::next("/rooms", &typed.0, list.next.as_ref()))
    };
    Ok(view::page(&viewer.operator, Place::Rooms, "Rooms", now, &content).into_response())
}
