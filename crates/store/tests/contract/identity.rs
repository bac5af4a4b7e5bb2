//! Who exists and how they sign in: accounts, links, logins, and what becomes of an account.

use std::future::Future;

use conferencing_store::entity::AuthProviderType::{self, GitHub, Google, Local};
use conferencing_store::entity::ParticipantRole::Participant;
use conferencing_store::entity::{AuthProviderId, RoomStatus, Secret, UserId, auth_provider, user};
use conferencing_store::{
    Actor, AuditEvent, Change, Conflict, EmailChange, Error, Invalid, NewUser, Observation, Order, PageRequest,
    ProfileChange, ProviderAccount, ProviderEmail, ProviderProfile, Rejected, Rule, SignedInHow, Store, Subject,
};
use sea_orm::{ConnectionTrait, TransactionTrait};

use crate::harness::{Backend, Raw, TestDb, password_hash};
use crate::wire::Wire;

crate::cases![
    a_user_from_a_provider_has_no_password,
    an_external_account_has_one_owner,
    a_taken_account_makes_no_user_whoever_races,
    links_are_added_and_taken_away,
    the_last_usable_credential_stays,
    two_unlinks_at_once_leave_one_credential,
    @Postgres unlinks_that_waited_see_what_is_gone,
    @Postgres what_is_taken_while_waiting_is_refused,
    a_seat_taken_while_waiting_is_closed,
    a_provider_finds_its_user,
    an_address_links_only_when_both_sides_verified_it,
    signing_in_at_once_makes_one_user,
    logins_are_recorded,
    failed_logins_go_to_the_trail_alone,
    profiles_change,
    a_name_has_one_winner,
    a_password_makes_a_local_account,
    an_address_is_verified_once_and_only_while_it_is_current,
    deactivation_ends_stays,
    deactivation_and_joins_at_once_leave_no_seat,
    accounts_are_changed_by_their_users_and_the_platform,
    @Postgres hot_operations_are_one_statement,
];

pub fn profile<'a>(id: &'a str, email: Option<ProviderEmail<'a>>, username: &'a str) -> ProviderProfile<'a> {
    ProviderProfile {
        provider: GitHub,
        provider_id: id,
        email,
        username,
        display_name: username,
    }
}

pub fn account(provider: AuthProviderType, provider_id: &str) -> ProviderAccount<'_> {
    ProviderAccount {
        provider,
        provider_id,
        email: None,
    }
}

