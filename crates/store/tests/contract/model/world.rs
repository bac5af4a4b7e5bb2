//! The model: users, rooms, seats and bans in plain maps, and the rules as the documentation has them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use chrono::{DateTime, TimeDelta, Utc};
use conferencing_store::authority::{ActorRole, Operation, may};
use conferencing_store::clock::{Clock, SystemClock};
use conferencing_store::entity::ParticipantRole::{self, CoHost, Host, Participant};
use conferencing_store::entity::RoomStatus::{self, Cancelled, Created, Ended, Live};
use conferencing_store::entity::{MediaNodeId, RoomId, UserId};
use conferencing_store::{AuditFilter, Order, PageRequest, Store};

use super::operations::{Step, What};
use crate::harness::TestDb;

/// How many media nodes there are.
pub const NODES: usize = 2;

pub struct World {
    pub users: Vec<UserId>,
    pub rooms: Vec<Room>,
    inactive: BTreeSet<usize>,
    name: String,
    keys: AtomicUsize,
    /// The nodes in service.
    nodes: Mutex<Vec<MediaNodeId>>,
    /// How often each was replaced.
    replaced: [u32; NODES],
    /// The time of the step that was last expected, where steps are.
    at: Option<DateTime<Utc>>,
}

pub struct Room {
    pub id: RoomId,
    owner: usize,
    status: RoomStatus,
    deleted: bool,
    seats: i32,
    present: BTreeMap<usize, ParticipantRole>,
    /// By which node, and after how many replacements of it, some of those present are served.
    served: BTreeMap<usize, (usize, u32)>,
    /// How many rows each has, bans while absent included.
    rows: BTreeMap<usize, usize>,
    bans: BTreeMap<usize, Option<DateTime<Utc>>>,
    joins: i32,
    peak: i32,
    events: usize,
    /// Each recording in order, and whether it runs.
    recordings: Vec<bool>,
}

impl World {
    /// Users, and rooms of three seats, in the store and in the model.
    pub async fn new(db: &TestDb, name: &str, users: usize, rooms: usize) -> Self {
        let users = db.users(name, users).await;
        let mut made = Vec::new();
        for (owner, user) in users.iter().enumerate().take(rooms) {
            let room = db.room(user, 3).await;
            made.push(Room {
                id: room.id,
                owner,
                status: Created,
                deleted: false,
                seats: 3,
                present: BTreeMap::new(),
                served: BTreeMap::new(),
                rows: BTreeMap::new(),
                bans: BTreeMap::new(),
                joins: 0,
                peak: 0,
                events: 1,
                recordings: Vec::new(),
            });
        }
        let mut nodes = Vec::new();
        for node in 0..NODES {
            let registered = db.system().nodes().register(&format!("{name}-node{node}")).await;
            nodes.push(registered.unwrap().id);
        }
        Self {
            users: users.into_iter().map(|user| user.id).collect(),
            rooms: made,
            inactive: BTreeSet::new(),
            name: name.to_owned(),
            keys: AtomicUsize::new(0),
            nodes: Mutex::new(nodes),
            replaced: [0; NODES],
            at: None,
        }
    }

    /// The present, by the clock that the case moves or by the machine's.
    pub fn now(&self) -> DateTime<Utc> {
        self.at.unwrap_or_else(|| SystemClock.now())
    }

    /// A storage key that nobody has used.
    pub fn next_key(&self) -> String {
        format!("{}-{}", self.name, self.keys.fetch_add(1, Ordering::Relaxed))
    }

    /// The node of this place that is in service.
    pub fn node(&self, place: usize) -> MediaNodeId {
        self.nodes.lock().unwrap()[place]
    }

    /// What that is called.
    pub fn node_name(&self, place: usize) -> String {
        format!("{}-node{place}", self.name)
    }

    /// Another one is in service now.
    pub fn replace_node(&self, place: usize, node: MediaNodeId) {
        self.nodes.lock().unwrap()[place] = node;
    }

    /// Closes the seats of nodes that were replaced.
    fn sweep_nodes(&mut self) {
        for room in &mut self.rooms {
            let lost = room
                .served
                .iter()
                .filter(|(_, (node, when))| self.replaced[*node] > *when);
            let lost: Vec<usize> = lost.map(|(user, _)| *user).collect();
            for user in lost {
                room.served.remove(&user);
                room.events += usize::from(room.present.remove(&user).is_some());
            }
        }
    }

