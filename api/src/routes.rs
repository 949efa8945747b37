//! All routes, on one page.

use std::sync::Arc;

use poem::{
    Endpoint, EndpointExt, Request, Response, Route,
    endpoint::{make, make_sync},
    get,
};
use poem_openapi::{OpenApi, OpenApiService};

use crate::{
    door::{
        Door,
        edge::{Edge, RouteTable},
        measure,
        problem::Problem,
    },
    resources::{
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

/// All operations. One line per resource.
fn operations() -> impl OpenApi + 'static {
    (
        (Customers, Wallet, Erasure),
        Carts,
        (Catalogue, Inventory),
        (Orders, Operations),
        (Payments, PayPal, Refunds),
        (Operators, ParkedEvents),
        (Webhooks, Events, Schemas),
        (System, Problems),
    )
}

/// The whole front door: operations, OpenAPI document and documentation, behind the edge.
pub fn app(door: Arc<Door>) -> impl Endpoint<Output = Response> {
    let service = service(operations());
    let spec = service.spec();
    let document = serde_json::from_str(&spec).expect("the document was serialised a moment ago");
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

/// The metrics. Only a collector on this machine may read them.
async fn metrics(request: Request, door: Arc<Door>) -> poem::Result<Response> {
    let local = request.remote_addr().as_socket_addr().is_some_and(|a| a.ip().is_loopback());
    if !local {
        return Err(Problem::not_found("not_found", "There is nothing at this address.").into());
    }
    Ok(measure::response(&door.db, &door.readiness).await)
}

/// The OpenAPI document as JSON.
pub fn document() -> String {
    service(operations()).spec()
}

fn service<T: OpenApi>(operations: T) -> OpenApiService<T, ()> {
    OpenApiService::new(operations, "Stepwise", env!("CARGO_PKG_VERSION"))
        .server("/")
        .description("An order system whose long-running processes survive crashes.")
}
