use sqlx::PgConnection;
use uuid::Uuid;

use super::*;
use crate::{
    Shop,
    category::{CreateCategoryRefusal, create_category},
    inventory::commands::{InventoryRefusal, Item, set_inventory_quantity},
    money::{Currency, Money},
    testing::{ctx, database, shop, story},
};

fn usd(cents: i64) -> Money {
    Money::from_minor(cents, Currency::USD).expect("a small amount")
}

async fn skillet(shop: &Shop, tx: &mut PgConnection) -> ProductView {
    let category = create_category(&mut ctx(shop, tx), "Kitchen", None).await.expect("created");
    create_product(&mut ctx(shop, tx), creating(category.category_id)).await.expect("created")
}

fn creating(category_id: Uuid) -> CreateProduct {
    CreateProduct {
        name: "Skillet".to_owned(),
        description: "Cast iron.\nHeavy.".to_owned(),
        price: usd(4499),
        category_id,
    }
}

fn changing(product_id: Uuid) -> UpdateProduct {
    UpdateProduct { product_id, name: None, price: None, description: None }
}

#[tokio::test]
async fn a_product_is_created_as_a_draft_with_an_empty_inventory() {
    let (database, shop) = (database().await, shop());
    let mut db = database.pool().acquire().await.expect("a connection");
    let product = skillet(&shop, &mut db).await;
    assert_eq!((product.status.as_str(), product.available), ("draft", 0));
    assert_eq!(story(&mut db, product.product_id).await, ["ProductCreated"]);
    let category = product.category_id;
    for name in ["", " ", "x\u{0}", &"x".repeat(201)] {
        let bad = CreateProduct { name: name.to_owned(), ..creating(category) };
        let refused = create_product(&mut ctx(&shop, &mut db), bad).await;
        assert!(matches!(refused, Err(CreateProductRefusal::InvalidName(_))), "{refused:?}");
    }
    let euros = Money::from_minor(100, "EUR".parse().expect("a currency")).expect("valid");
    for price in [usd(0), usd(100_000_000), euros] {
        let bad = CreateProduct { price, ..creating(category) };
        let refused = create_product(&mut ctx(&shop, &mut db), bad).await;
        assert!(matches!(refused, Err(CreateProductRefusal::InvalidPrice)), "{refused:?}");
    }
    let refused = create_product(&mut ctx(&shop, &mut db), creating(Uuid::now_v7())).await;
    assert!(matches!(refused, Err(CreateProductRefusal::CategoryNotFound)), "{refused:?}");
    drop(db);
    database.close().await;
}

#[tokio::test]
async fn an_update_changes_what_is_given_and_logs_what_changed() {
    let (database, shop) = (database().await, shop());
    let mut db = database.pool().acquire().await.expect("a connection");
    let product = skillet(&shop, &mut db).await;
    let id = product.product_id;
    let command =
        UpdateProduct { name: Some("Skillet".to_owned()), price: Some(usd(3999)), ..changing(id) };
    let updated = update_product(&mut ctx(&shop, &mut db), command).await.expect("updated");
    assert_eq!((updated.price, &updated.description), (usd(3999), &product.description));
    let same = update_product(&mut ctx(&shop, &mut db), changing(id)).await.expect("nothing to do");
    assert_eq!(same.version, updated.version);
    assert_eq!(story(&mut db, id).await, ["ProductCreated", "ProductUpdated"]);
    let told = crate::events::of_aggregate(&mut db, id).await.expect("read");
    let wanted = serde_json::json!({"price": {"old": usd(4499), "new": usd(3999)}});
    assert_eq!(told[1].payload["changedFields"], wanted, "the name was the same");
    let bad = UpdateProduct { price: Some(usd(0)), ..changing(id) };
    let refused = update_product(&mut ctx(&shop, &mut db), bad).await;
    assert!(matches!(refused, Err(UpdateProductRefusal::InvalidPrice)), "{refused:?}");
    let bad = UpdateProduct { name: Some(String::new()), ..changing(id) };
    let refused = update_product(&mut ctx(&shop, &mut db), bad).await;
    assert!(matches!(refused, Err(UpdateProductRefusal::InvalidData(_))), "{refused:?}");
    let refused = update_product(&mut ctx(&shop, &mut db), changing(Uuid::now_v7())).await;
    assert!(matches!(refused, Err(UpdateProductRefusal::ProductNotFound)), "{refused:?}");
    drop(db);
    database.close().await;
}

