//! The test that the README shows, and that it shows this one.

use conferencing_store::entity::{AuditAction, ParticipantRole};
use conferencing_testing::{Fault, TestStore, event};

#[tokio::test]
async fn a_guest_gets_in_although_the_database_stumbles() {
    let kit = TestStore::sqlite().await;
    let (ada, ben) = (kit.user("ada").await, kit.user("ben").await);
    let room = kit.room(&ada).seats(2).live().await;

    kit.faults().fail_next("participants.join", Fault::Transient);
    let joining = kit.acting_as(&ben);
    joining
        .participants()
        .join(room.id, ben.id, ParticipantRole::Participant)
        .await
        .unwrap();

    kit.faults().assert_all_met();
    kit.expect_events([event(AuditAction::UserJoined).by(&ben).in_room(&room)])
        .await;
}

#[test]
fn the_readme_shows_it() {
    let (readme, here) = (include_str!("../../../README.md"), include_str!("readme.rs"));
    let begin = here.find("use conferencing_store").unwrap();
    let end = here.find("\n\n#[test]").unwrap();
    assert!(readme.contains(&here[begin..end]), "the README shows another test");
}
