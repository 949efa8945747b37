//! All resources, on one page. The paths of a resource stand beside its handlers, and all of them in `docs/openapi.json`.

use std::sync::Arc;

use poem::{
    Endpoint, EndpointExt, Request, Response, Route,
    endpoint::{make, make_sync},
    get,
};
use poem_openapi::{OpenApi, OpenApiService};
use serde_json::Value;

use crate::{
    document,
    door::{
        Door,
        edge::{Edge, RouteTable},
        json::NO_FIELD,
        measure,
        problem::Problem,
        proxies,
    },
    resources::{
        accounts::Accounts,
        carts::Carts,
        catalogue::Catalogue,
        customers::Customers,
        erasure::Erasure,
        events::{Events, Schemas},
        inventory::Inventory,
        operations::Operations,
        operators::Operators,
        orders::Orders,
        parked::ParkedEvents,
        payments::Payments,
        paypal::PayPal,
        problems::Problems,
        refunds::Refunds,
        system::System,
        wallet::Wallet,
        webhooks::Webhooks,
    },
};

/// Paths that are not in the OpenAPI document.
const OTHERS: [&str; 3] = ["/openapi.json", "/docs", "/metrics"];

/// The operations of all resources.
fn operations() -> impl OpenApi + 'static {
    (
        (Customers, Accounts, Wallet, Erasure),
        Carts,
        (Catalogue, Inventory),
        (Orders::default(), Operations),
        (Payments, PayPal, Refunds),
        (Operators, ParkedEvents),
        (Webhooks, Events, Schemas),
        (System, Problems),
    )
}

/// The whole front door: operations, OpenAPI document and documentation, behind the edge.
pub fn app(door: Arc<Door>) -> impl Endpoint<Output = Response> {
    let service = service(operations(), door.public_url.as_deref());
    let document = completed(&service);
    let spec = format!("{document:#}");
    let json =
        make_sync(move |_| Response::builder().content_type("application/json").body(spec.clone()));
    let measured = Arc::clone(&door);
    let routes = Route::new()
        .at("/openapi.json", get(json))
        .at("/metrics", get(make(move |request| metrics(request, Arc::clone(&measured)))))
        .nest("/docs", service.swagger_ui())
        .nest("/", service);
    Edge::new(routes.map_to_response(), door, RouteTable::new(&document, &OTHERS))
}

/// The metrics. Only a collector on this machine may read them, and not through a proxy on this machine.
async fn metrics(request: Request, door: Arc<Door>) -> poem::Result<Response> {
    let local = request.remote_addr().as_socket_addr().is_some_and(|a| a.ip().is_loopback());
    if !local || proxies::is_forwarded(request.headers()) {
        return Err(Problem::not_found("not_found", "There is nothing at this address.").into());
    }
    Ok(measure::response(&door.db, &door.readiness).await)
}

/// The OpenAPI document as JSON, for any address.
pub fn document() -> String {
    document_at(None)
}

/// The OpenAPI document of a shop that clients reach at this address, as JSON.
pub fn document_at(public_url: Option<&str>) -> String {
    format!("{:#}", completed(&service(operations(), public_url)))
}

/// The whole document of these operations, with `false` for the fields that a body does not have.
fn completed<T: OpenApi>(service: &OpenApiService<T, ()>) -> Value {
    let none = format!("{{\n          \"type\": \"{NO_FIELD}\"\n        }}");
    let spec = service.spec().replace(&none, "false");
    document::complete(serde_json::from_str(&spec).expect("it was serialised a moment ago"))
}

/// The operations with their document. It names the address at which clients reach the shop, if that is known.
fn service<T: OpenApi>(operations: T, public_url: Option<&str>) -> OpenApiService<T, ()> {
    OpenApiService::new(operations, "Stepwise", env!("CARGO_PKG_VERSION"))
        .server(public_url.unwrap_or("/"))
        .description("An order system whose long-running processes survive crashes.")
}
