//! No image of a program's memory is left behind: there are private keys in it.

use std::io;

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

/// Lets no core dump of this process be written, and no other process of its user look into its memory (Linux: `core(5)`,
/// `PR_SET_DUMPABLE`). To be called before a key is read.
///
/// # Errors
/// What the operating system says. It refuses neither to a process without privileges, unless a filter of system calls does.
pub fn keep_memory_private() -> io::Result<()> {
    let not_dumpable = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    Ok(not_dumpable?)
}

#[cfg(test)]
mod tests {
    use rustix::process::{dumpable_behavior, getrlimit};

    use super::*;

    #[test]
    fn no_core_is_dumped_and_nobody_may_look() {
        keep_memory_private().unwrap();
        let limit = getrlimit(Resource::Core);
        assert_eq!((limit.current, limit.maximum), (Some(0), Some(0)));
        assert_eq!(dumpable_behavior().unwrap(), DumpableBehavior::NotDumpable);
    }
}
