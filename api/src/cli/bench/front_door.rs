//! The bench of the front door over HTTP: reads, carts that are filled, and a hundred buyers of the last item. Client, front door and
//! Postgres share the machine.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use hdrhistogram::Histogram;
use serde_json::{Value, json};
use stepwise_workflows::seed::bulk::{self, CrowdCustomer};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::Barrier,
    task::JoinSet,
};
use uuid::Uuid;

use super::{Ground, Line, Report, orders::Running};

/// The words of which the products' names and descriptions are made.
const WORDS: [&str; 40] = [
    "espresso",
    "kettle",
    "skillet",
    "lantern",
    "keyboard",
    "monitor",
    "blanket",
    "carafe",
    "notebook",
    "pencil",
    "basket",
    "cushion",
    "bluetooth",
    "speaker",
    "charger",
    "camera",
    "tripod",
    "jacket",
    "scarf",
    "wallet",
    "garden",
    "shovel",
    "bracelet",
    "clock",
    "mirror",
    "oak",
    "linen",
    "copper",
    "walnut",
    "ceramic",
    "folding",
    "wireless",
    "waterproof",
    "vintage",
    "small",
    "large",
    "blue",
    "green",
    "striped",
    "plain",
];

/// Clients that search. Searches take longer than other reads, and the figure is their time.
const SEARCHERS: usize = 4;

/// Connections that fill carts.
const ADDERS: usize = 16;
/// The carts that they fill.
const CARTS: usize = 50;
/// The lines that each of these carts gets.
const CART_LINES: usize = 5;

/// Buyers of the last item of a product.
const BUYERS: usize = 100;
/// How often they meet.
const LAST_ITEMS: usize = 5;

pub(super) async fn report(
    ground: &Ground,
    products: usize,
    seconds: u32,
    clients: usize,
) -> anyhow::Result<Report> {
    let shop = Running::start(ground, products).await?;
    name_products(&shop).await?;
    let span = Duration::from_secs(seconds.into());
    let ids = &shop.crowd.product_ids;
    let product = requests(ids.iter().map(|id| (format!("/v1/products/{id}"), None)));
    let list = requests([("/v1/products".to_owned(), None)].into_iter());
    let carts = requests(shop.crowd.customers.iter().map(|customer| {
        let path = format!("/v1/customers/{}/cart", customer.customer_id);
        (path, Some(customer.token.expose().to_owned()))
    }));
    let searches = requests(WORDS.iter().enumerate().flat_map(|(n, word)| {
        let other = WORDS[(n * 7 + 3) % WORDS.len()];
        // A word, two words, and a word with a letter left out.
        let misspelt: String =
            word.char_indices().filter(|(n, _)| *n != 2).map(|(_, c)| c).collect();
        [(*word).to_owned(), format!("{word}+{other}"), misspelt]
            .map(|text| (format!("/v1/products?search={text}"), None))
    }));
    let mut lines =
        vec![Line::new("products", "", products as f64), Line::new("clients", "", clients as f64)];
    for (name, p99, requests, clients) in [
        ("get_product_per_s", "get_product_p99_ms", product, clients),
        ("list_products_per_s", "list_products_p99_ms", list, clients),
        ("get_cart_per_s", "get_cart_p99_ms", carts, clients),
        ("search_per_s", "search_p99_ms", searches, SEARCHERS),
    ] {
        flood(&shop, &requests, clients, span / 5).await.context("warming up")?;
        let took = flood(&shop, &requests, clients, span).await.context(name)?;
        lines.push(Line::new(name, "", took.len() as f64 / span.as_secs_f64()));
        lines.push(Line::new(p99, "", took.value_at_quantile(0.99) as f64 / 1_000.0));
    }
    lines.extend(add_items(&shop, span).await.context("add_item_per_s")?);
    let mut slowest = Duration::ZERO;
    for round in 0..LAST_ITEMS {
        slowest = slowest.max(last_item(&shop, round).await.context("last_item_ms")?);
    }
    let note = "100 buyers at once, until all are answered; the slowest of 5 times";
    lines.push(Line::new("last_item_ms", note, slowest.as_secs_f64() * 1_000.0));
    ground.stop_shop().await?;
    Ok(Report(lines))
}

