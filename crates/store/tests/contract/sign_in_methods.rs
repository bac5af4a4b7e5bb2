//! Sign-in methods: accounts elsewhere, linked and unlinked.

use conferencing_store::entity::AuthProviderId;
use conferencing_store::entity::AuthProviderType::{GitHub, Google, Local};
use conferencing_store::{
    Actor, Change, Conflict, EmailChange, Error, Invalid, ProfileChange, ProviderAccount, ProviderEmail,
    ProviderProfile, Rejected, Rule, Subject,
};
use sea_orm::{ConnectionTrait, TransactionTrait};

use crate::accounts_support::{
    account, actions, appended, conflict, last_event, profile, rejected, sign_in_methods, until_blocked,
};
use crate::harness::{TestDb, password_hash};

crate::cases![
    a_user_from_a_provider_has_no_password,
    an_external_account_has_one_owner,
    a_taken_account_makes_no_user_whoever_races,
    links_are_added_and_taken_away,
    the_last_usable_credential_participations,
    two_unlinks_at_once_leave_one_credential,
    @Postgres unlinks_that_waited_see_what_is_gone,
    @Postgres what_is_taken_while_waiting_is_refused,
    a_links_metadata_is_kept,
    @Postgres a_password_set_while_the_local_account_goes_has_one_again,
];

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
    let [way_in] = sign_in_methods(&db.store, &ada).await.try_into().unwrap();
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
    // Somebody else's sign-in method is not found among one's own.
    let of_ben = sign_in_methods(&db.store, &ben).await.remove(0);
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
    let ben = db.store.users().get(ben.id).await.unwrap();
    assert!(ben.password_hash.is_none());
}

async fn the_last_usable_credential_participations(db: TestDb) {
    let raw = db.raw().await;
    let ada = db.user("ada").await;
    let acting = db.acting(&ada);
    let local = sign_in_methods(&db.store, &ada).await.remove(0);
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
    let all: Vec<AuthProviderId> = sign_in_methods(&db.store, &ada)
        .await
        .iter()
        .map(|way| way.id)
        .collect();
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
    assert_eq!(
        (kept, sign_in_methods(&db.store, &db.user("ben").await).await.len()),
        (1, 1)
    );
    let left = db.store.users().get(ada.id).await.unwrap();
    let [way_in] = sign_in_methods(&db.store, &left).await.try_into().unwrap();
    assert_eq!(left.password_hash.is_some(), way_in.provider_type == Local);
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
    let tasks: Vec<_> = sign_in_methods(&db.store, &ada)
        .await
        .into_iter()
        .map(|way_in| {
            let acting = db.acting(&ada);
            tokio::spawn(async move { acting.auth_providers().unlink(ada.id, way_in.id).await })
        })
        .collect();
    // Both began when there were two sign-in methods.
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
    assert_eq!((done, sign_in_methods(&db.store, &ada).await.len()), (1, 1));
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
    let name = tokio::spawn(async move { by_ada.users().update_profile(ada.id, named).await });
    let address = tokio::spawn(async move { by_cleo.users().update_profile(cleo.id, addressed).await });
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

async fn a_links_metadata_is_kept(db: TestDb) {
    let ada = db.user("ada").await;
    let acting = db.acting(&ada);
    let metadata = serde_json::json!({ "locale": "de", "nested": { "n": [1, null] } });
    let kept = ProviderAccount {
        metadata: Some(&metadata),
        ..account(Google, "1")
    };
    let link = acting.auth_providers().link(ada.id, kept).await.unwrap();
    assert_eq!(link.metadata, Some(metadata.clone()));
    let found = db.store.auth_providers().find(link.id).await.unwrap().unwrap();
    assert_eq!(found.metadata, Some(metadata.clone()));
    // `{"x": [[..]]}`, so many levels deep.
    let deep = |levels: usize| {
        let lists = (1..levels).fold(serde_json::json!(1), |inner, _| serde_json::json!([inner]));
        serde_json::json!({ "x": lists })
    };
    let nested = deep(64);
    let kept = ProviderAccount {
        metadata: Some(&nested),
        ..account(Google, "deep")
    };
    let link = acting.auth_providers().link(ada.id, kept).await.unwrap();
    let found = db.store.auth_providers().find(link.id).await.unwrap().unwrap();
    assert_eq!(found.metadata, Some(nested.clone()));
    for (bad, rule) in [
        (serde_json::json!(["a", "list"]), Rule::JsonObject),
        (serde_json::json!("text"), Rule::JsonObject),
        (serde_json::json!({ "nul": "a\0b" }), Rule::NoControlCharacters),
        (deep(65), Rule::MaxDepth(64)),
        (
            serde_json::json!({ "x": "x".repeat(16_384) }),
            Rule::MaxBytes {
                max: 16_384,
                actual: 16_392,
            },
        ),
    ] {
        let refused = ProviderAccount {
            metadata: Some(&bad),
            ..account(Google, "2")
        };
        let refused = acting.auth_providers().link(ada.id, refused).await;
        let expected = Invalid {
            field: "metadata",
            rule,
        };
        assert!(
            matches!(&refused, Err(Error::Invalid(invalid)) if *invalid == expected),
            "{refused:?}"
        );
    }
    assert_eq!(sign_in_methods(&db.store, &ada).await.len(), 3);
}

async fn a_password_set_while_the_local_account_goes_has_one_again(db: TestDb) {
    let raw = db.raw().await;
    let ada = db.user("ada").await;
    let acting = db.acting(&ada);
    acting
        .auth_providers()
        .link(ada.id, account(GitHub, "41"))
        .await
        .unwrap();
    let local = sign_in_methods(&db.store, &ada).await.remove(0);
    assert_eq!(local.provider_type, Local);
    let unit = db.store.begin(&Actor::user(ada.id)).await.unwrap();
    unit.auth_providers().unlink(ada.id, local.id).await.unwrap();
    let set = tokio::spawn(async move { acting.users().set_password_hash(ada.id, password_hash()).await });
    until_blocked(&raw, 1).await;
    unit.commit().await.unwrap();
    let ada = set.await.unwrap().unwrap();
    assert!(ada.password_hash.is_some());
    let kinds = sign_in_methods(&db.store, &ada).await;
    let kinds: Vec<_> = kinds.into_iter().map(|method| method.provider_type).collect();
    assert_eq!(kinds, [GitHub, Local]);
}
