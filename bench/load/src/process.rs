//! The server as `/proc` shows it: processor time and memory of a process and its descendants.
//!
//! The server itself is not queried, so that all servers are measured alike.

use std::collections::BTreeSet;
use std::fs;

/// Processor time that a process tree has used since it was started.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Processor {
    /// In user mode, in microseconds, in steps of the kernel's clock tick.
    pub user_us: f64,
    /// In the kernel, in microseconds, in steps of the kernel's clock tick.
    pub system_us: f64,
    /// Both together, in microseconds; exact to the nanosecond for processes with one thread.
    pub total_us: f64,
}

/// Memory of a process tree in KiB. Pages that processes share are counted for each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// What is resident now (VmRSS).
    pub resident_kib: u64,
    /// The sum of the peaks of all processes that are still running (VmHWM).
    pub peak_kib: u64,
    /// How many processes there are.
    pub processes: usize,
}

/// Microseconds per tick in `/proc/PID/stat`: USER_HZ is 100 on every architecture of Debian.
const TICK_US: f64 = 10_000.0;

/// Reads the processor time of these processes and all their descendants, reaped ones included.
pub fn processor(roots: &[u32]) -> Processor {
    let mut sum = Processor::default();
    for pid in tree(roots) {
        let Some(stat) = read(pid, "stat").as_deref().and_then(parse_stat) else { continue };
        sum.user_us += (stat.user + stat.reaped_user) as f64 * TICK_US;
        sum.system_us += (stat.system + stat.reaped_system) as f64 * TICK_US;
        let own = exact_us(pid, stat.threads).unwrap_or((stat.user + stat.system) as f64 * TICK_US);
        sum.total_us += own + (stat.reaped_user + stat.reaped_system) as f64 * TICK_US;
    }
    sum
}

/// Reads the memory of these processes and all their living descendants.
pub fn memory(roots: &[u32]) -> Memory {
    let mut sum = Memory::default();
    for pid in tree(roots) {
        let Some(status) = read(pid, "status") else { continue };
        sum.resident_kib += kib(&status, "VmRSS:");
        sum.peak_kib += kib(&status, "VmHWM:");
        sum.processes += 1;
    }
    sum
}

/// Returns whether a process exists.
pub fn exists(pid: u32) -> bool {
    read(pid, "stat").is_some()
}

/// The processes and their descendants.
fn tree(roots: &[u32]) -> BTreeSet<u32> {
    let mut all = BTreeSet::new();
    let mut left = roots.to_vec();
    while let Some(pid) = left.pop() {
        if !all.insert(pid) {
            continue;
        }
        // A child is listed under the thread that created it.
        let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { continue };
        for thread in threads.flatten() {
            let children = fs::read_to_string(thread.path().join("children")).unwrap_or_default();
            left.extend(
                children.split_ascii_whitespace().filter_map(|child| child.parse::<u32>().ok()),
            );
        }
    }
    all
}

/// Returns what the scheduler has counted for a process with one thread. (With several, threads that have
/// exited would be missing.)
fn exact_us(pid: u32, threads: u64) -> Option<f64> {
    if threads != 1 {
        return None;
    }
    let text = read(pid, "schedstat")?;
    let nanoseconds: u64 = text.split_ascii_whitespace().next()?.parse().ok()?;
    (nanoseconds > 0).then_some(nanoseconds as f64 / 1000.0)
}

fn read(pid: u32, file: &str) -> Option<String> {
    fs::read_to_string(format!("/proc/{pid}/{file}")).ok()
}

/// The fields of `/proc/PID/stat` that matter, times in ticks.
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    user: u64,
    system: u64,
    reaped_user: u64,
    reaped_system: u64,
    threads: u64,
}

/// Parses `proc_pid_stat(5)`. The name in parentheses may itself contain spaces and parentheses.
fn parse_stat(text: &str) -> Option<Stat> {
    let (_, fields) = text.rsplit_once(')')?;
    // The first field after the name is the third of the manual page's list.
    let mut fields = fields.split_ascii_whitespace().skip(11);
    let mut next = || fields.next()?.parse::<u64>().ok();
    let (user, system, reaped_user, reaped_system) = (next()?, next()?, next()?, next()?);
    // Priority and niceness may be negative.
    let threads = fields.nth(2)?.parse().ok()?;
    Some(Stat { user, system, reaped_user, reaped_system, threads })
}

/// Returns the value of a line like `VmHWM:     1234 kB`.
fn kib(status: &str, name: &str) -> u64 {
    status
        .lines()
        .find_map(|line| line.strip_prefix(name))
        .and_then(|rest| rest.split_ascii_whitespace().next())
        .and_then(|number| number.parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};
    use std::time::{Duration, Instant};

    #[test]
    fn stat_with_a_hostile_name() {
        let text = "12 (a) (b c) S 1 12 12 0 -1 4194304 100 0 0 0 37 11 5 3 20 -5 4 0 999 1 2 3";
        let expected = Stat { user: 37, system: 11, reaped_user: 5, reaped_system: 3, threads: 4 };
        assert_eq!(parse_stat(text), Some(expected));
        assert_eq!(parse_stat("12 (a"), None);
        assert_eq!(parse_stat("12 (a) S 1"), None);
    }

    #[test]
    fn memory_lines() {
        let status = "Name:\tx\nVmHWM:\t    2345 kB\nVmRSS:\t    1234 kB\n";
        assert_eq!(
            (kib(status, "VmHWM:"), kib(status, "VmRSS:"), kib(status, "VmX:")),
            (2345, 1234, 0)
        );
    }

    #[test]
    fn the_work_of_a_child_is_seen_while_it_lives_and_after() {
        let script = "i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done; read line";
        let mut shell = Command::new("sh")
            .args(["-c", &format!("sh -c '{script}'; read line")])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let started = Instant::now();
        let wait_until = |condition: &dyn Fn() -> bool| {
            while !condition() {
                assert!(started.elapsed() < Duration::from_secs(30), "the child works");
                std::thread::sleep(Duration::from_millis(10));
            }
        };
        let roots = [shell.id()];
        wait_until(&|| memory(&roots).processes == 2);
        wait_until(&|| processor(&roots).total_us > 30_000.0);
        assert!(memory(&roots).peak_kib >= memory(&roots).resident_kib);
        let alive = processor(&roots).total_us;
        use std::io::Write;
        shell.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
        wait_until(&|| memory(&roots).processes == 1);
        assert!(processor(&roots).total_us >= alive - 2.0 * TICK_US, "reaped work counts");
        drop(shell.stdin.take());
        shell.wait().unwrap();
        assert!(!exists(roots[0]));
    }
}
