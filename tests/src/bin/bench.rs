//! The bench. `cargo xtask bench` builds what it needs and runs it.

use std::fs;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Result, ensure};
use clap::Parser;
use holdfast_tests::Node;
use holdfast_tests::bench::{Report, Rig, other, parts, plot};

#[derive(Parser)]
struct Args {
    /// A part, or a group of them; all by default.
    name: Option<String>,
    /// How often each figure is taken.
    #[arg(long, default_value_t = 3)]
    repeats: usize,
    /// The parts of `long`, too, which take two and a half hours; without it they are run by name only.
    #[arg(long)]
    long: bool,
    /// How long each part of `long` is.
    #[arg(long)]
    minutes: Option<u32>,
    /// Write the figures to this file as CSV, too.
    #[arg(long)]
    csv: Option<PathBuf>,
    /// Draw the figures into this folder as SVG, too.
    #[arg(long)]
    plots: Option<PathBuf>,
    /// Put one more proxy beside the others: ADDRESS,CA,PID, the last two if they can't be found out.
    #[arg(long, value_name = "ADDRESS[,CA[,PID]]")]
    other: Option<other::Asked>,
    /// Start that proxy by this, in the node's network namespace, with UPSTREAM, CA, CERT, KEY and LISTEN set.
    #[arg(long, value_name = "COMMAND", requires = "other")]
    other_command: Option<String>,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let wanted: Vec<_> = parts()
        .filter(|part| match &args.name {
            Some(name) => part.is_of(name),
            None => args.long || !part.is_long(),
        })
        .collect();
    let names: Vec<&str> = parts().map(|part| part.name).collect();
    ensure!(
        !wanted.is_empty(),
        "no such part; there are {}",
        names.join(", ")
    );
    let node = Node::new()?;
    let started = Instant::now();
    let mut rig = Rig::new(&node, args.repeats)?;
    rig.minutes = args.minutes;
    if let Some(asked) = &args.other {
        let command = args.other_command.as_deref();
        let found = rig.pinning.proxy(|| asked.find(&node, &rig.api, command))?;
        rig.other = Some(found);
    }
    let mut figures = Report::default();
    for part in wanted {
        eprintln!("{}: {}", part.name, part.what);
        (part.run)(&mut rig, &mut figures)?;
    }
    let origin = rig.origin()?;
    println!("{origin}\n\n{}", figures.table());
    if let Some(path) = &args.csv {
        fs::write(path, figures.csv())?;
    }
    if let Some(folder) = &args.plots {
        plot::draw(&figures, &origin, folder)?;
    }
    eprintln!("done in {:.0} s", started.elapsed().as_secs_f64());
    Ok(())
}