#[tokio::test]
async fn a_product_goes_on_and_off_sale_and_is_deleted_softly() {
    let (database, shop) = (database().await, shop());
    let mut db = database.pool().acquire().await.expect("a connection");
    let id = skillet(&shop, &mut db).await.product_id;
    let refused = deactivate_product(&mut ctx(&shop, &mut db), id).await;
    assert!(matches!(refused, Err(ProductStatusRefusal::InvalidStatusTransition)), "a draft");
    assert!(
        list_products(&mut db, &on_sale(), ProductOrder::Oldest, None, 10)
            .await
            .expect("read")
            .is_empty()
    );
    activate_product(&mut ctx(&shop, &mut db), id).await.expect("activated");
    assert_eq!(
        list_products(&mut db, &on_sale(), ProductOrder::Oldest, None, 10)
            .await
            .expect("read")
            .len(),
        1
    );
    let refused = activate_product(&mut ctx(&shop, &mut db), id).await;
    assert!(matches!(refused, Err(ProductStatusRefusal::InvalidStatusTransition)), "{refused:?}");
    deactivate_product(&mut ctx(&shop, &mut db), id).await.expect("deactivated");
    activate_product(&mut ctx(&shop, &mut db), id).await.expect("activated again");
    delete_product(&mut ctx(&shop, &mut db), id).await.expect("deleted");
    assert!(get_product(&mut db, id).await.expect("read").is_none());
    for refused in [
        activate_product(&mut ctx(&shop, &mut db), id).await,
        deactivate_product(&mut ctx(&shop, &mut db), id).await,
        delete_product(&mut ctx(&shop, &mut db), id).await,
    ] {
        assert!(matches!(refused, Err(ProductStatusRefusal::ProductNotFound)), "{refused:?}");
    }
    assert_eq!(
        story(&mut db, id).await,
        [
            "ProductCreated",
            "ProductActivated",
            "ProductDeactivated",
            "ProductActivated",
            "ProductDeleted"
        ]
    );
    drop(db);
    database.close().await;
}

#[tokio::test]
async fn variants_have_stock_of_their_own_and_the_product_has_none_beside_them() {
    let (database, shop) = (database().await, shop());
    let mut db = database.pool().acquire().await.expect("a connection");
    let id = skillet(&shop, &mut db).await.product_id;
    let product = Item { product_id: id, variant_id: None };
    set_inventory_quantity(&mut ctx(&shop, &mut db), product, 3, "delivered").await.expect("set");
    let refused = add_product_variant(&mut ctx(&shop, &mut db), id, "24 cm", None).await;
    assert!(matches!(refused, Err(UpdateProductRefusal::StockWithoutVariant)), "{refused:?}");
    set_inventory_quantity(&mut ctx(&shop, &mut db), product, 0, "moved").await.expect("set");
    add_product_variant(&mut ctx(&shop, &mut db), id, "24 cm", None).await.expect("added");
    let view = add_product_variant(&mut ctx(&shop, &mut db), id, "28 cm", Some(usd(5499)))
        .await
        .expect("added");
    let shown: Vec<_> = view.variants.iter().map(|v| (v.name.as_str(), v.price)).collect();
    assert_eq!(shown, [("24 cm", usd(4499)), ("28 cm", usd(5499))]);
    let refused = set_inventory_quantity(&mut ctx(&shop, &mut db), product, 3, "delivered").await;
    assert!(matches!(refused, Err(InventoryRefusal::VariantRequired)), "{refused:?}");
    let variant = Item { product_id: id, variant_id: Some(view.variants[1].variant_id) };
    set_inventory_quantity(&mut ctx(&shop, &mut db), variant, 3, "delivered").await.expect("set");
    let view = get_product(&mut db, id).await.expect("read").expect("there is one");
    assert_eq!((view.available, view.variants[1].available), (3, 3));
    // Another name is needed: the constraint ends this transaction, so it is the last thing asked.
    let refused = add_product_variant(&mut ctx(&shop, &mut db), id, "24 CM", None).await;
    assert!(matches!(refused, Err(UpdateProductRefusal::VariantNameNotUnique)), "{refused:?}");
    drop(db);
    database.close().await;
}

