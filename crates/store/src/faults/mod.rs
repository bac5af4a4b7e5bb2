//! Where a test lets the database fail: each statement, BEGIN and COMMIT of the store passes by a hook. Without the feature `testing` there
//! is nothing in it, and what passes is handed on as it is.
//!
//! What fails here fails as the driver would, so that all above (what errors mean, retries, spoilt units, metrics) works as it does in earnest.

#[cfg(feature = "testing")]
mod failure;
#[cfg(feature = "testing")]
mod injector;

#[cfg(feature = "testing")]
use std::sync::Arc;

use sea_orm::DbErr;

#[cfg(feature = "testing")]
pub use failure::Failure;
#[cfg(feature = "testing")]
pub use injector::{FaultInjector, Struck};

use crate::database::Dialect;

/// The name of what opens a caller's unit of work.
pub const BEGIN: &str = "begin";
/// The name of what ends it.
pub const COMMIT: &str = "commit";

/// Something that is about to be sent to the database, or was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Point {
    /// The operation or read, by the name that spans and metrics have; [`BEGIN`] and [`COMMIT`] for those of a caller's unit.
    pub operation: &'static str,
    /// What is sent.
    pub kind: PointKind,
}

/// What is sent to the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PointKind {
    /// A statement that reads.
    Read,
    /// A statement that changes something and commits by itself.
    Change,
    /// A change within a transaction.
    Step {
        /// The transaction is for this operation alone: its end is a [`PointKind::Commit`] of the same name.
        alone: bool,
    },
    /// BEGIN.
    Begin,
    /// COMMIT.
    Commit,
}

impl Point {
    pub(crate) fn new(operation: &'static str, kind: PointKind) -> Self {
        Self { operation, kind }
    }
}

/// Who is told of every [`Point`], if anybody is.
#[derive(Clone, Default)]
pub(crate) struct Hook {
    #[cfg(feature = "testing")]
    injector: Option<Arc<dyn FaultInjector>>,
}

#[cfg(not(feature = "testing"))]
#[expect(clippy::unused_async, clippy::unused_self, reason = "there is nobody to tell")]
impl Hook {
    pub(crate) fn around<T, F: Future<Output = Result<T, DbErr>> + Send>(
        &self,
        _: Dialect,
        _: Point,
        sending: F,
        _: impl Fn(&T) -> bool + Send,
    ) -> F {
        sending
    }

    pub(crate) async fn before(&self, _: Dialect, _: Point) -> Option<DbErr> {
        None
    }

    pub(crate) async fn after(&self, _: Dialect, _: Point) -> Option<DbErr> {
        None
    }
}

#[cfg(feature = "testing")]
impl Hook {
    pub(crate) fn told_to(injector: Arc<dyn FaultInjector>) -> Self {
        Self {
            injector: Some(injector),
        }
    }

    /// Sends, unless it is to fail before; and lets it fail afterwards where it is to, if it took effect.
    pub(crate) async fn around<T>(
        &self,
        dialect: Dialect,
        point: Point,
        sending: impl Future<Output = Result<T, DbErr>> + Send,
        took_effect: impl Fn(&T) -> bool + Send,
    ) -> Result<T, DbErr> {
        if let Some(error) = self.before(dialect, point).await {
            return Err(error);
        }
        let sent = sending.await?;
        if took_effect(&sent)
            && let Some(error) = self.after(dialect, point).await
        {
            return Err(error);
        }
        Ok(sent)
    }

    /// What it fails with instead of being sent.
    pub(crate) async fn before(&self, dialect: Dialect, point: Point) -> Option<DbErr> {
        let failure = self.injector.as_ref()?.before(point).await?;
        Some(failure.as_error(dialect))
    }

    /// What it fails with although it took effect.
    pub(crate) async fn after(&self, dialect: Dialect, point: Point) -> Option<DbErr> {
        let failure = self.injector.as_ref()?.after(point).await?;
        Some(failure.as_error(dialect))
    }
}
