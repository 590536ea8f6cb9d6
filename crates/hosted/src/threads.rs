//! Says once if the program has started threads: it works at home, and on many hosts not.

use std::cell::Cell;
use std::fs;

/// Looks at the threads of this process.
#[derive(Debug, Default)]
pub(crate) struct Threads {
    are_known: Cell<bool>,
}

impl Threads {
    /// Warns if there is more than one; once.
    pub(crate) fn look(&self) {
        if self.are_known.get() {
            return;
        }
        let others = others();
        if others.is_empty() {
            return;
        }
        self.are_known.set(true);
        let names = others.join(", ");
        tracing::warn!(
            count = others.len(),
            names,
            "The program has started threads. Many hosts refuse them, and while there are any, a reload waits for the \
             requests in flight (docs/your-own-app.md)."
        );
    }
}

/// Returns the names of all threads but the first.
fn others() -> Vec<String> {
    let first = std::process::id().to_string();
    let tasks = fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let others = tasks.filter(|task| task.file_name() != *first);
    let name = |folder: fs::DirEntry| fs::read_to_string(folder.path().join("comm"));
    // One that has ended meanwhile has no name.
    others.filter_map(|task| name(task).ok()).map(|name| name.trim_end().to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_is_found_by_its_name() {
        let (end, ended) = std::sync::mpsc::channel::<()>();
        let (ready, is_ready) = std::sync::mpsc::channel();
        let thread = std::thread::Builder::new().name("a-worker".to_owned());
        let work = move || {
            ready.send(()).unwrap();
            ended.recv()
        };
        let thread = thread.spawn(work).unwrap();
        // Its name is set by then.
        is_ready.recv().unwrap();
        assert!(others().contains(&"a-worker".to_owned()), "{:?}", others());
        drop(end);
        let _ = thread.join();
    }
}
