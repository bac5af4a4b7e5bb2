//! Runs the signaling service until SIGTERM or SIGINT.

use std::process::ExitCode;

use clap::Parser;
use conferencing_signaling::{App, Config, StartError};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

#[tokio::main]
async fn main() -> ExitCode {
    let config = Config::parse();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info,sqlx=warn"));
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    match config.log_json {
        true => log.json().init(),
        false => log.init(),
    }
    match run(config).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(config: Config) -> Result<(), StartError> {
    let (mut terminated, mut interrupted) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let stop = async move {
        tokio::select! {
            _ = terminated.recv() => {}
            _ = interrupted.recv() => {}
        }
    };
    // First the port: a second process by mistake must not take the first one's name over.
    let listener = TcpListener::bind(config.listen).await?;
    let mut stop = Box::pin(stop);
    let app = tokio::select! {
        app = App::start(config) => app?,
        () = &mut stop => return Ok(()),
    };
    tracing::info!("listening on http://{}", listener.local_addr()?);
    app.serve(listener, stop).await
}
