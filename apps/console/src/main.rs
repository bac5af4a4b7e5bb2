//! `conferencing-console`: the web console for operators. docs/CONSOLE.md.

use std::net::SocketAddr;
use std::process::ExitCode;

use clap::Parser;
use conferencing_console::{App, ConsoleSettings, router};
use conferencing_store::{ConnectSettings, Durability, Store, StoreSettings};
use tokio::net::TcpListener;

/// Shows operators what is going on and what happened, in a browser; changes nothing but the audit log, which says who looked
#[derive(Parser)]
#[command(name = "conferencing-console", version)]
struct Arguments {
    /// postgres://user:password@host/database or sqlite://file
    #[arg(long, env = "DATABASE_URL", hide_env_values = true)]
    database_url: String,
    /// Those who may sign in, by usernames or, better, ids, with the passwords that they have on the platform
    #[arg(long, env = "CONSOLE_OPERATORS", value_delimiter = ',', required = true)]
    operators: Vec<String>,
    /// Where to listen. Anything but the machine itself should be behind a proxy that encrypts
    #[arg(long, env = "CONSOLE_LISTEN", default_value = "127.0.0.1:8090")]
    listen: SocketAddr,
    /// A proxy in front encrypts: browsers send the session's cookie over nothing else, and the last of X-Forwarded-For is the client's address
    #[arg(long, env = "CONSOLE_BEHIND_TLS")]
    behind_tls: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    match Box::pin(run(Arguments::parse())).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("conferencing-console: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> Result<(), Box<dyn std::error::Error>> {
    let environment = ConnectSettings::from_environment()?;
    let settings = StoreSettings {
        connect: ConnectSettings {
            max_connections: environment.max_connections.or(Some(5)),
            ..environment
        },
        // A database that may forget commits is something to look at, not a reason not to.
        durability: Durability::AsConfigured,
        ..StoreSettings::default()
    };
    let store = Store::connect_with(&arguments.database_url, settings).await?;
    let settings = ConsoleSettings {
        behind_tls: arguments.behind_tls,
        ..ConsoleSettings::for_operators(&arguments.operators)
    };
    let app = App::new(store.clone(), settings).await?;
    let listener = TcpListener::bind(arguments.listen).await?;
    let address = listener.local_addr()?;
    if !address.ip().is_loopback() && !arguments.behind_tls {
        eprintln!(
            "conferencing-console: WARNING: {address} can be reached from other machines, and nothing says that the way is encrypted. \
             Passwords and personal data would cross the network in the clear. Put a proxy with TLS in front and say --behind-tls."
        );
    }
    let operators: Vec<String> = app.operators().map(|(id, name)| format!("{name} ({id})")).collect();
    println!("http://{address} for {}; Ctrl-C ends it", operators.join(", "));
    let service = router(app).into_make_service_with_connect_info::<SocketAddr>();
    axum::serve(listener, service).with_graceful_shutdown(ended()).await?;
    store.close().await?;
    Ok(())
}

/// Ctrl-C, or SIGTERM from who runs it.
async fn ended() {
    let interrupted = tokio::signal::ctrl_c();
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        if let Ok(mut terminated) = signal(SignalKind::terminate()) {
            tokio::select! {
                _ = interrupted => {}
                _ = terminated.recv() => {}
            }
            return;
        }
    }
    let _ = interrupted.await;
}