    /// Ends the rooms that nobody is in.
    fn sweep_empty(&mut self) {
        for room in &mut self.rooms {
            if room.status == Live && room.present.is_empty() {
                room.status = Ended;
                room.events += 1 + room.stop_recordings();
            }
        }
    }

    fn deactivate(&mut self, user: usize) -> &'static str {
        if !self.inactive.insert(user) {
            return "inactive";
        }
        for room in &mut self.rooms {
            room.events += usize::from(room.present.remove(&user).is_some());
        }
        "done"
    }

    /// What the store must answer, and what must have changed after it.
    pub fn expect(&mut self, step: Step, now: DateTime<Utc>) -> &'static str {
        self.at = Some(now);
        match step.what {
            What::Deactivate(user) => return self.deactivate(user),
            What::Reactivate(user) => return if self.inactive.remove(&user) { "done" } else { "active" },
            What::ReplaceNode(node) => {
                self.replaced[node] += 1;
                return "done";
            }
            What::SweepNodes => {
                self.sweep_nodes();
                return "done";
            }
            What::SweepEmpty => {
                self.sweep_empty();
                return "done";
            }
            _ => {}
        }
        let room = &mut self.rooms[step.room];
        let answer = room.apply(step.who, step.what, now, &self.inactive);
        match (step.what, &answer) {
            (What::Join(user, _), Ok(_)) => drop(room.served.remove(&user)),
            (What::JoinOn(user, _, node), Ok(_)) => drop(room.served.insert(user, (node, self.replaced[node]))),
            (What::AssignNode(user, node), Ok(_)) if room.present.contains_key(&user) => {
                room.served.insert(user, (node, self.replaced[node]));
            }
            _ => {}
        }
        match answer {
            Ok(events) => {
                room.events += events;
                "done"
            }
            Err(refusal) => {
                room.events += usize::from(refusal == "not allowed");
                refusal
            }
        }
    }

    /// The store holds what the model holds.
    pub async fn compare(&self, store: &Store, seed: u64) {
        for room in &self.rooms {
            let row = store.rooms().any().get(room.id).await.unwrap();
            let held = (row.status, row.deleted_at.is_some(), row.max_participants, row.owner_id);
            let expected = (room.status, room.deleted, room.seats, self.users[room.owner]);
            assert_eq!(held, expected, "MODEL_SEED={seed}");
            let counters = (row.active_participants, row.total_joins, row.peak_participants);
            assert_eq!(counters, (room.active(), room.joins, room.peak), "MODEL_SEED={seed}");
            let page = PageRequest::first(100, Order::OldestFirst).unwrap();
            let present = store.participants().list_present(room.id, &page).await.unwrap();
            let held: BTreeMap<UserId, (ParticipantRole, bool)> = present
                .items
                .into_iter()
                .map(|item| item.participant)
                .map(|seat| (seat.user_id, (seat.role, seat.node_id.is_some())))
                .collect();
            let expected = room
                .present
                .iter()
                .map(|(user, role)| (self.users[*user], (*role, room.served.contains_key(user))))
                .collect();
            assert_eq!(held, expected, "MODEL_SEED={seed}");
            let mut events = 0;
            let mut request = PageRequest::first(500, Order::NewestFirst).unwrap();
            loop {
                let page = store
                    .audit()
                    .list(&AuditFilter::of_room(room.id), &request)
                    .await
                    .unwrap();
                events += page.items.len();
                let Some(cursor) = page.next else { break };
                request = PageRequest::first(500, Order::NewestFirst).unwrap().after(cursor);
            }
            assert_eq!(events, room.events, "MODEL_SEED={seed}");
        }
    }
}

type Answer = Result<usize, &'static str>;

impl Room {
    fn active(&self) -> i32 {
        i32::try_from(self.present.len()).unwrap()
    }

    fn actor_role(&self, who: Option<usize>) -> ActorRole {
        match who {
            None => ActorRole::System,
            Some(user) if user == self.owner => ActorRole::Owner,
            Some(user) => self
                .present
                .get(&user)
                .map_or(ActorRole::Outsider, |role| (*role).into()),
        }
    }

