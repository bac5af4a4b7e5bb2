//! How reads run: one statement each, built by SeaORM's query builder or by hand, sent through its [`Source`].

use std::future::Future;

use sea_orm::sea_query::Expr;
use sea_orm::{DbErr, EntityTrait, QuerySelect, QueryTrait, Select, SelectTwo, Statement};

use crate::database::statement::Query;
use crate::error::Result;
use crate::page::{ByTime, Place};
use crate::row::{Cells, FromRow};
use crate::unit::Source;

/// A statement whose rows are read as something.
pub(crate) trait Fetch: Sized + Send {
    fn statement(self, backend: sea_orm::DbBackend) -> Statement;

    /// Every row, each read by `read`.
    fn fetch_with<S: Source, T: Send>(
        self,
        source: &S,
        during: &'static str,
        read: impl Fn(&mut Cells<'_>) -> Result<T, DbErr> + Send,
    ) -> impl Future<Output = Result<Vec<T>>> + Send {
        async move {
            let statement = self.statement(source.context().dialect().backend());
            let rows = source.rows(during, statement).await?;
            let read: Result<Vec<T>, DbErr> = rows.iter().map(|row| read(&mut Cells::of(row))).collect();
            read.map_err(|error| source.failed(&error, during))
        }
    }

    /// Every row, as `M`.
    fn fetch_all_as<M: FromRow + Send, S: Source>(
        self,
        source: &S,
        during: &'static str,
    ) -> impl Future<Output = Result<Vec<M>>> + Send {
        self.fetch_with(source, during, |cells| cells.read())
    }
}

/// Reads of one entity.
pub(crate) trait FetchEntity<E: EntityTrait<Model: FromRow + Send>>: Fetch {
    fn fetch_all<S: Source>(
        self,
        source: &S,
        during: &'static str,
    ) -> impl Future<Output = Result<Vec<E::Model>>> + Send {
        self.fetch_all_as::<E::Model, S>(source, during)
    }

    /// The one row that a key can have.
    fn fetch_one<S: Source>(
        self,
        source: &S,
        during: &'static str,
    ) -> impl Future<Output = Result<Option<E::Model>>> + Send {
        async move { Ok(self.fetch_all(source, during).await?.into_iter().next()) }
    }

    fn fetch_count<S: Source>(self, source: &S, during: &'static str) -> impl Future<Output = Result<u64>> + Send;

    /// Whether there is a row. None is fetched.
    fn fetch_any<S: Source>(self, source: &S, during: &'static str) -> impl Future<Output = Result<bool>> + Send;
}

impl<E: EntityTrait> Fetch for Select<E> {
    fn statement(self, backend: sea_orm::DbBackend) -> Statement {
        self.build(backend)
    }
}

impl<E: EntityTrait<Model: FromRow + Send>> FetchEntity<E> for Select<E> {
    async fn fetch_count<S: Source>(self, source: &S, during: &'static str) -> Result<u64> {
        let count = self.select_only().expr_as(Expr::cust("count(*)"), "rows");
        let counts = count
            .fetch_with(source, during, |cells| cells.next::<i64>("rows"))
            .await?;
        Ok(counts.first().map_or(0, |rows| u64::try_from(*rows).unwrap_or(0)))
    }

    async fn fetch_any<S: Source>(self, source: &S, during: &'static str) -> Result<bool> {
        let one = self.select_only().expr_as(Expr::cust("1"), "one").limit(1);
        let rows = one.fetch_with(source, during, |_| Ok(())).await?;
        Ok(!rows.is_empty())
    }
}

impl<E: EntityTrait, F: EntityTrait> Fetch for SelectTwo<E, F> {
    fn statement(self, backend: sea_orm::DbBackend) -> Statement {
        self.build(backend)
    }
}

/// A row, with all rows of another entity that belong to it.
type WithRelated<E, F> = Option<(<E as EntityTrait>::Model, Vec<<F as EntityTrait>::Model>)>;

/// Rows of one entity with those of another that belong to them.
pub(crate) trait FetchPairs<E: EntityTrait, F: EntityTrait>: Fetch {
    /// The first row, with all that belongs to it.
    fn fetch_one_with_related<S: Source>(
        self,
        source: &S,
        during: &'static str,
    ) -> impl Future<Output = Result<WithRelated<E, F>>> + Send;
}

impl<E: EntityTrait, F: EntityTrait> FetchPairs<E, F> for SelectTwo<E, F>
where
    E::Model: FromRow + Send,
    F::Model: FromRow + Send,
{
    async fn fetch_one_with_related<S: Source>(self, source: &S, during: &'static str) -> Result<WithRelated<E, F>> {
        let read = |cells: &mut Cells<'_>| Ok((cells.read::<E::Model>()?, cells.read::<Option<F::Model>>()?));
        let mut rows = self.fetch_with(source, during, read).await?.into_iter();
        let Some((one, first)) = rows.next() else {
            return Ok(None);
        };
        let others = first.into_iter().chain(rows.filter_map(|(_, other)| other));
        Ok(Some((one, others.collect())))
    }
}

/// Binds what a page by hand is made from: `:limit`, one row more than asked for to know whether there is a next page, and of its
/// cursor `:at` and `:last`.
pub(crate) fn page_of(query: Query, page: ByTime) -> Query {
    behind(query, page.place()).bind("limit", i64::from(page.size()) + 1)
}

/// Binds a place, if there is one: `:at` and `:last`.
pub(crate) fn behind(query: Query, place: Option<Place>) -> Query {
    match place {
        Some(Place { at, id }) => query.bind("at", at).bind("last", id),
        None => query,
    }
}

/// A statement written by hand, for one database.
pub(crate) struct ByHand(pub(crate) Statement);

impl Fetch for ByHand {
    fn statement(self, _: sea_orm::DbBackend) -> Statement {
        self.0
    }
}
