//! What operations cost a PostgreSQL server, as it counts itself: statements, buffers and WAL of one connection.

use std::future::Future;
use std::time::{Duration, Instant};

use conferencing_store::connect::{self, ConnectSettings};
use conferencing_store::{Store, StoreSettings};

use crate::harness::{Raw, TestDb};
use crate::wire::Wire;

/// What was spent between two looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spent {
    /// Statements on the wire, BEGIN and COMMIT included.
    pub statements: usize,
    /// Pages of tables and their indexes that were looked at, in memory or not. Of the catalog none.
    pub buffers: i64,
    /// Bytes. Those of all databases of the server: of several runs, the smallest is the operation's own.
    pub wal: i64,
}

impl Spent {
    /// The least of each.
    pub fn least(self, other: Self) -> Self {
        Self {
            statements: self.statements.min(other.statements),
            buffers: self.buffers.min(other.buffers),
            wal: self.wal.min(other.wal),
        }
    }
}

/// A store on one connection, and one beside it that reads the server's counters. Nobody else may use the database meanwhile.
pub struct Meter {
    pub store: Store,
    wire: Wire,
    session: Raw,
    counters: Raw,
}

impl Meter {
    /// Closes the case's own store, whose counts would come late.
    pub async fn of(db: &TestDb) -> Self {
        db.store.clone().close().await.unwrap();
        let counters = one_connection(&db.url).await;
        alone(&counters).await;
        Self::beside_others(&db.url, counters).await
    }

    /// Another one on the same database, while its kin does nothing.
    pub async fn another(&self, db: &TestDb) -> Self {
        Self::beside_others(&db.url, one_connection(&db.url).await).await
    }

    async fn beside_others(url: &str, counters: Raw) -> Self {
        let wire = Wire::before(url).await;
        let session = one_connection(&wire.url).await;
        let store = Store::from_connection(session.db.clone(), StoreSettings::default())
            .await
            .unwrap();
        Self {
            store,
            wire,
            session,
            counters,
        }
    }

    /// What the work costs.
    pub async fn spent<T>(&self, work: impl Future<Output = T>) -> (T, Spent) {
        let buffers = self.buffers().await;
        self.wire.executions();
        let wal = self.wal().await;
        let done = work.await;
        let spent = Spent {
            wal: self.wal().await - wal,
            statements: self.wire.executions().len(),
            buffers: self.buffers().await - buffers,
        };
        (done, spent)
    }

    async fn wal(&self) -> i64 {
        self.counters.number("SELECT pg_current_wal_insert_lsn() - '0/0'").await
    }

    /// All that the connection has looked at until now. It tells its counts between two statements, but once a second at most:
    /// so it is told to, or, before PostgreSQL 15, waited for.
    async fn buffers(&self) -> i64 {
        let is_told = self
            .counters
            .number("SELECT current_setting('server_version_num')")
            .await
            >= 150_000;
        if is_told {
            self.session.run("SELECT pg_stat_force_next_flush()").await;
        } else {
            self.session.run("SELECT pg_sleep(1.1)").await;
            self.counters.run("SELECT pg_sleep(1.1)").await;
        }
        // The answer comes before the counts are told; the next statement comes after.
        self.session.run("SELECT 1").await;
        self.counters.number(BUFFERS).await
    }
}

const BUFFERS: &str = "SELECT sum(heap_blks_hit + heap_blks_read + coalesce(idx_blks_hit + idx_blks_read, 0)
    + coalesce(toast_blks_hit + toast_blks_read + tidx_blks_hit + tidx_blks_read, 0)) FROM pg_statio_user_tables";

/// A pool of one connection, so that its statements are prepared once.
pub async fn one_connection(url: &str) -> Raw {
    let settings = ConnectSettings {
        max_connections: Some(1),
        ..ConnectSettings::default()
    };
    Raw {
        db: connect::open(url, &settings).await.unwrap(),
    }
}

/// Runs this on a connection of its own, which is gone afterwards, its counts told.
pub async fn aside(db: &TestDb, meter: &Meter, sql: &str) {
    let raw = one_connection(&db.url).await;
    let pid = raw.number("SELECT pg_backend_pid()").await;
    raw.run(sql).await;
    raw.db.close().await.unwrap();
    gone(&meter.counters, &format!("pid = {pid}")).await;
}

/// Waits until all others have gone.
pub async fn alone(raw: &Raw) {
    gone(raw, "pid <> pg_backend_pid()").await;
}

/// A connection's counts are there when the server's process has ended.
async fn gone(raw: &Raw, which: &str) {
    let connected = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND backend_type = 'client backend' AND {which}"
    );
    let deadline = Instant::now() + Duration::from_secs(20);
    while raw.number(&connected).await > 0 {
        assert!(Instant::now() < deadline, "somebody else stays connected");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Keeps the machine's own doings from being counted: nobody vacuums or analyzes but the case.
pub const NO_AUTOVACUUM: &str = "DO $$ DECLARE name text; BEGIN
    FOR name IN SELECT oid::regclass FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace LOOP
        EXECUTE 'ALTER TABLE ' || name || ' SET (autovacuum_enabled = false)';
    END LOOP; END $$";
