//! Pools of PostgreSQL.

use std::borrow::Cow;
use std::time::Duration;

use percent_encoding::percent_decode_str;
use sea_orm::sqlx::ConnectOptions as _;
use sea_orm::sqlx::postgres::{PgConnectOptions, PgSslMode};
use sea_orm::{DatabaseConnection, SqlxError, SqlxPostgresConnector};
use url::Url;

use super::address::{Address, of_each_host, unusable, without_credentials};
use super::failover::{self, Server};
use super::settings::{ConnectSettings, TlsMode};
use super::{Background, pool_options};
use crate::error::{Error, Result};

/// How many connections a pool may have.
const CONNECTIONS: u32 = 10;

type Opened = (DatabaseConnection, Option<Background>);

pub(super) async fn open(url: &str, address: &Address) -> Result<Result<Opened, SqlxError>> {
    let mut servers = servers(url, address)?;
    let settings = &address.settings;
    if let [_] = servers.as_slice() {
        let Server { options, .. } = servers.remove(0);
        let pool = pool_options(settings, CONNECTIONS).connect_with(options).await;
        return Ok(pool.map(|pool| (SqlxPostgresConnector::from_sqlx_postgres_pool(pool), None)));
    }
    match failover::open(servers, settings, CONNECTIONS).await {
        Ok(Some((pool, background))) => {
            let db = SqlxPostgresConnector::from_sqlx_postgres_pool(pool);
            Ok(Ok((db, Some(background))))
        }
        Ok(None) => Err(Error::Unreachable {
            server: without_credentials(url),
            reason: "none of these servers takes writes".to_owned(),
        }),
        Err(error) => Ok(Err(error)),
    }
}

pub(super) fn open_lazily(url: &str, address: &Address) -> Result<(DatabaseConnection, String)> {
    let mut servers = servers(url, address)?;
    if servers.len() > 1 {
        return Err(unusable("a replica is one server"));
    }
    let Server { name, options } = servers.remove(0);
    let pool = pool_options(&address.settings, CONNECTIONS).connect_lazy_with(options);
    Ok((SqlxPostgresConnector::from_sqlx_postgres_pool(pool), name))
}

/// The servers of an address, at least one.
fn servers(url: &str, address: &Address) -> Result<Vec<Server>> {
    let hosts = of_each_host(url);
    if hosts.len() > 1 && address.place.iter().any(|(name, _)| name == "host" || name == "port") {
        return Err(unusable(
            "it has several hosts, and a parameter host or port beside them",
        ));
    }
    let server = |url: String| {
        let options = options(&url, address)?;
        let name = format!("{}:{}", options.get_host(), options.get_port());
        Ok(Server { name, options })
    };
    hosts.into_iter().map(server).collect()
}

fn options(url: &str, address: &Address) -> Result<PgConnectOptions> {
    let url = Url::parse(url).map_err(|_| unusable("it is not written as an address is"))?;
    // The driver's own reader of password files writes lines that it cannot read into its log.
    let mut options = PgConnectOptions::new_without_pgpass();
    if let Some(host) = url.host_str().filter(|host| !host.is_empty()) {
        options = at_host(options, &decoded(host)?);
    }
    if let Some(port) = url.port() {
        options = options.port(port);
    }
    if !url.username().is_empty() {
        options = options.username(&decoded(url.username())?);
    }
    if let Some(password) = url.password() {
        options = options.password(&decoded(password)?);
    }
    let database = url.path().trim_start_matches('/');
    if !database.is_empty() {
        options = options.database(&decoded(database)?);
    }
    for (name, value) in &address.place {
        options = match name.as_str() {
            "host" => at_host(options, value),
            "port" => options.port(
                value
                    .parse()
                    .map_err(|_| unusable("its parameter port must be a port's number"))?,
            ),
            "user" => options.username(value),
            "password" => options.password(value),
            _ => options.database(value),
        };
    }
    Ok(with_settings(options, &address.settings))
}

fn at_host(options: PgConnectOptions, host: &str) -> PgConnectOptions {
    if host.starts_with('/') {
        options.socket(host)
    } else {
        options.host(host)
    }
}

fn decoded(part: &str) -> Result<Cow<'_, str>> {
    let text = percent_decode_str(part).decode_utf8();
    text.map_err(|_| unusable("a part of it is not UTF-8"))
}

fn with_settings(mut options: PgConnectOptions, settings: &ConnectSettings) -> PgConnectOptions {
    let tls = &settings.tls;
    if let Some(mode) = tls.mode {
        options = options.ssl_mode(match mode {
            TlsMode::Disable => PgSslMode::Disable,
            TlsMode::Prefer => PgSslMode::Prefer,
            TlsMode::Require => PgSslMode::Require,
            TlsMode::VerifyCa => PgSslMode::VerifyCa,
            TlsMode::VerifyFull => PgSslMode::VerifyFull,
        });
    }
    if let Some(file) = &tls.root_certificate {
        options = options.ssl_root_cert(file);
    }
    if let Some(file) = &tls.client_certificate {
        options = options.ssl_client_cert(file);
    }
    if let Some(file) = &tls.client_key {
        options = options.ssl_client_key(file);
    }
    // Nothing here reads floats, and PgBouncer refuses this start-up parameter.
    options = options
        .application_name(&settings.application_name)
        .extra_float_digits(None)
        .disable_statement_logging();
    if settings.pgbouncer {
        return options;
    }
    // What the server says beside its answers, triggers of others included, would go into the driver's log.
    options = options.options([("client_min_messages", "error")]);
    for (name, limit) in limits(settings) {
        options = options.options([(name, limit.as_millis())]);
    }
    options
}

/// The server's limits that are asked for.
fn limits(settings: &ConnectSettings) -> impl Iterator<Item = (&'static str, Duration)> {
    let limits = [
        ("lock_timeout", settings.lock_timeout),
        ("statement_timeout", settings.statement_timeout),
    ];
    limits.into_iter().filter(|(_, limit)| !limit.is_zero())
}
