//! What a child may use up.

use std::time::Duration;

use sys::limits::ResourceLimits;

/// What a child may use up. A plain value; the default suits a shared host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Limits {
    /// Processor time. Default 10 s. The kernel counts whole seconds: rounded up. (RLIMIT_CPU.)
    pub cpu: Duration,
    /// Time on the clock. Default 30 s. Counted by whoever waits for the child.
    pub wall: Duration,
    /// Memory in bytes: address space, beyond what this process has already. Default 256 MiB. For a
    /// program that is executed: in all. (RLIMIT_AS.)
    pub memory: u64,
    /// Bytes of the largest file that may be written. Default 64 MiB. (RLIMIT_FSIZE.)
    pub file_size: u64,
}

impl Limits {
    /// The default, where a constant is wanted.
    pub const DEFAULT: Limits = Limits {
        cpu: Duration::from_secs(10),
        wall: Duration::from_secs(30),
        memory: 256 << 20,
        file_size: 64 << 20,
    };

    /// Returns the larger of each two.
    #[must_use]
    pub fn at_least(self, min: &Limits) -> Limits {
        Limits {
            cpu: self.cpu.max(min.cpu),
            wall: self.wall.max(min.wall),
            memory: self.memory.max(min.memory),
            file_size: self.file_size.max(min.file_size),
        }
    }

    /// As the kernel wants them, for a process that has so many bytes of address space already.
    pub(crate) fn beyond(&self, address_space: u64) -> ResourceLimits {
        ResourceLimits {
            cpu_seconds: self.cpu.as_secs() + u64::from(self.cpu.subsec_nanos() > 0),
            address_space: address_space.saturating_add(self.memory),
            file_size: self.file_size,
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Limits::DEFAULT
    }
}
