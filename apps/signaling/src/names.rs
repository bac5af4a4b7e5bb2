//! What people are called, for the events of a room: looked up once a process and not for each socket, all of which ask at the same moment.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use conferencing_store::entity::UserId;
use conferencing_store::{Error, Store};
use tokio::sync::OnceCell;

/// With more than that, all are forgotten and looked up anew.
const MOST: usize = 10_000;
/// How old a name may be: for so long somebody who changed theirs, or was erased, is called as before.
const AGE: Duration = Duration::from_mins(1);

/// As much of somebody as the others in a room see.
#[derive(Debug)]
pub(crate) struct Name {
    pub(crate) display_name: String,
    pub(crate) is_guest: bool,
}

struct Entry {
    since: Instant,
    /// Empty while the first who asked looks it up; the others wait for that.
    name: OnceCell<Arc<Name>>,
}

/// Names by user.
#[derive(Default)]
pub(crate) struct Names(Mutex<HashMap<UserId, Arc<Entry>>>);

impl Names {
    /// The name of a user, deleted ones included. One statement for all who ask at once; if it fails, the next of them tries.
    pub(crate) async fn of(&self, store: &Store, user: UserId) -> Result<Arc<Name>, Error> {
        let entry = self.entry(user);
        let look_up = async || {
            let row = store.users().any().get(user).await?;
            Ok(Arc::new(Name {
                is_guest: row.is_guest(),
                display_name: row.display_name,
            }))
        };
        entry.name.get_or_try_init(look_up).await.map(Arc::clone)
    }

    fn entry(&self, user: UserId) -> Arc<Entry> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = known.get(&user)
            && entry.since.elapsed() < AGE
        {
            return Arc::clone(entry);
        }
        if known.len() >= MOST {
            known.clear();
        }
        let entry = Arc::new(Entry {
            since: Instant::now(),
            name: OnceCell::new(),
        });
        known.insert(user, Arc::clone(&entry));
        entry
    }
}

#[cfg(test)]
mod tests {
    use conferencing_testing::{Fault, TestStore};
    use futures_util::future::join_all;

    use super::*;

    #[tokio::test]
    async fn all_who_ask_at_once_share_one_statement() {
        let kit = TestStore::builder().sqlite().open().await.unwrap();
        let ada = kit.user("ada").await;
        let names = Names::default();
        let first_fails = kit.faults().fail_next("users.find", Fault::Transient);
        let sent = kit.faults().fail_always("users.find", Fault::Slow(Duration::ZERO));
        let found = join_all((0..100).map(|_| names.of(kit.store(), ada.id))).await;
        let failed = found.iter().filter(|name| name.is_err()).count();
        assert_eq!((failed, first_fails.met(), sent.met()), (1, 1, 1));
        assert_eq!(
            names.of(kit.store(), ada.id).await.unwrap().display_name,
            ada.display_name
        );
        assert_eq!(sent.met(), 1);
    }
}
