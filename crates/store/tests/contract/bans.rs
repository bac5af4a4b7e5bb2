//! Bans: put, run out, lifted, and what they keep out.

use chrono::TimeDelta;
use conferencing_store::entity::ParticipantRole::{CoHost, Participant};
use conferencing_store::{Actor, AuditFilter, Change, Error, Invalid, Order, PageRequest, Rejected, Rule};

use crate::harness::TestDb;

crate::cases![
    a_ban_ends_the_participation_it_stands_on,
    somebody_absent_can_be_banned_and_that_is_no_participation,
    a_banned_user_participations_out_until_the_ban_runs_out,
    a_ban_that_has_run_out_can_be_put_anew,
    a_lifted_ban_lets_them_in_again,
    host_owner_and_oneself_cannot_be_banned,
    co_hosts_ban_participants_and_absent_people_only,
    bans_and_joins_race_and_nobody_banned_is_in,
    bans_are_listed_while_they_stand,
];

fn page() -> PageRequest {
    PageRequest::first(100, Order::OldestFirst).unwrap()
}

async fn a_ban_ends_the_participation_it_stands_on(db: TestDb) {
    let (owner, guest) = (db.user("owner").await, db.user("guest").await);
    let room = db.room(&owner, 5).await;
    let seat = db.seat(&room, &guest).await;
    let ban = db
        .acting(&owner)
        .participants()
        .ban(room.id, guest.id, Some("spam"), None)
        .await
        .unwrap();
    assert_eq!((ban.id, ban.was_present, ban.until), (seat.id, true, None));
    let participations = db
        .store
        .participants()
        .list_history(room.id, &page())
        .await
        .unwrap()
        .items;
    let participation = &participations[0].participant;
    assert!(
        participations.len() == 1
            && participation.is_kicked
            && participation.is_banned
            && participation.left_at.is_some()
    );
    assert_eq!(
        (participation.banned_by, participation.kicked_by),
        (Some(owner.id), Some(owner.id))
    );
    let room = db.store.rooms().get(room.id).await.unwrap();
    assert_eq!((room.active_participants, room.total_joins), (0, 1));
    let audit_log = db
        .store
        .audit()
        .list(&AuditFilter::of_room(room.id), &page())
        .await
        .unwrap()
        .items;
    let banned = Change::UserBanned {
        target: guest.id,
        reason: Some("spam".to_owned()),
        expires_at: None,
        was_present: true,
        stay: Some(participation.id),
    };
    assert_eq!(audit_log.last().unwrap().event, banned.into());
    let again = db
        .acting(&owner)
        .participants()
        .ban(room.id, guest.id, None, None)
        .await;
    assert!(matches!(
        again,
        Err(Error::Rejected(Rejected::Banned { until: None, .. }))
    ));
}

async fn somebody_absent_can_be_banned_and_that_is_no_participation(db: TestDb) {
    let (owner, stranger) = (db.user("owner").await, db.user("stranger").await);
    let room = db.room(&owner, 5).await;
    let ban = db
        .acting(&owner)
        .participants()
        .ban(room.id, stranger.id, None, None)
        .await
        .unwrap();
    assert!(!ban.was_present);
    let join = db
        .acting(&stranger)
        .participants()
        .join(room.id, stranger.id, Participant)
        .await;
    assert!(matches!(join, Err(Error::Rejected(Rejected::Banned { .. }))));
    let sums = db.store.statistics().of_room(room.id).await.unwrap();
    assert_eq!(
        (sums.participations, sums.distinct_participants, sums.total_joins),
        (0, 0, 0)
    );
    let nobody = conferencing_store::entity::UserId::from_uuid(room.id.as_uuid());
    let unknown = db.acting(&owner).participants().ban(room.id, nobody, None, None).await;
    assert!(matches!(unknown, Err(Error::NotFound(_))));
}

