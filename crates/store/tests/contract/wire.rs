//! Counts what reaches a PostgreSQL server: a proxy that reads the frontend's messages as they pass.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};

/// A proxy before a server. It passes everything on and notes each execution.
#[derive(Clone)]
pub struct Wire {
    /// The server's address with the proxy in its place.
    pub url: String,
    seen: Arc<Mutex<Vec<String>>>,
    messages: Arc<AtomicUsize>,
}

impl Wire {
    /// Puts a proxy before the server of `url`, which must name host and port.
    pub async fn before(url: &str) -> Self {
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
        };
        tokio::spawn(accept(listener, server.to_owned(), wire.clone()));
        wire
    }

    /// What was executed since the last call: the text of each simple query, and `execute` for each prepared one.
    pub fn executions(&self) -> Vec<String> {
        std::mem::take(&mut *self.seen.lock().unwrap())
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
        let (from_client, mut to_client) = client.into_split();
        let (mut from_server, to_server) = upstream.into_split();
        tokio::spawn(async move { tokio::io::copy(&mut from_server, &mut to_client).await });
        tokio::spawn(pass_on(from_client, to_server, wire.clone()));
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
async fn read_body(client: &mut OwnedReadHalf) -> std::io::Result<Vec<u8>> {
    let length = client.read_u32().await?;
    let mut body = length.to_be_bytes().to_vec();
    body.resize(length as usize, 0);
    client.read_exact(&mut body[4..]).await?;
    Ok(body)
}