fn on_sale() -> ProductFilter {
    ProductFilter { status: Some("active"), ..ProductFilter::default() }
}

#[tokio::test]
async fn a_product_whose_variants_have_more_together_than_a_number_holds_can_be_read() {
    let (database, shop) = (database().await, shop());
    let mut db = database.pool().acquire().await.expect("a connection");
    let id = skillet(&shop, &mut db).await.product_id;
    for name in ["24 cm", "28 cm"] {
        let view = add_product_variant(&mut ctx(&shop, &mut db), id, name, None).await;
        let variant_id = view.expect("added").variants.last().map(|last| last.variant_id);
        let item = Item { product_id: id, variant_id };
        set_inventory_quantity(&mut ctx(&shop, &mut db), item, i32::MAX, "many")
            .await
            .expect("set");
    }
    let view = get_product(&mut db, id).await.expect("read").expect("there is one");
    assert_eq!((view.available, view.variants[1].available), (i32::MAX, i32::MAX));
    let all = ProductFilter::default();
    let listed = list_products(&mut db, &all, ProductOrder::Oldest, None, 10).await.expect("read");
    assert_eq!(listed[0].0, view);
    drop(db);
    database.close().await;
}

#[tokio::test]
async fn a_product_has_no_more_variants_than_the_limit() {
    let (database, mut shop) = (database().await, shop());
    shop.config.most_variants = 2;
    let mut db = database.pool().acquire().await.expect("a connection");
    let id = skillet(&shop, &mut db).await.product_id;
    for name in ["20 cm", "24 cm"] {
        add_product_variant(&mut ctx(&shop, &mut db), id, name, None).await.expect("added");
    }
    let refused = add_product_variant(&mut ctx(&shop, &mut db), id, "28 cm", None).await;
    assert!(
        matches!(refused, Err(UpdateProductRefusal::TooManyVariants { most_variants: 2 })),
        "{refused:?}"
    );
    let view = get_product(&mut db, id).await.expect("read").expect("there is one");
    assert_eq!(view.variants.len(), 2);
    drop(db);
    database.close().await;
}

#[tokio::test]
async fn names_in_another_case_are_the_same_in_every_script() {
    let (database, shop) = (database().await, shop());
    let mut db = database.pool().acquire().await.expect("a connection");
    for (name, again) in [("Bücher", "BÜCHER"), ("Книги", "КНИГИ"), ("Zoë", "ZOE\u{308}")]
    {
        create_category(&mut ctx(&shop, &mut db), name, None).await.expect("created");
        let refused = create_category(&mut ctx(&shop, &mut db), again, None).await;
        assert!(matches!(refused, Err(CreateCategoryRefusal::NameNotUnique)), "{refused:?}");
    }
    let id = skillet(&shop, &mut db).await.product_id;
    add_product_variant(&mut ctx(&shop, &mut db), id, "grün", None).await.expect("added");
    let refused = add_product_variant(&mut ctx(&shop, &mut db), id, "GRÜN", None).await;
    assert!(matches!(refused, Err(UpdateProductRefusal::VariantNameNotUnique)), "{refused:?}");
    drop(db);
    database.close().await;
}

#[tokio::test]
async fn a_search_finds_words_in_any_case_however_they_are_composed() {
    let (database, shop) = (database().await, shop());
    let mut db = database.pool().acquire().await.expect("a connection");
    let id = skillet(&shop, &mut db).await.product_id;
    let name = Some("Книга про КОТОВ, für Bücherfreunde".to_owned());
    let command = UpdateProduct { name, ..changing(id) };
    update_product(&mut ctx(&shop, &mut db), command).await.expect("updated");
    for search in ["книга", "КНИГА котов", "bücherfreunde", "BU\u{308}CHERFREUNDE"]
    {
        let filter = ProductFilter { search: Some(search.to_owned()), ..ProductFilter::default() };
        let found = list_products(&mut db, &filter, ProductOrder::Relevance, None, 10).await;
        let found = found.expect("read");
        // By its words: the spelling alone would find it in some locales only.
        let place = found.first().map(|(_, place)| serde_json::json!(place));
        assert_eq!(place.map(|place| place["by_spelling"] == false), Some(true), "{search}");
    }
    drop(db);
    database.close().await;
}
