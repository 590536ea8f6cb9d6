//! Real faults, in the process that calls them.

use std::hint::black_box;

/// The faults that end a process. [`happen`] also knows "panic" and "loop".
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

/// Makes the fault of this name happen.
///
/// # Panics
///
/// For "panic", for an unknown name, and if the fault did no harm.
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
        other => panic!("unknown fault {other:?}"),
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

/// Writes far beyond an allocation, over the allocator's own data.
fn overrun() {
    // SAFETY: the overrun is the fault; the allocator finds its own data destroyed.
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

/// Destroys the allocator's list of free chunks, then allocates: the crash is inside malloc.
fn crash_inside_malloc() {
    // SAFETY: the write after the free is the fault; malloc follows the pointer that it finds there.
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
        panic!("a drop panics during another panic");
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
