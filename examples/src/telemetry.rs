//! What the example `telemetry` and the test of the dashboard share.

use std::time::Duration;

use conferencing_store::clock::{Ids, RandomIds};
use conferencing_store::entity::{ParticipantRole, Secret};
use conferencing_store::{
    Actor, Error, FeedFilter, NewRoom, NewUser, Observation, Order, PageRequest, Rejected, Store, WriterSettings,
    telemetry,
};
use futures_util::StreamExt;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};

use crate::Sentence;

/// The recorder of this process, with buckets from a millisecond to ten seconds.
///
/// # Errors
/// When there is one already.
pub fn recorder() -> Result<PrometheusHandle, Sentence> {
    let buckets = [
        0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
    ];
    let handle = PrometheusBuilder::new().set_buckets(&buckets)?.install_recorder()?;
    telemetry::describe();
    Ok(handle)
}

/// Follows the feed in the background, for as long as the store is open, and plays meetings until one is heard of.
///
/// # Errors
/// Those of the store.
pub async fn follow(store: &Store) -> Result<(), Sentence> {
    let mut events = Box::pin(store.feed().subscribe(FeedFilter::default(), None).await?);
    let (heard, mut hears) = tokio::sync::mpsc::channel(1);
    tokio::spawn(async move {
        while let Some(Ok(_)) = events.next().await {
            // Only the first is waited for.
            let _ = heard.try_send(());
        }
    });
    // Whoever follows from now on is served from a moment on that nobody else knows.
    for _ in 0..50 {
        play(store).await?;
        if tokio::time::timeout(Duration::from_millis(200), hears.recv())
            .await
            .is_ok()
        {
            return Ok(());
        }
    }
    Err(Sentence::new("nothing was heard of fifty meetings"))
}

/// A meeting with a full room, with observations through a writer.
///
/// # Errors
/// Those of the store.
pub async fn play(store: &Store) -> Result<(), Sentence> {
    // Names are unique for ever, so each run has its own.
    let tag = RandomIds::default().room_code().to_lowercase();
    let anonymous = store.acting(&Actor::anonymous());
    let mut users = Vec::new();
    for name in ["ada", "ben", "cleo"] {
        let hash = Secret::new("$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHQ$aGFzaGhhc2g");
        let username = format!("{name}-{tag}");
        let new = NewUser::named(&username, name, hash);
        users.push(anonymous.users().register(new).await?.id);
    }
    let ada = store.acting(&Actor::user(users[0]));
    let new = NewRoom {
        max_participants: 2,
        ..NewRoom::titled(users[0], "A room of two")
    };
    let room = ada.rooms().create(new).await?.id;
    let join = async |user, role| {
        store
            .acting(&Actor::user(user))
            .participants()
            .join(room, user, role)
            .await
    };
    join(users[0], ParticipantRole::Host).await?;
    join(users[1], ParticipantRole::Participant).await?;
    match join(users[2], ParticipantRole::Participant).await {
        Err(Error::Rejected(Rejected::RoomFull { .. })) => {}
        other => return Err(Sentence::new(format!("the room was not full: {other:?}"))),
    }
    let writer = store.audit_writer(WriterSettings::default())?;
    writer
        .append(&Actor::user(users[0]), Some(room), Observation::ScreenShareStarted {})
        .await?;
    writer.close().await;
    let page = PageRequest::first(10, Order::OldestFirst)?;
    store.participants().list_present(room, &page).await?;
    store
        .transact(
            &Actor::user(users[0]),
            |unit| async move { unit.rooms().end(room).await },
        )
        .await?;
    Ok(())
}
