//! Who decides what fails.

use std::pin::Pin;

use super::{Failure, Point};

/// What an injector answers, maybe after a while: nothing, or what the database is to fail with.
pub type Struck<'a> = Pin<Box<dyn Future<Output = Option<Failure>> + Send + 'a>>;

/// Is told of every statement, BEGIN and COMMIT that a store sends, and may let it fail or wait. For tests: the package
/// `conferencing-testing` has one that obeys by the name of the operation.
///
/// It is told within the operation, which waits for the answer: locks that are held stay held. What explains a refusal is not told of.
pub trait FaultInjector: Send + Sync + 'static {
    /// Something is about to be sent. If it is to fail, it is not sent; a transaction whose COMMIT fails so is rolled back.
    fn before(&self, point: Point) -> Struck<'_>;

    /// What was sent has come to its end and took effect: it changed something, committed, or read. A failure now keeps the caller from
    /// hearing of it. BEGIN is not told of here.
    fn after(&self, point: Point) -> Struck<'_>;
}
