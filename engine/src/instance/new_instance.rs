//! A new instance in memory: the first decision of its saga, before any step has run. Pure.

use crate::{
    base::id::new_id,
    instance::{Entry, Instance},
    record::{commit::NewInstance, words::JournalKind},
    saga::{
        Saga,
        child::{Child, Forbidden},
        start::Start,
    },
};

impl Child {
    /// A child of saga `C`. Its first tx steps run when a worker claims it.
    pub fn of<C: Saga>(start: Start<C::Input>) -> Self {
        Self(Box::new(move |parent| {
            start.check().map_err(Forbidden::Child)?;
            let mut child = before_first_step::<C>(parent.shard, &start)?;
            child.progress.bound_to_parent = parent.binds;
            if !child.parks() {
                child.make_due();
            }
            Ok(NewInstance {
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
pub(crate) fn before_first_step<S: Saga>(
    shard: i16,
    start: &Start<S::Input>,
) -> Result<Box<Instance<S>>, Forbidden> {
    let mut next = S::start(start.input.clone());
    let state = next.state.take().ok_or(Forbidden::StartsByUnwinding(S::NAME))?;
    let mut instance =
        Box::new(Instance::<S>::new(shard, new_id(shard), start.subject.clone(), state));
    instance.progress.because.clone_from(&start.because);
    instance.decide(Entry::new(JournalKind::Start, &start.input), next)?;
    Ok(instance)
}
