//! A room: what it is, who was in it when, as a picture, and what happened.

use std::collections::BTreeMap;

use axum::extract::{Path, Query, State};
use axum::response::Html;
use chrono::{DateTime, TimeDelta, Utc};
use conferencing_store::entity::{AuditAction, ParticipantRole, RoomId, UserId, recording, room};
use conferencing_store::participants::ParticipantWithUser;
use conferencing_store::{AuditEvent, AuditFilter, Change, Order, PageRequest};
use maud::{Markup, html};

use super::{FEW, Parameters, ROWS, now, rows};
use crate::access::Viewer;
use crate::app::App;
use crate::error::Failure;
use crate::filter::Typed;
use crate::svg::{self, Line, PutOut, Timeline};
use crate::view::{self, Place};

/// The most stays that the picture is made from, and the most people that it shows.
const STAYS: u16 = 500;
const LINES: usize = 60;

async fn find(app: &App, id: RoomId) -> Result<room::Model, Failure> {
    let found = app.store.rooms().any().find(id).await?;
    found.ok_or(Failure::Missing("There is no such room."))
}

pub(crate) async fn page(
    State(app): State<App>,
    viewer: Viewer,
    Path(id): Path<RoomId>,
) -> Result<Html<String>, Failure> {
    let room = find(&app, id).await?;
    viewer.looks_at(&app, "room", None, Some(id)).await?;
    let now = now();
    let owner = app.store.users().any().find(room.owner_id).await?;
    let sums = app.store.statistics().of_room(id).await?;
    let history = app
        .store
        .participants()
        .list_history(id, &PageRequest::first(STAYS, Order::OldestFirst)?)
        .await?;
    let stays: Vec<_> = history.items.into_iter().filter(is_stay).collect();
    let few = PageRequest::first(FEW, Order::NewestFirst)?;
    let bans = app.store.participants().list_bans(id, &few).await?;
    let recordings = app
        .store
        .recordings()
        .any()
        .list_of_room(id, &PageRequest::first(100, Order::OldestFirst)?)
        .await?;
    let trail = app
        .store
        .audit()
        .list_with_names(&AuditFilter::of_room(id), &few)
        .await?;
    let changes = role_changes(&app, id).await?;
    let timeline = timeline(&room, &stays, &recordings.items, &changes, now);
    let people = timeline.lines.len();
    let own = format!("/rooms/{id}");
    let content = html! {
        h1 { (room.title) " " (view::status(room.status)) @if room.deleted_at.is_some() { " " (view::tag("over", "deleted")) } }
        @if let Some(description) = &room.description { p.description { (description) } }
        (view::facts(&[
            ("Code", html! { span.code { (room.room_code) } }),
            ("Owner", owner.map_or_else(|| view::id_link(room.owner_id), |owner| view::user_link(owner.id, &owner.username))),
            ("Planned", html! { (view::maybe_time(room.scheduled_start)) @if let Some(end) = room.scheduled_end { " to " (view::time(end)) } }),
            ("Began", view::maybe_time(room.started_at)),
            ("Ended", view::maybe_time(room.ended_at)),
            ("Lasted", view::maybe(room.duration_seconds.map(|seconds| view::length(TimeDelta::seconds(seconds.into()))))),
            ("Present", html! { (room.active_participants) " of " (room.max_participants) " seats, at most " (sums.peak_participants) }),
            ("People", html! { (view::number(sums.distinct_participants)) " in " (view::number(sums.participations)) " stays, " (sums.kicks) " kicked" }),
            ("In all", html! { (view::length(sums.total_participation)) }),
            ("Rules", rules(&room)),
            ("Id", html! { span.code { (id.to_string()) } }),
        ]))
        section {
            h2 { "Who was in when" }
            @if people == 0 {
                p.empty { "Nobody has been in it." }
            } @else {
                (svg::legend())
                div.wide { (timeline.draw()) }
                @if history.next.is_some() || people == LINES { p.note { "The picture shows the first " (LINES) " people at most." } }
                p.next { a href={ (own) "/stays" } { "All stays" } }
            }
        }
        section {
            h2 { "Recordings" }
            (view::table(&RECORDINGS, "Nothing was recorded.", &recordings.items.iter().map(of_recording).collect::<Vec<_>>()))
        }
        section {
            h2 { "Bans in force" }
            (view::table(&STAYS_OF, "Nobody is banned.", &bans.items.iter().map(|one| of_stay(one, now)).collect::<Vec<_>>()))
            @if bans.next.is_some() { p.next { a href={ (own) "/bans" } { "All bans in force" } } }
        }
        section {
            h2 { "What happened last" }
            (view::table(&rows::TRAIL, "Nothing.", &trail.items.iter().map(rows::of_event).collect::<Vec<_>>()))
            p.next { a href={ "/audit?room=" (id) } { "All of it" } }
        }
    };
    Ok(view::page(&viewer.operator, Place::Rooms, &room.title, now, &content))
}

