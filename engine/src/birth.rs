//! What an instance is born with: its subject and input, and the options that cost nothing where they are not used.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    commit::Commit,
    id::new_id,
    instance::{Entry, Forbidden, Instance},
    limits::{self, Refused},
    saga::Saga,
};

/// One instance to start.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Start<I> {
    /// What it is about.
    pub subject: String,
    /// Tells apart several open instances of one subject; empty where there is only one.
    pub start_key: String,
    /// What [`Saga::start`] gets.
    pub input: I,
    /// What is claimed first when many are due.
    pub priority: Priority,
    /// Names and values by which operators find it. No personal data.
    pub tags: BTreeMap<String, String>,
    /// Business time after which it is called off: unwound before its pivot, told to operators after it.
    pub deadline: Option<Duration>,
    /// It waits its turn among those of its saga and this key ([`crate::Quota`]).
    pub queue_key: Option<String>,
}

/// What is claimed first when many are due. Nothing starves: a class is overtaken only by what is due up to
/// [`Priority::HEAD_START`] later than itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Priority {
    /// Before the others.
    High,
    /// As most.
    #[default]
    Normal,
    /// After the others.
    Low,
}

impl Priority {
    /// So much later may something of the next higher class be due and still go first.
    pub const HEAD_START: Duration = Duration::from_secs(60);

    pub(crate) fn as_i16(self) -> i16 {
        match self {
            Self::High => 0,
            Self::Normal => 1,
            Self::Low => 2,
        }
    }

    /// As on the command line and in the API.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::High => "high",
            Self::Normal => "normal",
            Self::Low => "low",
        }
    }

    /// The inverse of [`Priority::as_str`].
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::High, Self::Normal, Self::Low].into_iter().find(|one| one.as_str() == text)
    }
}

impl TryFrom<i16> for Priority {
    type Error = String;

    fn try_from(number: i16) -> Result<Self, String> {
        [Self::High, Self::Normal, Self::Low]
            .into_iter()
            .find(|one| one.as_i16() == number)
            .ok_or_else(|| format!("unknown priority {number}"))
    }
}

impl<I> Start<I> {
    /// The only open instance of its subject, without options.
    pub fn new(subject: impl Into<String>, input: I) -> Self {
        Self {
            subject: subject.into(),
            start_key: String::new(),
            input,
            priority: Priority::default(),
            tags: BTreeMap::new(),
            deadline: None,
            queue_key: None,
        }
    }

    /// One of several open instances of its subject.
    #[must_use]
    pub fn key(mut self, start_key: impl Into<String>) -> Self {
        self.start_key = start_key.into();
        self
    }

    /// With a priority.
    #[must_use]
    pub fn priority(mut self, priority: Priority) -> Self {
        self.priority = priority;
        self
    }

    /// With one more tag.
    #[must_use]
    pub fn tag(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.tags.insert(name.into(), value.into());
        self
    }

    /// To be called off after that much business time.
    #[must_use]
    pub fn within(mut self, deadline: Duration) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// It waits its turn among those of its saga and this key.
    #[must_use]
    pub fn queued(mut self, queue_key: impl Into<String>) -> Self {
        self.queue_key = Some(queue_key.into());
        self
    }

    /// The same with another input.
    pub(crate) fn try_map<J, E>(
        self,
        input: impl FnOnce(I) -> Result<J, E>,
    ) -> Result<Start<J>, E> {
        let Self { subject, start_key, priority, tags, deadline, queue_key, .. } = self;
        let input = input(self.input)?;
        Ok(Start { subject, start_key, input, priority, tags, deadline, queue_key })
    }

    /// May an instance be found by these names, and wait so long?
    ///
    /// # Errors
    /// [`Refused`]: one holds NUL, or is too long.
    pub(crate) fn check(&self) -> Result<(), Refused> {
        limits::check_name("subject", &self.subject)?;
        limits::check_name("start key", &self.start_key)?;
        limits::check_name("queue key", self.queue_key.as_deref().unwrap_or_default())?;
        self.tags.iter().try_for_each(|(name, value)| {
            limits::check_name("tag", name)?;
            limits::check_name("tag", value)
        })?;
        Ok(limits::check_wait(self.deadline.unwrap_or_default())?)
    }

    /// The options without the input.
    pub(crate) fn options(&self) -> Options {
        Options {
            subject: self.subject.clone(),
            start_key: self.start_key.clone(),
            priority: self.priority,
            tags: (!self.tags.is_empty()).then(|| crate::json::shown(&self.tags)),
            deadline: self.deadline,
            queue_key: self.queue_key.clone(),
        }
    }
}

/// [`Start`] without its input.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    pub(crate) subject: String,
    pub(crate) start_key: String,
    pub(crate) priority: Priority,
    pub(crate) tags: Option<String>,
    pub(crate) deadline: Option<Duration>,
    pub(crate) queue_key: Option<String>,
}

/// An instance that is about to be inserted.
#[derive(Debug, Clone)]
pub(crate) struct Birth {
    pub(crate) name: &'static str,
    pub(crate) commit: Commit,
    pub(crate) options: Options,
    pub(crate) parent: Option<Parent>,
    /// The worker that drives it from birth on.
    pub(crate) owner: Option<Uuid>,
}

/// Whose child an instance is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Parent {
    pub(crate) shard: i16,
    pub(crate) id: Uuid,
    /// The parent's step that starts it.
    pub(crate) step_no: i32,
    /// It keeps its undos for the parent, which is before its pivot.
    pub(crate) holds: bool,
}

/// A child that a transition starts ([`crate::saga::To::children`]). Several children of one saga and subject need start keys.
pub struct Child(pub(crate) Box<dyn FnOnce(Parent) -> Result<Birth, Forbidden> + Send>);

impl Child {
    /// A child of saga `C`. Its first tx steps run when a worker claims it.
    pub fn of<C: Saga>(start: Start<C::Input>) -> Self {
        Self(Box::new(move |parent| {
            start.check().map_err(Forbidden::Child)?;
            let mut child = unborn::<C>(parent.shard, &start)?;
            child.held = parent.holds;
            if !child.parks() {
                child.release();
            }
            Ok(Birth {
                name: C::NAME,
                commit: child.commit(),
                options: start.options(),
                parent: Some(parent),
                owner: None,
            })
        }))
    }
}

/// The instance after its first decision, before any step of it has run. Pure.
///
/// # Errors
/// [`Forbidden`] when the saga's first transition is not allowed.
pub(crate) fn unborn<S: Saga>(
    shard: i16,
    start: &Start<S::Input>,
) -> Result<Box<Instance<S>>, Forbidden> {
    let mut next = S::start(start.input.clone());
    let state = next.state.take().ok_or(Forbidden::StartsByUnwinding(S::NAME))?;
    let mut instance =
        Box::new(Instance::<S>::unborn(shard, new_id(shard), start.subject.clone(), state));
    instance.decide(Entry::new("start", &start.input), next)?;
    Ok(instance)
}
