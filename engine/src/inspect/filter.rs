//! Filters: the instances that a list shows, or that a bulk is about.

use std::collections::BTreeMap;

use serde::Serialize;
use sqlx::{Postgres, QueryBuilder, types::Json};
use uuid::Uuid;

use crate::base::{
    id::{SHARDS, shard_in},
    priority::Priority,
    status::{Status, WaitingOn},
};

/// Selects the instances that a list shows, newest first, or that a [bulk](crate::bulk) is about: those that fit everything given.
///
/// ```
/// use stepwise_engine::{Status, inspect::{self, Filter}};
///
/// # async fn f(pool: &sqlx::PgPool) -> Result<(), sqlx::Error> {
/// let stuck = Filter {
///     name: Some("seat".to_owned()),
///     status: Some(Status::Stuck),
///     tags: [("room".to_owned(), "12".to_owned())].into(),
///     limit: 50,
///     ..Filter::default()
/// };
/// let page = inspect::list(pool, &stuck).await?;
/// let next = Filter { before: page.last().map(|last| last.saga_id), ..stuck };
/// # inspect::list(pool, &next).await?;
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, Default, Serialize)]
pub struct Filter {
    /// Only this saga.
    pub name: Option<String>,
    /// Only this status.
    pub status: Option<Status>,
    /// Only this subject.
    pub subject: Option<String>,
    /// Only what waits on this.
    pub waiting_on: Option<WaitingOn>,
    /// Only those with all of these tags.
    pub tags: BTreeMap<String, String>,
    /// Only of this priority.
    pub priority: Option<Priority>,
    /// Only this one's children.
    pub parent: Option<Uuid>,
    /// Only those older than this id (the last of the page before).
    #[serde(skip)]
    pub before: Option<Uuid>,
    /// At most so many.
    #[serde(skip)]
    pub limit: i64,
}

impl Filter {
    /// Is there an index that finds them (`instance_by_subject`, `_by_parent`, `_by_tag`, `_in_trouble`)?
    fn is_narrow(&self) -> bool {
        let trouble =
            matches!(self.status, Some(Status::Unwinding | Status::Paused | Status::Stuck));
        trouble || self.subject.is_some() || self.parent.is_some() || !self.tags.is_empty()
    }

    /// `select {columns}` of these instances (alias `i`). Only what is given is asked for, so that the planner sees which index serves.
    pub(crate) fn select(&self, columns: &str) -> QueryBuilder<Postgres> {
        let mut query = QueryBuilder::new("-- name: inspect list\n");
        query.push(columns);
        if self.is_narrow() {
            query.push(" from saga.instance i where true");
            self.of_page(&mut query);
        } else {
            // The newest of each shard, by the primary key: only those are sorted.
            query.push(
                " from generate_series(0, 63) as each(shard), lateral (
                    select * from saga.instance i where i.shard = each.shard",
            );
            self.of_page(&mut query);
            query.push(" order by i.saga_id desc limit ").push_bind(self.limit).push(") i");
        }
        query.push(" order by i.saga_id desc limit ").push_bind(self.limit);
        query
    }

    fn of_page(&self, query: &mut QueryBuilder<Postgres>) {
        self.restrict(query);
        if let Some(before) = self.before {
            query.push(" and i.saga_id < ").push_bind(before);
        }
    }

    /// ` and ..` for each thing that is given, for a table alias `i`.
    pub(crate) fn restrict(&self, query: &mut QueryBuilder<Postgres>) {
        let mut is = |column: &str, value: Option<&str>| {
            if let Some(value) = value {
                query.push(format_args!(" and i.{column} = ")).push_bind(value.to_owned());
            }
        };
        is("name", self.name.as_deref());
        is("status", self.status.map(Status::as_str));
        is("subject", self.subject.as_deref());
        is("waiting_on", self.waiting_on.map(WaitingOn::as_str));
        if self.waiting_on.is_some() || self.status.is_some_and(|status| !status.is_final()) {
            // As in the index of open instances, which finds a few of them among many that have ended.
            query.push(" and i.status not in ('completed', 'unwound', 'abandoned')");
        }
        if self.subject.is_some() && self.parent.is_none() {
            // The index begins with the shard, and that of a child is its parent's, not its subject's.
            query.push(" and i.shard = any(").push_bind(Vec::from_iter(0..SHARDS)).push(")");
        }
        if !self.tags.is_empty() {
            query.push(" and i.tags @> ").push_bind(Json(self.tags.clone()));
        }
        if let Some(priority) = self.priority {
            query.push(" and i.priority = ").push_bind(priority.as_i16());
        }
        if let Some(parent) = self.parent {
            query.push(" and i.parent_id = ").push_bind(parent);
            // Children are on their parent's shard.
            query.push(" and i.shard = ").push_bind(shard_in(parent));
        }
    }
}

#[cfg(test)]
mod tests;
