//! What the cases about accounts share.

use std::future::Future;

use conferencing_store::entity::AuthProviderType::{self, GitHub};
use conferencing_store::entity::{UserId, auth_provider, user};
use conferencing_store::{
    AuditEvent, Change, Conflict, Error, Observation, ProviderAccount, ProviderEmail, ProviderProfile, Rejected, Store,
};

use crate::harness::{Raw, TestDb};

pub fn profile<'a>(id: &'a str, email: Option<ProviderEmail<'a>>, username: &'a str) -> ProviderProfile<'a> {
    ProviderProfile {
        provider: GitHub,
        provider_id: id,
        email,
        username,
        display_name: username,
    }
}

pub fn account(provider: AuthProviderType, provider_id: &str) -> ProviderAccount<'_> {
    ProviderAccount {
        provider,
        provider_id,
        email: None,
        metadata: None,
    }
}

/// The audit log's actions, in order.
pub async fn actions(raw: &Raw) -> Vec<String> {
    raw.texts(r#"SELECT CAST(action AS text) FROM audit_logs ORDER BY "timestamp", id"#)
        .await
}

/// Runs a change and says which actions it appended.
pub async fn appended<T>(raw: &Raw, change: impl Future<Output = T>) -> (T, Vec<String>) {
    let before = actions(raw).await.len();
    let result = change.await;
    (result, actions(raw).await.split_off(before))
}

/// What the audit log says last.
pub async fn last_event(db: &TestDb) -> AuditEvent {
    let raw = db.raw().await;
    let rows = raw
        .rows(r#"SELECT CAST(action AS text) AS action, target_user_id, metadata FROM audit_logs ORDER BY "timestamp" DESC, id DESC LIMIT 1"#)
        .await;
    let action: String = rows[0].try_get_by("action").unwrap();
    let target: Option<UserId> = rows[0].try_get_by("target_user_id").unwrap();
    let mut details: serde_json::Value = rows[0].try_get_by("metadata").unwrap();
    let members = details.as_object_mut().unwrap();
    members.remove("system");
    if let Some(target) = target {
        members.insert("target".to_owned(), target.to_string().into());
    }
    let whole = serde_json::json!({ "action": action, "details": details });
    serde_json::from_value::<Change>(whole.clone())
        .map(AuditEvent::from)
        .unwrap_or_else(|_| serde_json::from_value::<Observation>(whole).unwrap().into())
}

pub async fn sign_in_methods(store: &Store, user: &user::Model) -> Vec<auth_provider::Model> {
    store.auth_providers().list(user.id).await.unwrap()
}

pub fn rejected<T: std::fmt::Debug>(result: Result<T, Error>) -> Rejected {
    match result {
        Err(Error::Rejected(why)) => why,
        other => panic!("{other:?}"),
    }
}

pub fn conflict<T: std::fmt::Debug>(result: Result<T, Error>) -> Conflict {
    match result {
        Err(Error::Conflict(which)) => which,
        other => panic!("{other:?}"),
    }
}

/// Waits until so many statements wait for a lock in this database.
pub async fn until_blocked(raw: &Raw, statements: i64) {
    let waiting =
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    while raw.number(waiting).await < statements {
        tokio::task::yield_now().await;
    }
}