    fn ban_stands(&self, user: usize, now: DateTime<Utc>) -> bool {
        self.bans
            .get(&user)
            .is_some_and(|until| until.is_none_or(|until| until > now))
    }

    fn allowed(&self, operation: Operation, who: Option<usize>) -> Result<(), &'static str> {
        if self.deleted {
            return Err("not found");
        }
        may(operation, self.actor_role(who), None)
            .then_some(())
            .ok_or("not allowed")
    }

    /// Changes the model and says how many events that makes, or why not.
    fn apply(&mut self, who: Option<usize>, what: What, now: DateTime<Utc>, inactive: &BTreeSet<usize>) -> Answer {
        match what {
            What::Join(user, _) | What::JoinOn(user, ..)
                if inactive.contains(&user) && !self.deleted && who.is_none_or(|actor| actor == user) =>
            {
                Err("inactive")
            }
            What::Join(user, role) | What::JoinOn(user, role, _) => self.join(who, user, role, now),
            What::AssignNode(user, _) => self.rows.get(&user).map(|_| 0).ok_or("no stay"),
            What::Reconcile(bits) => {
                if self.deleted {
                    return Err("not found");
                }
                let before = self.present.len();
                self.present.retain(|user, _| bits & (1 << user) != 0);
                Ok(before - self.present.len())
            }
            What::Leave(user) => self.leave(who, user),
            What::LeaveStay(user, newest) => self.leave_stay(who, user, newest),
            What::Kick(user) => self.kick(who, user),
            What::Ban(user, seconds) => self.ban(who, user, seconds.map(|s| now + TimeDelta::seconds(s)), now),
            What::Unban(user) => {
                self.allowed(Operation::Unban, who)?;
                self.bans.remove(&user).map(|_| 1).ok_or("not banned")
            }
            What::Promote(user) => self.change_role(who, user, CoHost),
            What::Demote(user) => self.change_role(who, user, Participant),
            What::HandOver(user) => self.hand_over(who, user),
            What::Start => self.change_status(Operation::StartRoom, who, Created, Live),
            What::Cancel => self.change_status(Operation::ManageRoom, who, Created, Cancelled),
            What::End => {
                let done = self.change_status(Operation::EndRoom, who, Live, Ended)?;
                let ended = std::mem::take(&mut self.present).len();
                Ok(done + ended + self.stop_recordings())
            }
            What::Delete => {
                self.allowed(Operation::ManageRoom, who)?;
                if self.status == Live {
                    return Err("room status");
                }
                self.deleted = true;
                Ok(1)
            }
            What::Restore => {
                if !self.deleted {
                    return Err("not found");
                }
                if who.is_some_and(|user| user != self.owner) {
                    return Err("not allowed");
                }
                self.deleted = false;
                Ok(1)
            }
            What::Seats(seats) => {
                self.allowed(Operation::ManageRoom, who)?;
                if !matches!(self.status, Created | Live) {
                    return Err("room status");
                }
                if seats < self.active() {
                    return Err("capacity in use");
                }
                self.seats = seats;
                Ok(1)
            }
            What::Transfer(user) => {
                self.allowed(Operation::TransferRoom, who)?;
                if inactive.contains(&user) {
                    return Err("inactive");
                }
                if user == self.owner {
                    return Err("already owner");
                }
                self.owner = user;
                Ok(1)
            }
            What::Record => {
                self.allowed(Operation::Record, who)?;
                if inactive.contains(&self.owner) {
                    return Err("inactive");
                }
                if self.status != Live {
                    return Err("room status");
                }
                self.recordings.push(true);
                Ok(1)
            }
            What::StopRecording => {
                let running = self.recordings.last_mut().ok_or("no recording")?;
                if !std::mem::take(running) {
                    return Err("recording status");
                }
                Ok(1)
            }
            What::Deactivate(_) | What::Reactivate(_) | What::ReplaceNode(_) | What::SweepNodes | What::SweepEmpty => {
                unreachable!("the world does these")
            }
        }
    }

    fn stop_recordings(&mut self) -> usize {
        let running = self.recordings.iter_mut().filter(|running| **running);
        running.map(|running| *running = false).count()
    }

    fn join(&mut self, who: Option<usize>, user: usize, role: ParticipantRole, now: DateTime<Utc>) -> Answer {
        if who.is_some_and(|actor| actor != user) {
            return Err("not allowed");
        }
        if self.deleted {
            return Err("not found");
        }
        if !matches!(self.status, Created | Live) {
            return Err("room status");
        }
        if self.present.contains_key(&user) {
            return Err("already present");
        }
        if self.ban_stands(user, now) {
            return Err("banned");
        }
        if role == Host && user != self.owner {
            return Err("host seat");
        }
        if self.active() >= self.seats {
            return Err("room full");
        }
        let lifted = usize::from(self.bans.remove(&user).is_some());
        let started = usize::from(self.status == Created);
        self.status = Live;
        let has_host = self.present.values().any(|role| *role == Host);
        let role = match (user == self.owner, has_host) {
            (true, false) => Host,
            (true, true) => CoHost,
            (false, _) => role,
        };
        self.present.insert(user, role);
        *self.rows.entry(user).or_default() += 1;
        self.joins += 1;
        self.peak = self.peak.max(self.active());
        Ok(1 + lifted + started)
    }

    fn leave(&mut self, who: Option<usize>, user: usize) -> Answer {
        if who.is_some_and(|actor| actor != user) {
            return Err("not allowed");
        }
        if self.deleted {
            return Err("not found");
        }
        self.present.remove(&user).map(|_| 1).ok_or("not present")
    }

    fn leave_stay(&mut self, who: Option<usize>, user: usize, newest: bool) -> Answer {
        let rows = *self.rows.get(&user).ok_or("no stay")?;
        if who.is_some_and(|actor| actor != user) {
            return Err("not allowed");
        }
        // An older one is over, and stays so.
        let goes_on = newest || rows == 1;
        Ok(usize::from(goes_on && self.present.remove(&user).is_some()))
    }

    fn kick(&mut self, who: Option<usize>, user: usize) -> Answer {
        if who == Some(user) {
            return Err("protected");
        }
        if self.deleted {
            return Err("not found");
        }
        let actor_role = self.actor_role(who);
        if !may(Operation::Kick, actor_role, Some(Participant)) {
            return Err("not allowed");
        }
        let role = *self.present.get(&user).ok_or("not present")?;
        if role == Host || user == self.owner {
            return Err("protected");
        }
        if !may(Operation::Kick, actor_role, Some(role)) {
            return Err("not allowed");
        }
        self.present.remove(&user);
        Ok(1)
    }

    fn ban(&mut self, who: Option<usize>, user: usize, until: Option<DateTime<Utc>>, now: DateTime<Utc>) -> Answer {
        if who == Some(user) {
            return Err("protected");
        }
        if self.deleted {
            return Err("not found");
        }
        let actor_role = self.actor_role(who);
        if !may(Operation::Ban, actor_role, None) {
            return Err("not allowed");
        }
        if user == self.owner {
            return Err("protected");
        }
        if self.ban_stands(user, now) {
            return Err("banned");
        }
        match self.present.get(&user) {
            Some(Host) => return Err("protected"),
            Some(role) if !may(Operation::Ban, actor_role, Some(*role)) => return Err("not allowed"),
            _ => {}
        }
        if self.present.remove(&user).is_none() {
            *self.rows.entry(user).or_default() += 1;
        }
        let lifted = usize::from(self.bans.insert(user, until).is_some());
        Ok(1 + lifted)
    }

    fn change_role(&mut self, who: Option<usize>, user: usize, to: ParticipantRole) -> Answer {
        self.allowed(Operation::ChangeRole, who)?;
        let role = self.present.get_mut(&user).ok_or("not present")?;
        match *role {
            Host => Err("protected"),
            same if same == to => Err("already role"),
            _ => {
                *role = to;
                Ok(1)
            }
        }
    }

    fn hand_over(&mut self, who: Option<usize>, user: usize) -> Answer {
        self.allowed(Operation::HandOver, who)?;
        if *self.present.get(&user).ok_or("not present")? == Host {
            return Err("already role");
        }
        for role in self.present.values_mut().filter(|role| **role == Host) {
            *role = CoHost;
        }
        self.present.insert(user, Host);
        Ok(1)
    }

    fn change_status(&mut self, operation: Operation, who: Option<usize>, from: RoomStatus, to: RoomStatus) -> Answer {
        self.allowed(operation, who)?;
        if self.status != from {
            return Err("room status");
        }
        self.status = to;
        Ok(1)
    }
}
