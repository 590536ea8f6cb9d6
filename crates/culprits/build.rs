//! Compiles the C code.

fn main() {
    println!("cargo::rerun-if-changed=src/culprits.c");
    // Without optimization: a compiler that understands what this does would leave it out.
    cc::Build::new().file("src/culprits.c").opt_level(0).warnings(false).compile("culprits");
}
