//! `cargo xtask build-ebpf`.

/// Flags of `cargo xtask build-ebpf`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Rebuild and compare with what is checked in, writing nothing.
    #[arg(long)]
    pub(crate) check: bool,
}

/// Builds the eBPF programs.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    anyhow::bail!(
        "the eBPF programs are not there yet (check: {})",
        args.check
    )
}
