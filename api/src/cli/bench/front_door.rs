//! The bench of reads over HTTP, with client, front door and Postgres on the same machine.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use hdrhistogram::Histogram;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
};

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
    shop.stop().await?;
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
