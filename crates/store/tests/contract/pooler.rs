//! A stand-in for a pooler in transaction mode, as far as a client sees it before its first statement: it refuses start-up parameters
//! that it does not know, in PgBouncer's words. It calls prepared statements its own way, and can fall silent. Where TEST_POOLER names the host and port of a real one
//! before the same server, that one is asked instead, and only the silence is played.

use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::through::pooler;

/// What PgBouncer passes on or keeps for each client.
const KNOWN: [&str; 6] = [
    "user",
    "database",
    "application_name",
    "DateStyle",
    "client_encoding",
    "TimeZone",
];

pub struct Pooler {
    /// The database's address with the pooler in the server's place.
    pub url: String,
    is_silent: Arc<watch::Sender<bool>>,
}

impl Pooler {
    pub async fn before(url: &str) -> Self {
        let (head, rest) = url.split_once("://").unwrap();
        let (authority, path) = rest.split_once('/').unwrap();
        let (user, server) = authority.rsplit_once('@').unwrap_or(("postgres", authority));
        let real = pooler();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let separator = if path.contains('?') { '&' } else { '?' };
        let is_silent = Arc::new(watch::Sender::new(false));
        let upstream = real.clone().unwrap_or_else(|| server.to_owned());
        tokio::spawn(accept(listener, upstream, real.is_none(), Arc::clone(&is_silent)));
        Self {
            url: format!("{head}://{user}@127.0.0.1:{port}/{path}{separator}sslmode=disable"),
            is_silent,
        }
    }

    /// From now on nothing comes back, on any connection.
    pub fn fall_silent(&self) {
        self.is_silent.send_replace(true);
    }

    /// What was held back comes.
    pub fn speak(&self) {
        self.is_silent.send_replace(false);
    }
}

async fn accept(listener: TcpListener, server: String, refuses: bool, is_silent: Arc<watch::Sender<bool>>) {
    while let Ok((client, _)) = listener.accept().await {
        let (server, is_silent) = (server.clone(), is_silent.subscribe());
        tokio::spawn(serve(client, server, refuses, is_silent));
    }
}

async fn serve(
    mut client: TcpStream,
    server: String,
    refuses: bool,
    is_silent: watch::Receiver<bool>,
) -> std::io::Result<()> {
    let length = client.read_u32().await?;
    let mut startup = vec![0; length as usize - 4];
    client.read_exact(&mut startup).await?;
    if let (true, Some(unknown)) = (refuses, unknown_parameter(&startup)) {
        return refuse(&mut client, &unknown).await;
    }
    let mut upstream = TcpStream::connect(server).await?;
    upstream.write_u32(length).await?;
    upstream.write_all(&startup).await?;
    client.set_nodelay(true)?;
    upstream.set_nodelay(true)?;
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = upstream.into_split();
    tokio::spawn(pass_on(from_client, to_server, refuses));
    pass_back(from_server, to_client, is_silent).await
}

fn unknown_parameter(startup: &[u8]) -> Option<String> {
    let mut texts = startup[4..].split(|byte| *byte == 0).map(String::from_utf8_lossy);
    while let (Some(name), Some(_)) = (texts.next(), texts.next()) {
        if !name.is_empty() && !KNOWN.contains(&&*name) {
            return Some(name.into_owned());
        }
    }
    None
}

async fn refuse(client: &mut TcpStream, parameter: &str) -> std::io::Result<()> {
    let fields = format!("SFATAL\0VFATAL\0C08P01\0Munsupported startup parameter: {parameter}\0\0");
    client.write_u8(b'E').await?;
    client.write_u32(u32::try_from(fields.len()).unwrap() + 4).await?;
    client.write_all(fields.as_bytes()).await
}

/// How the driver calls statements, and how they are called behind this: as long, so that no message changes its length.
const NAMES: (&[u8], &[u8]) = (b"sqlx_s_", b"POOLED_");

async fn pass_on(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, renames: bool) -> std::io::Result<()> {
    let mut buffer = Vec::new();
    loop {
        if from.read_buf(&mut buffer).await? == 0 {
            return to.write_all(&buffer).await;
        }
        let mut end = buffer.len();
        if renames {
            let mut at = 0;
            while let Some(found) = buffer[at..].windows(NAMES.0.len()).position(|part| part == NAMES.0) {
                buffer[at + found..][..NAMES.1.len()].copy_from_slice(NAMES.1);
                at += found;
            }
            // The beginning of a name waits for its end.
            let begun = (1..NAMES.0.len())
                .rev()
                .find(|length| buffer.ends_with(&NAMES.0[..*length]));
            end -= begun.unwrap_or(0);
        }
        to.write_all(&buffer[..end]).await?;
        buffer.drain(..end);
    }
}

async fn pass_back(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut is_silent: watch::Receiver<bool>,
) -> std::io::Result<()> {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let read = from.read(&mut buffer).await?;
        if read == 0 || is_silent.wait_for(|silent| !silent).await.is_err() {
            return Ok(());
        }
        to.write_all(&buffer[..read]).await?;
    }
}
