//! What a store is made with.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::{Clock, Ids, RandomIds, SystemClock};
use crate::database::ReplicaSettings;
use crate::database::connect::ConnectSettings;
use crate::tokens::KeyRing;

/// How often, and how fast, what failed for a passing reason is tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Tries in all; 1 means never again.
    pub attempts: u32,
    /// The longest first pause. Each further one may be twice as long; the actual pause is random between 0 and that.
    pub first_pause: Duration,
    /// No pause is longer.
    pub longest_pause: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            attempts: 8,
            first_pause: Duration::from_millis(5),
            longest_pause: Duration::from_millis(250),
        }
    }
}

/// Whether a commit that was reported must survive a crash of the server or the machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// It must: a database that is set to forget is refused when the store is made.
    #[default]
    Required,
    /// As the database is set: the last moments before a crash may be lost, audit rows included.
    AsConfigured,
}

/// What a [`crate::Store`] is made with besides its database.
#[derive(Clone)]
pub struct StoreSettings {
    /// The connections.
    pub connect: ConnectSettings,
    /// Servers that follow the primary, for [`Store::replica_reads`](crate::Store::replica_reads).
    pub replicas: ReplicaSettings,
    /// Whether commits must last.
    pub durability: Durability,
    /// The retries.
    pub retry: RetryPolicy,
    /// What becomes of a meeting that everybody has left.
    pub empty_rooms: EmptyRoomPolicy,
    /// How long a room is LIVE and empty, by its `updated_at`, before [`sweep_empty`](crate::rooms::Rooms::sweep_empty) ends it: 5
    /// minutes. Set it alike in all services that sweep.
    pub empty_room_timeout: Duration,
    /// How often a failed recording may be processed again.
    pub max_recording_retries: u16,
    /// How long after its deletion the queue of files to purge keeps a recording's file back: for so long it can be restored. What
    /// expired, or lost its owner, cannot be restored anyway; such files are handed out at once by the sweep and the erasure.
    pub purge_grace: Duration,
    /// What becomes of what was said about a user's kicks and bans when they are erased.
    pub moderation_reasons: ModerationReasons,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Keys and room codes.
    pub ids: Arc<dyn Ids>,
    /// How the audit log is followed.
    pub feed: FeedSettings,
    /// What providers' tokens are encrypted with. None: they are not stored.
    pub token_keys: Option<KeyRing>,
}

impl Default for StoreSettings {
    fn default() -> Self {
        Self {
            connect: ConnectSettings::default(),
            replicas: ReplicaSettings::default(),
            durability: Durability::default(),
            retry: RetryPolicy::default(),
            empty_rooms: EmptyRoomPolicy::default(),
            empty_room_timeout: Duration::from_secs(5 * 60),
            max_recording_retries: 3,
            purge_grace: Duration::from_secs(7 * 24 * 60 * 60),
            moderation_reasons: ModerationReasons::default(),
            clock: Arc::new(SystemClock),
            ids: Arc::new(RandomIds::default()),
            feed: FeedSettings::default(),
            token_keys: None,
        }
    }
}

/// How often a process that follows the audit log asks for news, and how much waits for a slow subscriber. One statement asks for all
/// of the process's subscribers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FeedSettings {
    /// The pause between two questions while there is news, and the shortest there is: 20 ms. At least 1 ms.
    pub shortest_pause: Duration,
    /// The pause after a time without news, to which it grows by doubling: 1 s. A commit of this process ends it.
    pub longest_pause: Duration,
    /// How many batches may wait for a subscriber: 256. A batch is what was committed between two questions, and concerns the
    /// subscriber. Whoever has more waiting is told that they are too slow, see [`crate::feed::Feed::subscribe`].
    pub waiting_batches: usize,
}

impl Default for FeedSettings {
    fn default() -> Self {
        Self {
            shortest_pause: Duration::from_millis(20),
            longest_pause: Duration::from_secs(1),
            waiting_batches: 256,
        }
    }
}

/// What becomes of a meeting when the last one is out: a setting of the store. What puts people out (leave, kick, ban) then is
/// two statements in one transaction on PostgreSQL instead of one that commits by itself. Deactivating or erasing a user, and the
/// sweep of lost media nodes, put people out without ending a room that this leaves empty: that is left to
/// [`sweep_empty`](crate::rooms::Rooms::sweep_empty), under either policy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EmptyRoomPolicy {
    /// It stays LIVE until somebody ends it, or the sweep: a lost connection does not end a meeting of one.
    #[default]
    KeepOpen,
    /// It ends, with ROOM_ENDED.
    EndRoom,
}

/// What becomes of the reasons for kicks and bans of a user when they are erased: a setting of the store. The audit log has these
/// reasons as well, as long as its months are kept (docs/PRIVACY.md).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ModerationReasons {
    /// They go. That there was a kick or a ban, when and by whom, stays.
    #[default]
    Erase,
    /// They stay, for who has to answer for them longer than the audit log is kept.
    Keep,
}
