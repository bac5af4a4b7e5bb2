//! Counts what reaches a PostgreSQL server: a proxy that reads the frontend's messages as they pass.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::through::as_service;

/// A proxy before a server. It passes everything on and notes each execution.
#[derive(Clone)]
pub struct Wire {
    /// The server's address with the proxy in its place.
    pub url: String,
    seen: Arc<Mutex<Vec<String>>>,
    messages: Arc<AtomicUsize>,
    loses_reply: Arc<AtomicBool>,
}

impl Wire {
    /// Puts a proxy before the server of `url`, which must name host and port, or before the pooler that stands there.
    pub async fn before(url: &str) -> Self {
        let url = as_service(url);
        let (head, rest) = url.split_once("://").unwrap();
        let (authority, path) = rest.split_once('/').unwrap();
        let (user, server) = authority.rsplit_once('@').unwrap_or(("postgres", authority));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let separator = if path.contains('?') { '&' } else { '?' };
        let wire = Self {
            url: format!("{head}://{user}@127.0.0.1:{port}/{path}{separator}sslmode=disable"),
            seen: Arc::default(),
            messages: Arc::default(),
            loses_reply: Arc::default(),
        };
        tokio::spawn(accept(listener, server.to_owned(), wire.clone()));
        wire
    }

    /// What was executed since the last call: the text of each simple query, and `execute` for each prepared one.
    pub fn executions(&self) -> Vec<String> {
        std::mem::take(&mut *self.seen.lock().unwrap())
    }

    /// Keeps the answer to the next statement that the server carries out, and closes its connection.
    pub fn lose_next_reply(&self) {
        self.loses_reply.store(true, Ordering::SeqCst);
    }

    /// How many messages were sent so far, those that open a connection included; but not a Sync, which says nothing: the pool
    /// sends one by itself, a little after a connection has come back to it.
    pub fn messages(&self) -> usize {
        self.messages.load(Ordering::SeqCst)
    }
}

async fn accept(listener: TcpListener, server: String, wire: Wire) {
    while let Ok((client, _)) = listener.accept().await {
        let upstream = TcpStream::connect(&server).await.unwrap();
        // A message goes on in two writes, of which the second would wait for an acknowledgement of the first.
        client.set_nodelay(true).unwrap();
        upstream.set_nodelay(true).unwrap();
        let (from_client, to_client) = client.into_split();
        let (from_server, to_server) = upstream.into_split();
        let requests = tokio::spawn(pass_on(from_client, to_server, wire.clone()));
        tokio::spawn(pass_back(from_server, to_client, wire.clone(), requests));
    }
}

/// Hands the server's answers to the client. When one is to be lost, both ends see the connection close.
async fn pass_back(
    mut server: OwnedReadHalf,
    mut client: OwnedWriteHalf,
    wire: Wire,
    requests: JoinHandle<std::io::Result<()>>,
) -> std::io::Result<()> {
    let mut is_lost = false;
    loop {
        let kind = server.read_u8().await?;
        let message = read_body(&mut server).await?;
        // CommandComplete; what it did is committed by the time of the ReadyForQuery after it.
        is_lost |= kind == b'C' && wire.loses_reply.swap(false, Ordering::SeqCst);
        if is_lost {
            if kind == b'Z' {
                requests.abort();
                return Ok(());
            }
            continue;
        }
        client.write_u8(kind).await?;
        client.write_all(&message).await?;
    }
}

/// PostgreSQL's frontend protocol 3: the first message has a length alone, each further one a type byte and a length, which
/// counts itself.
async fn pass_on(mut client: OwnedReadHalf, mut server: OwnedWriteHalf, wire: Wire) -> std::io::Result<()> {
    let startup = read_body(&mut client).await?;
    wire.messages.fetch_add(1, Ordering::SeqCst);
    server.write_all(&startup).await?;
    loop {
        let kind = client.read_u8().await?;
        let message = read_body(&mut client).await?;
        if kind != b'S' {
            wire.messages.fetch_add(1, Ordering::SeqCst);
        }
        match kind {
            b'E' => wire.seen.lock().unwrap().push("execute".to_owned()),
            b'Q' => {
                let text = String::from_utf8_lossy(&message[4..message.len() - 1]).into_owned();
                wire.seen.lock().unwrap().push(text);
            }
            _ => {}
        }
        server.write_u8(kind).await?;
        server.write_all(&message).await?;
    }
}

/// A length and what it counts.
async fn read_body(from: &mut OwnedReadHalf) -> std::io::Result<Vec<u8>> {
    let length = from.read_u32().await?;
    let mut body = length.to_be_bytes().to_vec();
    body.resize(length as usize, 0);
    from.read_exact(&mut body[4..]).await?;
    Ok(body)
}