async fn a_banned_user_participations_out_until_the_ban_runs_out(db: TestDb) {
    let (store, clock) = db.with_manual_clock().await;
    let (owner, guest) = (db.user("owner").await, db.user("guest").await);
    let room = db.room(&owner, 5).await;
    let system = store.acting(&Actor::system("test"));
    clock.advance(TimeDelta::minutes(1));
    let until = clock_now(&clock) + TimeDelta::minutes(10);
    system
        .participants()
        .ban(room.id, guest.id, None, Some(until))
        .await
        .unwrap();
    clock.advance(TimeDelta::minutes(10) - TimeDelta::microseconds(1));
    let early = system.participants().join(room.id, guest.id, Participant).await;
    assert!(matches!(early, Err(Error::Rejected(Rejected::Banned { until: Some(at), .. })) if at == until));
    clock.advance(TimeDelta::microseconds(1));
    system
        .participants()
        .join(room.id, guest.id, Participant)
        .await
        .unwrap();
    let audit_log = store
        .audit()
        .list(&AuditFilter::of_room(room.id), &page())
        .await
        .unwrap()
        .items;
    let events: Vec<String> = audit_log.iter().map(|entry| entry.event.action()).collect();
    assert_eq!(
        events,
        [
            "ROOM_CREATED",
            "USER_BANNED",
            "USER_UNBANNED",
            "ROOM_STARTED",
            "USER_JOINED"
        ]
    );
    let lifted = Change::UserUnbanned {
        target: guest.id,
        expired: true,
    };
    assert_eq!(audit_log[2].event, lifted.into());
}

fn clock_now(clock: &conferencing_store::clock::ManualClock) -> chrono::DateTime<chrono::Utc> {
    conferencing_store::clock::Clock::now(clock)
}

async fn a_ban_that_has_run_out_can_be_put_anew(db: TestDb) {
    let (store, clock) = db.with_manual_clock().await;
    let (owner, guest) = (db.user("owner").await, db.user("guest").await);
    let room = db.room(&owner, 5).await;
    let system = store.acting(&Actor::system("test"));
    let soon = clock_now(&clock) + TimeDelta::seconds(5);
    system
        .participants()
        .ban(room.id, guest.id, None, Some(soon))
        .await
        .unwrap();
    clock.advance(TimeDelta::seconds(5));
    system.participants().ban(room.id, guest.id, None, None).await.unwrap();
    let actor_role = db
        .raw()
        .await
        .number("SELECT count(*) FROM room_participants WHERE is_banned")
        .await;
    assert_eq!(actor_role, 1);
    let past = system.participants().ban(room.id, owner.id, None, Some(soon)).await;
    let expected = Invalid {
        field: "ban_expires_at",
        rule: Rule::After("now"),
    };
    assert!(matches!(past, Err(Error::Invalid(invalid)) if invalid == expected));
}

async fn a_lifted_ban_lets_them_in_again(db: TestDb) {
    let (owner, guest) = (db.user("owner").await, db.user("guest").await);
    let room = db.room(&owner, 5).await;
    let acting = db.acting(&owner);
    let none = acting.participants().unban(room.id, guest.id).await;
    assert!(matches!(none, Err(Error::Rejected(Rejected::NotBanned { .. }))));
    acting.participants().ban(room.id, guest.id, None, None).await.unwrap();
    let row = acting.participants().unban(room.id, guest.id).await.unwrap();
    assert!(!row.is_banned && row.banned_at.is_some());
    db.acting(&guest)
        .participants()
        .join(room.id, guest.id, Participant)
        .await
        .unwrap();
}

async fn host_owner_and_oneself_cannot_be_banned(db: TestDb) {
    let (owner, host) = (db.user("owner").await, db.user("host").await);
    let room = db.room(&owner, 5).await;
    db.seat(&room, &host).await;
    db.system()
        .participants()
        .hand_over_host(room.id, host.id)
        .await
        .unwrap();
    for target in [&owner, &host] {
        let refused = db.system().participants().ban(room.id, target.id, None, None).await;
        assert!(matches!(refused, Err(Error::Rejected(Rejected::Protected { user, .. })) if user == target.id));
    }
    let oneself = db.acting(&host).participants().ban(room.id, host.id, None, None).await;
    assert!(matches!(oneself, Err(Error::Rejected(Rejected::Protected { .. }))));
}

