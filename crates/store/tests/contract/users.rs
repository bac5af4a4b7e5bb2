//! Users: names without case, and who may sign in.

use std::collections::BTreeMap;

use conferencing_store::clock::Clock;
use conferencing_store::entity::{AuthProviderType, UserId, user};
use conferencing_store::{Actor, Conflict, Error, NewUser, Subject};
use uuid::Uuid;

use crate::harness::{TestDb, password_hash, race};

crate::cases![
    a_new_user_is_active_with_a_local_account,
    usernames_are_unique_without_regard_to_case_and_composition,
    addresses_are_unique_without_regard_to_case,
    addresses_are_composed_before_they_are_judged,
    the_two_small_sigmas_are_one_letter,
    names_of_deleted_users_participation_taken,
    names_that_differ_in_more_than_case_live_side_by_side,
    one_name_registered_from_everywhere_is_one_user,
    a_login_is_found_by_name_or_address_in_any_case,
    inactive_and_deleted_users_do_not_sign_in,
    what_could_be_no_login_is_not_found,
    all_ways_in_come_with_a_login,
    deleted_users_are_seen_by_who_asks_for_them,
];

pub fn new_user<'a>(username: &'a str, email: Option<&'a str>) -> NewUser<'a> {
    NewUser {
        email,
        ..NewUser::named(username, "Somebody", password_hash())
    }
}

async fn register(db: &TestDb, username: &str, email: Option<&str>) -> Result<user::Model, Error> {
    db.system().users().register(new_user(username, email)).await
}

async fn a_new_user_is_active_with_a_local_account(db: TestDb) {
    let (store, clock) = db.with_manual_clock().await;
    let now = clock.now();
    let acting = store.acting(&Actor::anonymous());
    let new = NewUser {
        email: Some(" Ada@Example.org "),
        ..NewUser::named(" AdaLovelace ", " Ada 🎩 Lovelace ", password_hash())
    };
    let made = acting.users().register(new).await.unwrap();
    let expected = user::Model {
        id: made.id,
        username: "AdaLovelace".to_owned(),
        email: Some("Ada@Example.org".to_owned()),
        password_hash: Some(password_hash()),
        display_name: "Ada 🎩 Lovelace".to_owned(),
        is_active: true,
        is_verified: false,
        guest_since: None,
        deleted_at: None,
        created_at: now,
        updated_at: now,
        last_login_at: None,
    };
    assert_eq!(made, expected);
    assert_eq!(db.store.users().get(made.id).await.unwrap(), expected);
    let login = db.store.users().find_for_login("adalovelace").await.unwrap().unwrap();
    assert_eq!(login.user, expected);
    let local = &login.providers[0];
    assert_eq!(login.providers.len(), 1);
    assert_eq!(
        (local.user_id, local.provider_type, &local.provider_id),
        (made.id, AuthProviderType::Local, &made.id.to_string())
    );
    assert_eq!((&local.access_token, &local.refresh_token), (&None, &None));
    assert_eq!((local.created_at, local.updated_at), (now, now));
    assert_eq!(made.id.as_uuid().get_version_num(), 7);
}

/// Pairs that differ in case or in how they are composed, and in nothing else.
const SAME: [(&str, &str); 10] = [
    ("ada", "ada"),
    ("ada", "ADA"),
    ("AdaLovelace", "aDAlOVELACE"),
    ("Ädelgard", "ädelgard"),
    ("ÄDELGARD", "ädelgard"),
    ("ädel", "a\u{308}del"),
    ("ÄDEL", "A\u{308}DEL"),
    ("ädel", "A\u{308}DEL"),
    ("ЖЕНЯ", "женя"),
    ("ΑΛΕΞΗ", "αλεξη"),
];

async fn usernames_are_unique_without_regard_to_case_and_composition(db: TestDb) {
    let raw = db.raw().await;
    for (number, (first, second)) in SAME.iter().enumerate() {
        // A tail of its own for each pair, for some pairs share a name.
        let (first, second) = (format!("{first}{number}"), format!("{second}{number}"));
        for (first, second) in [(first.clone() + "a", second.clone() + "A"), (second + "b", first + "B")] {
            register(&db, &first, None).await.unwrap();
            let again = register(&db, &second, None);
            raw.assert_refused(again, Conflict::UsernameTaken, (&first, &second))
                .await;
        }
    }
    raw.assert_invariants().await;
}

