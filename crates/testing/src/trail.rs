//! The audit log as a test expects it.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::panic::Location;

use conferencing_store::entity::{AuditAction, RecordedAction, RoomId, UserId};
use conferencing_store::{AuditEntry, Error, FeedFilter, FeedPosition};
use serde_json::{Map, Value as Json};

use crate::build::{IsRoom, IsUser};
use crate::diff::{Line, diff};
use crate::kit::{BUILDER, TestStore};

/// An event that a test expects. What is not said of it may be anything; `by_nobody` and its like are for what must not be there.
#[derive(Clone, Debug)]
#[must_use = "hand it to TestStore::expect_events"]
pub struct ExpectedEvent {
    action: AuditAction,
    actor: Option<Who>,
    target: Option<Option<UserId>>,
    room: Option<Option<RoomId>>,
    details: Map<String, Json>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Who {
    User(UserId),
    System(String),
    Nobody,
}

/// An event of this kind: `event(AuditAction::UserKicked).by(&ada).about(&ben).in_room(&room)`.
pub fn event(action: AuditAction) -> ExpectedEvent {
    ExpectedEvent {
        action,
        actor: None,
        target: None,
        room: None,
        details: Map::new(),
    }
}

impl ExpectedEvent {
    /// Done by this user.
    pub fn by(mut self, user: impl IsUser) -> Self {
        self.actor = Some(Who::User(user.user_id()));
        self
    }

    /// Done by this part of the system, as [`Actor::system`](conferencing_store::Actor::system) names it.
    pub fn by_system(mut self, name: &str) -> Self {
        self.actor = Some(Who::System(name.to_owned()));
        self
    }

    /// Done by somebody who had not signed in.
    pub fn by_nobody(mut self) -> Self {
        self.actor = Some(Who::Nobody);
        self
    }

    /// Done to this user. What somebody does to themself has no target.
    pub fn about(mut self, user: impl IsUser) -> Self {
        self.target = Some(Some(user.user_id()));
        self
    }

    /// Without a target.
    pub fn about_nobody(mut self) -> Self {
        self.target = Some(None);
        self
    }

    /// In this room.
    pub fn in_room(mut self, room: impl IsRoom) -> Self {
        self.room = Some(Some(room.room_id()));
        self
    }

    /// In no room.
    pub fn in_no_room(mut self) -> Self {
        self.room = Some(None);
        self
    }

    /// With this among its details, as the audit log has them: `.with("reason", "spam")`.
    pub fn with(mut self, name: &str, value: impl Into<Json>) -> Self {
        self.details.insert(name.to_owned(), value.into());
        self
    }

    fn fits(&self, event: &Happened) -> bool {
        let is_its = |name: &String, value: &Json| event.details.get(name) == Some(value);
        event.action == RecordedAction::Known(self.action).name()
            && self.actor.as_ref().is_none_or(|actor| *actor == event.actor)
            && self.target.is_none_or(|target| target == event.target)
            && self.room.is_none_or(|room| room == event.room)
            && self.details.iter().all(|(name, value)| is_its(name, value))
    }

    fn line(&self, names: &Names) -> String {
        let mut line = RecordedAction::Known(self.action).name();
        if let Some(actor) = &self.actor {
            names.push_actor(&mut line, actor);
        }
        if let Some(target) = self.target {
            names.push_target(&mut line, target);
        }
        if let Some(room) = self.room {
            names.push_room(&mut line, room);
        }
        push_details(&mut line, &self.details);
        line
    }
}

/// An event that happened, taken apart.
struct Happened {
    action: String,
    actor: Who,
    target: Option<UserId>,
    room: Option<RoomId>,
    details: Map<String, Json>,
}

impl Happened {
    fn of(entry: &AuditEntry) -> Self {
        let whole = serde_json::to_value(&entry.event).unwrap_or_default();
        let mut details = match whole.get("details").or(whole.get("metadata")) {
            Some(Json::Object(details)) => details.clone(),
            _ => Map::new(),
        };
        let target = details.remove("target");
        let actor = match (entry.actor, &entry.system) {
            (Some(user), _) => Who::User(user),
            (None, Some(name)) => Who::System(name.clone()),
            (None, None) => Who::Nobody,
        };
        Self {
            action: entry.event.action(),
            actor,
            target: target.and_then(|id| serde_json::from_value(id).ok()),
            room: entry.room,
            details,
        }
    }

    fn line(&self, names: &Names) -> String {
        let mut line = self.action.clone();
        names.push_actor(&mut line, &self.actor);
        names.push_target(&mut line, self.target);
        names.push_room(&mut line, self.room);
        push_details(&mut line, &self.details);
        line
    }
}

fn push_details(line: &mut String, details: &Map<String, Json>) {
    if !details.is_empty() {
        // By name: a map of serde_json is in that order or in that of insertion, as some other crate of the build wants it.
        let sorted: BTreeMap<_, _> = details.iter().collect();
        let _ = write!(line, " {}", serde_json::to_string(&sorted).unwrap_or_default());
    }
}

/// How people and rooms are called, for people who read a failure.
#[derive(Default)]
struct Names {
    users: HashMap<UserId, String>,
    rooms: HashMap<RoomId, String>,
}

impl Names {
    fn user(&self, id: UserId) -> String {
        self.users.get(&id).cloned().unwrap_or_else(|| id.to_string())
    }

    fn push_actor(&self, line: &mut String, actor: &Who) {
        let _ = match actor {
            Who::User(id) => write!(line, " by {}", self.user(*id)),
            Who::System(name) => write!(line, " by system {name:?}"),
            Who::Nobody => write!(line, " by nobody"),
        };
    }

