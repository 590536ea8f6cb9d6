//! The limits of a child.

use std::io;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The limits of a child. The default suits a shared host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Limits {
    /// Processor time, rounded up to whole seconds. Default 10 s. (RLIMIT_CPU.)
    pub cpu: Duration,
    /// Wall time. Default 30 s. Enforced by what waits for the child.
    pub wall: Duration,
    /// Memory in bytes of address space: for a forked child, in addition to what this process already has; for a
    /// program, in total. Default 256 MiB. (RLIMIT_AS.)
    pub memory: u64,
    /// The maximum size in bytes of a file that is written. Default 64 MiB. (RLIMIT_FSIZE.)
    pub file_size: u64,
}

impl Limits {
    /// The default as a constant.
    pub const DEFAULT: Limits = Limits {
        cpu: Duration::from_secs(10),
        wall: Duration::from_secs(30),
        memory: 256 << 20,
        file_size: 64 << 20,
    };

    /// Returns the larger value of each limit.
    #[must_use]
    pub fn at_least(self, min: &Limits) -> Limits {
        Limits {
            cpu: self.cpu.max(min.cpu),
            wall: self.wall.max(min.wall),
            memory: self.memory.max(min.memory),
            file_size: self.file_size.max(min.file_size),
        }
    }

    /// Lowers the kernel's limits of this process, which already has that many bytes of address space; a lower hard
    /// limit stays. Async-signal-safe.
    ///
    /// # Errors
    ///
    /// Any from `setrlimit(2)`.
    pub(crate) fn impose(&self, address_space: u64) -> io::Result<()> {
        let seconds = (self.cpu.as_secs() + u64::from(self.cpu.subsec_nanos() > 0)).max(1);
        // SIGXCPU after that, SIGKILL one second later.
        lower(Resource::Cpu, seconds, seconds + 1)?;
        let memory = address_space.saturating_add(self.memory);
        lower(Resource::As, memory, memory)?;
        lower(Resource::Fsize, self.file_size, self.file_size)?;
        // The core dump of an intentional crash would use up the owner's disk quota.
        lower(Resource::Core, 0, 0)
    }
}

fn lower(resource: Resource, soft: u64, hard: u64) -> io::Result<()> {
    let hard = getrlimit(resource).maximum.map_or(hard, |allowed| allowed.min(hard));
    let limit = Rlimit { current: Some(hard.min(soft)), maximum: Some(hard) };
    Ok(setrlimit(resource, limit)?)
}

impl Default for Limits {
    fn default() -> Self {
        Limits::DEFAULT
    }
}
