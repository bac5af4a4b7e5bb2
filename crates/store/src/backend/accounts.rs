//! Statements that change an account. Lock order: users, rooms by ascending id, participants; see docs/INVARIANTS.md.

use entity::{AuthProviderType, Secret, UserId, user};

use super::audit::Entry;
use super::plan::{Kind, Plan, Step};
use super::users::{kind, lock_account};
use crate::audit::Change;
use crate::operation::Moment;
use crate::users::CheckedChange;

fn own_event(plan: Plan, at: &Moment<'_>, event: &Change) -> Plan {
    plan.audit(
        at,
        &Entry {
            name: "audited",
            from: "changed",
            room: "NULL",
            event,
            computed: &[],
        },
    )
}

/// Changes names and address: 1 statement. Nothing happens when one is taken. The unique indexes fire when somebody takes
/// one at the same moment, and then nothing has happened either.
pub(crate) fn change_profile(at: &Moment<'_>, user: UserId, change: &CheckedChange) -> Plan {
    let columns = at.dialect.columns_of::<user::Entity>();
    let (username, email) = (at.dialect.folded("username"), at.dialect.folded("email"));
    let plan = lock_account(at, Plan::yielding("changed"), user, "")
        .bind("username", change.username.clone())
        .bind("username_key", change.username_key())
        .bind("display_name", change.display_name.clone())
        .bind("email_given", change.email.is_some())
        .bind("email", change.email.clone().flatten())
        .bind("email_key", change.email_key())
        .step(Step::guard(
            "free",
            &[("id", Kind::Uuid)],
            format!(
                "SELECT id FROM locked WHERE NOT EXISTS (
                    SELECT 1 FROM users WHERE id <> :user AND ({username} = :username_key OR {email} = :email_key))"
            ),
        ))
        .step(Step::guard(
            "changed",
            &[("id", Kind::Uuid)],
            format!(
                "UPDATE users SET username = COALESCE(:username, username), display_name = COALESCE(:display_name, display_name),
                    is_verified = CASE WHEN :email_given AND {email} IS DISTINCT FROM :email_key THEN FALSE ELSE is_verified END,
                    email = CASE WHEN :email_given THEN :email ELSE email END, updated_at = :now
                WHERE id = (SELECT id FROM free) RETURNING {columns}"
            ),
        ))
        .step(Step::effect(
            "followed",
            "UPDATE auth_providers SET provider_email = :email, updated_at = :now
            WHERE :email_given AND provider_type = 'LOCAL' AND user_id = (SELECT id FROM changed)",
        ));
    let event = Change::UserProfileChanged {
        target: user,
        fields: change.fields(),
    };
    own_event(plan, at, &event)
}

/// Sets the password's hash, and makes the local way in where there is none: 1 statement.
pub(crate) fn set_password_hash(at: &Moment<'_>, user: UserId, hash: &Secret) -> Plan {
    let columns = at.dialect.columns_of::<user::Entity>();
    let plan = lock_account(at, Plan::yielding("changed"), user, "")
        .bind("password_hash", hash.clone())
        .bind("provider", at.id())
        .bind("provider_type", kind(AuthProviderType::Local))
        .bind("provider_id", user.to_string())
        .step(Step::guard(
            "changed",
            &[("id", Kind::Uuid), ("email", Kind::Text)],
            format!(
                "UPDATE users SET password_hash = :password_hash, updated_at = :now
                WHERE id = (SELECT id FROM locked) RETURNING {columns}"
            ),
        ))
        .step(Step::effect(
            "provided",
            "INSERT INTO auth_providers (id, user_id, provider_type, provider_id, provider_email, created_at, updated_at)
            SELECT :provider, changed.id, :provider_type, :provider_id, changed.email, :now, :now FROM changed
            WHERE NOT EXISTS (SELECT 1 FROM auth_providers WHERE user_id = :user AND provider_type = 'LOCAL')
            ON CONFLICT DO NOTHING",
        ));
    own_event(plan, at, &Change::UserPasswordChanged { target: user })
}

