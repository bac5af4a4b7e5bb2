//! When and how a user signed in, or failed to: read from the audit log.

use std::net::IpAddr;

use chrono::{DateTime, Utc};
use entity::{AuditAction, AuditLogId, AuthProviderType, UserId};

use super::Users;
use crate::audit::{self, AuditEntry, AuditFilter};
use crate::error::Result;
use crate::event::{AuditEvent, Change, Observation};
use crate::page::{Page, PageRequest};
use crate::scope::Visibility;
use crate::unit::Source;

/// A login, or one that failed.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct LoginRecord {
    /// The event in the audit log.
    pub id: AuditLogId,
    /// When.
    pub at: DateTime<Utc>,
    /// How it ended.
    pub outcome: LoginOutcome,
    /// Where the request came from, if the service said so.
    pub address: Option<IpAddr>,
    /// With what, likewise.
    pub user_agent: Option<String>,
}

/// How a login ended.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
#[non_exhaustive]
pub enum LoginOutcome {
    /// They signed in.
    Succeeded {
        /// How; LOCAL is by password.
        provider: AuthProviderType,
    },
    /// They, or somebody else, did not.
    Failed {
        /// What was typed as name or address.
        login: String,
    },
    /// A build that this one does not know wrote what it was.
    Unrecognized {
        /// USER_LOGIN_SUCCESS or USER_LOGIN_FAILED.
        action: String,
    },
}

impl LoginRecord {
    fn of(entry: AuditEntry) -> Self {
        let outcome = match entry.event {
            AuditEvent::Change(Change::UserLoginSuccess { provider, .. }) => LoginOutcome::Succeeded { provider },
            AuditEvent::Observation(Observation::UserLoginFailed { login, .. }) => LoginOutcome::Failed { login },
            AuditEvent::Unrecognized { action, .. } => LoginOutcome::Unrecognized { action },
            // The filter names no other.
            other => LoginOutcome::Unrecognized {
                action: format!("{other:?}"),
            },
        };
        Self {
            id: entry.id,
            at: entry.at,
            outcome,
            address: entry.address,
            user_agent: entry.user_agent,
        }
    }

    /// Whether they got in.
    pub fn succeeded(&self) -> bool {
        matches!(self.outcome, LoginOutcome::Succeeded { .. })
    }
}

impl<S: Source, V: Visibility> Users<'_, S, V> {
    /// The logins of a user, those that failed too, by (time, id); the user's visibility does not matter. A failed one is theirs if what was
    /// typed was their name or address at that time. Those in months that were archived are no longer in the database.
    ///
    /// One statement, a walk along `ix_audit_logs_target_user`, which looks at no more than 5,000 events about the user a page: **a page may
    /// come back short, even empty, with a `next`**; it is the last only when `next` is none.
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] for the cursor of a list by name; a user who does not exist has none.
    pub async fn logins(&self, user: UserId, page: &PageRequest) -> Result<Page<LoginRecord>> {
        let filter = AuditFilter {
            actions: vec![AuditAction::UserLoginSuccess, AuditAction::UserLoginFailed],
            ..AuditFilter::about(user)
        };
        let rows = audit::read(self.source, &filter, page, "users.logins").await?;
        Ok(rows.map(|row| LoginRecord::of(row.into())))
    }
}
