//! Which rows a query sees. Every find of this crate starts here (clippy refuses it elsewhere), so that deleted rows are seen
//! only where `deleted()` or `any()` was asked for by name.

use entity::{recording, room, user};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, Select};

/// Rows that are not deleted: what every repository sees unless told otherwise.
#[derive(Clone, Copy, Debug)]
pub struct Live;

/// Deleted rows alone.
#[derive(Clone, Copy, Debug)]
pub struct Deleted;

/// All rows.
#[derive(Clone, Copy, Debug)]
pub struct Any;

mod sealed {
    pub trait Sealed {}
    impl Sealed for super::Live {}
    impl Sealed for super::Deleted {}
    impl Sealed for super::Any {}
}

/// One of [`Live`], [`Deleted`], [`Any`].
pub trait Visibility: sealed::Sealed + Send + Sync {
    #[doc(hidden)]
    fn narrow<E: EntityTrait>(query: Select<E>, deleted_at: E::Column) -> Select<E>;

    /// The same for SQL by hand.
    #[doc(hidden)]
    const CONDITION: &'static str;

    /// Whether deleted rows are all that is seen, or none of it; nothing where both are.
    #[doc(hidden)]
    const IS_DELETED: Option<bool>;
}

impl Visibility for Live {
    const CONDITION: &'static str = "deleted_at IS NULL";
    const IS_DELETED: Option<bool> = Some(false);

    fn narrow<E: EntityTrait>(query: Select<E>, deleted_at: E::Column) -> Select<E> {
        query.filter(deleted_at.is_null())
    }
}

impl Visibility for Deleted {
    const CONDITION: &'static str = "deleted_at IS NOT NULL";
    const IS_DELETED: Option<bool> = Some(true);

    fn narrow<E: EntityTrait>(query: Select<E>, deleted_at: E::Column) -> Select<E> {
        query.filter(deleted_at.is_not_null())
    }
}

impl Visibility for Any {
    const CONDITION: &'static str = "TRUE";
    const IS_DELETED: Option<bool> = None;

    fn narrow<E: EntityTrait>(query: Select<E>, _: E::Column) -> Select<E> {
        query
    }
}

/// A table whose rows are deleted by setting a time.
pub(crate) trait SoftDeleted: EntityTrait {
    const DELETED_AT: Self::Column;
}

impl SoftDeleted for user::Entity {
    const DELETED_AT: user::Column = user::Column::DeletedAt;
}

impl SoftDeleted for room::Entity {
    const DELETED_AT: room::Column = room::Column::DeletedAt;
}

impl SoftDeleted for recording::Entity {
    const DELETED_AT: recording::Column = recording::Column::DeletedAt;
}

/// Starts a query over a table with deleted rows.
#[expect(clippy::disallowed_methods, reason = "this is where finds start")]
pub(crate) fn find<E: SoftDeleted, V: Visibility>() -> Select<E> {
    V::narrow(E::find(), E::DELETED_AT)
}

/// Starts a query over a table whose rows are never deleted.
#[expect(clippy::disallowed_methods, reason = "this is where finds start")]
pub(crate) fn find_undeletable<E: EntityTrait>() -> Select<E> {
    E::find()
}
