//! Promise 6: no password hash and no token in anything that is printed, and no row's content in an error.

use std::fmt::{Debug, Display};

use conferencing_store::entity::Secret;
use conferencing_store::{Actor, Conflict, Error, NewUser, Store};

use crate::harness::{Backend, Raw, TestDb};

crate::cases![
    models_do_not_print_secrets,
    refusals_do_not_print_secrets,
    @Postgres a_violated_constraint_tells_its_name_and_no_row,
    a_refusing_trigger_tells_its_message_and_no_row,
    @Postgres a_value_that_does_not_fit_tells_no_row,
    a_stored_value_that_cannot_be_read_tells_no_row,
];

/// Parts of the row that is being written. The hash and the token are what may never be seen; the rest must not be in an error.
const HASH: &str = "$argon2id$v=19$m=19456,t=2,p=1$U0VDUkVU$SECRETHASH";
const TOKEN: &str = "SECRETTOKEN";
const NAME: &str = "somebodys-name";
const ADDRESS: &str = "somebodys@address.example";
const DISPLAY_NAME: &str = "Somebodys Display Name";

fn new_user() -> NewUser<'static> {
    NewUser {
        email: Some(ADDRESS),
        ..NewUser::named(NAME, DISPLAY_NAME, Secret::new(HASH))
    }
}

fn assert_no_secret(printed: &str) {
    for secret in [HASH, "SECRET", "argon2"] {
        assert!(!printed.contains(secret), "{printed}");
    }
}

/// An error as it gets into logs, with whatever it says lies behind it.
fn printed<E: std::error::Error + Debug + Display + 'static>(error: &E) -> String {
    let mut text = format!("{error} {error:?} {error:#?}");
    let mut cause: Option<&dyn std::error::Error> = error.source();
    while let Some(source) = cause {
        text += &format!(" {source} {source:?}");
        cause = source.source();
    }
    text
}

fn assert_no_row(error: &Error) {
    let text = printed(error);
    assert_no_secret(&text);
    for content in [NAME, ADDRESS, DISPLAY_NAME] {
        assert!(!text.to_lowercase().contains(&content.to_lowercase()), "{text}");
    }
}

async fn models_do_not_print_secrets(db: TestDb) {
    let new = new_user();
    assert_no_secret(&format!("{new:?} {new:#?}"));
    let made = db.system().users().register(new).await.unwrap();
    let raw = db.raw().await;
    raw.run(&format!(
        "UPDATE auth_providers SET access_token = '{TOKEN}', refresh_token = '{TOKEN}'"
    ))
    .await;
    let login = db.store.users().find_for_login(NAME).await.unwrap().unwrap();
    // The secrets are there, and not shown.
    assert_eq!(login.user.password_hash.as_ref().map(Secret::expose), Some(HASH));
    assert_eq!(
        login.providers[0].access_token.as_ref().map(Secret::expose),
        Some(TOKEN)
    );
    assert_eq!(
        login.providers[0].refresh_token.as_ref().map(Secret::expose),
        Some(TOKEN)
    );
    for text in [
        format!("{made:?} {made:#?}"),
        format!("{login:?} {login:#?}"),
        serde_json::to_string(&login.user).unwrap(),
        serde_json::to_string(&login.providers).unwrap(),
    ] {
        assert_no_secret(&text);
        assert!(text.contains(&made.id.to_string()), "{text}");
    }
    let rows = raw.snapshot().await;
    let audit_log: Vec<_> = rows.iter().filter(|row| row.starts_with("audit_logs")).collect();
    assert_eq!(audit_log.len(), 1);
    assert_no_secret(audit_log[0]);
}

async fn refusals_do_not_print_secrets(db: TestDb) {
    db.system().users().register(new_user()).await.unwrap();
    let again = db.system().users().register(new_user()).await.unwrap_err();
    assert!(matches!(again, Error::Conflict(Conflict::UsernameTaken)));
    assert_no_row(&again);
    for hash in ["SECRET", "$SECRET with spaces$", &format!("{HASH}{}", "x".repeat(255))] {
        let new = NewUser {
            password_hash: Secret::new(hash),
            ..new_user()
        };
        let invalid = db.system().users().register(new).await.unwrap_err();
        assert!(matches!(invalid, Error::Invalid(_)));
        assert_no_row(&invalid);
    }
}

