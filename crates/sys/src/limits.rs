//! Resource limits (`setrlimit(2)`) of the calling process. Async-signal-safe.

use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The resources that a process may use.
#[derive(Clone, Copy, Debug)]
pub struct ResourceLimits {
    /// Seconds of processor time: SIGXCPU after that, SIGKILL one second later.
    pub cpu_seconds: u64,
    /// Bytes of address space.
    pub address_space: u64,
    /// Bytes of the largest file that may be written. (Core dumps are disabled: that of an intentional crash would
    /// use up the owner's disk quota.)
    pub file_size: u64,
}

impl ResourceLimits {
    /// Lowers the limits of the calling process to these; a lower hard limit stays.
    ///
    /// # Errors
    ///
    /// Any from `setrlimit(2)`.
    pub fn lower(&self) -> io::Result<()> {
        let seconds = self.cpu_seconds.max(1);
        lower(Resource::Cpu, seconds, seconds + 1)?;
        lower(Resource::As, self.address_space, self.address_space)?;
        lower(Resource::Fsize, self.file_size, self.file_size)?;
        lower(Resource::Core, 0, 0)
    }
}

fn lower(resource: Resource, soft: u64, hard: u64) -> io::Result<()> {
    let hard = getrlimit(resource).maximum.map_or(hard, |allowed| allowed.min(hard));
    let limit = Rlimit { current: Some(hard.min(soft)), maximum: Some(hard) };
    setrlimit(resource, limit)?;
    Ok(())
}
