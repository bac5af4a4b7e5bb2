//! Guests: who is let in where no account is asked for, what they may not have, and what is left of them.

use std::time::Duration;

use chrono::TimeDelta;
use conferencing_store::entity::AuthProviderType::Google;
use conferencing_store::entity::ParticipantRole::Participant;
use conferencing_store::entity::{RoomId, RoomStatus, UserId, room, user};
use conferencing_store::{
    Actor, AuditEvent, AuditFilter, Change, EmailChange, Error, Invalid, LeaveReason, NewRoom, NewUser, Order,
    PageRequest, ProfileChange, Rejected, RoomChanges, Rule, SeatOrBan,
};

use crate::accounts_support::{account, until_blocked};
use crate::harness::{TestDb, password_hash, race};
use crate::hot_rooms_support::{assert_alike, events, hold, join, one_by_one, queued, soon, system, told};
use crate::recordings::new_recording;

crate::cases![
    a_guest_has_a_name_and_nothing_to_sign_in_with,
    a_guest_gets_no_account_by_any_way,
    guests_own_nothing,
    a_room_that_asks_for_an_account_refuses_guests,
    guests_in_a_queue_are_answered_as_if_they_were_alone,
    whoever_waits_for_the_room_hears_what_it_asks_for_by_then,
    guests_who_are_present_stay_when_accounts_are_asked_for,
    a_guest_is_kicked_and_banned_like_anybody,
    guests_who_were_not_seen_for_long_are_erased,
    sweepers_of_guests_share_the_work,
];

async fn guest(db: &TestDb, name: &str) -> user::Model {
    db.store
        .acting(&Actor::anonymous())
        .users()
        .admit_guest(name)
        .await
        .unwrap()
}

async fn open_room(db: &TestDb, owner: &user::Model) -> room::Model {
    let new = NewRoom {
        require_auth: false,
        ..NewRoom::titled(owner.id, "An open room")
    };
    db.system().rooms().create(new).await.unwrap()
}

fn require_auth(require: bool) -> RoomChanges<'static> {
    RoomChanges {
        require_auth: Some(require),
        ..RoomChanges::default()
    }
}

fn needs_account(user: UserId, room: Option<RoomId>) -> String {
    format!("{:?}", Error::Rejected(Rejected::AccountRequired { user, room }))
}

#[track_caller]
fn assert_needs_account<T: std::fmt::Debug>(outcome: Result<T, Error>, user: UserId, room: Option<RoomId>) {
    assert_eq!(format!("{:?}", outcome.unwrap_err()), needs_account(user, room));
}

async fn a_guest_has_a_name_and_nothing_to_sign_in_with(db: TestDb) {
    let from = Actor::anonymous().from_address([10, 0, 0, 9].into());
    let one = db.store.acting(&from).users().admit_guest(" Gia ").await.unwrap();
    let other = guest(&db, "Gia").await;
    assert_eq!(
        (one.display_name.as_str(), one.guest_since),
        ("Gia", Some(one.created_at))
    );
    assert_eq!(one.username, format!("guest-{}", one.id));
    assert!(one.is_guest() && one.is_active && one.email.is_none() && one.password_hash.is_none());
    assert_ne!(one.id, other.id);
    assert_eq!(db.system().users().get(one.id).await.unwrap(), one);
    assert!(db.system().auth_providers().list(one.id).await.unwrap().is_empty());
    assert!(
        db.system()
            .users()
            .find_for_login(&one.username)
            .await
            .unwrap()
            .is_none()
    );
    let page = PageRequest::first(100, Order::OldestFirst).unwrap();
    let log = db
        .system()
        .audit()
        .list(&AuditFilter::about(one.id), &page)
        .await
        .unwrap();
    let [entry] = log.items.as_slice() else {
        panic!("{log:?}");
    };
    assert_eq!(
        entry.event,
        AuditEvent::Change(Change::GuestAdmitted { target: one.id })
    );
    assert!(entry.address.is_some() && entry.actor.is_none());
    for name in ["", "  ", "a\u{7}b"] {
        let refused = db.system().users().admit_guest(name).await;
        assert!(
            matches!(
                refused,
                Err(Error::Invalid(Invalid {
                    field: "display_name",
                    ..
                }))
            ),
            "{refused:?}"
        );
    }
    // Nobody who registers is taken for a guest.
    for name in ["guest-1", "GUEST-one"] {
        let refused = db
            .system()
            .users()
            .register(NewUser::named(name, "x", password_hash()))
            .await;
        let Err(Error::Invalid(Invalid { rule, .. })) = refused else {
            panic!("{refused:?}");
        };
        assert_eq!(rule, Rule::Reserved("guest-"));
    }
}

