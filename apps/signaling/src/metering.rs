//! Metrics of requests, and of the process the recorder that Prometheus reads.

use std::sync::Mutex;
use std::time::Instant;

use axum::extract::{MatchedPath, Request};
use axum::middleware::Next;
use axum::response::Response;
use conferencing_store::telemetry;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};

/// The recorder of this process, with buckets from a millisecond to ten seconds: made once, however many services run in it.
pub(crate) fn recorder() -> Result<PrometheusHandle, String> {
    static RECORDER: Mutex<Option<PrometheusHandle>> = Mutex::new(None);
    let mut recorder = RECORDER.lock().map_err(|error| error.to_string())?;
    if let Some(handle) = recorder.as_ref() {
        return Ok(handle.clone());
    }
    let buckets = [
        0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
    ];
    let builder = PrometheusBuilder::new()
        .set_buckets(&buckets)
        .map_err(|error| error.to_string())?;
    let handle = builder.install_recorder().map_err(|error| error.to_string())?;
    telemetry::describe();
    metrics::describe_counter!("signaling_http_requests_total", "Requests that were answered");
    metrics::describe_histogram!(
        "signaling_http_request_seconds",
        metrics::Unit::Seconds,
        "How long a request took, WebSockets up to their opening"
    );
    metrics::describe_gauge!("signaling_sockets", "WebSockets that are open");
    metrics::describe_counter!("signaling_socket_events_total", "Events that were sent over WebSockets");
    Ok(recorder.insert(handle).clone())
}

/// Counts and measures each request by its route, never by its path, which has no end of values.
pub(crate) async fn measured(request: Request, next: Next) -> Response {
    let begun = Instant::now();
    let method = match request.method().as_str() {
        known @ ("GET" | "HEAD" | "POST" | "PUT" | "PATCH" | "DELETE" | "OPTIONS") => known.to_owned(),
        _ => "other".to_owned(),
    };
    let route = request.extensions().get::<MatchedPath>();
    let route = route.map_or_else(|| "none".to_owned(), |path| path.as_str().to_owned());
    let response = next.run(request).await;
    let status = response.status().as_u16().to_string();
    metrics::counter!("signaling_http_requests_total", "method" => method.clone(), "route" => route.clone(), "status" => status)
        .increment(1);
    metrics::histogram!("signaling_http_request_seconds", "method" => method, "route" => route)
        .record(begun.elapsed().as_secs_f64());
    response
}
