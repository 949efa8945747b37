//! Categories of products: a tree of at most three levels, each name used once.

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::{
    events::{DomainEvent, tell},
    refusal::refusals,
    shop::Context,
    text::{self, BadField},
};

/// How deep categories nest; a root has depth 1.
const DEEPEST: i32 = 3;

/// A category.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, sqlx::FromRow)]
#[serde(rename_all = "camelCase")]
pub struct CategoryView {
    /// The category.
    pub category_id: Uuid,
    /// Its name, unique whatever the case.
    pub name: String,
    /// Where it belongs; absent for a root.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent_category_id: Option<Uuid>,
    /// 1 to 3.
    pub depth: i32,
    /// When it was created.
    pub created_at: DateTime<Utc>,
}

refusals! {
    /// Why a category was refused.
    #[derive(Debug, thiserror::Error)]
    pub enum CreateCategoryRefusal {
        /// The name is missing or not fit to be kept.
        #[error(transparent)]
        InvalidName(#[from] BadField),
        /// Another category has the name, perhaps in another case.
        #[error("another category has this name")]
        NameNotUnique => Conflict "name_not_unique",
        /// No such parent.
        #[error("there is no such parent category")]
        ParentNotFound => NotFound "parent_not_found",
        /// The parent is on the lowest level.
        #[error("categories nest at most {DEEPEST} deep")]
        MaxNestingExceeded => Unprocessable "max_nesting_exceeded" at "/parentCategoryId",
        /// A surprise.
        #[error(transparent)]
        Database(#[from] sqlx::Error),
    }
}

/// Creates a category. 2 round trips besides business time, 3 with a parent.
pub async fn create_category(
    ctx: &mut Context<'_>,
    name: &str,
    parent_category_id: Option<Uuid>,
) -> Result<CategoryView, CreateCategoryRefusal> {
    let name = text::field("name", name, 200)?;
    let depth = match parent_category_id {
        None => 1,
        Some(parent) => {
            let above: Option<i16> = sqlx::query_scalar(
                "-- category: depth of the parent
                select depth from shop.category where category_id = $1",
            )
            .bind(parent)
            .fetch_optional(&mut **ctx)
            .await?;
            i32::from(above.ok_or(CreateCategoryRefusal::ParentNotFound)?) + 1
        }
    };
    if depth > DEEPEST {
        return Err(CreateCategoryRefusal::MaxNestingExceeded);
    }
    let (category_id, created_at) = (Uuid::now_v7(), ctx.now().await?);
    let told = tell([DomainEvent::CategoryCreated {
        category_id,
        name: name.clone(),
        parent_category_id,
        depth,
        created_at,
    }]);
    let category: CategoryView = sqlx::query_as(
        "-- category: create
        insert into shop.category
            (category_id, parent_category_id, name, depth, event_count, created_at)
        values ($1, $2, $3, $4, $5, $6)
        returning category_id, name, parent_category_id, depth::int as depth, created_at",
    )
    .bind(category_id)
    .bind(parent_category_id)
    .bind(&name)
    .bind(i16::try_from(depth).unwrap_or(i16::MAX))
    .bind(told.count())
    .bind(created_at)
    .fetch_one(&mut **ctx)
    .await
    .map_err(|error| match error.as_database_error().and_then(|error| error.constraint()) {
        Some("a_category_name_is_unique") => CreateCategoryRefusal::NameNotUnique,
        _ => CreateCategoryRefusal::Database(error),
    })?;
    ctx.record(told.after(0)).await?;
    Ok(category)
}

/// Categories by id, those after `after`.
pub async fn list_categories(
    connection: &mut PgConnection,
    after: Option<Uuid>,
    limit: i64,
) -> Result<Vec<CategoryView>, sqlx::Error> {
    sqlx::query_as(
        "-- category: list
        select category_id, name, parent_category_id, depth::int as depth, created_at
        from shop.category where $1::uuid is null or category_id > $1
        order by category_id limit $2",
    )
    .bind(after)
    .bind(limit)
    .fetch_all(connection)
    .await
}

#[cfg(test)]
mod tests;
