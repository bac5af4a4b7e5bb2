//! What a request is refused with: problem details of RFC 9457.

use std::borrow::Cow;

use axum::extract::rejection::{BytesRejection, JsonRejection, PathRejection, QueryRejection};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use conferencing_store::{Error, Invalid};
use sea_orm::DbErr;
use serde_json::{Map, Value};

/// The body of every refusal, `application/problem+json`. What went wrong inside the service is logged and not told.
#[derive(Clone, Debug, serde::Serialize, utoipa::ToSchema)]
pub struct Problem {
    /// `about:blank`: the code says which problem it is.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// The status in words.
    pub title: &'static str,
    /// The HTTP status.
    pub status: u16,
    /// Which problem, for programs: it does not change.
    #[schema(value_type = String, example = "room_full")]
    pub code: Cow<'static, str>,
    /// What happened, for people.
    pub detail: String,
    /// Ids and numbers that the code goes with.
    #[serde(skip_serializing_if = "Map::is_empty")]
    #[schema(value_type = Object)]
    pub details: Box<Map<String, Value>>,
    #[serde(skip)]
    retry_after: Option<u32>,
}

impl Problem {
    /// A refusal of the service's own.
    pub fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self {
            kind: "about:blank",
            title: status.canonical_reason().unwrap_or("Error"),
            status: status.as_u16(),
            code: Cow::Borrowed(code),
            detail: detail.into(),
            details: Box::default(),
            retry_after: (status == StatusCode::SERVICE_UNAVAILABLE).then_some(1),
        }
    }

    /// It may work in so many seconds.
    #[must_use]
    pub fn retry_after(mut self, seconds: u32) -> Self {
        self.retry_after = Some(seconds);
        self
    }

    pub(crate) fn not_signed_in() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "not_signed_in", "sign in first")
    }

    pub(crate) fn no_such_room() -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "room_not_found",
            "there is no room with this code",
        )
    }

    pub(crate) fn forbidden(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "not_allowed", detail)
    }

    pub(crate) fn internal(detail: &dyn std::fmt::Display) -> Self {
        tracing::error!("{detail}");
        let detail = "something is wrong with the service; it was logged";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::to_vec(&self).unwrap_or_default();
        let mut response = (status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let status = error.http_status();
        let told = match status {
            // What the database said is nobody's business but the operator's.
            500 => {
                tracing::error!(code = error.code(), "{error}");
                "something is wrong with the service; it was logged".to_owned()
            }
            503 => {
                tracing::warn!(code = error.code(), "{error}");
                "it cannot be done just now".to_owned()
            }
            _ => error.to_string(),
        };
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let details = match status.is_client_error() {
            true => error.details(),
            false => Map::new(),
        };
        Self {
            details: Box::new(details),
            ..Self::new(status, error.code(), told)
        }
    }
}

impl From<Invalid> for Problem {
    fn from(invalid: Invalid) -> Self {
        Error::from(invalid).into()
    }
}

/// Of the service's own tables.
impl From<DbErr> for Problem {
    fn from(error: DbErr) -> Self {
        tracing::error!("the service's own tables: {error}");
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "sessions_unavailable",
            "it cannot be done just now",
        )
    }
}

impl From<JsonRejection> for Problem {
    fn from(rejection: JsonRejection) -> Self {
        let code = match rejection.status() {
            StatusCode::PAYLOAD_TOO_LARGE => "body_too_large",
            StatusCode::UNSUPPORTED_MEDIA_TYPE => "not_json",
            _ => "malformed_body",
        };
        Self::new(rejection.status(), code, rejection.body_text())
    }
}

impl From<BytesRejection> for Problem {
    fn from(rejection: BytesRejection) -> Self {
        let code = match rejection.status() {
            StatusCode::PAYLOAD_TOO_LARGE => "body_too_large",
            _ => "malformed_body",
        };
        Self::new(rejection.status(), code, rejection.body_text())
    }
}

impl From<PathRejection> for Problem {
    fn from(rejection: PathRejection) -> Self {
        Self::new(StatusCode::NOT_FOUND, "malformed_path", rejection.body_text())
    }
}

impl From<QueryRejection> for Problem {
    fn from(rejection: QueryRejection) -> Self {
        Self::new(rejection.status(), "malformed_query", rejection.body_text())
    }
}