async fn a_guest_gets_no_account_by_any_way(db: TestDb) {
    let gia = guest(&db, "Gia").await;
    let users = || db.system();
    assert_needs_account(
        users().users().set_password_hash(gia.id, password_hash()).await,
        gia.id,
        None,
    );
    for change in [
        ProfileChange {
            username: Some("gia"),
            ..ProfileChange::default()
        },
        ProfileChange {
            email: EmailChange::To("gia@example.org"),
            ..ProfileChange::default()
        },
    ] {
        assert_needs_account(users().users().update_profile(gia.id, change).await, gia.id, None);
    }
    assert_needs_account(
        users().auth_providers().link(gia.id, account(Google, "gia")).await,
        gia.id,
        None,
    );
    let verified = users().users().verify_email(gia.id, "gia@example.org").await;
    assert!(
        matches!(verified, Err(Error::Rejected(Rejected::EmailNotCurrent { .. }))),
        "{verified:?}"
    );
    assert_eq!(db.system().users().get(gia.id).await.unwrap(), gia);
    // Their own name they may change, as anybody.
    let change = ProfileChange {
        display_name: Some("Gia G."),
        ..ProfileChange::default()
    };
    let renamed = db.acting(&gia).users().update_profile(gia.id, change).await.unwrap();
    assert_eq!(
        (renamed.display_name.as_str(), renamed.guest_since),
        ("Gia G.", gia.guest_since)
    );
}

async fn guests_own_nothing(db: TestDb) {
    let (owner, gia) = (db.user("owner").await, guest(&db, "Gia").await);
    let room = open_room(&db, &owner).await;
    let created = db.acting(&gia).rooms().create(NewRoom::titled(gia.id, "Mine")).await;
    assert_needs_account(created, gia.id, None);
    assert_needs_account(db.acting(&owner).rooms().transfer(room.id, gia.id).await, gia.id, None);
    db.seat(&room, &gia).await;
    let recording = db
        .system()
        .recordings()
        .start(new_recording(room.id, gia.id, "key"))
        .await;
    assert_needs_account(recording, gia.id, None);
    assert_eq!(db.system().rooms().get(room.id).await.unwrap().owner_id, owner.id);
}

async fn a_room_that_asks_for_an_account_refuses_guests(db: TestDb) {
    let (owner, ada) = (db.user("owner").await, db.user("ada").await);
    let gia = guest(&db, "Gia").await;
    let (open, closed) = (open_room(&db, &owner).await, db.room(&owner, 10).await);
    // Before the meeting, when it runs, and by the system too.
    for live in [false, true] {
        for actor in [Actor::user(gia.id), system()] {
            let refused = join(&db.store, actor, closed.id, gia.id, Participant).await;
            assert_needs_account(refused, gia.id, Some(closed.id));
        }
        let status = db.system().rooms().get(closed.id).await.unwrap().status;
        assert_eq!(status, if live { RoomStatus::Live } else { RoomStatus::Created });
        if !live {
            db.seat(&closed, &owner).await;
        }
    }
    db.seat(&closed, &ada).await;
    db.seat(&open, &gia).await;
    db.seat(&open, &ada).await;
    // What else stands in the way is heard of as ever: an inactive guest is not let into an open room.
    let idle = guest(&db, "Idle").await;
    db.system().users().deactivate(idle.id).await.unwrap();
    for room in [&open, &closed] {
        let refused = db.system().participants().join(room.id, idle.id, Participant).await;
        assert!(
            matches!(refused, Err(Error::Rejected(Rejected::UserInactive { .. }))),
            "{refused:?}"
        );
    }
    db.raw().await.assert_invariants().await;
}

