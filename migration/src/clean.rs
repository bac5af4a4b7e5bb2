//! Emptying a database, for tests.

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::{ConnectionTrait, DatabaseConnection, DbBackend, Statement};

use crate::Migrator;

/// Drops everything of ours in a test database and makes the schema anew. Deleting rows would not do: the audit log cannot be emptied.
/// Tables of your own stay; while a foreign key of theirs points at ours it is refused, so revert your migrations first.
///
/// A test database is one whose name (PostgreSQL) or file name (SQLite) has `test` in it as a word of its own, such as `meet_test`
/// or `test-7.sqlite`, or an SQLite database in memory.
///
/// # Errors
/// [`DbErr::Migration`] on any other database, which is left as it was; else what the migrations say.
pub async fn clean_test_database(db: &DatabaseConnection) -> Result<(), DbErr> {
    let name = name_of(db).await?;
    if !is_for_tests(&name) {
        return Err(DbErr::Migration(format!(
            "{name:?} is not a test database: its name must have the word `test` in it; nothing was changed"
        )));
    }
    Migrator::fresh(db).await
}

async fn name_of(db: &DatabaseConnection) -> Result<String, DbErr> {
    let backend = db.get_database_backend();
    let sql = match backend {
        DbBackend::Sqlite => {
            "SELECT CASE file WHEN '' THEN 'test' ELSE file END FROM pragma_database_list WHERE name = 'main'"
        }
        _ => "SELECT CAST(current_database() AS text)",
    };
    let row = db.query_one_raw(Statement::from_string(backend, sql)).await?;
    let name: String = match row {
        Some(row) => row.try_get_by_index(0)?,
        None => return Err(DbErr::Migration("the database does not tell its name".to_owned())),
    };
    // A folder called `test` makes no test database.
    Ok(name.rsplit(['/', '\\']).next().unwrap_or_default().to_owned())
}

fn is_for_tests(name: &str) -> bool {
    name.split(|c: char| !c.is_ascii_alphanumeric())
        .any(|word| word.eq_ignore_ascii_case("test"))
}

#[cfg(test)]
mod tests {
    use super::is_for_tests;

    #[test]
    fn only_the_word_counts() {
        for name in ["test", "meet_test", "test-7.sqlite", "MEET_TEST_3"] {
            assert!(is_for_tests(name), "{name}");
        }
        for name in ["", "meet", "latest", "contest.sqlite", "attestation"] {
            assert!(!is_for_tests(name), "{name}");
        }
    }
}
