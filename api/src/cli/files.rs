//! The limit of files, connections included, that this process may have open.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::{Failure, database::Role};

/// Files needed beside the connections to the database: a few callers, the broker, the gateway, keys, logs and the runtime's files.
const OTHERS: u64 = 64;

/// Raises the limit as far as the system allows: the usual soft limit of 1,024 exists for programs that cannot handle more. Refuses a
/// limit at which a process of this role cannot even open its connections to the database.
pub(super) fn raise_limit(role: Role) -> Result<(), Failure> {
    let limit = getrlimit(Resource::Nofile);
    let needed = u64::from(role.connections()) + OTHERS;
    if let Some(most) = limit.maximum.filter(|most| *most < needed) {
        return Err(Failure::dependency(format!(
            "this process may open {most} files and may need {needed}; raise the limit (ulimit -n)"
        )));
    }
    // Some systems refuse their own maximum; the number that is needed is enough.
    for current in [limit.maximum, Some(needed)] {
        let is_more = limit.current.is_some_and(|now| current.is_none_or(|wanted| wanted > now));
        if !is_more || setrlimit(Resource::Nofile, Rlimit { current, ..limit }).is_ok() {
            break;
        }
    }
    Ok(())
}
