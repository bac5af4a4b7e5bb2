//! Logins, and signing in through an external provider.

use conferencing_store::entity::AuthProviderType::{GitHub, Google, Local};
use conferencing_store::{
    Actor, AuditEvent, Change, Conflict, Error, NewUser, Observation, ProviderEmail, Rejected, SignedInHow, Store,
    Subject,
};

use crate::accounts_support::{account, actions, appended, conflict, last_event, profile, rejected, sign_in_methods};
use crate::harness::{TestDb, password_hash};
use crate::wire::Wire;

crate::cases![
    a_provider_finds_its_user,
    an_address_links_only_when_both_sides_verified_it,
    signing_in_at_once_makes_one_user,
    logins_are_recorded,
    failed_logins_go_to_the_audit_log_alone,
    @Postgres hot_operations_are_one_statement,
];

async fn a_provider_finds_its_user(db: TestDb) {
    let ada = db.user("ada").await;
    db.acting(&ada)
        .auth_providers()
        .link(ada.id, account(Google, "Id-1"))
        .await
        .unwrap();
    let found = db
        .store
        .users()
        .find_for_provider(Google, "Id-1")
        .await
        .unwrap()
        .unwrap();
    assert_eq!((found.user.id, found.providers.len()), (ada.id, 2));
    for (provider, id) in [(GitHub, "Id-1"), (Google, "id-1"), (Google, ""), (Google, "\u{0}")] {
        assert!(
            db.store
                .users()
                .find_for_provider(provider, id)
                .await
                .unwrap()
                .is_none()
        );
    }
    db.system().users().deactivate(ada.id).await.unwrap();
    assert!(
        db.store
            .users()
            .find_for_provider(Google, "Id-1")
            .await
            .unwrap()
            .is_none()
    );
}

async fn an_address_links_only_when_both_sides_verified_it(db: TestDb) {
    use ProviderEmail::{Unverified, Verified};
    let system = db.system();
    let raw = db.raw().await;
    let new = NewUser {
        email: Some("ada@example.org"),
        ..NewUser::named("ada", "Ada", password_hash())
    };
    let ada = system.users().register(new).await.unwrap();
    // Whoever registered with this address first has not shown that it is theirs.
    let verified = profile("41", Some(Verified("ADA@example.org")), "ada2");
    let (refused, events) = appended(&raw, system.users().sign_in_with_provider(verified)).await;
    assert_eq!((conflict(refused), events.len()), (Conflict::EmailTaken, 0));
    let done = system.users().verify_email(ada.id, "Ada@Example.org").await.unwrap();
    assert!(done.is_verified);
    // Nor has somebody at a provider that takes anybody's word for it.
    let unverified = profile("41", Some(Unverified("ada@example.org")), "ada2");
    let (refused, events) = appended(&raw, system.users().sign_in_with_provider(unverified)).await;
    assert_eq!((conflict(refused), events.len()), (Conflict::EmailTaken, 0));

    let (linked, events) = appended(&raw, system.users().sign_in_with_provider(verified)).await;
    let linked = linked.unwrap();
    assert_eq!(
        (linked.user.id, linked.how),
        (ada.id, SignedInHow::LinkedByVerifiedEmail)
    );
    assert_eq!(events, ["PROVIDER_LINKED", "USER_LOGIN_SUCCESS"]);
    // Once linked, the address no longer matters.
    let (again, events) = appended(&raw, system.users().sign_in_with_provider(unverified)).await;
    let again = again.unwrap();
    assert_eq!(
        (again.user.id, again.provider, again.how),
        (ada.id, linked.provider, SignedInHow::SignedIn)
    );
    assert_eq!(events, ["USER_LOGIN_SUCCESS"]);
    assert!(again.user.last_login_at.is_some());

    let (fresh, events) = appended(&raw, system.users().sign_in_with_provider(profile("50", None, "ben"))).await;
    assert_eq!(fresh.unwrap().how, SignedInHow::Registered);
    assert_eq!(events, ["USER_REGISTERED", "USER_LOGIN_SUCCESS"]);

    let taken = system.users().sign_in_with_provider(profile("51", None, "BEN")).await;
    assert_eq!(conflict(taken), Conflict::UsernameTaken);
    system.users().deactivate(ada.id).await.unwrap();
    for profile in [verified, profile("52", Some(Verified("ada@example.org")), "x")] {
        let refused = system.users().sign_in_with_provider(profile).await;
        assert_eq!(rejected(refused), Rejected::UserInactive { user: ada.id });
    }
    // Only the system has checked the provider's word.
    let refused = db.acting(&ada).users().sign_in_with_provider(verified).await;
    assert!(matches!(rejected(refused), Rejected::NotAllowed { .. }));
    assert_eq!(actions(&raw).await.last().unwrap(), "UNAUTHORIZED_ACCESS_ATTEMPT");
}