    fn push_target(&self, line: &mut String, target: Option<UserId>) {
        let target = target.map_or("nobody".to_owned(), |id| self.user(id));
        let _ = write!(line, " about {target}");
    }

    fn push_room(&self, line: &mut String, room: Option<RoomId>) {
        let _ = match room {
            Some(id) => write!(
                line,
                " in {}",
                self.rooms.get(&id).cloned().unwrap_or_else(|| id.to_string())
            ),
            None => write!(line, " in no room"),
        };
    }

    async fn of(kit: &TestStore, expected: &[ExpectedEvent], happened: &[Happened]) -> Result<Self, Error> {
        let mut names = Self::default();
        let actors = expected.iter().filter_map(|event| event.actor.as_ref());
        let actors = actors.chain(happened.iter().map(|event| &event.actor));
        let actors = actors.filter_map(|actor| match actor {
            Who::User(id) => Some(*id),
            _ => None,
        });
        let targets = expected.iter().filter_map(|event| event.target.flatten());
        let targets = targets.chain(happened.iter().filter_map(|event| event.target));
        let users: Vec<UserId> = actors.chain(targets).collect();
        for id in users {
            if let Some(user) = kit.plain().users().any().find(id).await? {
                names.users.insert(id, user.username);
            }
        }
        let rooms = expected.iter().filter_map(|event| event.room.flatten());
        let rooms: Vec<RoomId> = rooms.chain(happened.iter().filter_map(|event| event.room)).collect();
        for id in rooms {
            if let Some(room) = kit.plain().rooms().any().find(id).await? {
                names.rooms.insert(id, format!("{} {:?}", room.room_code, room.title));
            }
        }
        Ok(names)
    }
}

/// Whether their order counts.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Order {
    Theirs,
    Any,
}

impl TestStore {
    /// What was committed since the mark, in the order of the commits, without what the builders did. The mark stays.
    ///
    /// # Errors
    /// Of the database.
    pub async fn events(&self) -> Result<Vec<AuditEntry>, Error> {
        self.read().await.map(|(entries, _)| entries)
    }

    /// The events, and the place up to which they were read.
    async fn read(&self) -> Result<(Vec<AuditEntry>, FeedPosition), Error> {
        let mut position = self.mark.lock().await.clone();
        let mut entries = Vec::new();
        loop {
            let batch = self.plain().feed().read(&FeedFilter::default(), &position, 100).await?;
            position = batch.position;
            entries.extend(batch.events.into_iter().map(|event| event.entry));
            if batch.is_end {
                break;
            }
        }
        entries.retain(|entry| entry.user_agent.as_deref() != Some(BUILDER));
        Ok((entries, position))
    }

    /// Sets the mark behind all that is committed now. A kit begins with one.
    ///
    /// # Errors
    /// Of the database.
    pub async fn mark(&self) -> Result<(), Error> {
        let mut mark = self.mark.lock().await;
        *mark = self.plain().feed().now().await?;
        Ok(())
    }

    /// Since the mark exactly these events were committed, in this order, besides those of the builders; then the mark is set behind them. What is
    /// committed while they are read is among them, or left to the next expectation.
    ///
    /// # Panics
    /// Otherwise, with both lists side by side.
    #[track_caller]
    pub fn expect_events<'k>(
        &'k self,
        expected: impl IntoIterator<Item = ExpectedEvent>,
    ) -> impl Future<Output = ()> + Send + 'k {
        let (at, expected) = (Location::caller(), expected.into_iter().collect());
        self.expect(at, expected, Order::Theirs)
    }

    /// As [`TestStore::expect_events`], in any order: after things that happened at once.
    ///
    /// # Panics
    /// As [`TestStore::expect_events`].
    #[track_caller]
    pub fn expect_events_in_any_order<'k>(
        &'k self,
        expected: impl IntoIterator<Item = ExpectedEvent>,
    ) -> impl Future<Output = ()> + Send + 'k {
        let (at, expected) = (Location::caller(), expected.into_iter().collect());
        self.expect(at, expected, Order::Any)
    }

    /// Since the mark nothing was committed, besides what the builders did.
    ///
    /// # Panics
    /// Otherwise, with what was.
    #[track_caller]
    pub fn expect_no_events(&self) -> impl Future<Output = ()> + Send + '_ {
        self.expect(Location::caller(), Vec::new(), Order::Theirs)
    }

    #[expect(clippy::panic, reason = "a test fails by panicking")]
    async fn expect(&self, at: &Location<'_>, expected: Vec<ExpectedEvent>, order: Order) {
        let compared = async {
            let (entries, position) = self.read().await?;
            let happened: Vec<Happened> = entries.iter().map(Happened::of).collect();
            let lines = diff(&expected, &happened, order == Order::Theirs, ExpectedEvent::fits);
            if lines.iter().all(Line::is_both) {
                // Not behind all that is there now: what was committed meanwhile has not been looked at.
                *self.mark.lock().await = position;
                return Ok(None);
            }
            let names = Names::of(self, &expected, &happened).await?;
            Ok::<_, Error>(Some(rendered(&lines, &names)))
        };
        match compared.await {
            Ok(None) => {}
            Ok(Some(lines)) => panic!(
                "{at}: the audit log is not what was expected (- expected and not there, + there and not expected)\n{lines}"
            ),
            Err(error) => panic!("{at}: the audit log cannot be read: {error}"),
        }
    }
}

fn rendered(lines: &[Line<'_, ExpectedEvent, Happened>], names: &Names) -> String {
    let lines = lines.iter().map(|line| match line {
        Line::Both(_, happened) => format!("    {}\n", happened.line(names)),
        Line::Missing(expected) => format!("  - {}\n", expected.line(names)),
        Line::Unexpected(happened) => format!("  + {}\n", happened.line(names)),
    });
    lines.collect()
}
