//! Compiles the top-level folder `static/` into the site: each file with a hash of its content and, where it pays off,
//! compressed. Activity this at build time costs a starting process nothing.
//!
//! Writes `static_files.rs`, which `src/http/assets.rs` includes.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::{env, fs};

/// Smaller files are sent as they are: compressing them hardly saves a packet.
const MIN_BYTES_TO_COMPRESS: usize = 1024;

/// Extensions of text files. The formats of images and fonts are compressed already.
const TEXT: &[&str] = &["css", "html", "js", "json", "svg", "txt"];

fn main() -> io::Result<()> {
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default());
    let root = root.join("../../static").canonicalize()?;
    let output = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default());
    // Cargo watches every file below a folder. The path is relative, so that it means the checkout that is being built
    // if several share a target directory.
    println!("cargo::rerun-if-changed=../../static");
    println!("cargo::rerun-if-changed=build.rs");

    let mut paths = Vec::new();
    files_below(&root, "", &mut paths)?;
    paths.sort();
    let mut table = String::from("&[\n");
    for (number, path) in paths.iter().enumerate() {
        let file = root.join(path);
        let content = fs::read(&file)?;
        let version = fnv1a(&content);
        let is_text = TEXT.iter().any(|ending| path.ends_with(&format!(".{ending}")));
        let (mut gzip, mut brotli) = ("None".to_owned(), "None".to_owned());
        if is_text && content.len() >= MIN_BYTES_TO_COMPRESS {
            gzip = included(&output, &format!("{number}.gz"), &gzipped(&content)?)?;
            brotli = included(&output, &format!("{number}.br"), &brotlied(&content)?)?;
        }
        // Writing to a String cannot fail.
        let _ = writeln!(
            table,
            "    Asset {{ path: {path:?}, content: include_bytes!({file:?}), version: {version:#x}, \
             gzip: {gzip}, brotli: {brotli} }},"
        );
    }
    table.push_str("]\n");
    fs::write(output.join("static_files.rs"), table)
}

/// Collects the files, with forward slashes; editors' backup files are skipped.
fn files_below(folder: &Path, prefix: &str, found: &mut Vec<String>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().into_string().map_err(|name| {
            io::Error::other(format!(
                "static/{prefix}{} has a name that is not UTF-8",
                name.display()
            ))
        })?;
        if name.starts_with('.') || name.ends_with('~') {
            continue;
        }
        if entry.file_type()?.is_dir() {
            files_below(&entry.path(), &format!("{prefix}{name}/"), found)?;
        } else {
            found.push(format!("{prefix}{name}"));
        }
    }
    Ok(())
}

/// Writes a compressed file and returns the expression that includes it.
fn included(output: &Path, name: &str, content: &[u8]) -> io::Result<String> {
    let file = output.join(name);
    fs::write(&file, content)?;
    Ok(format!("Some(include_bytes!({file:?}))"))
}

fn gzipped(content: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(content)?;
    encoder.finish()
}

fn brotlied(content: &[u8]) -> io::Result<Vec<u8>> {
    let mut compressed = Vec::new();
    let params = brotli::enc::BrotliEncoderParams { quality: 11, ..Default::default() };
    brotli::BrotliCompress(&mut &*content, &mut compressed, &params)?;
    Ok(compressed)
}

/// FNV-1a, 64 bits: enough to distinguish two releases of a file, and nobody profits from a collision.
fn fnv1a(content: &[u8]) -> u64 {
    content.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
