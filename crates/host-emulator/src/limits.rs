//! What CloudLinux forbids a process: threads, and more memory than the account has.
//!
//! There, NPROC counts threads like processes, so that a pool of them uses it up; here, all of them are refused. How many
//! processes a program starts itself is not limited: RLIMIT_NPROC counts those of the whole user, on this machine most of them
//! somebody else's.

use std::io;

use process::Command;
use rustix::process::{Resource, Rlimit, setrlimit};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch, apply_filter,
};

/// The limits of each process, with what their children inherit.
pub(crate) struct ProcessLimits {
    /// System call filters (seccomp), to be installed one after the other.
    filters: [BpfProgram; 2],
    /// Bytes of data segment, heap and anonymous mappings.
    memory: u64,
}

impl ProcessLimits {
    /// # Errors
    ///
    /// If there are no filters for this processor.
    pub(crate) fn new(memory: u64) -> io::Result<Self> {
        let thread = u64::from(libc::CLONE_THREAD.unsigned_abs());
        let is_thread = SeccompCmpOp::MaskedEq(thread);
        let condition =
            SeccompCondition::new(0, SeccompCmpArgLen::Qword, is_thread, thread).map_err(other)?;
        let thread = SeccompRule::new(vec![condition]).map_err(other)?;
        let filters = [
            // Its flags are in memory, where no filter looks. Without it, the C library takes the older call.
            filter(libc::SYS_clone3, Vec::new(), libc::ENOSYS)?,
            filter(libc::SYS_clone, vec![thread], libc::EAGAIN)?,
        ];
        Ok(ProcessLimits { filters, memory })
    }

    /// Has the program start with these limits.
    pub(crate) fn impose(&self, command: &mut Command) {
        let (filters, memory) = (self.filters.clone(), self.memory);
        // Only system calls, on values that are there: nothing is allocated.
        command.before_exec(move || {
            let limit = Rlimit { current: Some(memory), maximum: Some(memory) };
            setrlimit(Resource::Data, limit)?;
            let install = |filter| apply_filter(filter).map_err(|_| io::Error::last_os_error());
            filters.iter().try_for_each(|filter| install(filter))
        });
    }
}

/// A filter that makes this system call fail, if a rule applies or there is none.
fn filter(call: i64, rules: Vec<SeccompRule>, errno: i32) -> io::Result<BpfProgram> {
    let rules = [(call, rules)].into_iter().collect();
    let architecture = TargetArch::try_from(std::env::consts::ARCH).map_err(other)?;
    let refuse = SeccompAction::Errno(errno.unsigned_abs());
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, refuse, architecture);
    filter.and_then(BpfProgram::try_from).map_err(other)
}

fn other(error: seccompiler::BackendError) -> io::Error {
    io::Error::other(error)
}