/// A list of the room's that is too long for its page.
pub(crate) async fn list(
    State(app): State<App>,
    viewer: Viewer,
    Path((id, list)): Path<(RoomId, String)>,
    Query(parameters): Parameters,
) -> Result<Html<String>, Failure> {
    let typed = Typed(parameters);
    let page = typed.page(ROWS, Order::NewestFirst)?;
    let now = now();
    let participants = app.store.participants();
    let title = match list.as_str() {
        "stays" => "Stays",
        "bans" => "Bans in force",
        _ => return Err(Failure::Missing("There is no such page.")),
    };
    let room = find(&app, id).await?;
    viewer.looks_at(&app, "room", None, Some(id)).await?;
    let mut shown = match list.as_str() {
        "stays" => participants.list_history(id, &page).await?,
        _ => participants.list_bans(id, &page).await?,
    };
    if list == "stays" {
        shown.items.retain(is_stay);
    }
    let empty = match shown.next {
        Some(_) => "None here; the next page has more.",
        None => "None.",
    };
    let cells: Vec<Markup> = shown.items.iter().map(|one| of_stay(one, now)).collect();
    let content = html! {
        h1 { (title) " in " (view::room_link(id, &room.title)) }
        (view::table(&STAYS_OF, empty, &cells))
        (view::next(&format!("/rooms/{id}/{list}"), &typed.0, shown.next.as_ref()))
    };
    Ok(view::page(&viewer.operator, Place::Rooms, title, now, &content))
}

/// Whether somebody was there: the ban of somebody who was absent has a row that begins and ends with it, and the store counts it as no stay.
fn is_stay(one: &ParticipantWithUser) -> bool {
    let row = &one.participant;
    let is_ban_alone = row.banned_at.is_some()
        && !row.is_kicked
        && row.banned_at == Some(row.joined_at)
        && row.left_at == row.banned_at;
    !is_ban_alone
}

fn rules(room: &room::Model) -> Markup {
    html! {
        @if room.is_public { (view::tag("quiet", "public")) } @else { (view::tag("quiet", "private")) } " "
        @if room.is_recordable { (view::tag("quiet", "recordable")) } " "
        @if room.require_auth { (view::tag("quiet", "signed-in only")) }
    }
}

const STAYS_OF: [&str; 6] = ["Who", "Role", "Came", "Left", "#Stayed", "Put out"];

fn of_stay(one: &ParticipantWithUser, now: DateTime<Utc>) -> Markup {
    html! {
        td { (view::user_link(one.user.id, &one.user.username)) " " span.quiet { (one.user.display_name) } }
        (rows::of_stay(&one.participant, now))
    }
}

pub(super) const RECORDINGS: [&str; 7] = ["File", "Status", "Began", "Stopped", "#Length", "#Size", "Expires"];

