//! Faults on demand, as the caller and the metrics see them.

use conferencing_store::entity::{AuditAction, ParticipantRole, room, user};
use conferencing_store::{Actor, Error, Order, PageRequest, RoomFilter, TimeLimit};
use conferencing_testing::{Backend, Fault, Outcome, TestStore, event, on_both_backends};

/// A live room, and somebody who is not in it.
async fn scene(kit: &TestStore) -> (room::Model, user::Model) {
    let ada = kit.user("ada").await;
    (kit.room(&ada).live().await, kit.user("ben").await)
}

async fn join(kit: &TestStore, room: &room::Model, user: &user::Model) -> Result<(), Error> {
    let acting = kit.acting_as(user);
    let joined = acting
        .participants()
        .join(room.id, user.id, ParticipantRole::Participant)
        .await;
    joined.map(drop)
}

async fn is_in(kit: &TestStore, room: &room::Model) -> i32 {
    kit.store().rooms().get(room.id).await.unwrap().active_participants
}

on_both_backends! {
    async fn a_passing_fault_is_tried_again(kit: TestStore) {
        let (room, ben) = scene(&kit).await;
        let fault = kit.faults().fail_times(3, "participants.join", Fault::Transient);
        join(&kit, &room, &ben).await.unwrap();
        assert_eq!(fault.met(), 3);
        kit.faults().assert_all_met();
        kit.expect_events([event(AuditAction::UserJoined).by(&ben).about_nobody().in_room(&room)]).await;
    }

    async fn a_fault_that_stays_uses_up_the_tries(kit: TestStore) {
        let (room, ben) = scene(&kit).await;
        let fault = kit.faults().fail_always("participants.join", Fault::Transient);
        let error = join(&kit, &room, &ben).await.unwrap_err();
        assert!(matches!(error, Error::Transient { .. }), "{error:?}");
        assert_eq!(fault.met(), 8, "RetryPolicy::attempts");
        assert!(kit.faults().pending().is_empty(), "what is always is never awaited");
        kit.expect_no_events().await;
        // The builders do not fail.
        kit.seat(&room, &ben).await;
        kit.faults().clear();
        join(&kit, &room, &kit.user("eve").await).await.unwrap();
    }

    async fn an_operation_times_out_and_did_nothing(kit: TestStore) {
        let (room, ben) = scene(&kit).await;
        let fault = kit.faults().fail_next("participants.join", Fault::TimedOut);
        let error = join(&kit, &room, &ben).await.unwrap_err();
        let limit = TimeLimit::Statement;
        assert!(matches!(error, Error::TimedOut { during: "participants.join", limit: met } if met == limit), "{error:?}");
        assert_eq!((fault.met(), is_in(&kit, &room).await), (1, 0), "it is not tried again");
        join(&kit, &room, &ben).await.unwrap();
    }

    async fn nobody_knows_whether_it_took_effect(kit: TestStore) {
        let (room, ben) = scene(&kit).await;
        for (outcome, present) in [(Outcome::DidNothing, 0), (Outcome::TookEffect, 1)] {
            let fault = kit.faults().fail_next("participants.join", Fault::Indeterminate(outcome));
            let error = join(&kit, &room, &ben).await.unwrap_err();
            assert!(matches!(error, Error::Indeterminate { .. }), "{outcome:?}: {error:?}");
            assert_eq!((fault.met(), is_in(&kit, &room).await), (1, present), "{outcome:?}");
        }
        kit.expect_events([event(AuditAction::UserJoined).by(&ben)]).await;
    }

    async fn what_is_refused_leaves_no_doubt(kit: TestStore) {
        let (room, ben) = scene(&kit).await;
        kit.seat(&room, &ben).await;
        kit.faults().fail_next("participants.join", Fault::Indeterminate(Outcome::TookEffect));
        let refused = join(&kit, &room, &ben).await.unwrap_err();
        assert!(matches!(refused, Error::Rejected(_)), "{refused:?}");
        assert_eq!(kit.faults().pending().len(), 1, "it waits for one that takes effect");
    }

    async fn an_operation_of_two_statements_breaks_at_its_commit(kit: TestStore) {
        let (room, ben) = scene(&kit).await;
        kit.seat(&room, &ben).await;
        for (outcome, present) in [(Outcome::DidNothing, 1), (Outcome::TookEffect, 0)] {
            kit.faults().fail_next("rooms.end", Fault::Indeterminate(outcome));
            let error = kit.acting_as_system().rooms().end(room.id).await.unwrap_err();
            assert!(matches!(error, Error::Indeterminate { .. }), "{outcome:?}: {error:?}");
            assert_eq!(is_in(&kit, &room).await, present, "{outcome:?}");
        }
        kit.faults().assert_all_met();
    }

    async fn a_fault_within_a_unit_has_the_whole_done_again(kit: TestStore) {
        let (room, ben) = scene(&kit).await;
        let eve = kit.user("eve").await;
        // In a unit a connection that breaks has committed nothing.
        for fault in [Fault::Transient, Fault::Indeterminate(Outcome::TookEffect)] {
            let planned = kit.faults().fail_next("participants.join", fault);
            let runs = std::sync::atomic::AtomicU32::new(0);
            let (ben, eve, room, counted) = (ben.id, eve.id, room.id, &runs);
            kit.store()
                .transact(&Actor::system("test"), |unit| async move {
                    counted.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                    unit.participants().join(room, ben, ParticipantRole::Participant).await?;
                    unit.participants().join(room, eve, ParticipantRole::Participant).await?;
                    unit.participants().leave(room, ben).await?;
                    unit.participants().leave(room, eve).await
                })
                .await
                .unwrap();
            kit.advance(chrono::TimeDelta::seconds(1));
            assert_eq!((planned.met(), runs.into_inner()), (1, 2), "{fault:?}");
        }
    }

    async fn the_connection_drops_at_commit(kit: TestStore) {
        let (room, ben) = scene(&kit).await;
        for (outcome, present) in [(Outcome::DidNothing, 0), (Outcome::TookEffect, 1)] {
            let fault = kit.faults().drop_connection_at_commit(outcome);
            let (room_id, user) = (room.id, ben.id);
            let system = Actor::system("test");
 let work = kit.store().transact(&system, |unit| async move {
                unit.participants().join(room_id, user, ParticipantRole::Participant).await
            });
            let error = work.await.unwrap_err();
            assert!(matches!(error, Error::Indeterminate { during: "commit" }), "{outcome:?}: {error:?}");
            assert_eq!((fault.met(), is_in(&kit, &room).await), (1, present), "{outcome:?}");
        }
        kit.expect_events([event(AuditAction::UserJoined).about(&ben).by_system("test")]).await;
    }

    async fn a_unit_cannot_begin_or_fails_to_commit(kit: TestStore) {
        let (room, ben) = scene(&kit).await;
        for name in ["begin", "commit"] {
            let fault = kit.faults().fail_next(name, Fault::Transient);
            let runs = std::sync::atomic::AtomicU32::new(0);
            let (room_id, user, counted) = (room.id, ben.id, &runs);
            let system = Actor::system("test");
 let work = kit.store().transact(&system, |unit| async move {
                counted.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                unit.participants().join(room_id, user, ParticipantRole::Participant).await?;
                unit.participants().leave(room_id, user).await
            });
            work.await.unwrap();
            kit.advance(chrono::TimeDelta::seconds(1));
            let expected = if name == "begin" { 1 } else { 2 };
            assert_eq!((fault.met(), runs.into_inner()), (1, expected), "{name}");
        }
        // What stands alone has no unit of a caller's, on either backend.
        kit.faults().fail_next("commit", Fault::Transient);
        kit.faults().fail_next("begin", Fault::Transient);
        join(&kit, &room, &ben).await.unwrap();
        assert_eq!(kit.faults().pending().len(), 2);
    }

    async fn a_read_fails_as_a_read(kit: TestStore) {
        let (room, _) = scene(&kit).await;
        for fault in [Fault::Transient, Fault::Indeterminate(Outcome::DidNothing), Fault::Indeterminate(Outcome::TookEffect)] {
            kit.faults().fail_next("rooms.find", fault);
            let error = kit.store().rooms().get(room.id).await.unwrap_err();
            assert!(matches!(error, Error::Transient { .. }), "{fault:?}: {error:?}");
        }
        kit.faults().fail_next("rooms.list", Fault::TimedOut);
        let listed = kit.store().rooms().list(RoomFilter::LivePublic, &PageRequest::first(10, Order::NewestFirst).unwrap()).await;
        assert!(matches!(listed, Err(Error::TimedOut { .. })), "{listed:?}");
        kit.faults().assert_all_met();
    }

    async fn a_group_fails_as_one(kit: TestStore) {
        let (room, ben) = scene(&kit).await;
        let users = kit.users("guest", 8).await;
        let gate = kit.faults().hold_next("participants.join");
        let first = {
            let acting = kit.acting_as(&ben);
            let room = room.id;
            tokio::spawn(async move { acting.participants().join(room, ben.id, ParticipantRole::Participant).await })
        };
        gate.reached().await;
        // The others wait behind the first, and are then seated by one statement, or in one transaction.
        let fault = kit.faults().fail_next("participants.join", Fault::Indeterminate(Outcome::DidNothing));
        let mut waiting = tokio::task::JoinSet::new();
        for user in users {
            let (acting, room) = (kit.acting_as(&user), room.id);
            waiting.spawn(async move { acting.participants().join(room, user.id, ParticipantRole::Participant).await });
        }
        tokio::task::yield_now().await;
        gate.release();
        let mut all = waiting.join_all().await;
        all.push(first.await.unwrap());
        // On SQLite that may have been the commit of the first.
        let unknown = all.iter().filter(|joined| matches!(joined, Err(Error::Indeterminate { .. }))).count();
        let seated = all.iter().flatten().count();
        assert!(unknown >= 1 && seated + unknown == all.len(), "{all:?}");
        assert_eq!(fault.met(), 1);
        assert_eq!(is_in(&kit, &room).await, i32::try_from(seated).unwrap());
    }

    async fn faults_of_one_name_come_in_order(kit: TestStore) {
        let (room, ben) = scene(&kit).await;
        kit.faults().fail_next("participants.join", Fault::Transient);
        kit.faults().fail_next("participants.join", Fault::Slow(std::time::Duration::from_millis(1)));
        kit.faults().fail_next("participants.join", Fault::TimedOut);
        join(&kit, &room, &ben).await.unwrap();
        assert_eq!(kit.faults().pending(), ["participants.join: TimedOut, 1 times"]);
        let unmet = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| kit.faults().assert_all_met()));
        assert!(crate::said(&*unmet.unwrap_err()).contains("participants.join: TimedOut"));
    }

    async fn an_unknown_name_is_refused_with_those_that_there_are(kit: TestStore) {
        let asked = std::panic::AssertUnwindSafe(|| kit.faults().fail_next("participant.join", Fault::Transient));
        let said = crate::said(&*std::panic::catch_unwind(asked).unwrap_err());
        for name in ["\"participant.join\"", "\n  participants.join", "\n  rooms.find", "\n  begin", "\n  commit"] {
            assert!(said.contains(name), "{said}");
        }
        assert!(!said.contains("\n  doctor"), "what does not pass the hook is not offered: {said}");
    }
}

#[tokio::test(flavor = "current_thread")]
async fn the_metrics_tell_of_what_the_store_did_about_it() {
    let recorder = metrics_util::debugging::DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    recorder.install().unwrap();
    for kit in [TestStore::sqlite_file().await, TestStore::postgres().await] {
        let (room, ben) = scene(&kit).await;
        kit.faults().fail_times(2, "participants.join", Fault::Transient);
        snapshotter.snapshot();
        join(&kit, &room, &ben).await.unwrap();
        let told = snapshotter.snapshot().into_vec().into_iter().any(|(key, _, _, value)| {
            let key = key.key();
            let is_its = key.labels().any(|label| label.value() == "participants.join");
            let counted = matches!(value, metrics_util::debugging::DebugValue::Counter(2));
            key.name() == "store_retries_total" && is_its && counted
        });
        let backend: Backend = kit.backend();
        assert!(told, "{backend:?}");
    }
}