async fn guests_in_a_queue_are_answered_as_if_they_were_alone(db: TestDb) {
    let owner = db.user("owner").await;
    let people = db.users("user", 3).await;
    let guests = [
        guest(&db, "Gia").await,
        guest(&db, "Gil").await,
        guest(&db, "Gus").await,
    ];
    db.system().users().deactivate(guests[2].id).await.unwrap();
    let raw = db.raw().await;
    for open in [true, false] {
        let mut outcomes = Vec::new();
        for alone in [true, false] {
            let room = open_room(&db, &owner).await;
            db.system().rooms().start(room.id).await.unwrap();
            if !open {
                db.system().rooms().update(room.id, require_auth(true)).await.unwrap();
            }
            let of = |user: &user::Model| join(&db.store, Actor::user(user.id), room.id, user.id, Participant);
            let calls = vec![
                of(&people[0]),
                of(&guests[0]),
                of(&people[1]),
                of(&guests[2]),
                of(&guests[1]),
                of(&guests[0]),
                of(&people[2]),
            ];
            let given = match alone {
                true => one_by_one(calls).await,
                false => queued(&raw, room.id, calls).await,
            };
            let told: Vec<String> = given.iter().map(|outcome| told(room.id, outcome)).collect();
            outcomes.push((told, events(&db, room.id).await));
        }
        assert_alike(&outcomes[1].0, &outcomes[0].0);
        assert_alike(&outcomes[1].1, &outcomes[0].1);
        let seated = outcomes[1].0.iter().filter(|told| told.ends_with(" None")).count();
        assert_eq!(seated, if open { 5 } else { 3 }, "{:#?}", outcomes[1].0);
    }
    raw.assert_invariants().await;
}

/// The room begins to ask for an account while a guest waits for its lock.
async fn whoever_waits_for_the_room_hears_what_it_asks_for_by_then(db: TestDb) {
    let (owner, gia, raw) = (db.user("owner").await, guest(&db, "Gia").await, db.raw().await);
    let room = open_room(&db, &owner).await;
    db.system().rooms().start(room.id).await.unwrap();
    let held = hold(&raw, room.id).await;
    let sql = format!(
        "UPDATE rooms SET require_auth = (1 = 1) WHERE id = {}",
        raw.id(room.id.as_uuid())
    );
    sea_orm::ConnectionTrait::execute_unprepared(&held, &sql).await.unwrap();
    let call = tokio::spawn(join(&db.store, Actor::user(gia.id), room.id, gia.id, Participant));
    soon(async {
        if raw.backend() == sea_orm::DbBackend::Postgres {
            until_blocked(&raw, 1).await;
        }
        held.commit().await.unwrap();
        assert_needs_account(call.await.unwrap(), gia.id, Some(room.id));
    })
    .await;
    raw.assert_invariants().await;
}

async fn guests_who_are_present_stay_when_accounts_are_asked_for(db: TestDb) {
    let (owner, gia) = (db.user("owner").await, guest(&db, "Gia").await);
    let room = open_room(&db, &owner).await;
    let seat = db.seat(&room, &gia).await;
    db.acting(&owner)
        .rooms()
        .update(room.id, require_auth(true))
        .await
        .unwrap();
    let standing = db.system().participants().standing(room.id, gia.id).await.unwrap();
    assert!(matches!(standing, SeatOrBan::Seat(found) if found.id == seat.id));
    db.acting(&gia).participants().leave(room.id, gia.id).await.unwrap();
    let again = db.acting(&gia).participants().join(room.id, gia.id, Participant).await;
    assert_needs_account(again, gia.id, Some(room.id));
    db.acting(&owner)
        .rooms()
        .update(room.id, require_auth(false))
        .await
        .unwrap();
    db.acting(&gia)
        .participants()
        .join(room.id, gia.id, Participant)
        .await
        .unwrap();
}

async fn a_guest_is_kicked_and_banned_like_anybody(db: TestDb) {
    let (owner, gia, gil) = (db.user("owner").await, guest(&db, "Gia").await, guest(&db, "Gil").await);
    let room = open_room(&db, &owner).await;
    db.seat(&room, &owner).await;
    db.seat(&room, &gia).await;
    db.seat(&room, &gil).await;
    let by_owner = db.acting(&owner);
    // Their role is their seat's.
    by_owner.participants().promote(room.id, gil.id).await.unwrap();
    db.acting(&gil)
        .participants()
        .kick(room.id, gia.id, Some("noise"))
        .await
        .unwrap();
    db.seat(&room, &gia).await;
    by_owner.participants().ban(room.id, gia.id, None, None).await.unwrap();
    let again = db.acting(&gia).participants().join(room.id, gia.id, Participant).await;
    assert!(
        matches!(again, Err(Error::Rejected(Rejected::Banned { .. }))),
        "{again:?}"
    );
    db.raw().await.assert_invariants().await;
}