/// Gives the products names and descriptions in which a search finds something.
async fn name_products(shop: &Running) -> anyhow::Result<()> {
    sqlx::query(
        "-- name: bench: name the products
        with numbered as (
            select product_id, row_number() over () as n from shop.product
        )
        update shop.product p
        set name = initcap(w[1 + n % 40] || ' ' || w[1 + n * 7 % 40] || ' ' || w[1 + n / 40 % 40]),
            description = 'Our ' || w[1 + n * 11 % 40] || ' ' || w[1 + n * 13 % 40]
                || ' comes with a warranty of two years.'
        from numbered, (select $1::text[] as w) words where p.product_id = numbered.product_id",
    )
    .bind(&WORDS[..])
    .execute(&shop.pool)
    .await?;
    sqlx::query("vacuum analyze shop.product").execute(&shop.pool).await?;
    Ok(())
}

/// Fills carts with one more of a product at a time.
async fn add_items(shop: &Running, span: Duration) -> anyhow::Result<[Line; 3]> {
    let customers = &shop.crowd.customers[..CARTS];
    empty_carts(shop, customers).await?;
    let products = &shop.crowd.product_ids[..CART_LINES.min(shop.crowd.product_ids.len())];
    let requests = products.iter().flat_map(|product_id| {
        let body = json!({ "productId": product_id, "quantity": 1 });
        customers.iter().map(move |customer| {
            let path = format!("/v1/customers/{}/cart/items", customer.customer_id);
            post(&path, "", customer, &body)
        })
    });
    let requests = Arc::new(requests.collect());
    let warm = flood(shop, &requests, ADDERS, span / 5).await.context("warming up")?;
    let took = flood(shop, &requests, ADDERS, span).await?;
    let items: i64 = sqlx::query_scalar(
        "-- name: bench: items in the carts
        select coalesce(sum(quantity), 0) from shop.cart_item join shop.cart using (cart_id)
        where customer_id = any($1) and removed_at is null",
    )
    .bind(ids(customers))
    .fetch_one(&shop.pool)
    .await?;
    let added = warm.len() + took.len();
    ensure!(items.unsigned_abs() == added, "{added} were added, and {items} are in the carts");
    let ms = |quantile| took.value_at_quantile(quantile) as f64 / 1_000.0;
    let note = "16 connections, 50 carts of 5 lines";
    Ok([
        Line::new("add_item_per_s", note, took.len() as f64 / span.as_secs_f64()),
        Line::new("add_item_p50_ms", "", ms(0.5)),
        Line::new("add_item_p99_ms", "", ms(0.99)),
    ])
}

/// Lets a hundred customers order the last item of a product at the same moment. Returns the time until all of them are answered: one that the
/// order is being placed, the others that nothing is left.
async fn last_item(shop: &Running, round: usize) -> anyhow::Result<Duration> {
    let buyers = shop.crowd.customers.chunks(BUYERS).nth(round).context("not enough customers")?;
    let product_ids = &shop.crowd.product_ids;
    let product_id = product_ids[round % product_ids.len()];
    sqlx::query(
        "-- name: bench: leave one item
        update shop.inventory set on_hand = reserved + 1 where product_id = $1",
    )
    .bind(product_id)
    .execute(&shop.pool)
    .await?;
    empty_carts(shop, buyers).await?;
    let mut database = shop.pool.acquire().await?;
    bulk::refill_carts(&mut database, &ids(buyers), &[product_id], 1).await?;
    let address = shop.base_url.trim_start_matches("http://");
    let start = Arc::new(Barrier::new(buyers.len() + 1));
    let mut running = JoinSet::new();
    for buyer in buyers {
        let mut connection = Connection::to(address).await?;
        let healthy = connection.ask(b"GET /healthz HTTP/1.1\r\nhost: shop\r\n\r\n").await?;
        ensure!(healthy == 200, "/healthz answered {healthy}");
        let body = json!({
            "customerId": buyer.customer_id,
            "shippingAddressId": buyer.shipping_address_id,
            "paymentMethodId": buyer.payment_method_id,
        });
        let key = format!("idempotency-key: {}\r\n", Uuid::now_v7());
        let (order, start) = (post("/v1/orders", &key, buyer, &body), Arc::clone(&start));
        running.spawn(async move {
            start.wait().await;
            let status = connection.ask(&order).await?;
            anyhow::Ok((status, String::from_utf8_lossy(&connection.read).into_owned()))
        });
    }
    start.wait().await;
    let begun = Instant::now();
    let mut placed = 0;
    while let Some(answer) = running.join_next().await {
        match answer?? {
            (202, _) => placed += 1,
            (409, text) if text.contains("\"out_of_stock\"") => {}
            (status, text) => bail!("placeOrder answered {status}: {text}"),
        }
    }
    let took = begun.elapsed();
    ensure!(placed == 1, "the last item was sold {placed} times");
    Ok(took)
}

