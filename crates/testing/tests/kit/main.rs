//! The kit's own tests. PostgreSQL is that of TEST_DATABASE_URL, or one that the kit starts.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, and looks past the store"
)]

mod builders;
mod databases;
mod faults;
mod gates;
mod migrations;
mod processes;
mod trail;

use std::any::Any;

use sea_orm::{ConnectionTrait, DatabaseConnection, Statement};

/// The first column of the first row, a whole number.
async fn number(db: &DatabaseConnection, sql: &str) -> i64 {
    let statement = Statement::from_string(db.get_database_backend(), sql);
    let row = db.query_one_raw(statement).await.unwrap().unwrap();
    row.try_get_by_index(0).unwrap()
}

/// What somebody said who panicked.
fn said(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
        .unwrap()
}