async fn guests_who_were_not_seen_for_long_are_erased(db: TestDb) {
    let (store, clock) = db.with_manual_clock().await;
    let system = store.acting(&system());
    let day = Duration::from_hours(24);
    let owner = db.user("owner").await;
    let room = open_room(&db, &owner).await;
    let mut guests = Vec::new();
    for name in ["never in", "present", "left long ago", "left lately", "banned"] {
        guests.push(system.users().admit_guest(name).await.unwrap().id);
    }
    for guest in &guests[1..] {
        system.participants().join(room.id, *guest, Participant).await.unwrap();
    }
    system.participants().leave(room.id, guests[2]).await.unwrap();
    system
        .participants()
        .ban(room.id, guests[4], Some("spam"), None)
        .await
        .unwrap();
    clock.advance(TimeDelta::hours(23));
    let fresh = system.users().admit_guest("fresh").await.unwrap().id;
    system.participants().leave(room.id, guests[3]).await.unwrap();
    assert_eq!(system.users().sweep_guests(day, 10).await.unwrap(), []);
    clock.advance(TimeDelta::hours(2));
    // Those first who came first, and no more than were asked for.
    assert_eq!(system.users().sweep_guests(day, 1).await.unwrap(), [guests[0]]);
    assert_eq!(
        system.users().sweep_guests(day, 10).await.unwrap(),
        [guests[2], guests[4]]
    );
    assert_eq!(system.users().sweep_guests(day, 10).await.unwrap(), []);
    for guest in [guests[0], guests[2], guests[4]] {
        let row = system.users().deleted().get(guest).await.unwrap();
        assert_eq!(row.username, format!("deleted-{guest}"));
        assert_eq!(row.display_name, "Deleted user");
        assert!(row.is_guest());
        // Whoever asks for the erasure gets the receipt of the sweep's.
        assert!(system.users().erase(guest).await.unwrap().already_erased);
    }
    for guest in [guests[1], guests[3], fresh, owner.id] {
        system.users().get(guest).await.unwrap();
    }
    let page = PageRequest::first(100, Order::OldestFirst).unwrap();
    let told = AuditFilter::about(guests[2]);
    let told = system.audit().list(&told, &page).await.unwrap().items;
    assert!(
        told.iter()
            .any(|entry| matches!(entry.event, AuditEvent::Change(Change::UserDeleted { .. })))
    );
    // The present one, once they have left; and whoever comes in at the last moment is put out.
    system.participants().leave(room.id, guests[1]).await.unwrap();
    clock.advance(TimeDelta::hours(25));
    let all = system.users().sweep_guests(day, 500).await.unwrap();
    assert_eq!(all.len(), 3);
    let erased = system.users().admit_guest("erased").await.unwrap().id;
    system.participants().join(room.id, erased, Participant).await.unwrap();
    system.users().erase(erased).await.unwrap();
    let of_room = system
        .audit()
        .list(&AuditFilter::of_room(room.id), &page)
        .await
        .unwrap()
        .items;
    assert!(of_room.iter().any(|entry| matches!(
        entry.event,
        AuditEvent::Change(Change::UserLeft {
            reason: LeaveReason::Erased,
            ..
        })
    )));
    for (idle, limit) in [(Duration::from_millis(999), 10), (day, 0), (day, 501)] {
        let refused = system.users().sweep_guests(idle, limit).await;
        assert!(matches!(refused, Err(Error::Invalid(_))), "{refused:?}");
    }
    let refused = db.acting(&owner).users().sweep_guests(day, 10).await;
    assert!(
        matches!(refused, Err(Error::Rejected(Rejected::NotAllowed { .. }))),
        "{refused:?}"
    );
    db.raw().await.assert_invariants().await;
}

async fn sweepers_of_guests_share_the_work(db: TestDb) {
    let (store, clock) = db.with_manual_clock().await;
    let system = store.acting(&system());
    for number in 0..24 {
        system.users().admit_guest(&format!("guest {number}")).await.unwrap();
    }
    clock.advance(TimeDelta::hours(2));
    let sweeps = (0..8).map(|_| {
        let system = store.acting(&Actor::system("sweeper"));
        async move { system.users().sweep_guests(Duration::from_hours(1), 24).await.unwrap() }
    });
    let mut erased: Vec<UserId> = race(sweeps).await.into_iter().flatten().collect();
    erased.sort();
    let number = erased.len();
    erased.dedup();
    assert_eq!((number, erased.len()), (24, 24));
    let raw = db.raw().await;
    assert_eq!(
        raw.number("SELECT count(*) FROM audit_logs WHERE action = 'USER_DELETED'")
            .await,
        24
    );
    raw.assert_invariants().await;
}
