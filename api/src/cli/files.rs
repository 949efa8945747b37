//! How many files, connections included, this process may open at the same time.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::{Failure, database::Role};

/// Beside the connections to the database: a few callers, the broker, the gateway, keys, logs and the runtime's own.
const OTHERS: u64 = 64;

/// Raises the limit as far as the system lets us: the usual soft limit of 1,024 is for programs that cannot take more. Refuses one with
/// which a process of this kind cannot even open its connections to the database.
pub(super) fn raise_limit(role: Role) -> Result<(), Failure> {
    let limit = getrlimit(Resource::Nofile);
    let needed = u64::from(role.connections()) + OTHERS;
    if let Some(most) = limit.maximum.filter(|most| *most < needed) {
        return Err(Failure::dependency(format!(
            "this process may open {most} files and may need {needed}; raise the limit (ulimit -n)"
        )));
    }
    // Not every system takes its own maximum; what is needed will do.
    for current in [limit.maximum, Some(needed)] {
        let is_more = limit.current.is_some_and(|now| current.is_none_or(|wanted| wanted > now));
        if !is_more || setrlimit(Resource::Nofile, Rlimit { current, ..limit }).is_ok() {
            break;
        }
    }
    Ok(())
}
