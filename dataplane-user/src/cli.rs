//! The command line.

mod flows;

use std::{
    io::{self, Write},
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, Result, bail};
use clap::{Args, Parser, Subcommand};
use dataplane_common::abi::NextHop;
use ipnet::Ipv4Net;

use flows::Flows;

use crate::{
    agent,
    config::{Config, DEFAULT_PINS, Source},
    dataplane::Pins,
    detach,
    inspect::{self, CounterRow, EndpointRow, Format, PeerRow, RouteRow, Snapshot, UnmirroredRow},
    source::kernel,
    telemetry::{self, LogFormat},
};

/// Where the configuration is unless `--config` says otherwise.
const DEFAULT_CONFIG: &str = "/etc/underpass/config.yaml";

/// Carries Kubernetes pod traffic beneath the host's network stack.
#[derive(Debug, Parser)]
#[command(name = "underpass", version, max_term_width = 100)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Args)]
struct Global {
    /// Configuration file [default: /etc/underpass/config.yaml, where it exists].
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Pin directory, instead of the configuration's.
    #[arg(long, global = true, value_name = "DIRECTORY")]
    pins: Option<PathBuf>,
    /// How log lines are written.
    #[arg(long, global = true, value_enum, default_value_t)]
    log_format: LogFormat,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Load and attach the programs, fill the maps, and keep them true.
    Agent,
    /// Remove everything that the agent has made on this node.
    Detach {
        /// Only list what would be done.
        #[arg(long)]
        dry_run: bool,
    },
    /// What runs on this node: the agent, and the programs by interface.
    Status {
        #[command(flatten)]
        output: Output,
    },
    /// The route table of the programs.
    #[command(subcommand)]
    Routes(Routes),
    /// The pods of this node.
    #[command(subcommand)]
    Endpoints(Endpoints),
    /// The other nodes.
    #[command(subcommand)]
    Peers(Peers),
    /// What is remembered of flows, with `acceleration: established`.
    #[command(subcommand)]
    Flows(Flows),
    /// What became of packets, by hook and reason.
    Counters {
        /// Also the counters that are zero.
        #[arg(long)]
        all: bool,
        #[command(flatten)]
        output: Output,
    },
    /// What the maps hold, against what the source says now; fails where they differ.
    Diff {
        #[command(flatten)]
        output: Output,
    },
    /// What would happen to a packet, and why.
    Explain {
        /// Source address of the packet.
        source: Ipv4Addr,
        /// Destination address of the packet.
        destination: Ipv4Addr,
        #[command(flatten)]
        output: Output,
    },
}

#[derive(Debug, Subcommand)]
enum Routes {
    /// All routes.
    List {
        /// Instead, the prefixes whose packets stay with the stack, and why (source: kernel).
        #[arg(long)]
        unmirrored: bool,
        #[command(flatten)]
        output: Output,
    },
    /// The route that an address takes: the longest prefix.
    Get {
        /// Destination address.
        address: Ipv4Addr,
        #[command(flatten)]
        output: Output,
    },
}

#[derive(Debug, Subcommand)]
enum Endpoints {
    /// All pods.
    List {
        #[command(flatten)]
        output: Output,
    },
}

#[derive(Debug, Subcommand)]
enum Peers {
    /// All nodes but this one.
    List {
        #[command(flatten)]
        output: Output,
    },
}

#[derive(Debug, Args)]
struct Output {
    /// Form of the output.
    #[arg(short, long = "output", value_enum, default_value_t)]
    output: Format,
}

