//! The section names of a 64-bit little-endian ELF object: all that a comparison across toolchains needs of one.

use std::collections::BTreeSet;

use anyhow::{Context as _, ensure};

/// Offsets by the ELF-64 object file format: file header, then one section header.
const E_SHOFF: usize = 0x28;
const E_SHENTSIZE: usize = 0x3a;
const E_SHNUM: usize = 0x3c;
const E_SHSTRNDX: usize = 0x3e;
const SH_OFFSET: usize = 0x18;
const SH_SIZE: usize = 0x20;

/// Without those that come and go with the toolchain: relocations, the linker's own tables, outlined code and constants.
pub(super) fn sections(elf: &[u8]) -> anyhow::Result<BTreeSet<String>> {
    ensure!(
        elf.starts_with(b"\x7fELF\x02\x01"),
        "not a 64-bit little-endian ELF object"
    );
    let headers = usize::try_from(u64_at(elf, E_SHOFF)?)?;
    let size = usize::from(u16_at(elf, E_SHENTSIZE)?);
    let count = usize::from(u16_at(elf, E_SHNUM)?);
    let names = header(elf, headers, size, usize::from(u16_at(elf, E_SHSTRNDX)?))?;
    let names = slice(
        elf,
        usize::try_from(u64_at(names, SH_OFFSET)?)?,
        usize::try_from(u64_at(names, SH_SIZE)?)?,
    )?;
    let mut found = BTreeSet::new();
    for index in 1..count {
        let name = header(elf, headers, size, index)?;
        let start = usize::try_from(u32::from_le_bytes(*name.first_chunk().context(SHORT)?))?;
        let name = names.get(start..).context(SHORT)?;
        let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
        let name = String::from_utf8_lossy(name).into_owned();
        let volatile = [".rel", ".rodata", ".text"]
            .iter()
            .any(|prefix| name.starts_with(prefix))
            || name.ends_with("tab")
            || name.contains("llvm");
        if !volatile {
            found.insert(name);
        }
    }
    Ok(found)
}

const SHORT: &str = "the ELF object is cut short";

fn header(elf: &[u8], headers: usize, size: usize, index: usize) -> anyhow::Result<&[u8]> {
    slice(elf, headers + size * index, size)
}

fn slice(bytes: &[u8], start: usize, len: usize) -> anyhow::Result<&[u8]> {
    let end = start.checked_add(len).context(SHORT)?;
    bytes.get(start..end).context(SHORT)
}

fn u64_at(bytes: &[u8], offset: usize) -> anyhow::Result<u64> {
    let bytes = bytes.get(offset..).and_then(<[u8]>::first_chunk);
    Ok(u64::from_le_bytes(*bytes.context(SHORT)?))
}

fn u16_at(bytes: &[u8], offset: usize) -> anyhow::Result<u16> {
    let bytes = bytes.get(offset..).and_then(<[u8]>::first_chunk);
    Ok(u16::from_le_bytes(*bytes.context(SHORT)?))
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_prebuilt_object_has_a_section_for_each_program() -> anyhow::Result<()> {
        let object = include_bytes!("../../../proxy-ebpf/prebuilt/holdfast.bpf.o");
        let sections = super::sections(object)?;
        for program in ["connect4", "connect6", "getpeername4", "getpeername6"] {
            assert!(
                sections.contains(&format!("cgroup/{program}")),
                "{sections:?}"
            );
        }
        assert!(!sections.iter().any(|name| name.starts_with(".debug")));
        Ok(())
    }

    #[test]
    fn a_cut_object_is_an_error_and_no_panic() {
        let object = include_bytes!("../../../proxy-ebpf/prebuilt/holdfast.bpf.o");
        assert!(super::sections(&object[..100]).is_err());
        assert!(super::sections(b"").is_err());
    }
}
