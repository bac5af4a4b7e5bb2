//! Which servers follow the primary, and what is expected of them.

use std::time::Duration;

use entity::Secret;

use crate::database::connect;
use crate::error::{Invalid, Result, Rule};

/// The shortest pause between two looks, in milliseconds.
const LEAST_PROBE: u32 = 10;

/// Servers that follow the primary by streaming replication, PostgreSQL's alone. They are reached with the store's connection settings and
/// what their own addresses say, each by a pool of its own, which is opened when it is needed: a replica that is away keeps no store from
/// opening.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicaSettings {
    /// Their addresses, each of one server. None: reads that tolerate lag go to the primary as well.
    pub addresses: Vec<Secret>,
    /// How far behind a replica may be that is read from: 10 s. It is as old as `probe` more when that is noticed.
    pub max_lag: Duration,
    /// How long a read with a [`CommitToken`](crate::CommitToken) waits for a replica before it asks the primary: 100 ms.
    pub wait: Duration,
    /// The pause between two looks at the primary and each replica, one small statement each: 1 s. At least 10 ms.
    pub probe: Duration,
}

impl Default for ReplicaSettings {
    fn default() -> Self {
        Self {
            addresses: Vec::new(),
            max_lag: Duration::from_secs(10),
            wait: Duration::from_millis(100),
            probe: Duration::from_secs(1),
        }
    }
}

impl ReplicaSettings {
    /// The variables of [`ReplicaSettings::from_environment`].
    pub const VARIABLES: [&str; 4] = [
        "DATABASE_REPLICAS",
        "DATABASE_REPLICA_MAX_LAG",
        "DATABASE_REPLICA_WAIT",
        "DATABASE_REPLICA_PROBE",
    ];

    /// The default, with what the environment says: DATABASE_REPLICAS, addresses with white space between them;
    /// DATABASE_REPLICA_MAX_LAG, DATABASE_REPLICA_WAIT and DATABASE_REPLICA_PROBE, times such as `10s`.
    ///
    /// # Errors
    /// [`crate::Error::Setting`] for a variable that is no time.
    pub fn from_environment() -> Result<Self> {
        let mut settings = Self::default();
        let [addresses, max_lag, wait, probe] = Self::VARIABLES;
        if let Ok(addresses) = std::env::var(addresses) {
            settings.addresses = addresses.split_whitespace().map(Secret::new).collect();
        }
        for (name, to) in [
            (max_lag, &mut settings.max_lag),
            (wait, &mut settings.wait),
            (probe, &mut settings.probe),
        ] {
            if let Some(time) = connect::time_from_environment(name)? {
                *to = time;
            }
        }
        Ok(settings)
    }

    pub(crate) fn checked(&self) -> Result<&Self> {
        if self.probe < Duration::from_millis(LEAST_PROBE.into()) {
            let rule = Rule::AtLeast(LEAST_PROBE.into());
            return Err(Invalid { field: "probe", rule }.into());
        }
        Ok(self)
    }
}
