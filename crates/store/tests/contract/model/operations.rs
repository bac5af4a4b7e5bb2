//! One random operation, how the store is asked for it, and its answer in one word.

use std::time::Duration;

use chrono::TimeDelta;
use conferencing_store::entity::ParticipantRole;
use conferencing_store::{Error, LeaveDetails, Order, PageRequest, RecordingMeasures, Rejected, RoomChanges, Store};
use rand::RngExt;
use rand::rngs::StdRng;

use super::actor;
use super::world::{NODES, World};
use crate::recordings::new_recording;

/// Nodes are never silent for so long: they are lost by being replaced.
const SILENCE: Duration = Duration::from_secs(24 * 60 * 60);

/// What is done. Users and rooms are places in the world's lists.
#[derive(Clone, Copy, Debug)]
pub enum What {
    Join(usize, ParticipantRole),
    Leave(usize),
    /// Their newest stay in the room, or their oldest.
    LeaveStay(usize, bool),
    Kick(usize),
    /// With an expiry so many seconds ahead, or for good.
    Ban(usize, Option<i64>),
    Unban(usize),
    Promote(usize),
    Demote(usize),
    HandOver(usize),
    Start,
    End,
    Cancel,
    Delete,
    Restore,
    Seats(i32),
    Transfer(usize),
    Deactivate(usize),
    Reactivate(usize),
    /// By the system for the room's owner.
    Record,
    /// The room's newest recording.
    StopRecording,
    /// On the node of this place.
    JoinOn(usize, ParticipantRole, usize),
    /// Their newest stay in the room, to this node.
    AssignNode(usize, usize),
    /// Only these are there, as bits.
    Reconcile(u8),
    /// The node is gone, and is there again as another.
    ReplaceNode(usize),
    SweepNodes,
    SweepEmpty,
}

/// By whom (none is the system), where, and what.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    pub who: Option<usize>,
    pub room: usize,
    pub what: What,
}

impl Step {
    pub fn random(random: &mut StdRng, users: usize, rooms: usize) -> Self {
        let user = random.random_range(0..users);
        let role = match random.random_range(0..6) {
            0 => ParticipantRole::Host,
            1 => ParticipantRole::CoHost,
            _ => ParticipantRole::Participant,
        };
        let node = random.random_range(0..NODES);
        let what = match random.random_range(0..145) {
            0..34 => What::Join(user, role),
            34..48 => What::Leave(user),
            48..56 => What::Kick(user),
            56..64 => What::Ban(user, random.random_bool(0.7).then(|| random.random_range(1..60))),
            64..69 => What::Unban(user),
            69..75 => What::Promote(user),
            75..79 => What::Demote(user),
            79..86 => What::HandOver(user),
            86..89 => What::Start,
            89 => What::End,
            90 => What::Cancel,
            91..93 => What::Delete,
            93..95 => What::Restore,
            95..98 => What::Seats(random.random_range(1..=4)),
            98..100 => What::Transfer(user),
            100..102 => What::Deactivate(user),
            102..106 => What::Reactivate(user),
            106..109 => What::Record,
            109..117 => What::LeaveStay(user, random.random_bool(0.5)),
            117..120 => What::StopRecording,
            120..130 => What::JoinOn(user, role, node),
            130..134 => What::AssignNode(user, node),
            134..137 => What::Reconcile(random.random()),
            137..140 => What::ReplaceNode(node),
            140..144 => What::SweepNodes,
            _ => What::SweepEmpty,
        };
        // Mostly by somebody who may: themself, or the system.
        let who = match (what, random.random_range(0..4)) {
            (What::Join(user, _) | What::JoinOn(user, ..) | What::Leave(user) | What::LeaveStay(user, _), 0..3) => {
                Some(user)
            }
            (_, 0)
            | (
                What::Deactivate(_)
                | What::Reactivate(_)
                | What::Record
                | What::StopRecording
                | What::AssignNode(..)
                | What::Reconcile(_)
                | What::ReplaceNode(_)
                | What::SweepNodes
                | What::SweepEmpty,
                _,
            ) => None,
            _ => Some(random.random_range(0..users)),
        };
        Self {
            who,
            room: random.random_range(0..rooms),
            what,
        }
    }

