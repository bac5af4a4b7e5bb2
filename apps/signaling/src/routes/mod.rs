//! The routes, and what every request passes on its way to one.

mod accounts;
pub mod events;
mod extract;
mod page;
mod people;
mod recordings;
mod rooms;
mod service;
mod trail;
mod views;
pub mod webhooks;

use std::net::SocketAddr;

use axum::extract::connect_info::IntoMakeServiceWithConnectInfo;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{HeaderName, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::request_id::{MakeRequestUuid, PropagateRequestIdLayer, RequestId, SetRequestIdLayer};
use tower_http::trace::{DefaultOnResponse, TraceLayer};
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::App;
use crate::metering;
use crate::problem::Problem;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Signaling",
        description = "Who is in which meeting. Refusals are problem details (RFC 9457); their codes are those of docs/ERRORS.md and docs/SIGNALING.md. \
                       Sessions are a cookie, or a bearer token."
    ),
    components(schemas(Problem))
)]
struct Api;

fn described() -> OpenApiRouter<App> {
    OpenApiRouter::with_openapi(Api::openapi())
        .routes(routes!(accounts::register))
        .routes(routes!(accounts::login))
        .routes(routes!(accounts::logout))
        .routes(routes!(accounts::me))
        .routes(routes!(accounts::issue_ticket))
        .routes(routes!(rooms::create, rooms::list))
        .routes(routes!(rooms::get, rooms::update, rooms::delete))
        .routes(routes!(rooms::start))
        .routes(routes!(rooms::end))
        .routes(routes!(rooms::cancel))
        .routes(routes!(people::join))
        .routes(routes!(people::visit))
        .routes(routes!(people::leave))
        .routes(routes!(people::list))
        .routes(routes!(people::kick))
        .routes(routes!(people::ban, people::unban))
        .routes(routes!(people::bans))
        .routes(routes!(people::promote))
        .routes(routes!(people::demote))
        .routes(routes!(people::hand_over))
        .routes(routes!(recordings::start, recordings::list))
        .routes(routes!(recordings::stop))
        .routes(routes!(trail::list))
        .routes(routes!(events::open))
        .routes(routes!(webhooks::receive))
        .routes(routes!(service::alive))
        .routes(routes!(service::ready))
        .routes(routes!(service::metrics))
}

/// The description of the API, as `/openapi.json` serves it.
pub fn openapi() -> utoipa::openapi::OpenApi {
    described().split_for_parts().1
}

pub(crate) fn service(app: &App) -> IntoMakeServiceWithConnectInfo<Router, SocketAddr> {
    let (router, api) = described().split_for_parts();
    let id = HeaderName::from_static("x-request-id");
    let router = router
        .route("/openapi.json", get(move || std::future::ready(Json(api.clone()))))
        .route("/", get(page::index))
        .route("/app.js", get(page::script))
        .route("/style.css", get(page::style))
        .fallback(async || Problem::new(StatusCode::NOT_FOUND, "no_such_path", "there is nothing at this path"))
        .method_not_allowed_fallback(async || {
            Problem::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "method_not_allowed",
                "this path takes other methods",
            )
        })
        .layer(DefaultBodyLimit::max(app.config().body_bytes))
        .layer(middleware::from_fn_with_state(app.clone(), in_time))
        .layer(middleware::from_fn(metering::measured))
        .layer(CatchPanicLayer::custom(|_: Box<dyn std::any::Any + Send>| {
            Problem::internal(&"a request panicked").into_response()
        }))
        .layer(PropagateRequestIdLayer::new(id.clone()))
        .layer(
            TraceLayer::new_for_http()
                .make_span_with(span)
                .on_response(DefaultOnResponse::new().level(tracing::Level::INFO)),
        )
        .layer(SetRequestIdLayer::new(id, MakeRequestUuid));
    router.with_state(app.clone()).into_make_service_with_connect_info()
}

/// Without what stands behind the question mark, where tickets are.
fn span(request: &Request) -> tracing::Span {
    let id = request.extensions().get::<RequestId>();
    let id = id.and_then(|id| id.header_value().to_str().ok()).unwrap_or_default();
    tracing::info_span!("request", method = %request.method(), path = request.uri().path(), id)
}

/// Gives a request up that takes too long. Changes that had begun are made or not, as the store says; the client looks.
async fn in_time(State(app): State<App>, request: Request, next: Next) -> Response {
    let limit = std::time::Duration::from_secs(app.config().request_seconds.into());
    match tokio::time::timeout(limit, next.run(request)).await {
        Ok(response) => response,
        Err(_) => Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "request_timed_out",
            "it took too long, and may have been done or not",
        )
        .into_response(),
    }
}
