//! Statements that change users. Lock order: the user's row, then its providers'.

use entity::{AuthProviderType, Secret, UserId, user};

use super::audit::Entry;
use super::plan::{Bind, Kind, Plan, Step};
use crate::audit::Change;
use crate::operation::Moment;

/// A user and the local way in: 1 statement. Nothing happens when the name or the address is taken.
pub(crate) fn register(
    at: &Moment<'_>,
    user: UserId,
    username: &str,
    email: Option<&str>,
    display_name: &str,
    password_hash: &Secret,
) -> Plan {
    let columns = at.dialect.columns_of::<user::Entity>();
    let event = Change::UserRegistered {
        target: user,
        provider: AuthProviderType::Local,
    };
    let plan = Plan::yielding("registered")
        .bind("user", user)
        .bind("username", username)
        .bind("email", email.map(str::to_owned))
        .bind("display_name", display_name)
        .bind("password_hash", password_hash.clone())
        .bind("now", at.now)
        .bind("provider", at.id())
        .bind("provider_type", Bind::text_as("auth_provider_type", Some("LOCAL".to_owned())))
        .bind("provider_id", user.to_string())
        .step(Step::guard(
            "registered",
            &[("id", Kind::Uuid)],
            format!(
                "INSERT INTO users (id, username, email, password_hash, display_name, is_active, is_verified, created_at, updated_at)
                VALUES (:user, :username, :email, :password_hash, :display_name, TRUE, FALSE, :now, :now)
                ON CONFLICT DO NOTHING RETURNING {columns}"
            ),
        ))
        .step(Step::effect(
            "provided",
            "INSERT INTO auth_providers (id, user_id, provider_type, provider_id, provider_email, created_at, updated_at)
            SELECT :provider, registered.id, :provider_type, :provider_id, :email, :now, :now FROM registered",
        ));
    plan.audit(
        at,
        &Entry {
            name: "audited",
            from: "registered",
            room: "NULL",
            event: &event,
            computed: &[],
        },
    )
}
