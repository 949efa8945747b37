//! Whether a commit may be written: what Postgres can hold, and the limits.

use crate::{
    base::{
        json::Json,
        limits::{
            CHILDREN, JOURNAL_LENGTH, Limit, POSITION_BYTES, Refused, SIGNALLED_LENGTH,
            check_event, check_wait,
        },
        status::Status,
    },
    record::commit::Commit,
};

impl Commit {
    /// May this be written? What cannot be stored is refused whatever its status; a limit stops nothing that takes back.
    pub(crate) fn check(&self) -> Result<(), Refused> {
        self.check_storable()?;
        Ok(self.check_limits()?)
    }

    fn check_limits(&self) -> Result<(), Limit> {
        if matches!(self.status, Status::Running | Status::Completed) {
            let events = self.journal.iter().flat_map(|row| &row.event);
            events.map(Json::len).try_for_each(check_event)?;
        }
        if self.status != Status::Running {
            return Ok(());
        }
        check_wait(self.wake.delay().unwrap_or_default())?;
        let new_instances = self.family.iter().flat_map(|family| &family.new_instances);
        let children = new_instances.clone().count();
        if children > CHILDREN {
            return Err(Limit::Children(children));
        }
        new_instances.map(|new| &new.commit).try_for_each(Self::check_limits)?;
        let bytes = self.state.len() + self.pending.len() + self.undos.len();
        if bytes > POSITION_BYTES {
            return Err(Limit::Position(bytes));
        }
        if self.new_seq > JOURNAL_LENGTH { Err(Limit::Journal) } else { Ok(()) }
    }

    /// May a signal have this commit written? What makes an instance unwind or end is never too much.
    pub(crate) fn check_signalled(&self, applied: bool) -> Result<(), Refused> {
        if self.new_seq > SIGNALLED_LENGTH && (!applied || self.status == Status::Running) {
            return Err(Limit::Journal.into());
        }
        if applied { self.check() } else { Ok(self.check_storable()?) }
    }
}
