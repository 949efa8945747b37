//! The options that select sagas, for `stepwise saga list` and the bulk commands.

use clap::Args;
use stepwise_engine::{Priority, Status, WaitingOn, inspect::Filter};
use uuid::Uuid;

/// The selection of sagas. A saga must match every option that is given.
#[derive(Debug, Args)]
pub(super) struct Which {
    /// Only sagas of this kind, such as place-order
    #[arg(long, visible_alias = "name")]
    kind: Option<String>,
    /// Only sagas with this status: running, unwinding, paused, stuck, completed, unwound or abandoned
    #[arg(long)]
    status: Option<Status>,
    /// Only sagas with this subject, such as an order's id
    #[arg(long)]
    subject: Option<String>,
    /// Only sagas that wait on this: worker, activity, retry, timer, signal, operator, children, parent or version
    #[arg(long)]
    waiting_on: Option<WaitingOn>,
    /// Only sagas with this tag, NAME=VALUE; give it several times to require several tags
    #[arg(long = "tag", value_parser = tag)]
    tags: Vec<(String, String)>,
    /// Only sagas with this priority: high, normal or low
    #[arg(long, value_parser = priority)]
    priority: Option<Priority>,
    /// Only sagas that this saga started
    #[arg(long)]
    parent: Option<Uuid>,
}

impl Which {
    /// The filter of the given options. `None` if no option was given.
    pub(super) fn into_filter(self, limit: i64) -> Option<Filter> {
        let Self { kind: name, status, subject, waiting_on, tags, priority, parent } = self;
        let narrows = name.is_some()
            || status.is_some()
            || subject.is_some()
            || waiting_on.is_some()
            || !tags.is_empty()
            || priority.is_some()
            || parent.is_some();
        let tags = tags.into_iter().collect();
        let filter = Filter {
            name,
            status,
            subject,
            waiting_on,
            tags,
            priority,
            parent,
            before: None,
            limit,
        };
        narrows.then_some(filter)
    }
}

fn tag(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("a tag has the form NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

fn priority(text: &str) -> Result<Priority, String> {
    Priority::parse(text).ok_or_else(|| "the priority must be high, normal or low".to_owned())
}
