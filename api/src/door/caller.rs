//! The caller of a request: `Authorization: Bearer <token>`, looked up by the token's hash.
//!
//! Each route names the callers that it serves by the type of its argument: `By<CustomerOrAdmin>`. A lookup
//! is cached for one second, so every process refuses a revoked token within a second, and the hot path
//! needs no query.

use std::{marker::PhantomData, net::IpAddr, ops::Deref, sync::Arc};

use poem::{
    Request, RequestBody,
    http::{HeaderValue, StatusCode, header},
};
use poem_openapi::{
    ApiExtractor, ApiExtractorType, ExtractParamOptions,
    registry::{MetaSecurityScheme, Registry},
};
use sha2::{Digest, Sha256};
use stepwise_workflows::{
    shop::{Actor, cause::KeyRole},
    text::has_card_number,
};
use uuid::Uuid;

use super::{Door, incoming::Incoming, problem::Problem};

/// The longest token that is looked up. Longer ones are invalid.
const TOKEN_LIMIT: usize = 200;
/// The most characters of a client's name that are kept.
const AGENT_LIMIT: usize = 200;

/// The kinds of callers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// A person with an account and a session.
    Customer,
    /// A person with a guest cart and no account.
    Guest,
    /// A person who may read all operational data, with personal data masked.
    Viewer,
    /// A viewer who may also act on sagas.
    Operator,
    /// An operator who also manages the shop.
    Admin,
    /// A program, with scopes.
    Service,
}

/// The caller of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The kind of caller.
    pub role: Role,
    /// The customer (guests are customers too), or the access key's id.
    pub id: Uuid,
    /// The scopes of a service; empty for other callers.
    pub scopes: Arc<[String]>,
    /// The SHA-256 of the token, to end exactly this session.
    pub token_hash: [u8; 32],
}

/// SHA-256 of a token. Only this hash is stored and compared.
pub fn token_hash(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

impl Caller {
    /// The caller as the actor of a command.
    pub fn actor(&self) -> Actor {
        match self.role {
            Role::Customer => Actor::Customer(self.id),
            Role::Guest => Actor::Guest(self.id),
            Role::Viewer => Actor::Key(KeyRole::Viewer, self.id),
            Role::Operator => Actor::Key(KeyRole::Operator, self.id),
            Role::Admin => Actor::Key(KeyRole::Admin, self.id),
            Role::Service => Actor::Key(KeyRole::Service, self.id),
        }
    }

    /// The caller as text, unique over all kinds. Rate limits and idempotency keys use it.
    pub fn key(&self) -> String {
        format!("{:?}:{}", self.role, self.id)
    }

    /// Checks that this caller may act for the customer: only that customer may, or an admin if the route
    /// serves admins. For any other caller the customer does not exist (404).
    pub fn acts_for(&self, customer_id: Uuid) -> Result<Uuid, Problem> {
        let may = self.role == Role::Admin || self.own_customer() == Some(customer_id);
        let unknown = || Problem::not_found("customer_not_found", "There is no such customer.");
        if may { Ok(customer_id) } else { Err(unknown()) }
    }

    /// The customer to whose data this caller is restricted. `None` for staff and services.
    pub fn own_customer(&self) -> Option<Uuid> {
        matches!(self.role, Role::Customer | Role::Guest).then_some(self.id)
    }
}

/// The callers that a route serves.
pub trait Policy: Send + Sync + 'static {
    /// The kinds of callers that the route serves.
    const ROLES: &'static [Role];
    /// The scope that a service needs.
    const SCOPE: &'static str;
}