async fn addresses_are_unique_without_regard_to_case(db: TestDb) {
    let raw = db.raw().await;
    for (number, (first, second)) in SAME.iter().enumerate() {
        if second.contains('\u{308}') {
            continue;
        }
        let (first, second) = (
            format!("{first}{number}@example.org"),
            format!("{second}{number}@EXAMPLE.org"),
        );
        register(&db, &format!("first{number}"), Some(&first)).await.unwrap();
        let name = format!("second{number}");
        let again = register(&db, &name, Some(&second));
        raw.assert_refused(again, Conflict::EmailTaken, (&first, &second)).await;
    }
    // Both taken: the name is what is recorded.
    let again = register(&db, "FIRST0", Some("ada0@example.org"));
    raw.assert_refused(again, Conflict::UsernameTaken, "both").await;
    raw.assert_invariants().await;
}

async fn addresses_are_composed_before_they_are_judged(db: TestDb) {
    let (composed, decomposed) = ("ädel@example.org", "a\u{308}del@example.org");
    let made = register(&db, "ada", Some(decomposed)).await.unwrap();
    assert_eq!(made.email.as_deref(), Some(composed));
    let again = register(&db, "ben", Some(composed));
    db.raw()
        .await
        .assert_refused(again, Conflict::EmailTaken, composed)
        .await;
}

async fn the_two_small_sigmas_are_one_letter(db: TestDb) {
    // Σ is the capital of both σ and ς, so these differ in case alone.
    register(&db, "ΟΔΥΣΣΕΥΣ", None).await.unwrap();
    let again = register(&db, "οδυσσευς", None);
    db.raw()
        .await
        .assert_refused(again, Conflict::UsernameTaken, "sigma")
        .await;
}

async fn names_of_deleted_users_participation_taken(db: TestDb) {
    let raw = db.raw().await;
    register(&db, "ada", Some("ada@example.org")).await.unwrap();
    raw.run("UPDATE users SET deleted_at = updated_at, is_active = (1 = 0)")
        .await;
    let again = register(&db, "Ada", None);
    raw.assert_refused(again, Conflict::UsernameTaken, "username").await;
    let again = register(&db, "other", Some("ADA@example.org"));
    raw.assert_refused(again, Conflict::EmailTaken, "email").await;
}

async fn names_that_differ_in_more_than_case_live_side_by_side(db: TestDb) {
    let names = [
        "ada", "adá", "adä", "äda", "ada_", "ada%", "ada.", "аda", "aда", "ad", "adaa", "ádá",
    ];
    for name in names {
        register(&db, name, None).await.unwrap();
    }
    for name in names {
        let found = db.store.users().find_for_login(name).await.unwrap().unwrap();
        assert_eq!(found.user.username, name);
    }
    // Of those without an address, any number.
    assert_eq!(
        db.raw()
            .await
            .number("SELECT count(*) FROM users WHERE email IS NULL")
            .await,
        12
    );
}

async fn one_name_registered_from_everywhere_is_one_user(db: TestDb) {
    let raw = db.raw().await;
    let spellings = ["änne", "Änne", "ÄNNE", "a\u{308}nne", "A\u{308}NNE", "äNNe", "ännE"];
    let tasks = (0..32).map(|number| {
        let acting = db.store.acting(&Actor::anonymous());
        async move {
            let email = format!("{number}@example.org");
            acting
                .users()
                .register(new_user(spellings[number % 7], Some(&email)))
                .await
        }
    });
    let tasks: Vec<_> = tasks.collect();
    let (won, lost): (Vec<_>, Vec<_>) = race(tasks).await.into_iter().partition(Result::is_ok);
    assert_eq!((won.len(), lost.len()), (1, 31));
    for outcome in lost {
        assert!(
            matches!(outcome, Err(Error::Conflict(Conflict::UsernameTaken))),
            "{outcome:?}"
        );
    }
    let tasks = (0..32).map(|number| {
        let acting = db.store.acting(&Actor::anonymous());
        async move {
            let (name, email) = (
                format!("ben{number}"),
                ["ben@example.org", "BEN@example.ORG"][number % 2],
            );
            acting.users().register(new_user(&name, Some(email))).await
        }
    });
    let (won, lost): (Vec<_>, Vec<_>) = race(tasks.collect::<Vec<_>>())
        .await
        .into_iter()
        .partition(Result::is_ok);
    assert_eq!((won.len(), lost.len()), (1, 31));
    for outcome in lost {
        assert!(
            matches!(outcome, Err(Error::Conflict(Conflict::EmailTaken))),
            "{outcome:?}"
        );
    }
    for table in ["users", "auth_providers", "audit_logs"] {
        assert_eq!(raw.number(&format!("SELECT count(*) FROM {table}")).await, 2, "{table}");
    }
    raw.assert_invariants().await;
}

