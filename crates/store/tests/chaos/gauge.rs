//! What PgBouncer says of itself, by the commands of its database `pgbouncer`.

use sea_orm::sqlx::postgres::{PgConnectOptions, PgConnection, PgRow};
use sea_orm::sqlx::{AssertSqlSafe, ConnectOptions, Row, raw_sql};

use crate::address::with_database;
use crate::through::as_service;

/// A connection to the pooler itself.
pub struct Gauge {
    connection: PgConnection,
}

/// The connections of one database at one moment.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pool {
    /// Clients that are linked to a server connection or idle.
    pub clients: i64,
    /// Clients that wait for a server connection.
    pub waiting: i64,
    /// Connections to the server, in use or not.
    pub servers: i64,
}

/// What has passed so far, of one database.
#[derive(Clone, Copy, Debug, Default)]
pub struct Totals {
    pub statements: i64,
    pub transactions: i64,
    /// Statements that clients had prepared, and that were prepared on servers for them.
    pub client_parses: Option<i64>,
    pub server_parses: Option<i64>,
}

impl Gauge {
    pub async fn open(server: &str) -> Self {
        let url = as_service(&with_database(server, "pgbouncer"));
        // The driver does not know the store's own parameters.
        let url = url.split('?').next().unwrap();
        let options = url.parse::<PgConnectOptions>().unwrap().extra_float_digits(None);
        Self {
            connection: options.disable_statement_logging().connect().await.unwrap(),
        }
    }

    /// Its console knows the simple protocol alone.
    async fn rows(&mut self, command: &str) -> Vec<PgRow> {
        raw_sql(AssertSqlSafe(command))
            .fetch_all(&mut self.connection)
            .await
            .unwrap()
    }

    pub async fn pool(&mut self, database: &str) -> Pool {
        let mut pool = Pool::default();
        for row in self.rows("SHOW POOLS").await {
            if row.get::<&str, _>("database") != database {
                continue;
            }
            let of = |names: &[&str]| names.iter().filter_map(|name| figure(&row, name)).sum::<i64>();
            pool.clients += of(&["cl_active"]);
            pool.waiting += of(&["cl_waiting"]);
            pool.servers += of(&["sv_active", "sv_idle", "sv_used", "sv_tested", "sv_login"]);
        }
        pool
    }

    pub async fn totals(&mut self, database: &str) -> Totals {
        let mut totals = Totals::default();
        for row in self.rows("SHOW STATS_TOTALS").await {
            if row.get::<&str, _>("database") == database {
                totals.statements = figure(&row, "query_count").unwrap();
                totals.transactions = figure(&row, "xact_count").unwrap();
                // Since version 1.24.
                totals.client_parses = figure(&row, "client_parse_count");
                totals.server_parses = figure(&row, "server_parse_count");
            }
        }
        totals
    }
}

/// Its columns are of several types, and all of them text on the way.
fn figure(row: &PgRow, column: &str) -> Option<i64> {
    row.try_get_raw(column).ok()?.as_str().ok()?.parse().ok()
}
