//! The start of an instance: its subject and input, and options that cost nothing if they are not used.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    base::{
        limits::{self, Refused},
        priority::Priority,
    },
    record::commit::Options,
};

/// One instance to start.
///
/// ```
/// use std::time::Duration;
/// use stepwise_engine::{Priority, Start};
///
/// let start = Start::new("guest 7", 7) // the subject, and the saga's input
///     .key("morning") // the guest may book another seat for the evening
///     .tag("room", "12")
///     .priority(Priority::High)
///     .within(Duration::from_secs(3 * 86_400)) // then it is taken back
///     .queued("room 12"); // waits for its turn under the room's quota
/// assert_eq!(start.tags["room"], "12");
/// ```
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Start<I> {
    /// The subject.
    pub subject: String,
    /// Tells apart several open instances of one subject; empty where there is only one.
    pub start_key: String,
    /// The input, which [`Saga::start`](crate::Saga::start) gets.
    pub input: I,
    /// The priority class: workers claim a higher class first when many instances are due.
    pub priority: Priority,
    /// Names and values by which operators find it. No personal data.
    pub tags: BTreeMap<String, String>,
    /// Business time after which it is called off: unwound before its pivot, told to operators after it.
    pub deadline: Option<Duration>,
    /// It waits its turn among those of its saga and this key ([`crate::Quota`]).
    pub queue_key: Option<String>,
    /// The cause of the start, in the author's form, which the engine does not read ([`Start::because`]). No personal data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub because: Option<String>,
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
            because: None,
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

    /// With its cause. The instance's tx steps read it ([`crate::StepTx::because`]); its children and its successor inherit it unless they
    /// have one of their own.
    #[must_use]
    pub fn because(mut self, because: impl Into<String>) -> Self {
        self.because = Some(because.into());
        self
    }

    /// The same with another input.
    pub(crate) fn try_map<J, E>(
        self,
        input: impl FnOnce(I) -> Result<J, E>,
    ) -> Result<Start<J>, E> {
        let Self { subject, start_key, priority, tags, deadline, queue_key, because, .. } = self;
        let input = input(self.input)?;
        Ok(Start { subject, start_key, input, priority, tags, deadline, queue_key, because })
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
        limits::check_name("because", self.because.as_deref().unwrap_or_default())?;
        Ok(limits::check_wait(self.deadline.unwrap_or_default())?)
    }

    /// The options without the input.
    pub(crate) fn options(&self) -> Options {
        Options {
            subject: self.subject.clone(),
            start_key: self.start_key.clone(),
            priority: self.priority,
            tags: (!self.tags.is_empty()).then(|| crate::base::json::shown(&self.tags)),
            deadline: self.deadline,
            queue_key: self.queue_key.clone(),
            because: self.because.clone(),
        }
    }
}
