//! What every request works with, and how the service starts and stops.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use conferencing_migration::{MigrateError, MigrateSettings, apply, migrate};
use conferencing_store::clock::Clock;
use conferencing_store::entity::{MediaNodeId, UserId};
use conferencing_store::{Actor, ConnectSettings, Error, Store, StoreSettings, connect};
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::net::TcpListener;
use tokio::sync::{RwLock as AsyncRwLock, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TrackedFuture;
use tracing::Instrument as _;

use crate::auth::migrations::Migrator;
use crate::auth::passwords::Passwords;
use crate::config::Config;
use crate::names::{Name, Names};
use crate::presence::Presence;
use crate::routes::events;
use crate::webhook_signature::WebhookKey;
use crate::{metering, routes};

/// The service, as every request sees it. Cheap to clone.
#[derive(Clone)]
pub struct App(Arc<Inner>);

struct Inner {
    store: Store,
    clock: Arc<dyn Clock>,
    config: Config,
    passwords: Passwords,
    presence: Presence,
    names: Names,
    node_name: String,
    node: std::sync::RwLock<MediaNodeId>,
    /// One at a time begins anew.
    renewal: AsyncRwLock<()>,
    sockets: Arc<Semaphore>,
    catching_up: Semaphore,
    webhooks: Option<WebhookKey>,
    metrics: PrometheusHandle,
    stopping: CancellationToken,
    tasks: TaskTracker,
}

/// Why the service does not start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The database is not there, or not as it must be.
    #[error(transparent)]
    Store(#[from] Error),
    /// The schema could not be brought up to date.
    #[error(transparent)]
    Migrate(#[from] MigrateError),
    /// A setting has no value of its kind.
    #[error("{0}")]
    Setting(String),
    /// The address cannot be listened on, or the listener broke.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

impl App {
    /// Opens the database, brings it up to date if the settings say so, and makes this process known as a media node.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn start(config: Config) -> Result<Self, StartError> {
        let settings = StoreSettings {
            connect: ConnectSettings::from_environment()?.with_address(&config.database_url)?,
            ..StoreSettings::default()
        };
        Self::start_with(config, settings).await
    }

    /// As [`App::start`], with settings of the store of the caller's, such as a clock of its own.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn start_with(config: Config, settings: StoreSettings) -> Result<Self, StartError> {
        let metrics = metering::recorder().map_err(StartError::Setting)?;
        let webhooks = config.webhook_secret.as_ref().map(WebhookKey::new).transpose();
        let webhooks = webhooks.map_err(|error| StartError::Setting(format!("SIGNALING_WEBHOOK_SECRET {error}")))?;
        let passwords = Passwords::new(&config).map_err(StartError::Setting)?;
        let clock = Arc::clone(&settings.clock);
        if config.migrate {
            // Every instance may do so at the same moment: one works, the others wait.
            let db = connect::open(&config.database_url, &settings.connect).await?;
            migrate(&db).await?;
            apply::<Migrator>(&db, &MigrateSettings::default()).await?;
            db.close()
                .await
                .map_err(|error| StartError::Setting(error.to_string()))?;
        }
        let store = Store::connect_with(&config.database_url.clone(), settings).await?;
        let node_name = config
            .node_name
            .clone()
            .unwrap_or_else(|| format!("signaling-{:08x}", rand::random::<u32>()));
        let node = register(&store, &node_name).await?;
        let sockets = Arc::new(Semaphore::new(config.sockets));
        let app = Self(Arc::new(Inner {
            store,
            clock,
            config,
            passwords,
            presence: Presence::default(),
            names: Names::default(),
            node_name,
            node: std::sync::RwLock::new(node),
            renewal: AsyncRwLock::default(),
            sockets,
            catching_up: Semaphore::new(events::CATCHING_UP),
            webhooks,
            metrics,
            stopping: CancellationToken::new(),
            tasks: TaskTracker::new(),
        }));
        app.spawn(app.clone().keep_alive());
        app.spawn(app.clone().look_for_silent());
        app.spawn(app.clone().tidy_up());
        app.spawn(app.clone().keep_metrics_small());
        Ok(app)
    }

    /// Serves requests until `stop` is done, then lets those under way end, closes WebSockets with 1012 (their clients come back, to
    /// another process or to this one's successor), and closes the store. Whatever has not ended by the configured time, which is one for all of it,
    /// ends with the process.
    ///
    /// Seats are not given up: whoever does not come back in time is found by the sweep of silent processes.
    ///
    /// # Errors
    /// Of the listener and the store.
    pub async fn serve(
        self,
        listener: TcpListener,
        stop: impl Future<Output = ()> + Send + 'static,
    ) -> Result<(), StartError> {
        let service = routes::service(&self);
        let stopping = self.stopping().clone();
        let signal = async move {
            stop.await;
            tracing::info!("stopping");
            stopping.cancel();
        };
        let serving = axum::serve(listener, service)
            .with_graceful_shutdown(signal)
            .into_future();
        let ending = async {
            serving.await?;
            self.end().await
        };
        let limit = async {
            self.stopping().cancelled().await;
            tokio::time::sleep(self.config().shutdown_time()).await;
        };
        tokio::select! {
            ended = ending => ended,
            // The store is not closed then: that waits for who works with it.
            () = limit => {
                tracing::warn!("requests and WebSockets that were open are cut off");
                Ok(())
            }
        }
    }

    async fn end(&self) -> Result<(), StartError> {
        self.0.stopping.cancel();
        self.0.tasks.close();
        self.0.tasks.wait().await;
        self.store().close().await?;
        tracing::info!("stopped");
        Ok(())
    }

    /// The store.
    pub fn store(&self) -> &Store {
        &self.0.store
    }

    /// The store's time.
    pub(crate) fn now(&self) -> DateTime<Utc> {
        self.0.clock.now()
    }

    /// The settings.
    pub fn config(&self) -> &Config {
        &self.0.config
    }

    pub(crate) fn passwords(&self) -> &Passwords {
        &self.0.passwords
    }

    pub(crate) fn presence(&self) -> &Presence {
        &self.0.presence
    }

    pub(crate) fn sockets(&self) -> &Arc<Semaphore> {
        &self.0.sockets
    }

    /// Turns of those who read what they have missed.
    pub(crate) fn catching_up(&self) -> &Semaphore {
        &self.0.catching_up
    }

    pub(crate) fn webhooks(&self) -> Option<&WebhookKey> {
        self.0.webhooks.as_ref()
    }

    pub(crate) fn metrics(&self) -> &PrometheusHandle {
        &self.0.metrics
    }

    /// Done when the service stops.
    pub(crate) fn stopping(&self) -> &CancellationToken {
        &self.0.stopping
    }

    /// In the background; the service waits for it when it stops.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.0.tasks.spawn(task);
    }

    /// What a WebSocket does; the service waits for it when it stops.
    pub(crate) fn tracked<F: Future>(&self, work: F) -> TrackedFuture<F> {
        self.0.tasks.track_future(work)
    }

    /// Does it to its end even if the request is given up meanwhile: for what must follow a commit.
    pub(crate) async fn to_its_end<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> T {
        match self.0.tasks.spawn(work.in_current_span()).await {
            Ok(done) => done,
            Err(failed) => match failed.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // The runtime ends, and this with it.
                Err(_) => std::future::pending().await,
            },
        }
    }

    /// The media node that this process is.
    pub fn node(&self) -> MediaNodeId {
        match self.0.node.read() {
            Ok(node) => *node,
            Err(poisoned) => *poisoned.into_inner(),
        }
    }

    /// Registers this process anew, if it is taken for dead.
    pub(crate) async fn begin_anew(&self) -> Result<(), Error> {
        let lost = self.node();
        let _alone = self.0.renewal.write().await;
        if self.node() != lost {
            return Ok(());
        }
        let node = register(&self.0.store, &self.0.node_name).await?;
        match self.0.node.write() {
            Ok(mut current) => *current = node,
            Err(poisoned) => *poisoned.into_inner() = node,
        }
        Ok(())
    }

    /// What others see of a user.
    pub(crate) async fn name_of(&self, user: UserId) -> Result<Arc<Name>, Error> {
        self.0.names.of(&self.0.store, user).await
    }

    /// For tests: as if the process had died. Nothing is closed and nobody told.
    pub fn kill(&self) {
        self.0.stopping.cancel();
    }
}

async fn register(store: &Store, name: &str) -> Result<MediaNodeId, Error> {
    let acting = store.acting(&Actor::system("presence"));
    acting.nodes().register(name).await.map(|node| node.id)
}

/// How long a client that is told to come back is to wait.
pub(crate) const RETRY_AFTER: Duration = Duration::from_secs(5);