macro_rules! policies {
    ($($(#[$doc:meta])* $name:ident: [$($role:ident),+] $(, $scope:literal)?;)+) => {$(
        $(#[$doc])*
        #[derive(Debug)]
        pub struct $name;
        impl Policy for $name {
            const ROLES: &'static [Role] = &[$(Role::$role),+];
            const SCOPE: &'static str = concat!($($scope)?);
        }
    )+
        /// All scopes that a service may have.
        pub const SCOPES: &[&str] = &[$($($scope,)?)+];
    };
}

policies! {
    /// Customers.
    CustomerOnly: [Customer];
    /// Customers and guests.
    CustomerOrGuest: [Customer, Guest];
    /// Customers, and admins on their behalf.
    CustomerOrAdmin: [Customer, Admin];
    /// Callers who may read an operation: its customer, staff and services.
    OperationReader: [Customer, Guest, Viewer, Operator, Admin, Service], "operations:read";
    /// Admins.
    AdminOnly: [Admin];
    /// Callers who may change stock.
    StockKeeper: [Admin, Service], "inventory:write";
    /// Callers who may read stock.
    StockReader: [Admin, Operator, Viewer, Service], "inventory:read";
    /// Callers who may move the money of payments.
    PaymentKeeper: [Admin, Service], "payments:write";
    /// Callers who may read a payment: its customer, staff and services.
    PaymentReader: [Customer, Viewer, Operator, Admin, Service], "payments:read";
    /// Callers who may see products that are not on sale.
    CatalogueKeeper: [Admin, Operator, Viewer];
    /// Callers who may read sagas and other operational data.
    ViewerUp: [Viewer, Operator, Admin];
    /// Callers who may act on sagas and on what needs a person.
    OperatorUp: [Operator, Admin];
    /// Callers who may read the integration events.
    EventReader: [Service, Admin], "events:read";
}

/// A caller that the policy `P` admits. A handler reaches the [`Door`] only through this, [`Anyone`], [`Visitor`] or [`Watcher`],
/// so no route can forget to state which callers it serves.
pub struct By<P> {
    /// The state that all handlers share.
    pub door: Arc<Door>,
    caller: Caller,
    policy: PhantomData<fn() -> P>,
}

/// The caller of a route that needs no token. Its requests are counted for its address.
pub struct Anyone {
    /// The state that all handlers share.
    pub door: Arc<Door>,
    /// The address from which the request came.
    pub address: Option<IpAddr>,
    /// The program that sends the request, as it names itself.
    pub agent: Option<String>,
    /// The SHA-256 of a token that was sent although none is needed. The token has not been looked up.
    pub token_hash: Option<[u8; 32]>,
    /// The part of a cause that the request brings along.
    pub incoming: Incoming,
}

impl<'a> ApiExtractor<'a> for Anyone {
    const TYPES: &'static [ApiExtractorType] = &[];
    type ParamType = ();
    type ParamRawType = ();

    async fn from_request(
        request: &'a Request,
        _: &mut RequestBody,
        _: ExtractParamOptions<()>,
    ) -> poem::Result<Self> {
        let token_hash = bearer(request).ok().map(token_hash);
        let (door, incoming) = (Arc::clone(Door::of(request)), Incoming::of(request));
        let address = incoming.address();
        door.limits.address(address).await?;
        Ok(Self { door, address, agent: agent(request), token_hash, incoming })
    }
}

/// The header `User-Agent`, as far as it is fit to be kept: plain text, cut off where it becomes long, without a card number.
fn agent(request: &Request) -> Option<String> {
    let agent = request.headers().get(header::USER_AGENT)?.to_str().ok()?;
    let agent: String = agent.trim().chars().take(AGENT_LIMIT).collect();
    Some(agent).filter(|agent| !agent.is_empty() && !has_card_number(agent))
}

/// The caller of a route that needs no token and is never refused: programs that watch the process ask it often.
pub struct Watcher {
    /// The state that all handlers share.
    pub door: Arc<Door>,
}

impl<'a> ApiExtractor<'a> for Watcher {
    const TYPES: &'static [ApiExtractorType] = &[];
    type ParamType = ();
    type ParamRawType = ();

    async fn from_request(
        request: &'a Request,
        _: &mut RequestBody,
        _: ExtractParamOptions<()>,
    ) -> poem::Result<Self> {
        Ok(Self { door: Arc::clone(Door::of(request)) })
    }
}

impl<P> Deref for By<P> {
    type Target = Caller;

    fn deref(&self) -> &Caller {
        &self.caller
    }
}

impl<'a, P: Policy> ApiExtractor<'a> for By<P> {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::SecurityScheme];
    type ParamType = ();
    type ParamRawType = ();

    fn register(registry: &mut Registry) {
        registry.create_security_scheme(
            "bearer",
            MetaSecurityScheme {
                ty: "http",
                description: Some(
                    "A session token, a guest cart's token, or a key of an admin, operator, \
                     viewer or service.",
                ),
                name: None,
                key_in: None,
                scheme: Some("bearer"),
                bearer_format: None,
                flows: None,
                openid_connect_url: None,
            },
        );
    }

    fn security_schemes() -> Vec<&'static str> {
        vec!["bearer"]
    }

    async fn from_request(
        request: &'a Request,
        _: &mut RequestBody,
        _: ExtractParamOptions<()>,
    ) -> poem::Result<Self> {
        let door = Door::of(request);
        let caller = counted_caller(request).await?;
        if !P::ROLES.contains(&caller.role) {
            tracing::info!(role = ?caller.role, "refused a caller of a kind that this operation does not serve");
            return Err(forbidden("This operation is not for this kind of caller.").into());
        }
        if caller.role == Role::Service && !caller.scopes.iter().any(|s| s == P::SCOPE) {
            return Err(forbidden(format!("The key lacks the scope `{}`.", P::SCOPE)).into());
        }
        Ok(Self { door: Arc::clone(door), caller, policy: PhantomData })
    }
}

