//! What a participation is.

/// A row that only carries the ban of somebody who was absent is no participation: it begins and ends with the ban, and nobody was put out.
pub(crate) const A_STAY: &str =
    "NOT (banned_at IS NOT NULL AND NOT is_kicked AND joined_at = banned_at AND left_at = banned_at)";