async fn co_hosts_ban_participants_and_absent_people_only(db: TestDb) {
    let owner = db.user("owner").await;
    let people = db.users("guest", 4).await;
    let room = db.room(&owner, 9).await;
    for helper in &people[..2] {
        db.system()
            .participants()
            .join(room.id, helper.id, CoHost)
            .await
            .unwrap();
    }
    db.seat(&room, &people[2]).await;
    let acting = db.acting(&people[0]);
    let refused = acting.participants().ban(room.id, people[1].id, None, None).await;
    assert!(matches!(refused, Err(Error::Rejected(Rejected::NotAllowed { .. }))));
    acting
        .participants()
        .ban(room.id, people[2].id, None, None)
        .await
        .unwrap();
    acting
        .participants()
        .ban(room.id, people[3].id, None, None)
        .await
        .unwrap();
    let attempts = "SELECT count(*) FROM audit_logs WHERE action = 'UNAUTHORIZED_ACCESS_ATTEMPT'";
    assert_eq!(db.raw().await.number(attempts).await, 1);
}

async fn bans_and_joins_race_and_nobody_banned_is_in(db: TestDb) {
    let owner = db.user("owner").await;
    let guests = db.users("guest", 8).await;
    let room = db.room(&owner, 100).await;
    let mut tasks = Vec::new();
    for guest in &guests {
        for turn in 0..5 {
            let (system, room, user) = (db.system(), room.id, guest.id);
            tasks.push(tokio::spawn(async move {
                let participants = system.participants();
                let done = match turn {
                    0 | 3 => participants.join(room, user, Participant).await.map(drop),
                    1 => participants.ban(room, user, None, None).await.map(drop),
                    2 => participants.leave(room, user).await.map(drop),
                    _ => participants.unban(room, user).await.map(drop),
                };
                match done {
                    Ok(()) | Err(Error::Rejected(_)) => {}
                    Err(error) => panic!("{error:?}"),
                }
            }));
        }
    }
    for task in tasks {
        task.await.unwrap();
    }
    let raw = db.raw().await;
    let both = "SELECT count(*) FROM room_participants a JOIN room_participants b
        ON a.user_id = b.user_id AND a.room_id = b.room_id AND a.left_at IS NULL AND b.is_banned";
    assert_eq!(raw.number(both).await, 0);
    let present = raw
        .number("SELECT count(*) FROM room_participants WHERE left_at IS NULL")
        .await;
    let room = db.store.rooms().get(room.id).await.unwrap();
    assert_eq!(i64::from(room.active_participants), present);
    let sums = db.store.statistics().of_room(room.id).await.unwrap();
    assert_eq!(i64::from(room.total_joins), sums.participations);
}

async fn bans_are_listed_while_they_stand(db: TestDb) {
    let (store, clock) = db.with_manual_clock().await;
    let owner = db.user("owner").await;
    let guests = db.users("guest", 3).await;
    let room = db.room(&owner, 5).await;
    let system = store.acting(&Actor::system("test"));
    let soon = clock_now(&clock) + TimeDelta::seconds(5);
    system
        .participants()
        .ban(room.id, guests[0].id, None, None)
        .await
        .unwrap();
    system
        .participants()
        .ban(room.id, guests[1].id, None, Some(soon))
        .await
        .unwrap();
    let names = |list: conferencing_store::Page<conferencing_store::participants::ParticipantWithUser>| -> Vec<String> {
        list.items.into_iter().map(|item| item.user.username).collect()
    };
    let actor_role = store.participants().list_bans(room.id, &page()).await.unwrap();
    assert_eq!(names(actor_role).len(), 2);
    clock.advance(TimeDelta::seconds(5));
    let actor_role = store.participants().list_bans(room.id, &page()).await.unwrap();
    assert_eq!(names(actor_role), ["guest0"]);
}
