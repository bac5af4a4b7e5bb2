//! Usernames and e-mail addresses compare without regard to case, whatever language the database speaks.

use conferencing_migration::{Migrator, MigratorTrait};

use crate::harness::{Raw, TestDb, empty_database_with, raw_of};
use crate::rows::{Refusal, Sql};

crate::cases![
    two_names_that_differ_in_case_alone_are_one,
    @Postgres the_language_of_the_database_does_not_matter,
];

async fn assert_case_does_not_count(raw: &Raw) {
    let taken = Sql::Bare("users", "id=#ina; username='INA I'; email='INA@IBIZA.EXAMPLE'");
    raw.execute(&taken.text(raw.backend())).await.unwrap();
    let same = [
        ("uq_users_username", "username='ina i'"),
        ("uq_users_username", "username='Ina i'"),
        ("uq_users_email", "email='ina@ibiza.example'"),
        ("uq_users_email", "email='Ina@Ibiza.Example'"),
    ];
    for (name, values) in same {
        let error = raw
            .execute(&Sql::Bare("users", values).text(raw.backend()))
            .await
            .unwrap_err();
        let refusal = Refusal::of(&error);
        assert!(refusal.message.contains(name), "{values} is refused with {refusal:?}");
    }
    let other = Sql::Bare("users", "username='İna ı'; email='ına@ibiza.example'");
    raw.execute(&other.text(raw.backend())).await.unwrap();
}

async fn two_names_that_differ_in_case_alone_are_one(db: TestDb) {
    assert_case_does_not_count(&db.raw().await).await;
}

/// SQLite knows no languages; PostgreSQL's `C` folds ASCII alone, and in Turkish `I` is the capital of `ı`.
async fn the_language_of_the_database_does_not_matter(db: TestDb) {
    let mut languages = vec![("LOCALE 'C'", "i")];
    let has_icu = "SELECT count(*) FROM pg_collation WHERE collprovider = 'i' AND collname LIKE 'tr-%'
        AND current_setting('server_version_num')::int >= 150000";
    if db.raw().await.number(has_icu).await > 0 {
        languages.push(("LOCALE 'C' LOCALE_PROVIDER icu ICU_LOCALE 'tr-TR'", "ı"));
    }
    for (language, small_i) in languages {
        let url = empty_database_with(&format!("TEMPLATE template0 ENCODING 'UTF8' {language}")).await;
        let raw = raw_of(&url).await;
        assert_eq!(raw.texts("SELECT lower('I')").await, [small_i]);
        Migrator::up(&raw.db, None).await.unwrap();
        assert_case_does_not_count(&raw).await;
    }
}