async fn signing_in_at_once_makes_one_user(db: TestDb) {
    // One person in 32 tabs, half of them through another account with the same verified address.
    let tasks: Vec<_> = (0..32)
        .map(|number| {
            let system = db.system();
            tokio::spawn(async move {
                let (id, name) = (format!("{}", number % 2), format!("ada{number}"));
                let email = Some(ProviderEmail::Verified("ada@example.org"));
                system.users().sign_in_with_provider(profile(&id, email, &name)).await
            })
        })
        .collect();
    let mut how = Vec::new();
    let mut users = std::collections::HashSet::new();
    for task in tasks {
        let login = task.await.unwrap().unwrap();
        how.push(login.how);
        users.insert(login.user.id);
    }
    let count = |which| how.iter().filter(|how| **how == which).count();
    assert_eq!(users.len(), 1);
    assert_eq!(count(SignedInHow::Registered), 1);
    assert_eq!(count(SignedInHow::LinkedByVerifiedEmail), 1);
    let raw = db.raw().await;
    assert_eq!(raw.number("SELECT count(*) FROM users").await, 1);
    assert_eq!(raw.number("SELECT count(*) FROM auth_providers").await, 2);
}

async fn logins_are_recorded(db: TestDb) {
    let raw = db.raw().await;
    let (store, clock) = db.with_manual_clock().await;
    let ada = db.user("ada").await;
    let found = store.users().find_for_login("ADA").await.unwrap().unwrap();
    clock.advance(chrono::TimeDelta::minutes(5));
    let system = store.acting(&Actor::system("auth").from_address("203.0.113.7".parse().unwrap()));
    let way_in = found.providers[0].id;
    let (user, events) = appended(&raw, system.users().record_login(ada.id, way_in)).await;
    let now = conferencing_store::clock::Clock::now(&*clock);
    assert_eq!(events, ["USER_LOGIN_SUCCESS"]);
    assert_eq!(user.unwrap().last_login_at, Some(now));
    assert_eq!(
        store.auth_providers().find(way_in).await.unwrap().unwrap().last_used_at,
        Some(now)
    );
    assert_eq!(
        last_event(&db).await,
        Change::UserLoginSuccess {
            target: ada.id,
            provider: Local
        }
        .into()
    );

    let of_ben = sign_in_methods(&store, &db.user("ben").await).await.remove(0);
    let (refused, events) = appended(&raw, system.users().record_login(ada.id, of_ben.id)).await;
    assert!(matches!(refused, Err(Error::NotFound(Subject::Provider(_)))) && events.is_empty());
    let (refused, events) = appended(
        &raw,
        store.acting(&Actor::user(ada.id)).users().record_login(ada.id, way_in),
    )
    .await;
    assert!(matches!(rejected(refused), Rejected::NotAllowed { .. }));
    assert_eq!(events, ["UNAUTHORIZED_ACCESS_ATTEMPT"]);
    system.users().deactivate(ada.id).await.unwrap();
    let refused = system.users().record_login(ada.id, way_in).await;
    assert_eq!(rejected(refused), Rejected::UserInactive { user: ada.id });
}

async fn failed_logins_go_to_the_audit_log_alone(db: TestDb) {
    let raw = db.raw().await;
    let ada = db.user("ada").await;
    let before = db.store.users().get(ada.id).await.unwrap();
    let anybody = db.store.acting(&Actor::anonymous());
    let long = format!("who\u{0}\n{}", "é".repeat(300));
    for (typed, target, kept) in [
        ("AdA", Some(ada.id), "AdA".to_owned()),
        ("nobody@example.org", None, "nobody@example.org".to_owned()),
        (long.as_str(), None, format!("who{}", "é".repeat(252))),
    ] {
        let (done, events) = appended(&raw, anybody.users().record_failed_login(typed)).await;
        done.unwrap();
        assert_eq!(events, ["USER_LOGIN_FAILED"]);
        let event = Observation::UserLoginFailed { target, login: kept };
        assert_eq!(last_event(&db).await, event.into());
    }
    // A service that appends it by itself cannot store more.
    let login = long.clone();
    let observed = Observation::UserLoginFailed { target: None, login };
    anybody.audit().append(None, observed).await.unwrap();
    assert!(matches!(
        last_event(&db).await,
        AuditEvent::Observation(Observation::UserLoginFailed { login, .. }) if login.chars().count() == 255
    ));
    assert_eq!(db.store.users().get(ada.id).await.unwrap(), before);
}

async fn hot_operations_are_one_statement(db: TestDb) {
    let ada = db.user("ada").await;
    let way_in = sign_in_methods(&db.store, &ada).await[0].id;
    let wire = Wire::before(&db.url).await;
    let store = Store::connect(&wire.url).await.unwrap();
    let system = store.acting(&Actor::system("test"));
    wire.executions();
    system
        .users()
        .register_with_provider(profile("1", None, "ben"))
        .await
        .unwrap();
    assert_eq!(wire.executions(), ["execute"]);
    let link = system
        .auth_providers()
        .link(ada.id, account(Google, "g"))
        .await
        .unwrap();
    assert_eq!(wire.executions(), ["execute"]);
    system.users().record_login(ada.id, way_in).await.unwrap();
    assert_eq!(wire.executions(), ["execute"]);
    system.auth_providers().unlink(ada.id, link.id).await.unwrap();
    assert_eq!(wire.executions(), ["execute"]);
    store.users().find_for_provider(GitHub, "1").await.unwrap().unwrap();
    assert_eq!(wire.executions(), ["execute"]);
}
