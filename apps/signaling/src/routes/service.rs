//! For those who run the service: probes, metrics, the description of the API.

use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use conferencing_store::health::Health;
use serde::Serialize;
use utoipa::ToSchema;

use super::extract::Json;
use crate::app::App;
use crate::problem::Problem;

/// The process runs.
#[derive(Serialize, ToSchema)]
pub(crate) struct Alive {
    status: &'static str,
}

/// The process can serve requests.
#[derive(Serialize, ToSchema)]
pub(crate) struct Ready {
    status: &'static str,
    /// Which database it is.
    database: &'static str,
    /// The newest migration that is needed, and there.
    migration: &'static str,
    /// How long the database took to answer.
    round_trip_seconds: f64,
}

impl From<Health> for Ready {
    fn from(health: Health) -> Self {
        Self {
            status: "ready",
            database: health.database,
            migration: health.migration,
            round_trip_seconds: health.round_trip.as_secs_f64(),
        }
    }
}

/// Whether the process runs; asks nobody else. For a probe that starts it anew.
#[utoipa::path(get, path = "/healthz", tag = "service", responses((status = 200, body = Alive)))]
pub(crate) async fn alive() -> Json<Alive> {
    Json(Alive { status: "alive" })
}

/// Whether the database is there and has the schema. For a probe that sends requests elsewhere; so they are once the service stops.
#[utoipa::path(get, path = "/readyz", tag = "service", responses((status = 200, body = Ready), (status = 503, body = Problem)))]
pub(crate) async fn ready(State(app): State<App>) -> Result<Json<Ready>, Problem> {
    let status = axum::http::StatusCode::SERVICE_UNAVAILABLE;
    if app.stopping().is_cancelled() {
        return Err(Problem::new(status, "stopping", "the service stops"));
    }
    let health = app.store().health().await.map_err(|error| {
        tracing::warn!("not ready: {error}");
        Problem::new(status, error.code(), "the database is not ready")
    })?;
    Ok(Json(health.into()))
}

/// Metrics, in Prometheus's text format: the service's own, and the store's (docs/TELEMETRY.md).
#[utoipa::path(get, path = "/metrics", tag = "service", responses((status = 200, body = String, content_type = "text/plain")))]
pub(crate) async fn metrics(State(app): State<App>) -> impl IntoResponse {
    app.store().pool_usage();
    let text = app.metrics().render();
    (
        [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")],
        text,
    )
}
