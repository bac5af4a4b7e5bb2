//! What people are called, for the events of a room: looked up once a process and not for each socket.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use conferencing_store::entity::UserId;
use conferencing_store::{Error, Store};

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

/// Names by user.
#[derive(Default)]
pub(crate) struct Names(Mutex<HashMap<UserId, (Instant, Arc<Name>)>>);

impl Names {
    /// The name of a user, deleted ones included.
    pub(crate) async fn of(&self, store: &Store, user: UserId) -> Result<Arc<Name>, Error> {
        if let Ok(known) = self.0.lock()
            && let Some((since, name)) = known.get(&user)
            && since.elapsed() < AGE
        {
            return Ok(Arc::clone(name));
        }
        let row = store.users().any().get(user).await?;
        let name = Arc::new(Name {
            is_guest: row.is_guest(),
            display_name: row.display_name,
        });
        if let Ok(mut known) = self.0.lock() {
            if known.len() >= MOST {
                known.clear();
            }
            known.insert(user, (Instant::now(), Arc::clone(&name)));
        }
        Ok(name)
    }
}