pub(super) fn of_recording(recording: &recording::Model) -> Markup {
    let length = recording
        .duration_seconds
        .map(|seconds| view::length(TimeDelta::seconds(seconds.into())));
    let size = recording
        .size_bytes
        .map(|bytes| format!("{} MB", view::number(bytes / 1_000_000)));
    html! {
        td { (recording.filename) @if let Some(message) = &recording.error_message { br; span.quiet { (message) } } }
        td { (view::plain(&recording.status)) @if recording.deleted_at.is_some() { " " (view::tag("over", "deleted")) } }
        td { (view::time(recording.started_at)) }
        td { (view::maybe_time(recording.stopped_at)) }
        td.number { (view::maybe(length)) }
        td.number { (view::maybe(size)) }
        td { (view::maybe_time(recording.expires_at)) }
    }
}

/// When somebody's role changed, from which to which.
type RoleChanges = BTreeMap<UserId, Vec<(DateTime<Utc>, ParticipantRole, ParticipantRole)>>;

async fn role_changes(app: &App, room: RoomId) -> Result<RoleChanges, Failure> {
    let filter = AuditFilter {
        actions: vec![
            AuditAction::RolePromotion,
            AuditAction::RoleDemotion,
            AuditAction::RoleChanged,
        ],
        ..AuditFilter::of_room(room)
    };
    let events = app
        .store
        .audit()
        .list(&filter, &PageRequest::first(STAYS, Order::OldestFirst)?)
        .await?;
    let mut changes = RoleChanges::new();
    for entry in events.items {
        let AuditEvent::Change(change) = entry.event else {
            continue;
        };
        match change {
            Change::RolePromotion { target, from, to } | Change::RoleDemotion { target, from, to } => {
                changes.entry(target).or_default().push((entry.at, from, to));
            }
            Change::RoleChanged {
                target,
                from,
                to,
                former_host,
            } => {
                changes.entry(target).or_default().push((entry.at, from, to));
                if let Some(former) = former_host {
                    let stepped_down = (entry.at, ParticipantRole::Host, ParticipantRole::CoHost);
                    changes.entry(former).or_default().push(stepped_down);
                }
            }
            _ => {}
        }
    }
    Ok(changes)
}

fn timeline(
    room: &room::Model,
    stays: &[ParticipantWithUser],
    recordings: &[recording::Model],
    changes: &RoleChanges,
    now: DateTime<Utc>,
) -> Timeline {
    let end_of = |at: Option<DateTime<Utc>>| at.unwrap_or(now);
    let (mut from, mut to) = (room.started_at, room.ended_at);
    let mut lines: Vec<Line> = Vec::new();
    for ParticipantWithUser {
        participant: stay,
        user,
    } in stays
    {
        let end = end_of(stay.left_at);
        from = from.into_iter().chain([stay.joined_at]).min();
        to = to.into_iter().chain([end]).max();
        let place = match lines.iter().position(|line| line.user == user.id) {
            Some(place) => place,
            None if lines.len() == LINES => continue,
            None => {
                lines.push(Line {
                    user: user.id,
                    name: user.display_name.clone(),
                    segments: Vec::new(),
                    put_out: Vec::new(),
                    changes: Vec::new(),
                });
                lines.len() - 1
            }
        };
        let line = &mut lines[place];
        let of_user = changes.get(&user.id).map_or(&[][..], Vec::as_slice);
        line.segments
            .extend(svg::segments(stay.joined_at, end, stay.role, of_user));
        for (at, before, after) in of_user.iter().filter(|(at, ..)| stay.joined_at <= *at && *at <= end) {
            line.changes
                .push((*at, format!("{} to {}", view::plain(before), view::plain(after))));
        }
        if let Some(at) = stay.banned_at {
            line.put_out.push((at, PutOut::Banned));
        } else if let Some(at) = stay.kicked_at {
            line.put_out.push((at, PutOut::Kicked));
        }
    }
    let recorded = |one: &recording::Model| {
        (
            one.started_at,
            one.stopped_at.unwrap_or(to.unwrap_or(now)),
            view::plain(&one.status),
        )
    };
    Timeline {
        from: from.unwrap_or(now),
        to: to.unwrap_or(now).max(from.unwrap_or(now) + TimeDelta::minutes(1)),
        lines,
        recordings: recordings.iter().map(recorded).collect(),
    }
}
