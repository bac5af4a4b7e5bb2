//! Providers' tokens: encrypted at rest, opened in their place only, moved to new keys.

use conferencing_store::entity::AuthProviderType::Google;
use conferencing_store::entity::{AuthProviderId, Secret, UserId};
use conferencing_store::tokens::Unreadable;
use conferencing_store::{
    Actor, Error, KeyRing, ProviderTokens, Reencrypted, Rejected, Store, StoreSettings, Subject, TokenKey,
};
use sea_orm::DbBackend;

use crate::accounts_support::{account, actions, appended};
use crate::harness::{Raw, TestDb};

crate::cases![
    tokens_come_back_as_they_went_in,
    without_a_key_nothing_is_stored_or_opened,
    what_does_not_belong_does_not_open,
    no_token_is_anywhere_in_the_clear,
    tokens_move_to_the_current_key,
    one_unreadable_row_does_not_hold_up_the_others,
    reencryption_leaves_newer_tokens_alone,
    erasing_somebody_meanwhile_is_no_error,
];

fn key(id: &str, byte: u8) -> TokenKey {
    TokenKey::new(id, [byte; 32]).unwrap()
}

async fn store_with(db: &TestDb, current: TokenKey, older: Vec<TokenKey>) -> Store {
    db.store_with(StoreSettings {
        token_keys: Some(KeyRing::new(current, older).unwrap()),
        ..StoreSettings::default()
    })
    .await
}

fn tokens(access: &str, refresh: Option<&str>) -> ProviderTokens {
    ProviderTokens {
        access_token: Secret::new(access),
        refresh_token: refresh.map(Secret::new),
        expires_at: chrono::DateTime::from_timestamp_micros(1_900_000_000_000_000),
    }
}

/// A user with an external account.
async fn linked(db: &TestDb, name: &str) -> (UserId, AuthProviderId) {
    let user = db.user(name).await;
    let acting = db.acting(&user);
    let link = acting
        .auth_providers()
        .link(user.id, account(Google, name))
        .await
        .unwrap();
    (user.id, link.id)
}

fn system(store: &Store) -> conferencing_store::Acting {
    store.acting(&Actor::system("test"))
}

fn id_literal(raw: &Raw, id: AuthProviderId) -> String {
    match raw.backend() {
        DbBackend::Postgres => format!("'{id}'"),
        _ => format!("x'{}'", id.as_uuid().simple()),
    }
}

async fn tokens_come_back_as_they_went_in(db: TestDb) {
    let raw = db.raw().await;
    let store = store_with(&db, key("k1", 1), vec![]).await;
    let (ada, link) = linked(&db, "ada").await;
    let acting = store.acting(&Actor::user(ada));
    let links = acting.auth_providers();
    assert_eq!(links.open_tokens(link).await.unwrap(), None);
    let whole = tokens("access-1", Some("refresh-1"));
    let (done, events) = appended(&raw, links.store_tokens(ada, link, whole.clone())).await;
    done.unwrap();
    assert_eq!(events, ["PROVIDER_TOKENS_STORED"]);
    assert_eq!(links.open_tokens(link).await.unwrap(), Some(whole));
    // A renewed access token comes alone; the other one participations.
    links.store_tokens(ada, link, tokens("access-2", None)).await.unwrap();
    let both = tokens("access-2", Some("refresh-1"));
    assert_eq!(links.open_tokens(link).await.unwrap(), Some(both));

    let (ben, of_ben) = linked(&db, "ben").await;
    let (refused, events) = appended(&raw, links.store_tokens(ada, of_ben, tokens("x", None))).await;
    assert!(matches!(refused, Err(Error::NotFound(Subject::Provider(id))) if id == of_ben));
    assert!(events.is_empty());
    let (refused, events) = appended(&raw, links.store_tokens(ben, of_ben, tokens("x", None))).await;
    assert!(matches!(refused, Err(Error::Rejected(Rejected::NotAllowed { .. }))));
    assert_eq!(events, ["UNAUTHORIZED_ACCESS_ATTEMPT"]);
    for bad in ["", "a\u{0}b", &"x".repeat(16_385)] {
        let refused = links.store_tokens(ada, link, tokens(bad, None)).await;
        assert!(matches!(refused, Err(Error::Invalid(_))));
    }
    let long = tokens(&"é".repeat(16_384), None);
    links.store_tokens(ada, link, long).await.unwrap();
}