/// Registers alone and in a unit, both of which the database refuses.
async fn registering_fails(store: &Store) -> [Error; 2] {
    let system = Actor::system("test");
    let alone = store.acting(&system).users().register(new_user()).await.unwrap_err();
    let unit = store.begin(&system).await.unwrap();
    let inside = unit.users().register(new_user()).await.unwrap_err();
    assert_no_row(&unit.commit().await.unwrap_err());
    [alone, inside]
}

async fn a_violated_constraint_tells_its_name_and_no_row(db: TestDb) {
    let raw = db.raw().await;
    // PostgreSQL puts the whole row into the error's detail for each of these.
    for (add, drop, name) in [
        (
            "ADD CONSTRAINT by_hand CHECK (is_verified)",
            "DROP CONSTRAINT by_hand",
            Some("by_hand"),
        ),
        (
            "ADD CONSTRAINT by_hand CHECK (length(password_hash) < 5)",
            "DROP CONSTRAINT by_hand",
            Some("by_hand"),
        ),
        (
            "ALTER COLUMN last_login_at SET NOT NULL",
            "ALTER COLUMN last_login_at DROP NOT NULL",
            None,
        ),
    ] {
        raw.run(&format!("ALTER TABLE users {add}")).await;
        for error in registering_fails(&db.store).await {
            match &error {
                Error::Backend { constraint, code, .. } => {
                    assert_eq!(constraint.as_deref(), name, "{add}");
                    assert!(code.as_ref().is_some_and(|code| code.starts_with("23")));
                }
                other => panic!("{other:?}"),
            }
            assert_no_row(&error);
        }
        raw.run(&format!("ALTER TABLE users {drop}")).await;
    }
}

async fn refuse_users(raw: &Raw, backend: Backend) {
    let sql = match backend {
        Backend::Sqlite => {
            "CREATE TRIGGER by_hand BEFORE INSERT ON users BEGIN SELECT RAISE(ABORT, 'refused by hand'); END"
        }
        Backend::Postgres => {
            "CREATE FUNCTION by_hand() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                RAISE EXCEPTION 'refused by hand' USING DETAIL = 'row: ' || NEW::text, HINT = NEW.password_hash,
                    COLUMN = NEW.username; END $$;
             CREATE TRIGGER by_hand BEFORE INSERT ON users FOR EACH ROW EXECUTE FUNCTION by_hand()"
        }
    };
    raw.run(sql).await;
}

async fn a_refusing_trigger_tells_its_message_and_no_row(db: TestDb) {
    refuse_users(&db.raw().await, db.backend).await;
    for error in registering_fails(&db.store).await {
        assert!(
            matches!(&error, Error::Backend { message, .. } if message.contains("refused by hand")),
            "{error:?}"
        );
        assert_no_row(&error);
    }
}

async fn a_value_that_does_not_fit_tells_no_row(db: TestDb) {
    let raw = db.raw().await;
    for sql in [
        "ALTER TABLE users ALTER COLUMN display_name TYPE varchar(5)",
        "ALTER TABLE users ALTER COLUMN password_hash TYPE varchar(5)",
    ] {
        // A column that a trigger names keeps its type.
        raw.run("DROP TRIGGER IF EXISTS tr_users_rules ON users").await;
        raw.run(sql).await;
        for error in registering_fails(&db.store).await {
            assert!(matches!(error, Error::Backend { .. }), "{error:?}");
            assert_no_row(&error);
        }
        raw.run(&sql.replace("(5)", "(255)")).await;
    }
}

async fn a_stored_value_that_cannot_be_read_tells_no_row(db: TestDb) {
    let made = db.system().users().register(new_user()).await.unwrap();
    let raw = db.raw().await;
    let sql = match db.backend {
        Backend::Sqlite => {
            "PRAGMA ignore_check_constraints = ON; UPDATE users SET created_at = password_hash;
             PRAGMA ignore_check_constraints = OFF"
        }
        Backend::Postgres => "ALTER TABLE users ALTER COLUMN created_at TYPE text USING password_hash",
    };
    raw.run(sql).await;
    // A new pool, for a statement that was prepared before would only say that it is out of date.
    let store = Store::connect(&db.service_url()).await.unwrap();
    for error in [
        store.users().find(made.id).await.unwrap_err(),
        store.users().find_for_login(NAME).await.unwrap_err(),
    ] {
        assert!(matches!(error, Error::Corrupt { .. }), "{error:?}");
        assert_no_row(&error);
    }
}