async fn a_login_is_found_by_name_or_address_in_any_case(db: TestDb) {
    let ada = register(&db, "AdaÄ", Some("Ada.Ä@Example.org")).await.unwrap();
    let ben = register(&db, "ben", None).await.unwrap();
    for (login, user) in [
        ("AdaÄ", &ada),
        ("adaä", &ada),
        ("ADAA\u{308}", &ada),
        (" adaä\n", &ada),
        ("ada.ä@example.org", &ada),
        ("ADA.Ä@EXAMPLE.ORG", &ada),
        ("Ada.a\u{308}@example.org", &ada),
        ("BEN", &ben),
    ] {
        let found = db.store.users().find_for_login(login).await.unwrap();
        assert_eq!(found.map(|found| found.user).as_ref(), Some(user), "{login}");
    }
}

async fn inactive_and_deleted_users_do_not_sign_in(db: TestDb) {
    let raw = db.raw().await;
    register(&db, "ada", Some("ada@example.org")).await.unwrap();
    for (sql, found) in [
        ("UPDATE users SET is_verified = (1 = 1)", true),
        ("UPDATE users SET is_active = (1 = 0)", false),
        ("UPDATE users SET is_active = (1 = 1), deleted_at = updated_at", false),
        ("UPDATE users SET is_active = (1 = 0)", false),
        ("UPDATE users SET is_active = (1 = 1), deleted_at = NULL", true),
    ] {
        raw.run(sql).await;
        for login in ["ada", "ADA@example.org"] {
            let candidate = db.store.users().find_for_login(login).await.unwrap();
            assert_eq!(candidate.is_some(), found, "{sql}: {login}");
        }
    }
}

async fn what_could_be_no_login_is_not_found(db: TestDb) {
    register(&db, "ada", Some("ada@example.org")).await.unwrap();
    let long = "a".repeat(100_000);
    for login in [
        "",
        " ",
        "@",
        "ad",
        "ad%",
        "a_a",
        "' OR '1'='1",
        "ada@example",
        &long,
        "\u{0}",
        "ada\u{0}",
    ] {
        let found = db.store.users().find_for_login(login).await;
        assert!(matches!(found, Ok(None)), "{:.20}: {found:?}", login.escape_debug());
    }
}

async fn all_ways_in_come_with_a_login(db: TestDb) {
    let raw = db.raw().await;
    let (ada, ben) = (db.user("ada").await, db.user("ben").await);
    let linked = [(&ada, "GOOGLE"), (&ada, "GITHUB"), (&ada, "SAML"), (&ben, "GOOGLE")];
    for (number, (user, provider)) in linked.into_iter().enumerate() {
        raw.run(&format!(
            "INSERT INTO auth_providers (id, user_id, provider_type, provider_id, created_at, updated_at)
             SELECT {}, id, '{provider}', username, created_at, updated_at FROM users WHERE id = {}",
            raw.id(Uuid::from_u128(number as u128 + 1)),
            raw.id(user.id.as_uuid())
        ))
        .await;
    }
    for (user, ways) in [(&ada, 4), (&ben, 2)] {
        let found = db.store.users().find_for_login(&user.username).await.unwrap().unwrap();
        assert_eq!(found.providers.len(), ways);
        assert!(found.providers.iter().all(|provider| provider.user_id == user.id));
        let kinds: BTreeMap<String, usize> = found
            .providers
            .iter()
            .map(|provider| (format!("{:?}", provider.provider_type), 1))
            .collect();
        assert_eq!(kinds.len(), ways);
    }
}

async fn deleted_users_are_seen_by_who_asks_for_them(db: TestDb) {
    let (kept, gone) = (db.user("kept").await, db.user("gone").await);
    let raw = db.raw().await;
    raw.run("UPDATE users SET deleted_at = updated_at WHERE username = 'gone'")
        .await;
    let nobody = UserId::from_uuid(Uuid::from_u128(1));
    for (id, seen) in [
        (kept.id, [true, false, true]),
        (gone.id, [false, true, true]),
        (nobody, [false; 3]),
    ] {
        let users = || db.store.users();
        let found = [
            users().find(id).await.unwrap(),
            users().deleted().find(id).await.unwrap(),
            users().any().find(id).await.unwrap(),
        ];
        let required = [
            users().get(id).await,
            users().deleted().get(id).await,
            users().any().get(id).await,
        ];
        assert_eq!(found.each_ref().map(Option::is_some), seen);
        for (found, required) in found.into_iter().zip(required) {
            match (found, required) {
                (Some(found), Ok(required)) => assert_eq!((&required, found.id), (&found, id)),
                (None, Err(Error::NotFound(Subject::User(missing)))) => assert_eq!(missing, id),
                other => panic!("{other:?}"),
            }
        }
    }
}
