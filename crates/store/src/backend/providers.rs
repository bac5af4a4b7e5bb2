//! Statements that change the ways in which users sign in. Lock order: the user's row, then its providers'.

use entity::{AuthProviderId, AuthProviderType, Secret, UserId, auth_provider, user};

use super::audit::Entry;
use super::plan::{Kind, Plan, Step};
use super::users::{kind, lock_account};
use crate::audit::Change;
use crate::input;
use crate::operation::Moment;
use crate::users::CheckedAccount;

/// Links an external account: 1 statement. Nothing happens when the account is anybody's already. With `address` only if
/// that is the user's own, verified address.
pub(crate) fn link(at: &Moment<'_>, user: UserId, account: &CheckedAccount, address: Option<&str>) -> Plan {
    let columns = at.dialect.columns_of::<auth_provider::Entity>();
    let event = Change::ProviderLinked {
        target: user,
        provider: account.provider,
    };
    let own = format!(" AND is_verified AND {} = :address_key", at.dialect.folded("email"));
    let further = if address.is_some() { own.as_str() } else { "" };
    let plan = lock_account(at, Plan::yielding("linked"), user, further)
        .bind("address_key", address.map(input::login_key))
        .bind("provider", at.id())
        .bind("provider_type", kind(account.provider))
        .bind("provider_id", account.provider_id.clone())
        .bind("provider_email", account.email.clone())
        .step(Step::guard(
            "linked",
            &[("id", Kind::Uuid)],
            format!(
                "INSERT INTO auth_providers (id, user_id, provider_type, provider_id, provider_email, created_at, updated_at)
                SELECT :provider, locked.id, :provider_type, :provider_id, :provider_email, :now, :now FROM locked WHERE TRUE
                ON CONFLICT DO NOTHING RETURNING {columns}"
            ),
        ));
    plan.audit(
        at,
        &Entry {
            name: "audited",
            from: "linked",
            room: "NULL",
            event: &event,
            computed: &[],
        },
    )
}

/// Takes a way in away, unless no other would be left: 1 statement. The password goes with the local one.
pub(crate) fn unlink(at: &Moment<'_>, user: UserId, provider: AuthProviderId) -> Plan {
    let event = Change::ProviderUnlinked {
        target: user,
        provider: AuthProviderType::Local,
    };
    let plan = lock_account(at, Plan::yielding("unlinked"), user, "")
        .bind("provider", provider)
        // A locking select: it leaves out what somebody else unlinked while this statement waited for the user's row.
        .step(Step::lookup(
            "others",
            &[("id", Kind::Uuid)],
            format!(
                "SELECT id FROM auth_providers WHERE user_id = (SELECT id FROM locked) AND id <> :provider
                    AND (provider_type <> 'LOCAL' OR (SELECT has_password FROM locked) = 1){}",
                at.dialect.for_share()
            ),
        ))
        .step(Step::guard(
            "unlinked",
            &[("id", Kind::Uuid), ("provider_type", Kind::Text)],
            "DELETE FROM auth_providers WHERE id = :provider AND user_id = (SELECT id FROM locked)
                AND (EXISTS (SELECT 1 FROM others)
                    OR (provider_type = 'LOCAL' AND (SELECT has_password FROM locked) = 0))
            RETURNING id, CAST(provider_type AS text) AS provider_type",
        ))
        .step(Step::effect(
            "forgotten",
            "UPDATE users SET password_hash = NULL, updated_at = :now
            WHERE id = (SELECT id FROM locked) AND EXISTS (SELECT 1 FROM unlinked WHERE provider_type = 'LOCAL')",
        ));
    plan.audit(
        at,
        &Entry {
            name: "audited",
            from: "unlinked",
            room: "NULL",
            event: &event,
            computed: &[("provider", "unlinked.provider_type")],
        },
    )
}