    pub async fn perform(self, store: &Store, world: &World) -> &'static str {
        let acting = store.acting(&actor(world, self.who));
        let (rooms, participants) = (acting.rooms(), acting.participants());
        let room = world.rooms[self.room].id;
        let user = |index: usize| world.users[index];
        let done = match self.what {
            What::Join(who, role) => participants.join(room, user(who), role).await.map(drop),
            What::JoinOn(who, role, node) => {
                let joined = participants.join_on(room, user(who), role, world.node(node)).await;
                joined.map(drop)
            }
            What::Leave(who) => participants.leave(room, user(who)).await.map(drop),
            What::LeaveStay(who, newest) => {
                let order = if newest { Order::NewestFirst } else { Order::OldestFirst };
                let all = PageRequest::first(500, order).unwrap();
                let stays = store.participants().list_history(room, &all).await.unwrap().items;
                match stays.iter().find(|stay| stay.user.id == user(who)) {
                    None => return "no stay",
                    Some(stay) => {
                        let left = participants
                            .leave_stay(stay.participant.id, LeaveDetails::default())
                            .await;
                        left.map(drop)
                    }
                }
            }
            What::Kick(who) => participants.kick(room, user(who), None).await.map(drop),
            What::Ban(who, seconds) => {
                let until = seconds.map(|seconds| world.now() + TimeDelta::seconds(seconds));
                participants.ban(room, user(who), None, until).await.map(drop)
            }
            What::Unban(who) => participants.unban(room, user(who)).await.map(drop),
            What::Promote(who) => participants.promote(room, user(who)).await.map(drop),
            What::Demote(who) => participants.demote(room, user(who)).await.map(drop),
            What::HandOver(who) => participants.hand_over_host(room, user(who)).await.map(drop),
            What::Start => rooms.start(room).await.map(drop),
            What::End => rooms.end(room).await.map(drop),
            What::Cancel => rooms.cancel(room).await.map(drop),
            What::Delete => rooms.delete(room).await.map(drop),
            What::Restore => acting.rooms().deleted().restore(room).await.map(drop),
            What::Seats(seats) => {
                let changes = RoomChanges {
                    max_participants: Some(seats),
                    ..RoomChanges::default()
                };
                rooms.update(room, changes).await.map(drop)
            }
            What::Transfer(who) => rooms.transfer(room, user(who)).await.map(drop),
            What::Deactivate(who) => acting.users().deactivate(user(who)).await.map(drop),
            What::Reactivate(who) => acting.users().reactivate(user(who)).await.map(drop),
            What::Record => {
                let owner = store.rooms().any().get(room).await.unwrap().owner_id;
                let key = world.next_key();
                acting
                    .recordings()
                    .start(new_recording(room, owner, &key))
                    .await
                    .map(drop)
            }
            What::AssignNode(who, node) => {
                let all = PageRequest::first(500, Order::NewestFirst).unwrap();
                let stays = store.participants().list_history(room, &all).await.unwrap().items;
                match stays.iter().find(|stay| stay.user.id == user(who)) {
                    None => return "no stay",
                    Some(stay) => {
                        let moved = participants.assign_node(stay.participant.id, world.node(node)).await;
                        moved.map(drop)
                    }
                }
            }
            What::Reconcile(bits) => {
                let there = (0..world.users.len()).filter(|place| bits & (1 << place) != 0);
                let there: Vec<_> = there.map(user).collect();
                let now = world.now();
                participants.reconcile(room, &there, now).await.map(drop)
            }
            What::ReplaceNode(node) => {
                let registered = acting.nodes().register(&world.node_name(node)).await;
                registered.map(|registered| world.replace_node(node, registered.id))
            }
            What::SweepNodes => loop {
                match acting.nodes().sweep_silent(SILENCE, 2).await {
                    Ok(sweep) if sweep.remaining => {}
                    swept => break swept.map(drop),
                }
            },
            What::SweepEmpty => acting.rooms().sweep_empty(500).await.map(drop),
            What::StopRecording => {
                let newest = PageRequest::first(1, Order::NewestFirst).unwrap();
                let found = store.recordings().list_of_room(room, &newest).await.unwrap().items;
                match found.first() {
                    None => return "no recording",
                    Some(found) => acting
                        .recordings()
                        .stop(found.id, RecordingMeasures::default())
                        .await
                        .map(drop),
                }
            }
        };
        word(&done)
    }
}

fn word(done: &Result<(), Error>) -> &'static str {
    let Err(error) = done else {
        return "done";
    };
    match error {
        Error::NotFound(_) => "not found",
        Error::Rejected(rejected) => match rejected {
            Rejected::RoomStatus { .. } => "room status",
            Rejected::RoomFull { .. } => "room full",
            Rejected::AlreadyPresent { .. } => "already present",
            Rejected::Banned { .. } => "banned",
            Rejected::NotPresent { .. } => "not present",
            Rejected::HostSeat { .. } => "host seat",
            Rejected::NotAllowed { .. } => "not allowed",
            Rejected::Protected { .. } => "protected",
            Rejected::AlreadyRole { .. } => "already role",
            Rejected::AlreadyOwner { .. } => "already owner",
            Rejected::NotBanned { .. } => "not banned",
            Rejected::CapacityInUse { .. } => "capacity in use",
            Rejected::UserInactive { .. } => "inactive",
            Rejected::UserActive { .. } => "active",
            Rejected::RecordingStatus { .. } => "recording status",
            Rejected::NodeLost { .. } => "node lost",
            other => Box::leak(format!("unexpected {other:?}").into_boxed_str()),
        },
        other => Box::leak(format!("unexpected {other:?}").into_boxed_str()),
    }
}
