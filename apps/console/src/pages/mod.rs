//! The pages, one file each.

pub(crate) mod audit;
pub(crate) mod doctor;
pub(crate) mod overview;
pub(crate) mod people;
pub(crate) mod person;
pub(crate) mod room;
pub(crate) mod rooms;
mod rows;

use axum::extract::Query;
use chrono::{DateTime, Utc};
use conferencing_store::clock::{Clock, SystemClock};

use crate::error::Failure;

/// What follows the question mark.
pub(crate) type Parameters = Query<Vec<(String, String)>>;

/// How many rows a page shows.
pub(crate) const ROWS: u16 = 50;
/// How many a part of a page shows.
pub(crate) const FEW: u16 = 10;

pub(crate) async fn nothing_here() -> Failure {
    Failure::Missing("There is no such page.")
}

/// The machine's time.
pub(crate) fn now() -> DateTime<Utc> {
    SystemClock.now()
}
