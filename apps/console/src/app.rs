//! What all pages share, and where each is.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, HeaderValue, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use chrono::NaiveDate;
use conferencing_store::entity::UserId;
use conferencing_store::statistics::DayOfUse;
use conferencing_store::{Error, Report, Store};

use crate::cached::Cached;
use crate::filter;
use crate::pages;
use crate::passwords::Passwords;
use crate::sessions::Sessions;
use crate::sign_in;

/// How the console is run.
#[derive(Clone, Debug)]
pub struct ConsoleSettings {
    /// The usernames or ids of those who may sign in. Whoever is not among them is refused, whatever their password. A name becomes free when
    /// its user takes another or is erased, and then anybody may register by it; an id is one person's for good.
    pub operators: BTreeSet<String>,
    /// The way to it is encrypted all along, by a proxy in front: the cookie is then sent over nothing else, and who comes has the address that
    /// the proxy appended to `X-Forwarded-For`.
    pub behind_tls: bool,
    /// After how long without a request a session ends: 30 minutes.
    pub idle: Duration,
    /// After how long it ends anyway: 8 hours.
    pub longest: Duration,
}

impl ConsoleSettings {
    /// For these operators, by usernames, whose case does not matter, or ids.
    pub fn for_operators(operators: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self {
            operators: operators.into_iter().map(Into::into).collect(),
            behind_tls: false,
            idle: Duration::from_secs(30 * 60),
            longest: Duration::from_secs(8 * 60 * 60),
        }
    }
}

/// What all requests share. Cheap to clone.
#[derive(Clone)]
pub struct App {
    pub(crate) store: Store,
    pub(crate) settings: Arc<ConsoleSettings>,
    pub(crate) operators: Arc<BTreeMap<UserId, String>>,
    pub(crate) sessions: Arc<Sessions>,
    pub(crate) passwords: Arc<Passwords>,
    /// The doctor's report, which takes a scan of all participations.
    pub(crate) report: Arc<Cached<(), Report>>,
    /// Days of use, likewise.
    pub(crate) days: Arc<Cached<NaiveDate, Vec<DayOfUse>>>,
}

/// How old what is dear to ask may be.
const FRESH: Duration = Duration::from_secs(60);

impl App {
    /// A console over this store. Who its operators are is looked up once: who comes by one of their names later is no operator.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn new(store: Store, settings: ConsoleSettings) -> Result<Self, StartError> {
        let operators = operators(&store, &settings.operators).await?;
        Ok(Self {
            store,
            operators: Arc::new(operators),
            sessions: Arc::new(Sessions::new(settings.idle, settings.longest)),
            passwords: Arc::new(Passwords::new().map_err(StartError::Hashing)?),
            settings: Arc::new(settings),
            report: Arc::new(Cached::new(FRESH)),
            days: Arc::new(Cached::new(FRESH)),
        })
    }

    /// Those who may sign in, with the names that they had at the start.
    pub fn operators(&self) -> impl Iterator<Item = (UserId, &str)> {
        self.operators.iter().map(|(id, name)| (*id, name.as_str()))
    }
}

async fn operators(store: &Store, named: &BTreeSet<String>) -> Result<BTreeMap<UserId, String>, StartError> {
    let mut operators = BTreeMap::new();
    for name in named {
        let found = match filter::user(store, name.trim()).await {
            Ok(found) => found,
            // What no name can be is nobody's.
            Err(Error::Invalid(_)) => None,
            Err(error) => return Err(error.into()),
        };
        let user = found.ok_or_else(|| StartError::UnknownOperator(name.clone()))?;
        operators.insert(user.id, user.username);
    }
    Ok(operators)
}

/// Why there is no console.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// An operator has a name that nobody has, which anybody could register, or an id that is nobody's.
    #[error("there is no user with the username or id {0:?}, so it can be no operator's")]
    UnknownOperator(String),
    /// No password can be hashed, in words.
    #[error("no password can be hashed: {0}")]
    Hashing(String),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] Error),
}

/// The console's pages. All but the way in ask for a session.
pub fn router(app: App) -> Router {
    let inside = Router::new()
        .route("/", get(pages::overview::page))
        .route("/rooms", get(pages::rooms::page))
        .route("/rooms/{room}", get(pages::room::page))
        .route("/rooms/{room}/{list}", get(pages::room::list))
        .route("/people", get(pages::people::page))
        .route("/people/{user}", get(pages::person::page))
        .route("/people/{user}/{list}", get(pages::person::list))
        .route("/audit", get(pages::audit::page))
        .route("/audit/export", post(pages::audit::export))
        .route("/doctor", get(pages::doctor::page))
        .route("/sign-out", post(sign_in::sign_out))
        .route_layer(middleware::from_fn_with_state(app.clone(), sign_in::only_signed_in));
    Router::new()
        .route("/sign-in", get(sign_in::form).post(sign_in::sign_in))
        .route("/style.css", get(style))
        .merge(inside)
        .fallback(pages::nothing_here)
        .layer(middleware::from_fn(guarded))
        .layer(DefaultBodyLimit::max(16 * 1024))
        .with_state(app)
}

async fn style() -> impl IntoResponse {
    let css = HeaderValue::from_static("text/css; charset=utf-8");
    ([(CONTENT_TYPE, css)], include_str!("style.css"))
}

/// Nothing of other origins, no scripts at all, no frames, no forms to elsewhere; and no copy in any cache.
const POLICY: &str =
    "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

async fn guarded(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers: [(HeaderName, &'static str); 5] = [
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (X_FRAME_OPTIONS, "DENY"),
        (REFERRER_POLICY, "same-origin"),
        (CACHE_CONTROL, "no-store"),
    ];
    for (name, value) in headers {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}
