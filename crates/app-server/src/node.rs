//! Which machine this is, if several serve one site: for log lines and references.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::OnceLock;

static NODE: OnceLock<Node> = OnceLock::new();

struct Node {
    name: String,
    /// What is added to process numbers, of which each machine has the same.
    offset: u64,
}

/// Names this machine, one of several that serve a site. The name counts for the whole process, from the first call
/// on: it makes this machine's [`reference`](crate::reference)s differ from those of the others, and is in each line that
/// the server itself writes to the log. A program writes it into its other lines.
pub fn set_node(name: &str) {
    NODE.get_or_init(|| Node { name: name.to_owned(), offset: offset_of(name) });
}

/// Returns the name of this machine; `None` if the site is on one.
pub fn node() -> Option<&'static str> {
    Some(&*NODE.get()?.name)
}

/// Returns the number of this process in references. May be called in a signal handler.
pub(crate) fn process_number() -> u64 {
    number_of(std::process::id(), NODE.get().map_or(0, |node| node.offset))
}

fn offset_of(name: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    name.hash(&mut hasher);
    hasher.finish()
}

fn number_of(pid: u32, offset: u64) -> u64 {
    offset.wrapping_add(u64::from(pid))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machines_number_the_same_process_differently() {
        assert_eq!(node(), None);
        assert_eq!(process_number(), u64::from(std::process::id()));
        // References have four digits in base 36 of it.
        let last_digits = |name| number_of(1, offset_of(name)) % 36_u64.pow(4);
        assert_ne!(last_digits("a"), last_digits("b"));
    }
}