/// The caller of a route that needs no token but shows more to callers that the policy `P` admits. A token that is sent must be valid.
pub struct Visitor<P> {
    /// The state that all handlers share.
    pub door: Arc<Door>,
    /// Whether the policy lets this visitor see more.
    pub trusted: bool,
    policy: PhantomData<fn() -> P>,
}

impl<'a, P: Policy> ApiExtractor<'a> for Visitor<P> {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::SecurityScheme];
    type ParamType = ();
    type ParamRawType = ();

    fn register(registry: &mut Registry) {
        By::<P>::register(registry);
    }

    fn security_schemes() -> Vec<&'static str> {
        By::<P>::security_schemes()
    }

    fn has_security_fallback() -> bool {
        true
    }

    async fn from_request(
        request: &'a Request,
        _: &mut RequestBody,
        _: ExtractParamOptions<()>,
    ) -> poem::Result<Self> {
        let door = Arc::clone(Door::of(request));
        let mut trusted = false;
        if request.headers().contains_key(header::AUTHORIZATION) {
            let caller = counted_caller(request).await?;
            trusted = P::ROLES.contains(&caller.role);
        } else {
            door.limits.address(Incoming::of(request).address()).await?;
        }
        Ok(Self { door, trusted, policy: PhantomData })
    }
}

/// The caller whose token the request shows. Counts the request for the caller, or for its address if the token is missing or not valid. A token that
/// this process has not seen as valid is counted for its address before it is looked up, so that guesses beyond the limit cost the database nothing.
async fn counted_caller(request: &Request) -> Result<Caller, Problem> {
    let (door, address) = (Door::of(request), Incoming::of(request).address());
    let token = match bearer(request) {
        Ok(token) => token,
        Err(problem) => {
            door.limits.address(address).await?;
            return Err(problem);
        }
    };
    let is_known = door.callers.knows(token);
    if !is_known {
        door.limits.address(address).await?;
    }
    let looked_up = door.callers.look_up(token).await;
    match &looked_up {
        Ok(caller) => {
            // Anybody gets as many tokens of guests as they ask for.
            if is_known && caller.role == Role::Guest {
                door.limits.address(address).await?;
            }
            door.limits.caller(caller).await?;
        }
        Err(problem) if is_known && problem.status() == StatusCode::UNAUTHORIZED => {
            door.limits.address(address).await?;
        }
        Err(_) => {}
    }
    looked_up
}

fn bearer(request: &Request) -> Result<&str, Problem> {
    let Some(sent) = request.headers().get(header::AUTHORIZATION) else {
        return Err(unauthorized("token_missing", "Send Authorization: Bearer <token>."));
    };
    let invalid = || unauthorized("token_invalid", "Send Authorization: Bearer <token>.");
    let sent = sent.to_str().map_err(|_| invalid())?;
    let (scheme, token) = sent.split_once(' ').ok_or_else(invalid)?;
    let token = token.trim();
    let plain = !token.is_empty() && token.len() <= TOKEN_LIMIT;
    if scheme.eq_ignore_ascii_case("bearer") && plain { Ok(token) } else { Err(invalid()) }
}

/// 403.
pub fn forbidden(detail: impl Into<std::borrow::Cow<'static, str>>) -> Problem {
    Problem::new(StatusCode::FORBIDDEN, "forbidden", detail)
}

/// 401 with the `WWW-Authenticate` challenge.
pub(super) fn unauthorized(code: &'static str, detail: &'static str) -> Problem {
    let challenge = match code {
        "token_missing" => "Bearer realm=\"stepwise\"",
        _ => "Bearer realm=\"stepwise\", error=\"invalid_token\"",
    };
    Problem::new(StatusCode::UNAUTHORIZED, code, detail)
        .with_header(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge))
}
