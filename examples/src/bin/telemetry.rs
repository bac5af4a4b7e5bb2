//! What does the store tell of its work? A meeting is played, and the metrics are printed as a Prometheus reads them; or they are served to one,
//! while meetings go on. docs/TELEMETRY.md says what each is.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use conferencing_store::StoreSettings;
use examples::{DatabaseArgs, Sentence, exit, follow, play, print, recorder};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Plays a meeting and prints the metrics of it; or serves them, and plays one each second until Ctrl-C
#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    database: DatabaseArgs,
    /// Serve the metrics over HTTP at this address, whatever the path
    #[arg(long)]
    listen: Option<SocketAddr>,
}

#[tokio::main]
async fn main() -> ExitCode {
    exit("telemetry", run(Arguments::parse()).await)
}

async fn run(arguments: Arguments) -> Result<(), Sentence> {
    // First of all: what is counted before there is a recorder is lost.
    let metrics = recorder()?;
    let store = arguments.database.open(StoreSettings::default()).await?;
    follow(&store).await?;
    let text = || {
        store.pool_usage();
        metrics.run_upkeep();
        metrics.render()
    };
    let Some(address) = arguments.listen else {
        print(text());
        store.close().await?;
        return Ok(());
    };
    let listener = TcpListener::bind(address).await?;
    print(format_args!("http://{}/metrics\n", listener.local_addr()?));
    let mut next = tokio::time::interval(Duration::from_secs(1));
    loop {
        tokio::select! {
            _ = next.tick() => play(&store).await?,
            client = listener.accept() => {
                // One that goes away has had its answer, or wants none.
                let _ = answer(client?.0, &text()).await;
            }
            stopped = tokio::signal::ctrl_c() => {
                stopped?;
                store.close().await?;
                return Ok(());
            }
        }
    }
}

/// Any request is one for the metrics.
async fn answer(mut client: TcpStream, body: &str) -> std::io::Result<()> {
    let mut request = [0; 1024];
    let _ = tokio::time::timeout(Duration::from_secs(1), client.read(&mut request)).await;
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    client.write_all(head.as_bytes()).await?;
    client.write_all(body.as_bytes()).await?;
    client.shutdown().await
}
