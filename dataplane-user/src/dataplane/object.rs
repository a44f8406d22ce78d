//! The BPF object inside this binary.

use anyhow::{Result, bail};

/// `include_bytes!` alone gives no alignment, and an ELF file is read in place.
#[repr(C, align(32))]
struct Aligned<T: ?Sized>(T);

static OBJECT: &Aligned<[u8]> = &Aligned(*include_bytes!(concat!(env!("OUT_DIR"), "/bpf.o")));

/// The object that was embedded when this binary was built.
///
/// # Errors
///
/// The binary was built by plain cargo, which has no BPF toolchain.
pub fn bpf_object() -> Result<&'static [u8]> {
    if OBJECT.0.is_empty() {
        bail!(
            "this underpass was built without its BPF programs: build it with `cargo xtask build`"
        );
    }
    Ok(&OBJECT.0)
}
