//! Statements that make users, and the lock that every change of an account begins with. Lock order: the user's row, then
//! its providers'.

use entity::{AuthProviderType, Secret, UserId, user};
use sea_orm::ActiveEnum;

use super::audit::Entry;
use super::plan::{Bind, Kind, Plan, Step};
use crate::audit::Change;
use crate::operation::Moment;
use crate::users::CheckedProfile;

/// A provider's kind as a value to bind.
pub(crate) fn kind(provider: AuthProviderType) -> Bind {
    Bind::text_as("auth_provider_type", Some(provider.to_value().value.into_owned()))
}

/// Locks a live user's row: step `locked`. A deactivated user's is locked for the platform alone. `further` narrows it.
pub(crate) fn lock_account(at: &Moment<'_>, plan: Plan, user: UserId, further: &str) -> Plan {
    plan.bind("user", user)
        .bind("is_system", at.actor.is_system())
        .bind("now", at.now)
        .step(Step::guard(
            "locked",
            &[("id", Kind::Uuid), ("has_password", Kind::Integer)],
            format!(
                "SELECT id, CAST(password_hash IS NOT NULL AS integer) AS has_password FROM users
                WHERE id = :user AND deleted_at IS NULL AND (is_active OR :is_system){further}{}",
                at.dialect.for_change()
            ),
        ))
}

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
    let plan = Plan::yielding("registered")
        .bind("user", user)
        .bind("username", username)
        .bind("email", email.map(str::to_owned))
        .bind("display_name", display_name)
        .bind("password_hash", password_hash.clone())
        .bind("now", at.now)
        .step(Step::guard(
            "registered",
            &[("id", Kind::Uuid)],
            format!(
                "INSERT INTO users (id, username, email, password_hash, display_name, is_active, is_verified, created_at, updated_at)
                VALUES (:user, :username, :email, :password_hash, :display_name, TRUE, FALSE, :now, :now)
                ON CONFLICT DO NOTHING RETURNING {columns}"
            ),
        ));
    with_way_in(
        at,
        plan.bind("provider_id", user.to_string()),
        user,
        AuthProviderType::Local,
    )
}

/// A user and an external way in: 1 statement. Nothing happens when the name, the address or the account is taken. The
/// account's unique index fires when somebody takes it at the same moment, and then nothing has happened either.
pub(crate) fn register_external(at: &Moment<'_>, user: UserId, profile: &CheckedProfile) -> Plan {
    let columns = at.dialect.columns_of::<user::Entity>();
    let plan = Plan::yielding("registered")
        .bind("user", user)
        .bind("username", profile.username.clone())
        .bind("email", profile.account.email.clone())
        .bind("is_verified", profile.email_is_verified)
        .bind("display_name", profile.display_name.clone())
        .bind("now", at.now)
        .bind("provider_id", profile.account.provider_id.clone())
        .step(Step::guard(
            "free",
            &[("is_free", Kind::Integer)],
            "SELECT 1 AS is_free WHERE NOT EXISTS (
                SELECT 1 FROM auth_providers WHERE provider_type = :provider_type AND provider_id = :provider_id)",
        ))
        .step(Step::guard(
            "registered",
            &[("id", Kind::Uuid)],
            format!(
                "INSERT INTO users (id, username, email, display_name, is_active, is_verified, created_at, updated_at)
                SELECT :user, :username, :email, :display_name, TRUE, :is_verified, :now, :now FROM free WHERE TRUE
                ON CONFLICT DO NOTHING RETURNING {columns}"
            ),
        ));
    with_way_in(at, plan, user, profile.account.provider)
}

/// The rest of a registration, whose guard is `registered`: the way in, with `:provider_id` and `:email`, and the event.
fn with_way_in(at: &Moment<'_>, plan: Plan, user: UserId, provider: AuthProviderType) -> Plan {
    let event = Change::UserRegistered { target: user, provider };
    plan.bind("provider", at.id())
        .bind("provider_type", kind(provider))
        .step(Step::effect(
            "provided",
            "INSERT INTO auth_providers (id, user_id, provider_type, provider_id, provider_email, created_at, updated_at)
            SELECT :provider, registered.id, :provider_type, :provider_id, :email, :now, :now FROM registered",
        ))
        .audit(
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
