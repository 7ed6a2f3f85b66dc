//! Loads an object of the eBPF programs into this kernel and lists what it holds; `cargo xtask build-ebpf --check` runs it.

fn main() -> anyhow::Result<()> {
    let path = std::env::args_os().nth(1);
    let path = path.ok_or_else(|| anyhow::anyhow!("usage: load-ebpf OBJECT"))?;
    // The loader wants 8-byte alignment, which a fresh allocation of this size has.
    let object = std::fs::read(path)?;
    println!("{}", holdfast::intercept::object::describe(&object)?);
    Ok(())
}
