//! `holdfast config print-defaults|validate`.

use std::path::{Path, PathBuf};

use holdfast::config;

use super::print;

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Print a commented file with every field at its default
    PrintDefaults,
    /// Check a file, or a Kubernetes ConfigMap with one key; exit 2 when it has mistakes
    Validate {
        /// `-` for stdin
        file: PathBuf,
    },
}

impl Command {
    pub(super) fn execute(self) -> anyhow::Result<()> {
        match self {
            Command::PrintDefaults => print(config::default_yaml().as_bytes()),
            Command::Validate { file } => {
                let stdin = file == Path::new("-");
                let source = if stdin {
                    Path::new("/dev/stdin")
                } else {
                    &file
                };
                let name = if stdin {
                    "stdin".to_owned()
                } else {
                    file.display().to_string()
                };
                config::parse_manifest(&name, &config::read_file(source)?)?;
                print(format!("{name}: valid\n").as_bytes())
            }
        }
    }
}