async fn without_a_key_nothing_is_stored_or_opened(db: TestDb) {
    let (ada, link) = linked(&db, "ada").await;
    let without = db.system();
    let before = actions(&db.raw().await).await.len();
    let refused = without
        .auth_providers()
        .store_tokens(ada, link, tokens("a", None))
        .await;
    assert!(matches!(refused, Err(Error::NoTokenKey)));
    assert!(matches!(
        without.auth_providers().reencrypt_tokens(None, 10).await,
        Err(Error::NoTokenKey)
    ));
    assert_eq!(actions(&db.raw().await).await.len(), before);
    let with = store_with(&db, key("k1", 1), vec![]).await;
    system(&with)
        .auth_providers()
        .store_tokens(ada, link, tokens("a", None))
        .await
        .unwrap();
    assert!(matches!(
        db.store.auth_providers().open_tokens(link).await,
        Err(Error::NoTokenKey)
    ));
}

async fn what_does_not_belong_does_not_open(db: TestDb) {
    let raw = db.raw().await;
    let store = store_with(&db, key("k1", 1), vec![]).await;
    let (ada, of_ada) = linked(&db, "ada").await;
    let (ben, of_ben) = linked(&db, "ben").await;
    let links = store.auth_providers();
    for (user, link) in [(ada, of_ada), (ben, of_ben)] {
        let whole = tokens("secret-access", Some("secret-refresh"));
        system(&store)
            .auth_providers()
            .store_tokens(user, link, whole)
            .await
            .unwrap();
    }
    // Another account of the very same user.
    let second = db.system();
    let second = second
        .auth_providers()
        .link(ben, account(Google, "ben2"))
        .await
        .unwrap()
        .id;
    system(&store)
        .auth_providers()
        .store_tokens(ben, second, tokens("secret-other", None))
        .await
        .unwrap();
    let text = raw
        .texts("SELECT access_token FROM auth_providers WHERE access_token IS NOT NULL")
        .await;
    assert!(text.iter().all(|text| text.starts_with("v1.k1.")));

    let ben_is = id_literal(&raw, of_ben);
    let from_ada = format!(
        "(SELECT access_token FROM auth_providers WHERE id = {})",
        id_literal(&raw, of_ada)
    );
    let from_second = format!(
        "(SELECT access_token FROM auth_providers WHERE id = {})",
        id_literal(&raw, second)
    );
    let flipped = "CASE WHEN substr(access_token, 20, 1) = 'A' THEN 'B' ELSE 'A' END";
    let flipped = format!("substr(access_token, 1, 19) || {flipped} || substr(access_token, 21)");
    for (change, column, why) in [
        (
            format!("access_token = {from_ada}"),
            "access_token",
            Unreadable::NotAuthentic,
        ),
        (
            format!("access_token = {from_second}"),
            "access_token",
            Unreadable::NotAuthentic,
        ),
        (
            "access_token = refresh_token".to_owned(),
            "access_token",
            Unreadable::NotAuthentic,
        ),
        (
            "refresh_token = access_token".to_owned(),
            "refresh_token",
            Unreadable::NotAuthentic,
        ),
        (
            format!("access_token = {flipped}"),
            "access_token",
            Unreadable::NotAuthentic,
        ),
        (
            "access_token = 'secret-plain'".to_owned(),
            "access_token",
            Unreadable::NotSealed,
        ),
        (
            "access_token = 'v1.k1.AAAA'".to_owned(),
            "access_token",
            Unreadable::NotSealed,
        ),
        (
            "access_token = replace(access_token, 'v1.k1.', 'v1.k2.')".to_owned(),
            "access_token",
            Unreadable::UnknownKey,
        ),
    ] {
        let whole = tokens("secret-access", Some("secret-refresh"));
        system(&store)
            .auth_providers()
            .store_tokens(ben, of_ben, whole)
            .await
            .unwrap();
        raw.execute(&format!("UPDATE auth_providers SET {change} WHERE id = {ben_is}"))
            .await
            .unwrap();
        let error = links.open_tokens(of_ben).await.unwrap_err();
        let Error::UnreadableToken {
            table: "auth_providers",
            column: recorded,
            row,
            reason,
        } = error
        else {
            panic!("{error:?}");
        };
        assert_eq!((recorded, row, reason), (column, of_ben, why), "{change}");
        let shown = format!("{error} {error:?}");
        assert!(!shown.contains("secret") && !shown.contains("v1."), "{shown}");
        for part in ["auth_providers", column, &of_ben.to_string()] {
            assert!(shown.contains(part), "{shown}");
        }
    }
    // Another key of the same id.
    let wrong = store_with(&db, key("k1", 2), vec![]).await;
    let refused = wrong.auth_providers().open_tokens(of_ada).await;
    assert!(matches!(
        refused,
        Err(Error::UnreadableToken {
            reason: Unreadable::NotAuthentic,
            ..
        })
    ));
}

/// All that all tables hold, as text.
pub async fn whole_database(raw: &Raw) -> String {
    let mut all = String::new();
    for table in [
        "users",
        "auth_providers",
        "rooms",
        "room_participants",
        "recordings",
        "audit_logs",
    ] {
        all.push_str(&whole_table(raw, table).await);
    }
    all
}