/// The trail's actions, in order.
pub async fn actions(raw: &Raw) -> Vec<String> {
    raw.texts(r#"SELECT CAST(action AS text) FROM audit_logs ORDER BY "timestamp", id"#)
        .await
}

/// Runs a change and says which actions it appended.
pub async fn appended<T>(raw: &Raw, change: impl Future<Output = T>) -> (T, Vec<String>) {
    let before = actions(raw).await.len();
    let result = change.await;
    (result, actions(raw).await.split_off(before))
}

/// What the trail says last.
async fn last_event(db: &TestDb) -> AuditEvent {
    let raw = db.raw().await;
    let rows = raw
        .rows(r#"SELECT CAST(action AS text) AS action, target_user_id, metadata FROM audit_logs ORDER BY "timestamp" DESC, id DESC LIMIT 1"#)
        .await;
    let action: String = rows[0].try_get_by("action").unwrap();
    let target: Option<UserId> = rows[0].try_get_by("target_user_id").unwrap();
    let mut details: serde_json::Value = rows[0].try_get_by("metadata").unwrap();
    let members = details.as_object_mut().unwrap();
    members.remove("system");
    if let Some(target) = target {
        members.insert("target".to_owned(), target.to_string().into());
    }
    let whole = serde_json::json!({ "action": action, "details": details });
    serde_json::from_value::<Change>(whole.clone())
        .map(AuditEvent::from)
        .unwrap_or_else(|_| serde_json::from_value::<Observation>(whole).unwrap().into())
}

async fn ways_in(store: &Store, user: &user::Model) -> Vec<auth_provider::Model> {
    store.auth_providers().list(user.id).await.unwrap()
}

fn rejected<T: std::fmt::Debug>(result: Result<T, Error>) -> Rejected {
    match result {
        Err(Error::Rejected(why)) => why,
        other => panic!("{other:?}"),
    }
}

fn conflict<T: std::fmt::Debug>(result: Result<T, Error>) -> Conflict {
    match result {
        Err(Error::Conflict(which)) => which,
        other => panic!("{other:?}"),
    }
}

async fn a_user_from_a_provider_has_no_password(db: TestDb) {
    let raw = db.raw().await;
    let users = db.store.acting(&Actor::anonymous());
    let email = Some(ProviderEmail::Verified("Ada@example.org"));
    let (ada, events) = appended(&raw, users.users().register_with_provider(profile("41", email, "ada"))).await;
    let ada = ada.unwrap();
    assert_eq!(events, ["USER_REGISTERED"]);
    assert_eq!(
        last_event(&db).await,
        Change::UserRegistered {
            target: ada.id,
            provider: GitHub
        }
        .into()
    );
    assert!(ada.password_hash.is_none() && ada.is_verified);
    let [way_in] = ways_in(&db.store, &ada).await.try_into().unwrap();
    assert_eq!((way_in.provider_type, way_in.provider_id.as_str()), (GitHub, "41"));

    let email = Some(ProviderEmail::Unverified("ben@example.org"));
    let ben = users
        .users()
        .register_with_provider(profile("42", email, "ben"))
        .await
        .unwrap();
    assert!(!ben.is_verified);

    for (profile, refusal) in [
        (profile("41", None, "cleo"), Conflict::ProviderAccountTaken),
        (profile("43", None, "ADA"), Conflict::UsernameTaken),
        (
            profile("43", Some(ProviderEmail::Verified("ada@EXAMPLE.org")), "cleo"),
            Conflict::EmailTaken,
        ),
    ] {
        let (result, events) = appended(&raw, users.users().register_with_provider(profile)).await;
        assert_eq!((conflict(result), events.len()), (refusal, 0));
    }
    let local = ProviderProfile {
        provider: Local,
        ..profile("1", None, "cleo")
    };
    let refused = users.users().register_with_provider(local).await;
    let rule = Rule::ExternalProvider;
    assert!(matches!(refused, Err(Error::Invalid(Invalid { rule: r, .. })) if r == rule));
    assert_eq!(raw.number("SELECT count(*) FROM users").await, 2);
}

async fn an_external_account_has_one_owner(db: TestDb) {
    let raw = db.raw().await;
    let (ada, ben) = (db.user("ada").await, db.user("ben").await);
    let acting = db.acting(&ada);
    let (link, events) = appended(&raw, acting.auth_providers().link(ada.id, account(Google, "g1"))).await;
    let link = link.unwrap();
    assert_eq!(events, ["PROVIDER_LINKED"]);
    // To the same user again: which link it is. To somebody else: nothing that says whose it is.
    let again = conflict(acting.auth_providers().link(ada.id, account(Google, "g1")).await);
    assert_eq!(
        again,
        Conflict::ProviderLinkedAlready {
            user: ada.id,
            provider: link.id
        }
    );
    let (other, events) = appended(
        &raw,
        db.acting(&ben).auth_providers().link(ben.id, account(Google, "g1")),
    )
    .await;
    let other = other.unwrap_err();
    assert!(matches!(other, Error::Conflict(Conflict::ProviderAccountTaken)));
    assert!(events.is_empty());
    let shown = format!("{other} {other:?}");
    assert!(!shown.contains(&ada.id.to_string()) && !shown.contains(&link.id.to_string()));
    // Several accounts of one kind are fine, and the same id at another provider is another account.
    acting
        .auth_providers()
        .link(ada.id, account(Google, "g2"))
        .await
        .unwrap();
    acting
        .auth_providers()
        .link(ada.id, account(GitHub, "g1"))
        .await
        .unwrap();
    // Ids of others' making are kept to the last character.
    acting
        .auth_providers()
        .link(ada.id, account(Google, " g1"))
        .await
        .unwrap();

    let users = db.users("guest", 32).await;
    let tasks: Vec<_> = users
        .into_iter()
        .map(|user| {
            let acting = db.acting(&user);
            tokio::spawn(async move { acting.auth_providers().link(user.id, account(Google, "wanted")).await })
        })
        .collect();
    let mut linked = 0;
    for task in tasks {
        match task.await.unwrap() {
            Ok(_) => linked += 1,
            Err(Error::Conflict(Conflict::ProviderAccountTaken)) => {}
            Err(error) => panic!("{error:?}"),
        }
    }
    assert_eq!(linked, 1);
}

async fn a_taken_account_makes_no_user_whoever_races(db: TestDb) {
    let tasks: Vec<_> = (0..32)
        .map(|number| {
            let acting = db.store.acting(&Actor::anonymous());
            tokio::spawn(async move {
                let name = format!("guest{number}");
                acting
                    .users()
                    .register_with_provider(profile("same", None, &name))
                    .await
            })
        })
        .collect();
    let mut registered = 0;
    for task in tasks {
        match task.await.unwrap() {
            Ok(_) => registered += 1,
            Err(Error::Conflict(Conflict::ProviderAccountTaken)) => {}
            Err(error) => panic!("{error:?}"),
        }
    }
    let raw = db.raw().await;
    assert_eq!((registered, raw.number("SELECT count(*) FROM users").await), (1, 1));
    assert_eq!(actions(&raw).await, ["USER_REGISTERED"]);
}

async fn links_are_added_and_taken_away(db: TestDb) {
    let raw = db.raw().await;
    let (ada, ben) = (db.user("ada").await, db.user("ben").await);
    let acting = db.acting(&ada);
    let link = acting
        .auth_providers()
        .link(ada.id, account(Google, "g1"))
        .await
        .unwrap();
    let (done, events) = appended(&raw, acting.auth_providers().unlink(ada.id, link.id)).await;
    done.unwrap();
    assert_eq!(events, ["PROVIDER_UNLINKED"]);
    assert_eq!(
        last_event(&db).await,
        Change::ProviderUnlinked {
            target: ada.id,
            provider: Google
        }
        .into()
    );
    let (gone, events) = appended(&raw, acting.auth_providers().unlink(ada.id, link.id)).await;
    assert!(matches!(gone, Err(Error::NotFound(Subject::Provider(id))) if id == link.id));
    assert!(events.is_empty());
    // Somebody else's way in is not found among one's own.
    let of_ben = ways_in(&db.store, &ben).await.remove(0);
    let refused = acting.auth_providers().unlink(ada.id, of_ben.id).await;
    assert!(matches!(refused, Err(Error::NotFound(Subject::Provider(_)))));
    // The account is free again.
    db.acting(&ben)
        .auth_providers()
        .link(ben.id, account(Google, "g1"))
        .await
        .unwrap();
    // With the local account goes the password.
    db.acting(&ben)
        .auth_providers()
        .unlink(ben.id, of_ben.id)
        .await
        .unwrap();
    let ben = db.store.users().require(ben.id).await.unwrap();
    assert!(ben.password_hash.is_none());
}

async fn the_last_usable_credential_stays(db: TestDb) {
    let raw = db.raw().await;
    let ada = db.user("ada").await;
    let acting = db.acting(&ada);
    let local = ways_in(&db.store, &ada).await.remove(0);
    let (refused, events) = appended(&raw, acting.auth_providers().unlink(ada.id, local.id)).await;
    let last = Rejected::LastCredential {
        user: ada.id,
        provider: local.id,
    };
    assert_eq!((rejected(refused), events.len()), (last, 0));
    // A LOCAL account without a password's hash opens nothing, so it does not count; and it may go.
    let google = acting
        .auth_providers()
        .link(ada.id, account(Google, "g1"))
        .await
        .unwrap();
    raw.execute("UPDATE users SET password_hash = NULL").await.unwrap();
    let refused = acting.auth_providers().unlink(ada.id, google.id).await;
    let last = Rejected::LastCredential {
        user: ada.id,
        provider: google.id,
    };
    assert_eq!(rejected(refused), last);
    acting.auth_providers().unlink(ada.id, local.id).await.unwrap();
    let refused = acting.auth_providers().unlink(ada.id, google.id).await;
    assert!(matches!(rejected(refused), Rejected::LastCredential { .. }));
}

async fn two_unlinks_at_once_leave_one_credential(db: TestDb) {
    let ada = db.user("ada").await;
    let acting = db.acting(&ada);
    for number in 0..31 {
        let id = format!("g{number}");
        acting
            .auth_providers()
            .link(ada.id, account(Google, &id))
            .await
            .unwrap();
    }
    let all: Vec<AuthProviderId> = ways_in(&db.store, &ada).await.iter().map(|way| way.id).collect();
    assert_eq!(all.len(), 32);
    let tasks: Vec<_> = all
        .into_iter()
        .map(|id| {
            let acting = db.acting(&ada);
            tokio::spawn(async move { acting.auth_providers().unlink(ada.id, id).await })
        })
        .collect();
    let mut kept = 0;
    for task in tasks {
        match task.await.unwrap() {
            Ok(()) => {}
            Err(Error::Rejected(Rejected::LastCredential { .. })) => kept += 1,
            Err(error) => panic!("{error:?}"),
        }
    }
    assert_eq!((kept, ways_in(&db.store, &db.user("ben").await).await.len()), (1, 1));
    let left = db.store.users().require(ada.id).await.unwrap();
    let [way_in] = ways_in(&db.store, &left).await.try_into().unwrap();
    assert_eq!(left.password_hash.is_some(), way_in.provider_type == Local);
}

/// Waits until so many statements wait for a lock in this database.
pub async fn until_blocked(raw: &Raw, statements: i64) {
    let waiting =
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    while raw.number(waiting).await < statements {
        tokio::task::yield_now().await;
    }
}

async fn unlinks_that_waited_see_what_is_gone(db: TestDb) {
    let raw = db.raw().await;
    let ada = db.user("ada").await;
    db.acting(&ada)
        .auth_providers()
        .link(ada.id, account(Google, "g1"))
        .await
        .unwrap();
    let held = raw.db.begin().await.unwrap();
    held.execute_unprepared("SELECT id FROM users FOR UPDATE")
        .await
        .unwrap();
    let tasks: Vec<_> = ways_in(&db.store, &ada)
        .await
        .into_iter()
        .map(|way_in| {
            let acting = db.acting(&ada);
            tokio::spawn(async move { acting.auth_providers().unlink(ada.id, way_in.id).await })
        })
        .collect();
    // Both began when there were two ways in.
    until_blocked(&raw, 2).await;
    held.commit().await.unwrap();
    let mut done = 0;
    for task in tasks {
        match task.await.unwrap() {
            Ok(()) => done += 1,
            Err(Error::Rejected(Rejected::LastCredential { .. })) => {}
            Err(error) => panic!("{error:?}"),
        }
    }
    assert_eq!((done, ways_in(&db.store, &ada).await.len()), (1, 1));
}

async fn what_is_taken_while_waiting_is_refused(db: TestDb) {
    let raw = db.raw().await;
    let (ada, ben, cleo) = (db.user("ada").await, db.user("ben").await, db.user("cleo").await);
    let held = raw.db.begin().await.unwrap();
    for sql in [
        format!(
            "UPDATE users SET username = 'Wanted', email = 'wanted@example.org' WHERE id = '{}'",
            ben.id
        ),
        format!(
            "UPDATE auth_providers SET provider_type = 'GITHUB', provider_id = '41' WHERE user_id = '{}'",
            ben.id
        ),
    ] {
        held.execute_unprepared(&sql).await.unwrap();
    }
    let named = ProfileChange {
        username: Some("wanted"),
        ..ProfileChange::default()
    };
    let addressed = ProfileChange {
        email: EmailChange::To("wanted@example.org"),
        ..ProfileChange::default()
    };
    let (by_ada, by_cleo, anybody) = (db.acting(&ada), db.acting(&cleo), db.store.acting(&Actor::anonymous()));
    let name = tokio::spawn(async move { by_ada.users().change_profile(ada.id, named).await });
    let address = tokio::spawn(async move { by_cleo.users().change_profile(cleo.id, addressed).await });
    let linked = tokio::spawn(async move {
        anybody
            .users()
            .register_with_provider(profile("41", None, "dora"))
            .await
    });
    until_blocked(&raw, 3).await;
    held.commit().await.unwrap();
    assert_eq!(conflict(name.await.unwrap()), Conflict::UsernameTaken);
    assert_eq!(conflict(address.await.unwrap()), Conflict::EmailTaken);
    assert_eq!(conflict(linked.await.unwrap()), Conflict::ProviderAccountTaken);
    assert_eq!(raw.number("SELECT count(*) FROM users").await, 3);
    assert_eq!(actions(&raw).await, ["USER_REGISTERED"; 3]);
}

async fn a_seat_taken_while_waiting_is_closed(db: TestDb) {
    let raw = db.raw().await;
    let (ada, ben) = (db.user("ada").await, db.user("ben").await);
    let room = db.room(&ada, 5).await;
    let unit = db.store.begin(&Actor::system("test")).await.unwrap();
    for user in [&ada, &ben] {
        unit.participants().join(room.id, user.id, Participant).await.unwrap();
    }
    let (shut, erased) = (db.platform(), db.platform());
    let shut = tokio::spawn(async move { shut.users().deactivate(ada.id).await.map(|_| ()) });
    let erased = tokio::spawn(async move { erased.users().erase(ben.id).await.map(|_| ()) });
    if db.backend == Backend::Postgres {
        until_blocked(&raw, 2).await;
    }
    unit.commit().await.unwrap();
    shut.await.unwrap().unwrap();
    erased.await.unwrap().unwrap();
    let room = db.store.rooms().require(room.id).await.unwrap();
    assert_eq!(room.active_participants, 0);
    assert_eq!(
        raw.number("SELECT count(*) FROM room_participants WHERE left_at IS NULL")
            .await,
        0
    );
}

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
    db.platform().users().deactivate(ada.id).await.unwrap();
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
    let platform = db.platform();
    let raw = db.raw().await;
    let new = NewUser {
        username: "ada",
        email: Some("ada@example.org"),
        display_name: "Ada",
        password_hash: password_hash(),
    };
    let ada = platform.users().register(new).await.unwrap();
    // Whoever registered with this address first has not shown that it is theirs.
    let verified = profile("41", Some(Verified("ADA@example.org")), "ada2");
    let (refused, events) = appended(&raw, platform.users().sign_in_with_provider(verified)).await;
    assert_eq!((conflict(refused), events.len()), (Conflict::EmailTaken, 0));
    let done = platform.users().mark_verified(ada.id, "Ada@Example.org").await.unwrap();
    assert!(done.is_verified);
    // Nor has somebody at a provider that takes anybody's word for it.
    let unverified = profile("41", Some(Unverified("ada@example.org")), "ada2");
    let (refused, events) = appended(&raw, platform.users().sign_in_with_provider(unverified)).await;
    assert_eq!((conflict(refused), events.len()), (Conflict::EmailTaken, 0));

    let (linked, events) = appended(&raw, platform.users().sign_in_with_provider(verified)).await;
    let linked = linked.unwrap();
    assert_eq!(
        (linked.user.id, linked.how),
        (ada.id, SignedInHow::LinkedByVerifiedEmail)
    );
    assert_eq!(events, ["PROVIDER_LINKED", "USER_LOGIN_SUCCESS"]);
    // Once linked, the address no longer matters.
    let (again, events) = appended(&raw, platform.users().sign_in_with_provider(unverified)).await;
    let again = again.unwrap();
    assert_eq!(
        (again.user.id, again.provider, again.how),
        (ada.id, linked.provider, SignedInHow::SignedIn)
    );
    assert_eq!(events, ["USER_LOGIN_SUCCESS"]);
    assert!(again.user.last_login_at.is_some());

    let (fresh, events) = appended(&raw, platform.users().sign_in_with_provider(profile("50", None, "ben"))).await;
    assert_eq!(fresh.unwrap().how, SignedInHow::Registered);
    assert_eq!(events, ["USER_REGISTERED", "USER_LOGIN_SUCCESS"]);

    let taken = platform.users().sign_in_with_provider(profile("51", None, "BEN")).await;
    assert_eq!(conflict(taken), Conflict::UsernameTaken);
    platform.users().deactivate(ada.id).await.unwrap();
    for profile in [verified, profile("52", Some(Verified("ada@example.org")), "x")] {
        let refused = platform.users().sign_in_with_provider(profile).await;
        assert_eq!(rejected(refused), Rejected::UserInactive { user: ada.id });
    }
    // Only the platform has checked the provider's word.
    let refused = db.acting(&ada).users().sign_in_with_provider(verified).await;
    assert!(matches!(rejected(refused), Rejected::NotAllowed { .. }));
    assert_eq!(actions(&raw).await.last().unwrap(), "UNAUTHORIZED_ACCESS_ATTEMPT");
}

async fn signing_in_at_once_makes_one_user(db: TestDb) {
    // One person in 32 tabs, half of them through another account with the same verified address.
    let tasks: Vec<_> = (0..32)
        .map(|number| {
            let platform = db.platform();
            tokio::spawn(async move {
                let (id, name) = (format!("{}", number % 2), format!("ada{number}"));
                let email = Some(ProviderEmail::Verified("ada@example.org"));
                platform.users().sign_in_with_provider(profile(&id, email, &name)).await
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
    let platform = store.acting(&Actor::system("auth").from_address("203.0.113.7".parse().unwrap()));
    let way_in = found.providers[0].id;
    let (user, events) = appended(&raw, platform.users().record_login(ada.id, way_in)).await;
    let now = conferencing_store::clock::Clock::now(&*clock);
    assert_eq!(events, ["USER_LOGIN_SUCCESS"]);
    assert_eq!(user.unwrap().last_login_at, Some(now));
    assert_eq!(
        store.auth_providers().get(way_in).await.unwrap().unwrap().last_used_at,
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

    let of_ben = ways_in(&store, &db.user("ben").await).await.remove(0);
    let (refused, events) = appended(&raw, platform.users().record_login(ada.id, of_ben.id)).await;
    assert!(matches!(refused, Err(Error::NotFound(Subject::Provider(_)))) && events.is_empty());
    let (refused, events) = appended(
        &raw,
        store.acting(&Actor::user(ada.id)).users().record_login(ada.id, way_in),
    )
    .await;
    assert!(matches!(rejected(refused), Rejected::NotAllowed { .. }));
    assert_eq!(events, ["UNAUTHORIZED_ACCESS_ATTEMPT"]);
    platform.users().deactivate(ada.id).await.unwrap();
    let refused = platform.users().record_login(ada.id, way_in).await;
    assert_eq!(rejected(refused), Rejected::UserInactive { user: ada.id });
}

async fn failed_logins_go_to_the_trail_alone(db: TestDb) {
    let raw = db.raw().await;
    let ada = db.user("ada").await;
    let before = db.store.users().require(ada.id).await.unwrap();
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
    assert_eq!(db.store.users().require(ada.id).await.unwrap(), before);
}

async fn profiles_change(db: TestDb) {
    let raw = db.raw().await;
    let ada = db.user("ada").await;
    db.user("ben").await;
    let acting = db.acting(&ada);
    let to = |email| ProfileChange {
        email: EmailChange::To(email),
        ..ProfileChange::default()
    };
    let change = ProfileChange {
        username: Some("Countess"),
        display_name: Some("Ada L."),
        ..to("ada@example.org")
    };
    let (changed, events) = appended(&raw, acting.users().change_profile(ada.id, change)).await;
    let changed = changed.unwrap();
    assert_eq!(events, ["USER_PROFILE_CHANGED"]);
    assert_eq!(
        (
            changed.username.as_str(),
            changed.display_name.as_str(),
            changed.email.as_deref()
        ),
        ("Countess", "Ada L.", Some("ada@example.org"))
    );
    let AuditEvent::Change(Change::UserProfileChanged { fields, .. }) = last_event(&db).await else {
        panic!("another event");
    };
    assert_eq!(fields, ["username", "display_name", "email"]);
    // The local account's copy follows.
    assert_eq!(
        ways_in(&db.store, &ada).await[0].provider_email.as_deref(),
        Some("ada@example.org")
    );

    acting.users().mark_verified(ada.id, "ada@example.org").await.unwrap();
    let same = acting
        .users()
        .change_profile(ada.id, to("ADA@example.org"))
        .await
        .unwrap();
    assert!(same.is_verified);
    let other = acting
        .users()
        .change_profile(ada.id, to("ada@example.net"))
        .await
        .unwrap();
    assert!(!other.is_verified);
    let remove = ProfileChange {
        email: EmailChange::Remove,
        ..ProfileChange::default()
    };
    assert_eq!(acting.users().change_profile(ada.id, remove).await.unwrap().email, None);

    let named = |username| ProfileChange {
        username: Some(username),
        ..ProfileChange::default()
    };
    // One's own name in another case is free.
    acting.users().change_profile(ada.id, named("COUNTESS")).await.unwrap();
    let (refused, events) = appended(&raw, acting.users().change_profile(ada.id, named("BEN"))).await;
    assert_eq!((conflict(refused), events.len()), (Conflict::UsernameTaken, 0));
    for change in [
        ProfileChange::default(),
        named("deleted-1"),
        named("a b"),
        to("nonsense"),
    ] {
        assert!(matches!(
            acting.users().change_profile(ada.id, change).await,
            Err(Error::Invalid(_))
        ));
    }
}

async fn a_name_has_one_winner(db: TestDb) {
    let users = db.users("guest", 31).await;
    let mut tasks: Vec<_> = users
        .into_iter()
        .enumerate()
        .map(|(number, user)| {
            let acting = db.acting(&user);
            tokio::spawn(async move {
                let change = ProfileChange {
                    username: (number % 2 == 0).then_some("Wanted"),
                    email: if number % 2 == 0 {
                        EmailChange::Keep
                    } else {
                        EmailChange::To("wanted@example.org")
                    },
                    ..ProfileChange::default()
                };
                acting.users().change_profile(user.id, change).await.map(|_| ())
            })
        })
        .collect();
    let anonymous = db.store.acting(&Actor::anonymous());
    tasks.push(tokio::spawn(async move {
        let new = NewUser {
            username: "wanteD",
            email: Some("Wanted@example.org"),
            display_name: "Wanted",
            password_hash: password_hash(),
        };
        anonymous.users().register(new).await.map(|_| ())
    }));
    for task in tasks {
        match task.await.unwrap() {
            Ok(()) | Err(Error::Conflict(Conflict::UsernameTaken | Conflict::EmailTaken)) => {}
            Err(error) => panic!("{error:?}"),
        }
    }
    let raw = db.raw().await;
    assert_eq!(
        raw.number("SELECT count(*) FROM users WHERE lower(username) = 'wanted'")
            .await,
        1
    );
    assert_eq!(
        raw.number("SELECT count(*) FROM users WHERE lower(email) = 'wanted@example.org'")
            .await,
        1
    );
    let told = actions(&raw)
        .await
        .iter()
        .filter(|action| *action != "USER_REGISTERED")
        .count();
    let changed = "SELECT count(*) FROM users WHERE lower(username) = 'wanted' AND username <> 'wanteD'";
    let moved = "SELECT count(*) FROM users WHERE email = 'wanted@example.org'";
    let changes = raw.number(changed).await + raw.number(moved).await;
    assert_eq!(i64::try_from(told).unwrap(), changes);
}

async fn a_password_makes_a_local_account(db: TestDb) {
    let raw = db.raw().await;
    let anybody = db.store.acting(&Actor::anonymous());
    let ada = anybody
        .users()
        .register_with_provider(profile("41", None, "ada"))
        .await
        .unwrap();
    let acting = db.acting(&ada);
    let hash = Secret::new("$argon2id$v=19$m=19456,t=2,p=1$bmV3c2FsdA$bmV3aGFzaA");
    for _ in 0..2 {
        let (changed, events) = appended(&raw, acting.users().set_password_hash(ada.id, hash.clone())).await;
        assert_eq!(changed.unwrap().password_hash.as_ref(), Some(&hash));
        assert_eq!(events, ["USER_PASSWORD_CHANGED"]);
    }
    let kinds: Vec<AuthProviderType> = ways_in(&db.store, &ada)
        .await
        .iter()
        .map(|way| way.provider_type)
        .collect();
    assert_eq!(kinds, [GitHub, Local]);
    let (refused, events) = appended(
        &raw,
        acting.users().set_password_hash(ada.id, Secret::new("hunter2 hunter2")),
    )
    .await;
    let refused = refused.unwrap_err();
    assert!(matches!(refused, Error::Invalid(_)) && events.is_empty());
    assert!(!format!("{refused} {refused:?}").contains("hunter2"));
}

async fn an_address_is_verified_once_and_only_while_it_is_current(db: TestDb) {
    let raw = db.raw().await;
    let ada = db.user("ada").await;
    let acting = db.acting(&ada);
    let (refused, events) = appended(&raw, acting.users().mark_verified(ada.id, "ada@example.org")).await;
    assert_eq!(
        (rejected(refused), events.len()),
        (Rejected::EmailNotCurrent { user: ada.id }, 0)
    );
    let change = ProfileChange {
        email: EmailChange::To("ada@example.org"),
        ..ProfileChange::default()
    };
    acting.users().change_profile(ada.id, change).await.unwrap();
    let refused = acting.users().mark_verified(ada.id, "old@example.org").await;
    assert_eq!(rejected(refused), Rejected::EmailNotCurrent { user: ada.id });
    let (done, events) = appended(&raw, acting.users().mark_verified(ada.id, "ada@example.org")).await;
    assert!(done.unwrap().is_verified);
    assert_eq!(events, ["USER_VERIFIED"]);
    let (refused, events) = appended(&raw, acting.users().mark_verified(ada.id, "ada@example.org")).await;
    assert_eq!(
        (rejected(refused), events.len()),
        (Rejected::AlreadyVerified { user: ada.id }, 0)
    );
}

async fn deactivation_ends_stays(db: TestDb) {
    let raw = db.raw().await;
    let (ada, ben) = (db.user("ada").await, db.user("ben").await);
    let (store, clock) = db.with_manual_clock().await;
    let platform = store.acting(&Actor::system("test"));
    let mut rooms = Vec::new();
    for _ in 0..3 {
        let room = db.room(&ada, 5).await;
        for user in [&ada, &ben] {
            platform
                .participants()
                .join(room.id, user.id, Participant)
                .await
                .unwrap();
        }
        rooms.push(room);
    }
    platform.participants().leave(rooms[2].id, ben.id).await.unwrap();
    clock.advance(chrono::TimeDelta::seconds(90));
    let by_ben = store.acting(&Actor::user(ben.id));
    let (done, events) = appended(&raw, by_ben.users().deactivate(ben.id)).await;
    assert!(!done.unwrap().is_active);
    assert_eq!(events, ["USER_DEACTIVATED"]);
    let event = Change::UserDeactivated {
        target: ben.id,
        closed_stays: 2,
    };
    assert_eq!(last_event(&db).await, event.into());
    let page = PageRequest::first(10, Order::OldestFirst).unwrap();
    for room in &rooms[..2] {
        let stays = store.participants().list_stays(room.id, &page).await.unwrap();
        let stay = stays.items.iter().find(|stay| stay.user.id == ben.id).unwrap();
        assert_eq!(stay.participant.duration_seconds, Some(90));
        let room = store.rooms().require(room.id).await.unwrap();
        assert_eq!((room.active_participants, room.status), (1, RoomStatus::Live));
    }
    assert!(store.users().find_for_login("ben").await.unwrap().is_none());
    let (refused, events) = appended(&raw, platform.users().deactivate(ben.id)).await;
    assert_eq!(
        (rejected(refused), events.len()),
        (Rejected::UserInactive { user: ben.id }, 0)
    );

    // Who is deactivated does nothing, and so does not undo it.
    let refused = by_ben.users().reactivate(ben.id).await;
    assert_eq!(rejected(refused), Rejected::UserInactive { user: ben.id });
    let refused = by_ben.auth_providers().link(ben.id, account(Google, "g")).await;
    assert_eq!(rejected(refused), Rejected::UserInactive { user: ben.id });
    let (done, events) = appended(&raw, platform.users().reactivate(ben.id)).await;
    assert!(done.unwrap().is_active);
    assert_eq!(events, ["USER_REACTIVATED"]);
    let (refused, events) = appended(&raw, platform.users().reactivate(ben.id)).await;
    assert_eq!(
        (rejected(refused), events.len()),
        (Rejected::UserActive { user: ben.id }, 0)
    );
}

async fn deactivation_and_joins_at_once_leave_no_seat(db: TestDb) {
    let owner = db.user("owner").await;
    let guests = db.users("guest", 8).await;
    let mut rooms = Vec::new();
    for _ in 0..4 {
        rooms.push(db.room(&owner, 50).await);
    }
    for room in &rooms {
        db.seat(room, &owner).await;
    }
    let mut tasks = Vec::new();
    for (number, guest) in guests.iter().enumerate() {
        for shift in 0..4 {
            let (acting, user, room) = (db.acting(guest), guest.id, rooms[(number + shift) % 4].id);
            tasks.push(tokio::spawn(async move {
                match shift {
                    2 => acting.users().deactivate(user).await.map(|_| ()),
                    _ => acting.participants().join(room, user, Participant).await.map(|_| ()),
                }
            }));
        }
    }
    for task in tasks {
        match task.await.unwrap() {
            Ok(()) | Err(Error::Rejected(Rejected::UserInactive { .. })) => {}
            Err(error) => panic!("{error:?}"),
        }
    }
    let raw = db.raw().await;
    let present = "SELECT count(*) FROM room_participants p JOIN users u ON u.id = p.user_id WHERE p.left_at IS NULL AND NOT u.is_active";
    assert_eq!(raw.number(present).await, 0);
    assert_eq!(raw.number("SELECT count(*) FROM users WHERE NOT is_active").await, 8);
    for room in rooms {
        let room = db.store.rooms().require(room.id).await.unwrap();
        assert_eq!(room.active_participants, 1);
    }
}

async fn accounts_are_changed_by_their_users_and_the_platform(db: TestDb) {
    let raw = db.raw().await;
    let (ada, ben) = (db.user("ada").await, db.user("ben").await);
    let way_in = ways_in(&db.store, &ada).await[0].id;
    let change = ProfileChange {
        display_name: Some("X"),
        ..ProfileChange::default()
    };
    for actor in [Actor::user(ben.id), Actor::anonymous()] {
        let acting = db.store.acting(&actor);
        let before = actions(&raw).await.len();
        let (users, links) = (acting.users(), acting.auth_providers());
        let refusals = [
            rejected(users.change_profile(ada.id, change).await),
            rejected(users.set_password_hash(ada.id, password_hash()).await),
            rejected(users.mark_verified(ada.id, "ada@example.org").await),
            rejected(users.deactivate(ada.id).await),
            rejected(users.reactivate(ada.id).await),
            rejected(users.record_login(ada.id, way_in).await),
            rejected(links.link(ada.id, account(Google, "g")).await),
            rejected(links.unlink(ada.id, way_in).await),
        ];
        assert!(
            refusals.iter().all(|why| matches!(why, Rejected::NotAllowed { .. })),
            "{refusals:?}"
        );
        let noted = actions(&raw).await.split_off(before);
        assert_eq!(noted, ["UNAUTHORIZED_ACCESS_ATTEMPT"; 8]);
    }
    assert_eq!(db.store.users().require(ada.id).await.unwrap(), ada);
}

async fn hot_operations_are_one_statement(db: TestDb) {
    let ada = db.user("ada").await;
    let way_in = ways_in(&db.store, &ada).await[0].id;
    let wire = Wire::before(&db.url).await;
    let store = Store::connect(&wire.url).await.unwrap();
    let platform = store.acting(&Actor::system("test"));
    wire.executions();
    platform
        .users()
        .register_with_provider(profile("1", None, "ben"))
        .await
        .unwrap();
    assert_eq!(wire.executions(), ["execute"]);
    let link = platform
        .auth_providers()
        .link(ada.id, account(Google, "g"))
        .await
        .unwrap();
    assert_eq!(wire.executions(), ["execute"]);
    platform.users().record_login(ada.id, way_in).await.unwrap();
    assert_eq!(wire.executions(), ["execute"]);
    platform.auth_providers().unlink(ada.id, link.id).await.unwrap();
    assert_eq!(wire.executions(), ["execute"]);
    store.users().find_for_provider(GitHub, "1").await.unwrap().unwrap();
    assert_eq!(wire.executions(), ["execute"]);
}
