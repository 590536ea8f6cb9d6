//! The limits of a child.

use std::time::Duration;

use sys::limits::ResourceLimits;

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

    /// Converts to the kernel's limits, for a process that already has this many bytes of address space.
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
