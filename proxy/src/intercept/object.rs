//! What an object file of the programs holds, as the kernel took it: for `cargo xtask build-ebpf --check`.

use std::fmt::Write as _;

use aya::Ebpf;

use super::InterceptError;
use super::programs;

/// Loads the programs of an object into the kernel and attaches nothing. One line per map and program, sorted.
pub fn describe(object: &[u8]) -> Result<String, InterceptError> {
    let ebpf = Ebpf::load(object).map_err(|error| InterceptError::Load(error.to_string()))?;
    let mut lines: Vec<String> = Vec::new();
    // The compiler's constants are maps too, and another compiler's are others.
    for (name, map) in ebpf.maps().filter(|(name, _)| !name.starts_with(".rodata")) {
        // `Debug` of a map starts with its type; what follows are file descriptors.
        let kind = format!("{map:?}");
        let kind = kind.split('(').next().unwrap_or_default();
        lines.push(format!("map {name} {kind}"));
    }
    for (name, program) in ebpf.programs() {
        lines.push(format!("program {name} {:?}", program.prog_type()));
    }
    drop(ebpf);
    lines.sort();
    // The verifier sees other code with the log on.
    programs::load(object, &[], 1, 0, true)?;
    let loaded = programs::load(object, &[], 1, 0, false)?;
    let mut text = lines.join("\n");
    let refused = &loaded.programs.conditions;
    write!(text, "\nrefused by this kernel: {}", refused.len())
        .map_err(|error| InterceptError::Load(error.to_string()))?;
    Ok(text)
}
