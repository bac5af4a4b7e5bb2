//! People, by the beginning of their name or address.

use axum::extract::{Query, State};
use axum::response::Html;
use conferencing_store::entity::user;
use conferencing_store::{Order, UserSearch};
use maud::{Markup, html};

use super::{Parameters, ROWS, now};
use crate::access::Viewer;
use crate::app::App;
use crate::error::Failure;
use crate::filter::Typed;
use crate::view::{self, Place};

pub(crate) async fn page(
    State(app): State<App>,
    viewer: Viewer,
    Query(parameters): Parameters,
) -> Result<Html<String>, Failure> {
    let typed = Typed(parameters);
    let (prefix, by_email) = (
        typed.get("prefix").unwrap_or_default(),
        typed.get("by") == Some("email"),
    );
    let deleted = typed.get("deleted").is_some();
    viewer.looks_at(&app, "people", None, None).await?;
    let search = match by_email {
        true => UserSearch::email(prefix),
        false => UserSearch::username(prefix),
    };
    let page = typed.page(ROWS, Order::OldestFirst)?;
    let users = app.store.users();
    let found = match deleted {
        true => users.deleted().search(&search, &page).await?,
        false => users.search(&search, &page).await?,
    };
    let cells: Vec<Markup> = found.items.iter().map(row).collect();
    let content = html! {
        h1 { "People" }
        form.line method="get" action="/people" {
            label for="by" { "Whose" }
            select #by name="by" {
                option value="username" selected[!by_email] { "username" }
                option value="email" selected[by_email] { "e-mail address" }
            }
            label for="prefix" { "begins with" }
            input #prefix name="prefix" value=(prefix) autofocus;
            label { input type="checkbox" name="deleted" value="1" checked[deleted]; " deleted ones" }
            button type="submit" { "Search" }
        }
        (view::table(&["Username", "Name", "E-mail address", "State", "Registered", "Last login"], "Nobody's begins so.", &cells))
        (view::next("/people", &typed.0, found.next.as_ref()))
    };
    Ok(view::page(&viewer.operator, Place::People, "People", now(), &content))
}

fn row(user: &user::Model) -> Markup {
    html! {
        td { (view::user_link(user.id, &user.username)) }
        td { (user.display_name) }
        td { (view::maybe(user.email.as_ref())) }
        td { (state(user)) }
        td { (view::time(user.created_at)) }
        td { (view::maybe_time(user.last_login_at)) }
    }
}

pub(super) fn state(user: &user::Model) -> Markup {
    match user {
        user::Model {
            deleted_at: Some(_), ..
        } => view::tag("over", "deleted"),
        user::Model { is_active: false, .. } => view::tag("warning", "deactivated"),
        user::Model { is_verified: true, .. } => view::tag("live", "verified"),
        _ => view::tag("quiet", "not verified"),
    }
}