/// A successful login: 1 statement.
pub(crate) fn record_login(at: &Moment<'_>, user: UserId, provider: AuthProviderId) -> Plan {
    let columns = at.dialect.columns_of::<user::Entity>();
    let event = Change::UserLoginSuccess {
        target: user,
        provider: AuthProviderType::Local,
    };
    let plan = lock_account(at, Plan::yielding("signed_in"), user, " AND is_active")
        .bind("provider", provider)
        .step(Step::guard(
            "used",
            &[("id", Kind::Uuid), ("provider_type", Kind::Text)],
            format!(
                "SELECT id, CAST(provider_type AS text) AS provider_type FROM auth_providers
                WHERE id = :provider AND user_id = (SELECT id FROM locked){}",
                at.dialect.for_change()
            ),
        ))
        .step(Step::guard(
            "signed_in",
            &[("id", Kind::Uuid)],
            format!(
                "UPDATE users SET last_login_at = :now, updated_at = :now
                WHERE id = (SELECT id FROM locked) AND EXISTS (SELECT 1 FROM used) RETURNING {columns}"
            ),
        ))
        .step(Step::effect(
            "touched",
            "UPDATE auth_providers SET last_used_at = :now, updated_at = :now WHERE id = (SELECT id FROM used)",
        ));
    plan.audit(
        at,
        &Entry {
            name: "audited",
            from: "signed_in, used",
            room: "NULL",
            event: &event,
            computed: &[("provider", "used.provider_type")],
        },
    )
}

/// Sealed tokens, as they are stored.
pub(crate) struct SealedTokens {
    pub(crate) access: Secret,
    /// None keeps the one that is there.
    pub(crate) refresh: Option<Secret>,
}

/// Stores tokens: 1 statement.
pub(crate) fn store_tokens(
    at: &Moment<'_>,
    user: UserId,
    provider: AuthProviderId,
    sealed: SealedTokens,
    expires_at: Option<chrono::DateTime<chrono::Utc>>,
) -> Plan {
    let columns = at.dialect.columns_of::<auth_provider::Entity>();
    let event = Change::ProviderTokensStored {
        target: user,
        provider: AuthProviderType::Local,
    };
    let plan = lock_account(at, Plan::yielding("stored"), user, "")
        .bind("provider", provider)
        .bind("access_token", sealed.access)
        .bind("refresh_token", sealed.refresh)
        .bind("expires_at", expires_at)
        .step(Step::guard(
            "stored",
            &[("id", Kind::Uuid), ("provider_type", Kind::Text)],
            format!(
                "UPDATE auth_providers SET access_token = :access_token,
                    refresh_token = COALESCE(:refresh_token, refresh_token), token_expires_at = :expires_at, updated_at = :now
                WHERE id = :provider AND user_id = (SELECT id FROM locked) RETURNING {columns}"
            ),
        ));
    plan.audit(
        at,
        &Entry {
            name: "audited",
            from: "stored",
            room: "NULL",
            event: &event,
            computed: &[("provider", "stored.provider_type")],
        },
    )
}

/// Puts re-encrypted tokens in the place of those that were read, if those are still there: 1 statement.
pub(crate) fn replace_tokens(
    at: &Moment<'_>,
    old: &auth_provider::Model,
    access: Option<Secret>,
    refresh: Option<Secret>,
    key: &str,
) -> Plan {
    let event = Change::ProviderTokensReencrypted {
        target: old.user_id,
        provider: old.provider_type,
        key: key.to_owned(),
    };
    let plan = Plan::yielding("replaced")
        .bind("provider", old.id)
        .bind("old_access", old.access_token.clone())
        .bind("old_refresh", old.refresh_token.clone())
        .bind("access_token", access)
        .bind("refresh_token", refresh)
        .bind("now", at.now)
        .step(Step::guard(
            "replaced",
            &[("id", Kind::Uuid)],
            "UPDATE auth_providers SET access_token = :access_token, refresh_token = :refresh_token, updated_at = :now
            WHERE id = :provider AND access_token IS NOT DISTINCT FROM :old_access
                AND refresh_token IS NOT DISTINCT FROM :old_refresh RETURNING id",
        ));
    plan.audit(
        at,
        &Entry {
            name: "audited",
            from: "replaced",
            room: "NULL",
            event: &event,
            computed: &[],
        },
    )
}
