//! The first page: what is going on, and whether all is well.

use axum::extract::State;
use axum::response::Html;
use chrono::{Days, NaiveDate};
use conferencing_store::statistics::DayOfUse;
use conferencing_store::{Order, PageRequest, RoomFilter, Severity};
use maud::{Markup, html};

use super::{FEW, now, rows};
use crate::access::Viewer;
use crate::app::App;
use crate::error::Failure;
use crate::svg::bars;
use crate::view::{self, Place};

/// How many days of use are shown, today included.
const DAYS: u64 = 28;

pub(crate) async fn page(State(app): State<App>, viewer: Viewer) -> Result<Html<String>, Failure> {
    let now = now();
    let today = now.date_naive();
    let (live, public, planned) = (
        app.store.rooms().count(RoomFilter::Live).await?,
        app.store.rooms().count(RoomFilter::LivePublic).await?,
        app.store.rooms().count(RoomFilter::Upcoming { owner: None }).await?,
    );
    let first = PageRequest::first(FEW, Order::NewestFirst)?;
    let rooms = app.store.rooms().list(RoomFilter::Live, &first).await?;
    let days = days(&app, today).await?;
    let report = app.report.get((), app.store.doctor()).await?;
    let nodes = app
        .store
        .nodes()
        .list_alive(&PageRequest::first(100, Order::OldestFirst)?)
        .await?;
    let more = if nodes.next.is_some() { "more than " } else { "" };
    let used = days.last();
    let content = html! {
        h1 { "Overview" }
        section.figures {
            (figure("Live rooms", &view::number(live), &format!("{} of them public", view::number(public))))
            (figure("Planned", &view::number(planned), "not begun yet"))
            (figure("Meetings today", &view::number(used.map_or(0, |day| day.meetings)), "began since midnight, UTC"))
            (figure("People today", &view::number(used.map_or(0, |day| day.distinct_participants)), "were in a meeting"))
            (figure("Media nodes", &format!("{more}{}", nodes.items.len()), "in service"))
            div.figure {
                div.name { "Doctor" }
                div.value { @match report.worst() { None => (view::tag("live", "well")), Some(worst) => (view::severity(worst)) } }
                div.more { a href="/doctor" { (report.findings.len()) @if report.findings.len() == 1 { " finding" } @else { " findings" } } }
            }
        }
        @if report.worst() == Some(Severity::Error) {
            @for finding in report.findings.iter().filter(|finding| finding.severity == Severity::Error).take(3) {
                p.wrong { (finding.what) }
            }
        }
        section {
            h2 { "Use in the last " (DAYS) " days" }
            (charts(&days))
        }
        section {
            h2 { "Live rooms" }
            @let cells: Vec<Markup> = rooms.items.iter().map(rows::of_room).collect();
            (view::table(&rows::ROOMS, "No room is live.", &cells))
            @if rooms.next.is_some() { p.next { a href="/rooms" { "All live rooms" } } }
        }
    };
    Ok(view::page(&viewer.operator, Place::Overview, "Overview", now, &content))
}

fn figure(name: &str, value: &str, more: &str) -> Markup {
    html! {
        div.figure {
            div.name { (name) }
            div.value { (value) }
            div.more { (more) }
        }
    }
}

async fn days(app: &App, today: NaiveDate) -> Result<Vec<DayOfUse>, Failure> {
    let end = today.succ_opt().unwrap_or(today);
    let begin = today.checked_sub_days(Days::new(DAYS - 1)).unwrap_or(today);
    Ok(app.days.get(today, app.store.statistics().daily(begin..end)).await?)
}

fn charts(days: &[DayOfUse]) -> Markup {
    let of = |value: fn(&DayOfUse) -> i64| -> Vec<(NaiveDate, i64)> {
        days.iter().map(|day| (day.day, value(day))).collect()
    };
    html! {
        div.charts {
            figure { figcaption { "Meetings that began" } (bars(&of(|day| day.meetings), "meetings")) }
            figure { figcaption { "People in meetings" } (bars(&of(|day| day.distinct_participants), "people")) }
            figure { figcaption { "Hours of participation" } (bars(&of(|day| day.minutes() / 60), "hours")) }
        }
    }
}