fn ids(customers: &[CrowdCustomer]) -> Vec<Uuid> {
    customers.iter().map(|customer| customer.customer_id).collect()
}

/// Takes everything out of these customers' carts.
async fn empty_carts(shop: &Running, customers: &[CrowdCustomer]) -> anyhow::Result<()> {
    sqlx::query(
        "-- name: bench: empty these carts
        delete from shop.cart_item
        where cart_id in (select cart_id from shop.cart where customer_id = any($1))",
    )
    .bind(ids(customers))
    .execute(&shop.pool)
    .await?;
    Ok(())
}

/// The text of a `POST` request by this customer, with further headers if `headers` has lines.
fn post(path: &str, headers: &str, customer: &CrowdCustomer, body: &Value) -> Vec<u8> {
    let (token, body) = (customer.token.expose(), body.to_string());
    format!(
        "POST {path} HTTP/1.1\r\nhost: shop\r\nauthorization: Bearer {token}\r\n{headers}\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// The texts of `GET` requests for these paths, with a token if there is one.
fn requests(paths: impl Iterator<Item = (String, Option<String>)>) -> Arc<Vec<Vec<u8>>> {
    let text = |(path, token): (String, Option<String>)| {
        let bearer = token.map(|token| format!("authorization: Bearer {token}\r\n"));
        format!("GET {path} HTTP/1.1\r\nhost: shop\r\n{}\r\n", bearer.unwrap_or_default())
            .into_bytes()
    };
    Arc::new(paths.map(text).collect())
}

/// Sends these requests in turn from so many connections for a while. Returns the microseconds that each took.
async fn flood(
    shop: &Running,
    requests: &Arc<Vec<Vec<u8>>>,
    clients: usize,
    span: Duration,
) -> anyhow::Result<Histogram<u64>> {
    let address = shop.base_url.trim_start_matches("http://").to_owned();
    let until = Instant::now() + span;
    let mut running = JoinSet::new();
    for client in 0..clients {
        let (address, requests) = (address.clone(), Arc::clone(requests));
        running.spawn(async move {
            let mut took = Histogram::<u64>::new(3)?;
            let mut connection = Connection::to(&address).await?;
            // A prime step, so that the clients do not ask for the same at the same moment.
            let mut next = client * 7919;
            while Instant::now() < until {
                let begun = Instant::now();
                let status = connection.ask(&requests[next % requests.len()]).await?;
                ensure!(status == 200, "a request was answered {status}");
                took.record(u64::try_from(begun.elapsed().as_micros())?)?;
                next += 31;
            }
            anyhow::Ok(took)
        });
    }
    let mut took = Histogram::<u64>::new(3)?;
    while let Some(client) = running.join_next().await {
        took.add(client??)?;
    }
    Ok(took)
}

/// A connection that costs little, because client and server share the machine.
struct Connection {
    stream: TcpStream,
    read: Vec<u8>,
}

impl Connection {
    async fn to(address: &str) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, read: Vec::with_capacity(64 * 1024) })
    }

    /// Sends a request, reads the whole answer and returns its status.
    async fn ask(&mut self, request: &[u8]) -> anyhow::Result<u16> {
        self.stream.write_all(request).await?;
        self.read.clear();
        loop {
            let read = self.stream.read_buf(&mut self.read).await?;
            ensure!(read > 0, "the server has closed the connection");
            if let Some((status, length)) = whole(&self.read)
                && self.read.len() >= length
            {
                return Ok(status);
            }
        }
    }
}

/// The status and the length of an answer whose head was read.
fn whole(read: &[u8]) -> Option<(u16, usize)> {
    let head = read.windows(4).position(|end| end == b"\r\n\r\n")? + 4;
    let text = std::str::from_utf8(&read[..head]).ok()?;
    let status = text.get(9..12)?.parse().ok()?;
    let length = text.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    });
    Some((status, head + length?))
}
