use super::*;
use crate::testing::{ctx, database, shop, story};

#[tokio::test]
async fn categories_have_unique_names_and_nest_at_most_three_deep() {
    let (database, shop) = (database().await, shop());
    let mut db = database.pool().acquire().await.expect("a connection");
    let root = create_category(&mut ctx(&shop, &mut db), " Kitchen ", None).await.expect("created");
    assert_eq!((root.name.as_str(), root.depth, root.parent_category_id), ("Kitchen", 1, None));
    let second = create_category(&mut ctx(&shop, &mut db), "Pans", Some(root.category_id))
        .await
        .expect("created");
    let third = create_category(&mut ctx(&shop, &mut db), "Woks", Some(second.category_id))
        .await
        .expect("created");
    assert_eq!((second.depth, third.depth), (2, 3));
    let refused = create_category(&mut ctx(&shop, &mut db), "Lids", Some(third.category_id)).await;
    assert!(matches!(refused, Err(CreateCategoryRefusal::MaxNestingExceeded)), "{refused:?}");
    let refused = create_category(&mut ctx(&shop, &mut db), "Lids", Some(Uuid::now_v7())).await;
    assert!(matches!(refused, Err(CreateCategoryRefusal::ParentNotFound)), "{refused:?}");
    let refused = create_category(&mut ctx(&shop, &mut db), "kitchen", None).await;
    assert!(matches!(refused, Err(CreateCategoryRefusal::NameNotUnique)), "{refused:?}");
    let refused = create_category(&mut ctx(&shop, &mut db), "", None).await;
    assert!(matches!(refused, Err(CreateCategoryRefusal::InvalidName(_))), "{refused:?}");
    assert_eq!(story(&mut db, third.category_id).await, ["CategoryCreated"]);
    let all = list_categories(&mut db, None, 10).await.expect("read");
    assert_eq!(all, [root.clone(), second.clone(), third.clone()]);
    let rest = list_categories(&mut db, Some(root.category_id), 1).await.expect("read");
    assert_eq!(rest, [second]);
    drop(db);
    database.close().await;
}
