//! A person: their account, where they were, what was decided about them, what they did.

use axum::extract::{Path, Query, State};
use axum::response::Html;
use chrono::{DateTime, TimeDelta, Utc};
use conferencing_store::entity::{UserId, user};
use conferencing_store::participants::{BanInRoom, BanState, ParticipantInRoom};
use conferencing_store::{AuditFilter, Order, PageRequest, RoomFilter};
use maud::{Markup, html};

use super::room::{RECORDINGS, of_recording};
use super::{FEW, Parameters, ROWS, now, people, rows};
use crate::access::Viewer;
use crate::app::App;
use crate::error::Failure;
use crate::filter::Typed;
use crate::view::{self, Place};

/// How far back the list of stays goes on the page itself.
const RECENT: TimeDelta = TimeDelta::days(90);

async fn find(app: &App, id: UserId) -> Result<user::Model, Failure> {
    let found = app.store.users().any().find(id).await?;
    found.ok_or(Failure::Missing("There is no such person."))
}

pub(crate) async fn page(
    State(app): State<App>,
    viewer: Viewer,
    Path(id): Path<UserId>,
) -> Result<Html<String>, Failure> {
    let user = find(&app, id).await?;
    viewer.looks_at(&app, "person", Some(id), None).await?;
    let now = now();
    let few = PageRequest::first(FEW, Order::NewestFirst)?;
    let store = &app.store;
    let sums = store.statistics().of_user(id).await?;
    let providers = store.auth_providers().list(id).await?;
    let stays = store
        .participants()
        .stays_of(id, now - RECENT..now + TimeDelta::days(1), &few)
        .await?;
    let logins = store.users().logins(id, &few).await?;
    let bans = store.participants().bans_of(id, &few).await?;
    let recordings = store.recordings().any().list_of_owner(id, &few).await?;
    let rooms = store.rooms().list(RoomFilter::OwnedBy(id), &few).await?;
    let done = store.audit().list_with_names(&AuditFilter::by(id), &few).await?;
    let suffered = store.audit().list_with_names(&AuditFilter::about(id), &few).await?;
    let methods: Vec<String> = providers.iter().map(|one| view::plain(&one.provider_type)).collect();
    let own = format!("/people/{id}");
    let content = html! {
        h1 { (user.display_name) " " (people::state(&user)) }
        (view::facts(&[
            ("Username", html! { (user.username) }),
            ("E-mail address", view::maybe(user.email.as_ref())),
            ("Signs in by", html! { (methods.join(", ")) @if methods.is_empty() { (view::nothing()) } }),
            ("Registered", view::time(user.created_at)),
            ("Last login", view::maybe_time(user.last_login_at)),
            ("Deleted", view::maybe_time(user.deleted_at)),
            ("Meetings", html! { (view::number(sums.distinct_rooms)) " in " (view::number(sums.participations)) " stays, " (sums.kicks) " kicked" }),
            ("In meetings", html! { (view::length(sums.total_participation)) }),
            ("Own rooms", html! { (view::number(sums.rooms_owned)) }),
            ("Id", html! { span.code { (id.to_string()) } }),
        ]))
        section {
            h2 { "Stays, last 90 days" }
            (view::table(&STAYS, "None.", &stays.items.iter().map(|one| of_stay(one, now)).collect::<Vec<_>>()))
            p.next { a href={ (own) "/stays" } { "All stays" } }
        }
        section {
            h2 { "Logins" }
            (view::table(&rows::LOGINS, "None.", &logins.items.iter().map(rows::of_login).collect::<Vec<_>>()))
            @if logins.next.is_some() { p.next { a href={ (own) "/logins" } { "All logins" } } }
        }
        section {
            h2 { "Bans" }
            (view::table(&BANS, "None.", &bans.items.iter().map(of_ban).collect::<Vec<_>>()))
            p.next { a href={ (own) "/bans" } { "All bans" } " · " a href={ (own) "/bans-by" } { "Bans that they put" } }
        }
        section {
            h2 { "Own rooms" }
            (view::table(&rows::ROOMS, "None.", &rooms.items.iter().map(rows::of_room).collect::<Vec<_>>()))
            @if rooms.next.is_some() { p.next { a href={ (own) "/rooms" } { "All of their rooms" } } }
        }
        section {
            h2 { "Recordings" }
            (view::table(&RECORDINGS, "None.", &recordings.items.iter().map(of_recording).collect::<Vec<_>>()))
            @if recordings.next.is_some() { p.next { a href={ (own) "/recordings" } { "All recordings" } } }
        }
        section {
            h2 { "What they did last" }
            (view::table(&rows::TRAIL, "Nothing.", &done.items.iter().map(rows::of_event).collect::<Vec<_>>()))
            p.next { a href={ "/audit?actor=" (id) } { "All of it" } }
        }
        section {
            h2 { "What was done to them last" }
            (view::table(&rows::TRAIL, "Nothing.", &suffered.items.iter().map(rows::of_event).collect::<Vec<_>>()))
            p.next { a href={ "/audit?target=" (id) } { "All of it" } }
        }
    };
    Ok(view::page(
        &viewer.operator,
        Place::People,
        &user.display_name,
        now,
        &content,
    ))
}

