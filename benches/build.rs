//! In: is nghttp2 there to be linked? Out: `cfg(nghttp2)`, and where it lies.
//!
//! It asks again whenever a file of this package changes.
#![allow(clippy::print_stdout)] // how a build script speaks to cargo

use std::process::Command;

fn main() {
    println!("cargo:rustc-check-cfg=cfg(nghttp2)");
    let Ok(output) = Command::new("pkg-config").args(["--libs", "libnghttp2"]).output() else { return };
    if !output.status.success() {
        return;
    }
    println!("cargo:rustc-cfg=nghttp2");
    for flag in String::from_utf8_lossy(&output.stdout).split_whitespace() {
        if let Some(path) = flag.strip_prefix("-L") {
            println!("cargo:rustc-link-search=native={path}");
        }
    }
}
