//! Makes a system call of Linux 3.17 (getrandom) and prints the result, to show that the filter of old-kernel
//! works.

fn main() {
    let mut byte = 0u8;
    // SAFETY: the pointer is to one byte, which outlives the call.
    let got = unsafe { libc::syscall(libc::SYS_getrandom, &raw mut byte, 1, 0) };
    if got == 1 {
        println!("random");
    } else {
        println!("{}", std::io::Error::last_os_error());
    }
}
