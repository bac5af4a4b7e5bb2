//! What a page says when it cannot be shown.

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use conferencing_store::{Error, Invalid};

use crate::view;

/// Why there is no page.
#[derive(Debug)]
pub(crate) enum Failure {
    /// What was asked for makes no sense.
    Input(String),
    /// There is no such thing.
    Missing(&'static str),
    /// A form that this session has not made, or that came from elsewhere.
    Forged,
    /// The store failed.
    Store(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error {
            Error::Invalid(invalid) => invalid.into(),
            Error::NotFound(_) => Self::Missing("There is no such thing."),
            other => Self::Store(other),
        }
    }
}

impl From<Invalid> for Failure {
    fn from(invalid: Invalid) -> Self {
        Self::Input(invalid.to_string())
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let (status, title, text) = match self {
            Self::Input(text) => (StatusCode::UNPROCESSABLE_ENTITY, "That makes no sense", text),
            Self::Missing(text) => (StatusCode::NOT_FOUND, "Not found", text.to_owned()),
            Self::Forged => {
                let text = "This form is not of your session. Go back, load the page again and send it once more.";
                (StatusCode::FORBIDDEN, "Refused", text.to_owned())
            }
            Self::Store(error) if error.is_retryable() => {
                tracing::warn!(%error, "a page could not be shown");
                let text = "The database does not answer just now. Try again in a moment.";
                (StatusCode::SERVICE_UNAVAILABLE, "Not now", text.to_owned())
            }
            Self::Store(error) => {
                tracing::error!(%error, "a page could not be shown");
                let text = "Something is wrong with the database or this console. The log says what.";
                (StatusCode::INTERNAL_SERVER_ERROR, "Failed", text.to_owned())
            }
        };
        (status, view::message(title, &text)).into_response()
    }
}
