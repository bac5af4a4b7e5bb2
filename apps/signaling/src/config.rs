//! What the service is told by its environment or its command line.

use std::net::SocketAddr;
use std::time::Duration;

use clap::{ArgAction, Parser};
use conferencing_store::entity::Secret;

/// Signaling of a conferencing platform, over HTTP and WebSockets.
///
/// Connections are set by the variables of docs/CONFIGURATION.md besides.
#[derive(Clone, Debug, Parser)]
#[command(name = "conferencing-signaling", version)]
pub struct Config {
    /// `postgres://user:password@host/database` or `sqlite://file?mode=rwc`
    #[arg(
        long,
        env = "DATABASE_URL",
        hide_env_values = true,
        default_value = "sqlite://signaling.sqlite?mode=rwc"
    )]
    pub database_url: String,
    /// Where to listen; port 0 takes a free one, which is logged
    #[arg(long, env = "SIGNALING_LISTEN", default_value = "127.0.0.1:8080")]
    pub listen: SocketAddr,
    /// Bring the schema up to date at the start, the service's own tables included
    #[arg(long, env = "SIGNALING_MIGRATE", default_value_t = true, action = ArgAction::Set)]
    pub migrate: bool,
    /// What the media nodes of this process are called; no two processes have one name. Drawn at random if not given
    #[arg(long, env = "SIGNALING_NODE_NAME")]
    pub node_name: Option<String>,
    /// How many proxies in front of this write X-Forwarded-For; 0 takes the connection's address for the client's
    #[arg(long, env = "SIGNALING_PROXY_HOPS", default_value_t = 0)]
    pub proxy_hops: usize,
    /// Cookies are sent over HTTPS alone, and to localhost
    #[arg(long, env = "SIGNALING_COOKIE_SECURE", default_value_t = true, action = ArgAction::Set)]
    pub cookie_secure: bool,
    /// How many hours a login lasts
    #[arg(long, env = "SIGNALING_SESSION_HOURS", default_value_t = 168, value_parser = clap::value_parser!(u32).range(1..))]
    pub session_hours: u32,
    /// How many hours a guest's visit lasts, and after how many in which they were not seen they are erased
    #[arg(long, env = "SIGNALING_GUEST_HOURS", default_value_t = 12, value_parser = clap::value_parser!(u32).range(1..))]
    pub guest_hours: u32,
    /// How many seconds a seat waits for a WebSocket: after the join, and after the last one was closed
    #[arg(long, env = "SIGNALING_SEAT_GRACE_SECONDS", default_value_t = 20)]
    pub seat_grace_seconds: u32,
    /// After how many seconds without a sign of life a process is taken for dead, and its seats are closed
    #[arg(long, env = "SIGNALING_NODE_SILENCE_SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u32).range(3..))]
    pub node_silence_seconds: u32,
    /// How many KiB of memory the hash of a password takes
    #[arg(long, env = "SIGNALING_PASSWORD_MEMORY_KIB", default_value_t = 19_456, value_parser = clap::value_parser!(u32).range(8..))]
    pub password_memory_kib: u32,
    /// How many passwords are hashed at once; others wait, and are told to come back after five seconds
    #[arg(long, env = "SIGNALING_PASSWORDS_AT_ONCE", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..))]
    pub passwords_at_once: u32,
    /// After how many seconds a request is given up
    #[arg(long, env = "SIGNALING_REQUEST_SECONDS", default_value_t = 15, value_parser = clap::value_parser!(u32).range(1..))]
    pub request_seconds: u32,
    /// The largest body of a request, in bytes
    #[arg(long, env = "SIGNALING_BODY_BYTES", default_value_t = 65_536)]
    pub body_bytes: usize,
    /// How many WebSockets may be open at once
    #[arg(long, env = "SIGNALING_SOCKETS", default_value_t = 10_000)]
    pub sockets: usize,
    /// How often a WebSocket is asked whether it is there, in seconds; one that does not answer twice is closed
    #[arg(long, env = "SIGNALING_PING_SECONDS", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    pub ping_seconds: u32,
    /// How many seconds requests and WebSockets have to end when the service stops
    #[arg(long, env = "SIGNALING_SHUTDOWN_SECONDS", default_value_t = 10)]
    pub shutdown_seconds: u32,
    /// What the media server signs its webhooks with, in base64 (`whsec_…`); without it they are refused
    #[arg(long, env = "SIGNALING_WEBHOOK_SECRET", hide_env_values = true, value_parser = secret)]
    pub webhook_secret: Option<Secret>,
    /// Log as JSON lines; what is logged, RUST_LOG says
    #[arg(long, env = "SIGNALING_LOG_JSON", default_value_t = false, action = ArgAction::Set)]
    pub log_json: bool,
}

#[expect(clippy::unnecessary_wraps, reason = "what clap calls")]
fn secret(text: &str) -> Result<Secret, std::convert::Infallible> {
    Ok(Secret::new(text))
}

impl Config {
    /// The defaults, whatever the environment says, with this database. For tests.
    ///
    /// # Errors
    /// Never, as long as the defaults are valid.
    pub fn with_database(url: &str) -> Result<Self, clap::Error> {
        Self::try_parse_from(["conferencing-signaling", "--database-url", url])
    }

    pub(crate) fn seat_grace(&self) -> Duration {
        Duration::from_secs(self.seat_grace_seconds.into())
    }

    pub(crate) fn node_silence(&self) -> Duration {
        Duration::from_secs(self.node_silence_seconds.into())
    }

    pub(crate) fn guest_time(&self) -> Duration {
        Duration::from_secs(u64::from(self.guest_hours) * 3600)
    }

    pub(crate) fn session_time(&self) -> Duration {
        Duration::from_secs(u64::from(self.session_hours) * 3600)
    }

    pub(crate) fn ping(&self) -> Duration {
        Duration::from_secs(self.ping_seconds.into())
    }

    /// How long the service has to stop.
    pub fn shutdown_time(&self) -> Duration {
        Duration::from_secs(self.shutdown_seconds.into())
    }
}