/// All that a table holds, as text.
pub async fn whole_table(raw: &Raw, table: &str) -> String {
    let rows = match raw.backend() {
        DbBackend::Postgres => format!("SELECT CAST(t AS text) FROM {table} t"),
        _ => {
            let columns = raw
                .texts(&format!("SELECT name FROM pragma_table_info('{table}')"))
                .await;
            let columns: Vec<String> = columns
                .iter()
                .map(|name| format!(r#"COALESCE(CASE typeof("{name}") WHEN 'blob' THEN hex("{name}") || CAST("{name}" AS text) ELSE CAST("{name}" AS text) END, '')"#))
                .collect();
            assert!(!columns.is_empty());
            format!("SELECT {} FROM {table}", columns.join(" || '|' || "))
        }
    };
    match raw.backend() {
        DbBackend::Postgres => raw.texts(&rows).await.join("\n"),
        _ => {
            let rows = raw.rows(&rows).await;
            let texts = rows.iter().map(|row| {
                let bytes: Vec<u8> = row
                    .try_get_by_index::<String>(0)
                    .map(String::into_bytes)
                    .or_else(|_| row.try_get_by_index::<Vec<u8>>(0))
                    .unwrap();
                String::from_utf8_lossy(&bytes).into_owned()
            });
            texts.collect::<Vec<_>>().join("\n")
        }
    }
}

async fn no_token_is_anywhere_in_the_clear(db: TestDb) {
    let raw = db.raw().await;
    let store = store_with(&db, key("k1", 1), vec![]).await;
    let (ada, link) = linked(&db, "ada").await;
    let whole = tokens("plain-access-token", Some("plain-refresh-token"));
    let acting = system(&store);
    let links = acting.auth_providers();
    let stored = links.store_tokens(ada, link, whole.clone()).await.unwrap();
    let unknown = AuthProviderId::from_uuid(ada.as_uuid());
    let refused = links.store_tokens(ada, unknown, whole.clone()).await.unwrap_err();
    let login = store.users().find_for_login("ada").await.unwrap().unwrap();
    let opened = links.open_tokens(link).await.unwrap();
    let listed = links.list(ada).await.unwrap();
    let shown = format!(
        "{whole:?} {stored:?} {refused:?} {refused} {login:?} {opened:?} {listed:?} {store:?} {acting:?} {links:?}"
    );
    let as_json = serde_json::to_string(&(&stored, &listed, &login.user)).unwrap();
    let everything = whole_database(&raw).await;
    assert!(everything.contains("v1.k1."));
    for place in [&everything, &shown, &as_json] {
        assert!(!place.contains("plain-"), "{place}");
    }
    assert!(!as_json.contains("v1.") && !as_json.contains("argon2id"), "{as_json}");
    assert!(!shown.contains("v1.k1") && !shown.contains("argon2id"), "{shown}");
}

async fn tokens_move_to_the_current_key(db: TestDb) {
    let raw = db.raw().await;
    let first = store_with(&db, key("k1", 1), vec![]).await;
    let mut linked_accounts = Vec::new();
    for number in 0..5 {
        let (user, link) = linked(&db, &format!("user{number}")).await;
        let whole = tokens(&format!("access-{number}"), Some("refresh"));
        system(&first)
            .auth_providers()
            .store_tokens(user, link, whole)
            .await
            .unwrap();
        linked_accounts.push(link);
    }
    // A key whose id is a prefix of another's, or has a wildcard of LIKE, is another key all the same.
    let second = store_with(&db, key("k_1", 2), vec![key("k1", 1)]).await;
    let by_user = second.acting(&Actor::anonymous());
    let refused = by_user.auth_providers().reencrypt_tokens(None, 2).await;
    assert!(matches!(refused, Err(Error::Rejected(Rejected::NotAllowed { .. }))));
    let maintenance = system(&second);
    let (done, events) = appended(&raw, maintenance.auth_providers().reencrypt_tokens(None, 2)).await;
    let done = done.unwrap();
    assert_eq!((done.done, &done.unreadable[..]), (2, &[][..]));
    assert!(done.next.is_some());
    assert_eq!(events, ["PROVIDER_TOKENS_REENCRYPTED"; 2]);
    // Half moved: all of them open.
    for (number, link) in linked_accounts.iter().enumerate() {
        let opened = second.auth_providers().open_tokens(*link).await.unwrap();
        assert_eq!(opened, Some(tokens(&format!("access-{number}"), Some("refresh"))));
    }
    let tasks: Vec<_> = (0..32)
        .map(|_| {
            let maintenance = maintenance.clone();
            tokio::spawn(async move { maintenance.auth_providers().reencrypt_tokens(None, 2).await.unwrap() })
        })
        .collect();
    let mut moved = 0;
    for task in tasks {
        moved += task.await.unwrap().done;
    }
    assert_eq!(moved, 3);
    let (done, events) = appended(&raw, maintenance.auth_providers().reencrypt_tokens(None, 100)).await;
    assert_eq!((done.unwrap(), events.len()), (Reencrypted::default(), 0));
    // The older key is no longer needed.
    let third = store_with(&db, key("k_1", 2), vec![]).await;
    for (number, link) in linked_accounts.iter().enumerate() {
        let opened = third.auth_providers().open_tokens(*link).await.unwrap();
        assert_eq!(opened, Some(tokens(&format!("access-{number}"), Some("refresh"))));
    }
    let recorded = "SELECT count(*) FROM audit_logs WHERE action = 'PROVIDER_TOKENS_REENCRYPTED'";
    assert_eq!(raw.number(recorded).await, 5);
}

async fn one_unreadable_row_does_not_hold_up_the_others(db: TestDb) {
    let raw = db.raw().await;
    let first = store_with(&db, key("k1", 1), vec![]).await;
    let mut links = Vec::new();
    for number in 0..3 {
        let (user, link) = linked(&db, &format!("user{number}")).await;
        system(&first)
            .auth_providers()
            .store_tokens(user, link, tokens("access", None))
            .await
            .unwrap();
        links.push(link);
    }
    let bad = id_literal(&raw, links[0]);
    raw.execute(&format!(
        "UPDATE auth_providers SET access_token = 'v1.lost.AAAA' WHERE id = {bad}"
    ))
    .await
    .unwrap();
    let second = store_with(&db, key("k2", 2), vec![key("k1", 1)]).await;
    let maintenance = system(&second);
    let moved = maintenance.auth_providers().reencrypt_tokens(None, 1).await.unwrap();
    assert_eq!((moved.done, &moved.unreadable[..]), (1, &links[..1]));
    // It goes on from there, and does not come by the unreadable one again.
    let moved = maintenance
        .auth_providers()
        .reencrypt_tokens(moved.next, 1)
        .await
        .unwrap();
    assert_eq!((moved.done, &moved.unreadable[..]), (1, &[][..]));
    let refused = maintenance.auth_providers().reencrypt_tokens(None, 1).await;
    assert!(matches!(refused, Err(Error::UnreadableToken { row, .. }) if row == links[0]));
}

async fn reencryption_leaves_newer_tokens_alone(db: TestDb) {
    let first = store_with(&db, key("k1", 1), vec![]).await;
    let second = store_with(&db, key("k2", 2), vec![key("k1", 1)]).await;
    let mut accounts = Vec::new();
    for number in 0..16 {
        let (user, link) = linked(&db, &format!("user{number}")).await;
        system(&first)
            .auth_providers()
            .store_tokens(user, link, tokens("old", Some("kept")))
            .await
            .unwrap();
        accounts.push((user, link));
    }
    // Writers with the older key, as services are that were not restarted yet, beside 16 that move.
    let mut tasks = Vec::new();
    for (user, link) in accounts.clone() {
        let writer = system(&first);
        tasks.push(tokio::spawn(async move {
            writer
                .auth_providers()
                .store_tokens(user, link, tokens("new", None))
                .await
                .map(|_| ())
        }));
        let maintenance = system(&second);
        tasks.push(tokio::spawn(async move {
            maintenance
                .auth_providers()
                .reencrypt_tokens(None, 16)
                .await
                .map(|_| ())
        }));
    }
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    while system(&second)
        .auth_providers()
        .reencrypt_tokens(None, 16)
        .await
        .unwrap()
        .done
        > 0
    {}
    for (_, link) in accounts {
        let opened = second.auth_providers().open_tokens(link).await.unwrap();
        assert_eq!(opened, Some(tokens("new", Some("kept"))));
    }
}

async fn erasing_somebody_meanwhile_is_no_error(db: TestDb) {
    let first = store_with(&db, key("k1", 1), vec![]).await;
    let second = store_with(&db, key("k2", 2), vec![key("k1", 1)]).await;
    let mut tasks = Vec::new();
    for number in 0..16 {
        let (user, link) = linked(&db, &format!("user{number}")).await;
        system(&first)
            .auth_providers()
            .store_tokens(user, link, tokens("t", None))
            .await
            .unwrap();
        let (maintenance, eraser) = (system(&second), system(&second));
        tasks.push(tokio::spawn(async move {
            maintenance
                .auth_providers()
                .reencrypt_tokens(None, 16)
                .await
                .map(|_| ())
        }));
        tasks.push(tokio::spawn(
            async move { eraser.users().erase(user).await.map(|_| ()) },
        ));
    }
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    let raw = db.raw().await;
    assert_eq!(raw.number("SELECT count(*) FROM auth_providers").await, 0);
}
