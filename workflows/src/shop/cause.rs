//! The cause of what happens in the shop: who acts, which request or operation it belongs to, and what came before it.
//!
//! The front door makes the cause of a command from its request. A saga is started with the cause of what starts it, and its tx steps get that cause
//! back. So every event, audit row and message says why it came about, and no author of a command or saga does anything for it.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use stepwise_engine::StepOf;
use uuid::Uuid;

/// The id that stands for the shop itself wherever an actor's id is asked for.
pub const SYSTEM: Uuid = Uuid::from_u128(0x0000_0000_0000_7000_8000_0000_0000_0000);

/// The cause of everything that one transaction does. Ids only, no personal data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cause {
    /// The actor.
    pub actor: Actor,
    /// The same for everything that one request leads to: the request's id, or the saga's if no request started it.
    pub correlation: Uuid,
    /// The request or the domain event that led to this.
    pub causation: Uuid,
    /// The trace that the request belongs to.
    pub traceparent: TraceParent,
    /// The saga whose step this is.
    #[serde(skip)]
    pub saga: Option<Uuid>,
}

impl Cause {
    /// The cause of what a request does. Without a trace parent of its own the request begins a trace.
    #[must_use]
    pub fn of_request(actor: Actor, request: Uuid, traceparent: Option<TraceParent>) -> Self {
        let traceparent = traceparent.unwrap_or_else(|| TraceParent::beginning_with(request));
        Self { actor, correlation: request, causation: request, traceparent, saga: None }
    }

    /// The cause of what the shop does by itself, under an id of its own.
    #[must_use]
    pub fn of_system(id: Uuid) -> Self {
        Self::of_request(Actor::System, id, None)
    }

    /// The cause of what a step of a saga does: that of the saga's start.
    pub(crate) fn of_step(of: StepOf<'_>) -> Self {
        let started = of.because.and_then(|because| serde_json::from_str(because).ok());
        let cause: Self = started.unwrap_or_else(|| Self::of_system(of.instance));
        Self { saga: Some(of.instance), ..cause }
    }

    /// As a saga's start keeps it ([`stepwise_engine::Start::because`]).
    pub(super) fn text(&self) -> String {
        serde_json::to_string(self).expect("ids and words are valid JSON")
    }
}

/// The actor: a person, a program with a key, or the shop itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Actor {
    /// A customer.
    Customer(Uuid),
    /// A guest, by the id that stands for a customer's.
    Guest(Uuid),
    /// An access key of a person or a program: of an admin, an operator, a viewer or a service.
    Key(KeyRole, Uuid),
    /// Anybody, in an operation that needs no token.
    Anyone,
    /// The shop itself.
    System,
}

/// The roles of access keys that may act.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyRole {
    /// An admin.
    Admin,
    /// An operator.
    Operator,
    /// A viewer.
    Viewer,
    /// A program.
    Service,
}

impl Actor {
    /// The actor's id for events and audit rows.
    #[must_use]
    pub fn id(self) -> Uuid {
        match self {
            Self::Customer(id) | Self::Guest(id) | Self::Key(_, id) => id,
            Self::Anyone => Uuid::nil(),
            Self::System => SYSTEM,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Customer(_) => "customer",
            Self::Guest(_) => "guest",
            Self::Key(KeyRole::Admin, _) => "admin",
            Self::Key(KeyRole::Operator, _) => "operator",
            Self::Key(KeyRole::Viewer, _) => "viewer",
            Self::Key(KeyRole::Service, _) => "service",
            Self::Anyone => "anyone",
            Self::System => "system",
        }
    }
}

/// `admin:0197…`, `system`.
impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Anyone | Self::System => f.write_str(self.word()),
            Self::Customer(id) | Self::Guest(id) | Self::Key(_, id) => {
                write!(f, "{}:{id}", self.word())
            }
        }
    }
}

/// A text that names no actor.
#[derive(Debug, thiserror::Error)]
#[error("not an actor")]
pub struct UnknownActor;

impl FromStr for Actor {
    type Err = UnknownActor;

    fn from_str(text: &str) -> Result<Self, UnknownActor> {
        let (word, id) = match text.split_once(':') {
            Some((word, id)) => (word, id.parse().map_err(|_| UnknownActor)?),
            None => (text, Uuid::nil()),
        };
        Ok(match word {
            "customer" => Self::Customer(id),
            "guest" => Self::Guest(id),
            "admin" => Self::Key(KeyRole::Admin, id),
            "operator" => Self::Key(KeyRole::Operator, id),
            "viewer" => Self::Key(KeyRole::Viewer, id),
            "service" => Self::Key(KeyRole::Service, id),
            "anyone" => Self::Anyone,
            "system" => Self::System,
            _ => return Err(UnknownActor),
        })
    }
}

impl Serialize for Actor {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Actor {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(from)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// A W3C trace parent: `00-<trace id>-<parent id>-<flags>`, in lower-case hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TraceParent(String);

impl TraceParent {
    /// Takes a header's value; `None`: it has not the form of <https://www.w3.org/TR/trace-context/>, version 00.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let parts: Vec<&str> = text.split('-').collect();
        let [version, trace, parent, flags] = parts[..] else { return None };
        let is_hex = |part: &str, digits: usize| {
            part.len() == digits && part.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        };
        let is_id = |part: &str, digits| is_hex(part, digits) && part.bytes().any(|b| b != b'0');
        let is_valid = version == "00" && is_id(trace, 32) && is_id(parent, 16) && is_hex(flags, 2);
        is_valid.then(|| Self(text.to_owned()))
    }

    /// The trace that begins with this request or saga. Nobody records it, so its flag is 0.
    #[must_use]
    pub fn beginning_with(id: Uuid) -> Self {
        let trace = id.simple().to_string();
        Self(format!("00-{trace}-{}-00", &trace[16..]))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_read_as_it_was_written() {
        let id = Uuid::now_v7();
        for actor in [
            Actor::Customer(id),
            Actor::Guest(id),
            Actor::Key(KeyRole::Admin, id),
            Actor::Key(KeyRole::Operator, id),
            Actor::Key(KeyRole::Viewer, id),
            Actor::Key(KeyRole::Service, id),
            Actor::Anyone,
            Actor::System,
        ] {
            let cause = Cause::of_request(actor, id, None);
            assert_eq!(serde_json::from_str::<Cause>(&cause.text()).expect("a cause"), cause);
        }
        assert!("nobody".parse::<Actor>().is_err());
        assert!("admin:x".parse::<Actor>().is_err());
    }

    #[test]
    fn a_trace_parent_has_the_form_of_the_w3c_or_is_ignored() {
        let good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        assert_eq!(TraceParent::parse(good).expect("it is valid").as_str(), good);
        let made = TraceParent::beginning_with(Uuid::now_v7());
        assert_eq!(TraceParent::parse(made.as_str()), Some(made));
        for bad in [
            "",
            "00",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-x",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b716920333g-01",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319é-b7ad6b7169203331-01",
        ] {
            assert_eq!(TraceParent::parse(bad), None, "{bad}");
        }
    }
}
