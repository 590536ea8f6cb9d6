//! What bad code does: real faults, in the process that calls them.

use std::hint::black_box;

/// Ways in which code goes wrong for good. None but `Panic` comes back.
pub const FAULTS: &[&str] = &[
    "abort",
    "null",
    "stack",
    "double-free",
    "overrun",
    "malloc",
    "divide",
    "illegal",
    "panic-in-drop",
    "memory",
];

/// Goes wrong in the way of that name.
///
/// # Panics
/// For `panic`, for a name that is none, and when the fault did no harm.
pub fn happen(how: &str) {
    match how {
        "panic" => panic!("this code panics, as the test wants"),
        "abort" => std::process::abort(),
        "null" => write_to_null(),
        "stack" => drop(black_box(recurse(1))),
        "double-free" => free_twice(),
        "overrun" => overrun(),
        "malloc" => crash_inside_malloc(),
        "divide" => raise(libc::SIGFPE),
        "illegal" => execute_nothing(),
        "panic-in-drop" => panic_in_drop(),
        "memory" => take_all_memory(),
        "loop" => loop {
            black_box(());
        },
        other => panic!("there is no fault called {other:?}"),
    }
    panic!("the fault {how:?} did no harm");
}

fn write_to_null() {
    // SAFETY: not at all. It is what the test is about: the process must not go on, and does not.
    unsafe { black_box(std::ptr::null_mut::<u8>()).write_volatile(1) };
}

#[allow(unconditional_recursion, reason = "that is the fault")]
fn recurse(depth: u64) -> [u64; 64] {
    let mut frame = [depth; 64];
    frame[black_box(0)] = recurse(depth + 1)[black_box(1)];
    black_box(frame)
}

fn free_twice() {
    // SAFETY: the second free is the fault; the C library notices it and aborts.
    unsafe {
        let pointer = black_box(libc::malloc(40));
        libc::free(pointer);
        libc::free(black_box(pointer));
    }
}

/// Writes far behind an allocation: what the allocator has noted there is gone.
fn overrun() {
    // SAFETY: the overrun is the fault; the allocator finds its own notes destroyed.
    unsafe {
        let pointer = black_box(libc::malloc(40)).cast::<u8>();
        for at in 0..100_000 {
            pointer.add(at).write_volatile(0xff);
        }
        for size in 1..10_000 {
            black_box(libc::malloc(size * 7));
        }
    }
}

/// Destroys the allocator's list of free pieces, and asks it for more: it crashes in its own midst.
fn crash_inside_malloc() {
    // SAFETY: the write behind the free is the fault; malloc follows the pointer that it finds there.
    unsafe {
        let large = black_box(libc::malloc(5000)).cast::<usize>();
        let _border = black_box(libc::malloc(5000));
        libc::free(large.cast());
        large.write_volatile(8);
        large.add(1).write_volatile(8);
        for _ in 0..100 {
            black_box(libc::malloc(9000));
        }
    }
}

fn raise(signal: i32) {
    // SAFETY: raise takes a number.
    unsafe { libc::raise(signal) };
}

fn execute_nothing() {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the instruction does nothing but raise SIGILL, which is the fault.
    unsafe {
        std::arch::asm!("ud2")
    };
    #[cfg(not(target_arch = "x86_64"))]
    raise(libc::SIGILL);
}

struct PanicsInDrop;

impl Drop for PanicsInDrop {
    fn drop(&mut self) {
        panic!("a drop panics while another panic is under way");
    }
}

fn panic_in_drop() {
    let _bomb = PanicsInDrop;
    panic!("the first panic");
}

fn take_all_memory() {
    let mut taken: Vec<Vec<u8>> = Vec::new();
    loop {
        taken.push(vec![0; 16 << 20]);
        black_box(&taken);
    }
}