/// One of a person's lists as a whole.
pub(crate) async fn list(
    State(app): State<App>,
    viewer: Viewer,
    Path((id, list)): Path<(UserId, String)>,
    Query(parameters): Parameters,
) -> Result<Html<String>, Failure> {
    let user = find(&app, id).await?;
    let typed = Typed(parameters);
    let page = typed.page(ROWS, Order::NewestFirst)?;
    let now = now();
    let store = &app.store;
    // Recorded first, whichever it is.
    viewer.looks_at(&app, "person", Some(id), None).await?;
    let (title, heading, cells, next): (_, &[&str], Vec<Markup>, _) = match list.as_str() {
        "stays" => {
            let ever = DateTime::UNIX_EPOCH..now + TimeDelta::days(1);
            let shown = store.participants().stays_of(id, ever, &page).await?;
            let cells = shown.items.iter().map(|one| of_stay(one, now)).collect();
            ("Stays", &STAYS, cells, shown.next)
        }
        "bans" => {
            let shown = store.participants().bans_of(id, &page).await?;
            ("Bans", &BANS, shown.items.iter().map(of_ban).collect(), shown.next)
        }
        "bans-by" => {
            let shown = store.participants().bans_by(id, &page).await?;
            let cells = shown.items.iter().map(of_ban_by).collect();
            ("Bans that they put", &BANS_BY, cells, shown.next)
        }
        "logins" => {
            let shown = store.users().logins(id, &page).await?;
            (
                "Logins",
                &rows::LOGINS,
                shown.items.iter().map(rows::of_login).collect(),
                shown.next,
            )
        }
        "rooms" => {
            let shown = store.rooms().list(RoomFilter::OwnedBy(id), &page).await?;
            (
                "Own rooms",
                &rows::ROOMS,
                shown.items.iter().map(rows::of_room).collect(),
                shown.next,
            )
        }
        "recordings" => {
            let shown = store.recordings().any().list_of_owner(id, &page).await?;
            (
                "Recordings",
                &RECORDINGS,
                shown.items.iter().map(of_recording).collect(),
                shown.next,
            )
        }
        _ => return Err(Failure::Missing("There is no such page.")),
    };
    let content = html! {
        h1 { (title) " of " (view::user_link(id, &user.display_name)) }
        (view::table(heading, "None.", &cells))
        (view::next(&format!("/people/{id}/{list}"), &typed.0, next.as_ref()))
    };
    Ok(view::page(&viewer.operator, Place::People, title, now, &content))
}

const STAYS: [&str; 6] = ["Where", "Role", "Came", "Left", "#Stayed", "Put out"];

fn of_stay(one: &ParticipantInRoom, now: DateTime<Utc>) -> Markup {
    html! {
        td { (rows::of_room_name(&one.room)) }
        (rows::of_stay(&one.participant, now))
    }
}

const BANS: [&str; 5] = ["Where", "Since", "Until", "State", "Why"];
const BANS_BY: [&str; 6] = ["Whom", "Where", "Since", "Until", "State", "Why"];

fn of_ban(ban: &BanInRoom) -> Markup {
    let (class, state) = match ban.state {
        BanState::InForce => ("error", "in force"),
        BanState::RunOut => ("quiet", "run out"),
        _ => ("quiet", "lifted"),
    };
    html! {
        td { (rows::of_room_name(&ban.room)) }
        td { (view::maybe_time(ban.participant.banned_at)) }
        td { @match ban.participant.ban_expires_at { Some(at) => (view::time(at)), None => "for good" } }
        td { (view::tag(class, state)) }
        td { (view::maybe(ban.participant.ban_reason.as_ref())) }
    }
}

fn of_ban_by(ban: &BanInRoom) -> Markup {
    html! {
        td { (view::user_link(ban.user.id, &ban.user.username)) }
        (of_ban(ban))
    }
}