/// Does what the arguments say. Data goes to standard output, words to standard error.
pub async fn run() -> ExitCode {
    let cli = Cli::parse();
    telemetry::init(cli.global.log_format);
    match execute(&cli).await {
        Ok(code) => code,
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("underpass: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn execute(cli: &Cli) -> Result<ExitCode> {
    let done = match &cli.command {
        Command::Agent => agent::run(cli.global.config()?).await,
        Command::Detach { dry_run: false } => detach::detach(&cli.global.pins()?).await,
        Command::Detach { dry_run: true } => print(&detach::dry_run(&cli.global.pins()?).await?),
        Command::Diff { output } => return diff(&cli.global, output.output).await,
        Command::Routes(Routes::List {
            unmirrored: true,
            output,
        }) => {
            let rows = unmirrored(&cli.global.config()?).await?;
            print(&inspect::render(&rows, output.output)?)
        }
        Command::Routes(Routes::List { output, .. }) => {
            let snapshot = cli.global.snapshot()?;
            let rows: Vec<_> = routes(&snapshot).collect();
            print(&inspect::render(&rows, output.output)?)
        }
        Command::Routes(Routes::Get { address, output }) => {
            let row = route_to(&cli.global.snapshot()?, *address)?;
            print(&inspect::render(&[row], output.output)?)
        }
        Command::Endpoints(Endpoints::List { output }) => {
            let rows = endpoints(&cli.global.snapshot()?);
            print(&inspect::render(&rows, output.output)?)
        }
        Command::Peers(Peers::List { output }) => {
            let rows = peers(&cli.global.snapshot()?);
            print(&inspect::render(&rows, output.output)?)
        }
        Command::Flows(flows) => print(&flows.answer(&cli.global.pinned()?)?),
        Command::Counters { all, output } => {
            let rows: Vec<_> = inspect::counters(&cli.global.pinned()?)?
                .into_iter()
                .filter(|(_, counter)| *all || counter.packets != 0)
                .map(|((hook, reason), counter)| CounterRow::new(hook, reason, counter))
                .collect();
            print(&inspect::render(&rows, output.output)?)
        }
        Command::Status { output } => {
            let status = inspect::status(&cli.global.pinned()?)?;
            print(&inspect::render_status(&status, output.output)?)
        }
        Command::Explain {
            source,
            destination,
            output,
        } => {
            let explanation = inspect::explain(&cli.global.snapshot()?, *source, *destination);
            print(&inspect::render_explanation(&explanation, output.output)?)
        }
    };
    done.map(|()| ExitCode::SUCCESS)
}

/// Whether the maps are right is the exit status, too.
async fn diff(global: &Global, format: Format) -> Result<ExitCode> {
    let differences = inspect::diff(&global.config()?, &global.pinned()?).await?;
    print(&inspect::render(&differences, format)?)?;
    Ok(if differences.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

impl Global {
    fn config_file(&self) -> PathBuf {
        self.config.clone().unwrap_or_else(|| DEFAULT_CONFIG.into())
    }

    /// The configuration, with the pins that are named.
    fn config(&self) -> Result<Config> {
        let mut config = Config::load(&self.config_file())?;
        if let Some(pins) = &self.pins {
            config.pins.clone_from(pins);
        }
        Ok(config)
    }

    /// The pins that are named, else the configuration's, else the default.
    fn pins(&self) -> Result<Pins> {
        if let Some(directory) = &self.pins {
            return Ok(Pins::new(directory));
        }
        let config = self.config_file();
        if self.config.is_none() && !config.exists() {
            return Ok(Pins::new(Path::new(DEFAULT_PINS)));
        }
        Ok(Pins::new(&Config::load(&config)?.pins))
    }

    fn snapshot(&self) -> Result<Snapshot> {
        Snapshot::read(&self.pinned()?)
    }

    /// The pins, which have to be there.
    fn pinned(&self) -> Result<Pins> {
        let pins = self.pins()?;
        if !pins.exist() {
            bail!(
                "nothing is pinned in {} by this version: its agent has not run with these pins \
                 (see --config and --pins), or has been detached",
                pins.base().display()
            );
        }
        Ok(pins)
    }
}

fn routes(snapshot: &Snapshot) -> impl Iterator<Item = RouteRow> {
    snapshot
        .routes
        .iter()
        .map(|(prefix, next_hop)| RouteRow::new(*prefix, next_hop, &snapshot.tables))
}

async fn unmirrored(config: &Config) -> Result<Vec<UnmirroredRow>> {
    let Source::Kernel(source) = &config.source else {
        bail!("the routes are not the kernel's here: `source` in the configuration is a file");
    };
    let survey = kernel::survey(config, source).await?;
    let rows = survey.fib.unmirrored().into_iter();
    Ok(rows.map(UnmirroredRow::from).collect())
}

fn route_to(snapshot: &Snapshot, address: Ipv4Addr) -> Result<RouteRow> {
    let ((length, network), next_hop) = snapshot
        .tables
        .route_entry(address.octets())
        .with_context(|| format!("no route to {address}: its packets go to the stack"))?;
    Ok(RouteRow::new(
        Ipv4Net::new(network.into(), length)?,
        next_hop,
        &snapshot.tables,
    ))
}

fn endpoints(snapshot: &Snapshot) -> Vec<EndpointRow> {
    snapshot
        .tables
        .endpoints
        .iter()
        .map(|(address, endpoint)| EndpointRow::new((*address).into(), endpoint))
        .collect()
}

fn peers(snapshot: &Snapshot) -> Vec<PeerRow> {
    let next_hops = snapshot.next_hops();
    snapshot
        .tables
        .peers
        .iter()
        .map(|(address, peer)| {
            let routes: Vec<NextHop> = next_hops
                .iter()
                .filter(|next_hop| next_hop.peer == *address)
                .copied()
                .collect();
            PeerRow::new((*address).into(), peer, &routes)
        })
        .collect()
}

fn print(text: &str) -> Result<()> {
    io::stdout()
        .write_all(text.as_bytes())
        .context("cannot write to standard output")
}

/// Whoever read our output has seen enough.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<io::Error>()
        .is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}
