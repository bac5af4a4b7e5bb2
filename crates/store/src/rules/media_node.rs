//! Media nodes as rows that an operation looks at.

use entity::MediaNodeId;

use crate::error::{Error, Rejected, Subject};
use crate::operation::{Plan, Refusal};

/// SQL that is true of a media node that is not lost.
pub(crate) const IN_SERVICE: &str = "lost_at IS NULL";

/// Requires of the step `row` that it is a media node in service.
pub(crate) fn in_service(plan: Plan, row: &'static str, node: MediaNodeId) -> Plan {
    let lost = Refusal::with("lost_at", move |since| Rejected::NodeLost { node, since });
    plan.found(row, Error::NotFound(Subject::MediaNode(node)))
        .guard(row, IN_SERVICE, lost)
}
