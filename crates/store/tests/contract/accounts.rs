//! What becomes of an account: profile, password, verification, activation.

use conferencing_store::entity::AuthProviderType::{self, GitHub, Google, Local};
use conferencing_store::entity::ParticipantRole::Participant;
use conferencing_store::entity::{RoomStatus, Secret};
use conferencing_store::{
    Actor, AuditEvent, Change, Conflict, EmailChange, Error, NewUser, Order, PageRequest, ProfileChange, Rejected,
};

use crate::accounts_support::{
    account, actions, appended, conflict, last_event, profile, rejected, sign_in_methods, until_blocked,
};
use crate::harness::{Backend, TestDb, password_hash};

crate::cases![
    a_seat_taken_while_waiting_is_closed,
    profiles_change,
    a_name_has_one_winner,
    a_password_makes_a_local_account,
    an_address_is_verified_once_and_only_while_it_is_current,
    deactivation_ends_participations,
    deactivation_and_joins_at_once_leave_no_seat,
    accounts_are_changed_by_their_users_and_the_platform,
];

async fn a_seat_taken_while_waiting_is_closed(db: TestDb) {
    let raw = db.raw().await;
    let (ada, ben) = (db.user("ada").await, db.user("ben").await);
    let room = db.room(&ada, 5).await;
    let unit = db.store.begin(&Actor::system("test")).await.unwrap();
    for user in [&ada, &ben] {
        unit.participants().join(room.id, user.id, Participant).await.unwrap();
    }
    let (shut, erased) = (db.system(), db.system());
    let shut = tokio::spawn(async move { shut.users().deactivate(ada.id).await.map(|_| ()) });
    let erased = tokio::spawn(async move { erased.users().erase(ben.id).await.map(|_| ()) });
    if db.backend == Backend::Postgres {
        until_blocked(&raw, 2).await;
    }
    unit.commit().await.unwrap();
    shut.await.unwrap().unwrap();
    erased.await.unwrap().unwrap();
    let room = db.store.rooms().get(room.id).await.unwrap();
    assert_eq!(room.active_participants, 0);
    assert_eq!(
        raw.number("SELECT count(*) FROM room_participants WHERE left_at IS NULL")
            .await,
        0
    );
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
    let (changed, events) = appended(&raw, acting.users().update_profile(ada.id, change)).await;
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
        sign_in_methods(&db.store, &ada).await[0].provider_email.as_deref(),
        Some("ada@example.org")
    );

    acting.users().verify_email(ada.id, "ada@example.org").await.unwrap();
    let same = acting
        .users()
        .update_profile(ada.id, to("ADA@example.org"))
        .await
        .unwrap();
    assert!(same.is_verified);
    let other = acting
        .users()
        .update_profile(ada.id, to("ada@example.net"))
        .await
        .unwrap();
    assert!(!other.is_verified);
    let remove = ProfileChange {
        email: EmailChange::Remove,
        ..ProfileChange::default()
    };
    assert_eq!(acting.users().update_profile(ada.id, remove).await.unwrap().email, None);

    let named = |username| ProfileChange {
        username: Some(username),
        ..ProfileChange::default()
    };
    // One's own name in another case is free.
    acting.users().update_profile(ada.id, named("COUNTESS")).await.unwrap();
    let (refused, events) = appended(&raw, acting.users().update_profile(ada.id, named("BEN"))).await;
    assert_eq!((conflict(refused), events.len()), (Conflict::UsernameTaken, 0));
    for change in [
        ProfileChange::default(),
        named("deleted-1"),
        named("a b"),
        to("nonsense"),
    ] {
        assert!(matches!(
            acting.users().update_profile(ada.id, change).await,
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
                acting.users().update_profile(user.id, change).await.map(|_| ())
            })
        })
        .collect();
    let anonymous = db.store.acting(&Actor::anonymous());
    tasks.push(tokio::spawn(async move {
        let new = NewUser {
            email: Some("Wanted@example.org"),
            ..NewUser::named("wanteD", "Wanted", password_hash())
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
    let recorded = actions(&raw)
        .await
        .iter()
        .filter(|action| *action != "USER_REGISTERED")
        .count();
    let changed = "SELECT count(*) FROM users WHERE lower(username) = 'wanted' AND username <> 'wanteD'";
    let moved = "SELECT count(*) FROM users WHERE email = 'wanted@example.org'";
    let changes = raw.number(changed).await + raw.number(moved).await;
    assert_eq!(i64::try_from(recorded).unwrap(), changes);
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
    let kinds: Vec<AuthProviderType> = sign_in_methods(&db.store, &ada)
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
    let (refused, events) = appended(&raw, acting.users().verify_email(ada.id, "ada@example.org")).await;
    assert_eq!(
        (rejected(refused), events.len()),
        (Rejected::EmailNotCurrent { user: ada.id }, 0)
    );
    let change = ProfileChange {
        email: EmailChange::To("ada@example.org"),
        ..ProfileChange::default()
    };
    acting.users().update_profile(ada.id, change).await.unwrap();
    let refused = acting.users().verify_email(ada.id, "old@example.org").await;
    assert_eq!(rejected(refused), Rejected::EmailNotCurrent { user: ada.id });
    let (done, events) = appended(&raw, acting.users().verify_email(ada.id, "ada@example.org")).await;
    assert!(done.unwrap().is_verified);
    assert_eq!(events, ["USER_VERIFIED"]);
    let (refused, events) = appended(&raw, acting.users().verify_email(ada.id, "ada@example.org")).await;
    assert_eq!(
        (rejected(refused), events.len()),
        (Rejected::AlreadyVerified { user: ada.id }, 0)
    );
}

async fn deactivation_ends_participations(db: TestDb) {
    let raw = db.raw().await;
    let (ada, ben) = (db.user("ada").await, db.user("ben").await);
    let (store, clock) = db.with_manual_clock().await;
    let system = store.acting(&Actor::system("test"));
    let mut rooms = Vec::new();
    for _ in 0..3 {
        let room = db.room(&ada, 5).await;
        for user in [&ada, &ben] {
            system.participants().join(room.id, user.id, Participant).await.unwrap();
        }
        rooms.push(room);
    }
    system.participants().leave(rooms[2].id, ben.id).await.unwrap();
    clock.advance(chrono::TimeDelta::seconds(90));
    let by_ben = store.acting(&Actor::user(ben.id));
    let (done, events) = appended(&raw, by_ben.users().deactivate(ben.id)).await;
    assert!(!done.unwrap().is_active);
    assert_eq!(events, ["USER_LEFT", "USER_LEFT", "USER_DEACTIVATED"]);
    let event = Change::UserDeactivated {
        target: ben.id,
        ended_participations: 2,
    };
    assert_eq!(last_event(&db).await, event.into());
    let page = PageRequest::first(10, Order::OldestFirst).unwrap();
    for room in &rooms[..2] {
        let participations = store.participants().list_history(room.id, &page).await.unwrap();
        let participation = participations
            .items
            .iter()
            .find(|participation| participation.user.id == ben.id)
            .unwrap();
        assert_eq!(participation.participant.duration_seconds, Some(90));
        let room = store.rooms().get(room.id).await.unwrap();
        assert_eq!((room.active_participants, room.status), (1, RoomStatus::Live));
    }
    assert!(store.users().find_for_login("ben").await.unwrap().is_none());
    let (refused, events) = appended(&raw, system.users().deactivate(ben.id)).await;
    assert_eq!(
        (rejected(refused), events.len()),
        (Rejected::UserInactive { user: ben.id }, 0)
    );

    // Who is deactivated does nothing, and so does not undo it.
    let refused = by_ben.users().reactivate(ben.id).await;
    assert_eq!(rejected(refused), Rejected::UserInactive { user: ben.id });
    let refused = by_ben.auth_providers().link(ben.id, account(Google, "g")).await;
    assert_eq!(rejected(refused), Rejected::UserInactive { user: ben.id });
    let (done, events) = appended(&raw, system.users().reactivate(ben.id)).await;
    assert!(done.unwrap().is_active);
    assert_eq!(events, ["USER_REACTIVATED"]);
    let (refused, events) = appended(&raw, system.users().reactivate(ben.id)).await;
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
        let room = db.store.rooms().get(room.id).await.unwrap();
        assert_eq!(room.active_participants, 1);
    }
}

async fn accounts_are_changed_by_their_users_and_the_platform(db: TestDb) {
    let raw = db.raw().await;
    let (ada, ben) = (db.user("ada").await, db.user("ben").await);
    let way_in = sign_in_methods(&db.store, &ada).await[0].id;
    let change = ProfileChange {
        display_name: Some("X"),
        ..ProfileChange::default()
    };
    for actor in [Actor::user(ben.id), Actor::anonymous()] {
        let acting = db.store.acting(&actor);
        let before = actions(&raw).await.len();
        let (users, links) = (acting.users(), acting.auth_providers());
        let refusals = [
            rejected(users.update_profile(ada.id, change).await),
            rejected(users.set_password_hash(ada.id, password_hash()).await),
            rejected(users.verify_email(ada.id, "ada@example.org").await),
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
    assert_eq!(db.store.users().get(ada.id).await.unwrap(), ada);
}