/// Marks the address as proven, if it is still the user's: 1 statement.
pub(crate) fn mark_verified(at: &Moment<'_>, user: UserId, email_key: &str) -> Plan {
    let columns = at.dialect.columns_of::<user::Entity>();
    let plan = lock_account(at, Plan::yielding("changed"), user, "")
        .bind("email_key", email_key)
        .step(Step::guard(
            "changed",
            &[("id", Kind::Uuid)],
            format!(
                "UPDATE users SET is_verified = TRUE, updated_at = :now
                WHERE id = (SELECT id FROM locked) AND NOT is_verified AND {} = :email_key RETURNING {columns}",
                at.dialect.folded("email")
            ),
        ));
    own_event(plan, at, &Change::UserVerified { target: user })
}

/// Active to deactivated: the first of 2 statements. It takes the user's lock, so that they cannot come in anywhere any more.
pub(crate) fn deactivate(at: &Moment<'_>, user: UserId) -> Plan {
    let columns = at.dialect.columns_of::<user::Entity>();
    Plan::yielding("changed")
        .bind("user", user)
        .bind("now", at.now)
        .step(Step::guard(
            "changed",
            &[("id", Kind::Uuid)],
            format!(
                "UPDATE users SET is_active = FALSE, updated_at = :now
                WHERE id = :user AND deleted_at IS NULL AND is_active RETURNING {columns}"
            ),
        ))
}

/// The second: ends the user's present stays, those included that began while the first waited for the lock.
pub(crate) fn leave_everywhere(at: &Moment<'_>, user: UserId) -> Plan {
    let left_at = at.dialect.later(":now", "joined_at");
    let duration = at.dialect.seconds_between("joined_at", &left_at);
    let seated_in = "SELECT room_id FROM room_participants WHERE user_id = :user AND left_at IS NULL";
    let event = Change::UserDeactivated {
        target: user,
        closed_stays: 0,
    };
    Plan::yielding("summed_up")
        .bind("user", user)
        .bind("now", at.now)
        .step(Step::lookup(
            "rooms_locked",
            &[("id", Kind::Uuid)],
            format!(
                "SELECT id FROM rooms WHERE {} ORDER BY id{}",
                at.dialect.among("id", seated_in),
                at.dialect.for_change()
            ),
        ))
        // Whoever was put out of a room while its lock was waited for is not put out again.
        .step(Step::lookup(
            "closed",
            &[("room_id", Kind::Uuid)],
            format!(
                "UPDATE room_participants SET left_at = {left_at}, duration_seconds = {duration}
                WHERE user_id = :user AND left_at IS NULL AND {} RETURNING room_id",
                at.dialect.among("room_id", "SELECT id FROM rooms_locked")
            ),
        ))
        .step(Step::effect(
            "counted",
            format!(
                "UPDATE rooms SET active_participants = active_participants - 1, updated_at = :now WHERE {}",
                at.dialect.among("id", "SELECT room_id FROM closed")
            ),
        ))
        .step(Step::guard(
            "summed_up",
            &[("stays", Kind::Integer)],
            "SELECT CAST(count(*) AS integer) AS stays FROM closed",
        ))
        .audit(
            at,
            &Entry {
                name: "audited",
                from: "summed_up",
                room: "NULL",
                event: &event,
                computed: &[("closed_stays", "summed_up.stays")],
            },
        )
}

/// Deactivated to active: 1 statement. By the platform alone.
pub(crate) fn reactivate(at: &Moment<'_>, user: UserId) -> Plan {
    let columns = at.dialect.columns_of::<user::Entity>();
    let plan = Plan::yielding("changed")
        .bind("user", user)
        .bind("is_system", at.actor.is_system())
        .bind("now", at.now)
        .step(Step::guard(
            "changed",
            &[("id", Kind::Uuid)],
            format!(
                "UPDATE users SET is_active = TRUE, updated_at = :now
                WHERE id = :user AND deleted_at IS NULL AND NOT is_active AND :is_system RETURNING {columns}"
            ),
        ));
    own_event(plan, at, &Change::UserReactivated { target: user })
}

/// Notes an export: 1 statement, which changes nothing else.
pub(crate) fn note_export(at: &Moment<'_>, user: UserId) -> Plan {
    let plan = Plan::yielding("changed")
        .bind("user", user)
        .bind("is_system", at.actor.is_system())
        .step(Step::guard(
            "changed",
            &[("id", Kind::Uuid)],
            "SELECT id FROM users WHERE id = :user AND deleted_at IS NULL AND (is_active OR :is_system)",
        ));
    own_event(plan, at, &Change::UserDataExported { target: user })
}
