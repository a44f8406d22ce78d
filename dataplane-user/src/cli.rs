//! The command line: `underpass NOUN list|get|watch`, and what is done with the whole node.

mod bugtool;
mod check;
mod completion;
mod counters;
mod endpoints;
mod exit;
mod explain;
mod flows;
mod global;
mod links;
mod man;
mod maps;
mod monitor;
mod next_hops;
mod peers;
mod programs;
mod routes;
mod schema;
#[cfg(test)]
mod tests;
mod top;
mod verbs;

use std::process::ExitCode;

use anyhow::Result;
use clap::{CommandFactory as _, Parser, Subcommand};

use bugtool::Bugtool;
use check::Check;
use completion::Shell;
use counters::Counters;
use endpoints::Endpoints;
use exit::Exit;
use explain::Explain;
use flows::Flows;
use global::Global;
use links::Links;
use maps::Maps;
use monitor::Monitor;
use next_hops::NextHops;
use peers::Peers;
use programs::Programs;
use routes::Routes;
use schema::Schema;
use top::Top;
use verbs::{Output, print};

use crate::{agent, detach, inspect, prepare, telemetry};

/// Carries Kubernetes pod traffic beneath the host's network stack.
#[derive(Debug, Parser)]
#[command(name = "underpass", version, max_term_width = 100)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// What will work on this node and what not, before anything is installed; exits with 6 where
    /// something does not.
    Check(Check),
    /// Load and attach the programs, fill the maps, and keep them true.
    Agent,
    /// Mount the BPF file system, and set what connection tracking needs, for an agent that may not.
    Prepare,
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
    /// A dashboard: rates by hook and mode, reason, peer and pod, and how full the maps are.
    Top(Top),
    /// The route table of the programs.
    #[command(subcommand)]
    Routes(Routes),
    /// What routes lead to: nodes, by which neighbour and in which encapsulation.
    #[command(subcommand)]
    NextHops(NextHops),
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
    Counters(Counters),
    /// What holds programs on interfaces.
    #[command(subcommand)]
    Links(Links),
    /// The BPF maps.
    #[command(subcommand)]
    Maps(Maps),
    /// The BPF programs.
    #[command(subcommand)]
    Programs(Programs),
    /// What the maps hold, against what the source says now; exits with 3 where they differ.
    Diff {
        #[command(flatten)]
        output: Output,
    },
    /// What would happen to a packet, and why.
    Explain(Explain),
    /// What becomes of packets, as they come: a line each, until it is ended.
    ///
    /// The programs tell of packets only while this runs, and wait for nobody: what comes faster than
    /// it is read is lost, and counted.
    Monitor(Box<Monitor>),
    /// Everything that a report of a fault needs, in one archive.
    Bugtool(Bugtool),
    /// The JSON schema of what `-o json` prints, or of a file that underpass reads.
    Schema {
        /// Of what.
        #[arg(value_enum, default_value_t)]
        of: Schema,
    },
    /// A script that completes commands in a shell.
    Completion {
        /// The shell.
        shell: Shell,
    },
    /// The manual page, underpass(8).
    Man,
}

/// Every command with its arguments, as clap has them.
#[must_use]
pub fn command() -> clap::Command {
    Cli::command()
}

/// Does what the arguments say. Data goes to standard output, words to standard error.
pub async fn run() -> ExitCode {
    let cli = Cli::parse();
    telemetry::init(cli.global.log_format);
    let exit = execute(&cli).await.unwrap_or_else(|error| {
        let exit = Exit::of(&error);
        if exit != Exit::Done {
            eprintln!("underpass: {error:#}");
        }
        exit
    });
    exit.into()
}

async fn execute(cli: &Cli) -> Result<Exit> {
    let global = &cli.global;
    let done = match &cli.command {
        Command::Check(check) => return check.run(global).await,
        Command::Agent => agent::run(global.config()?).await,
        Command::Prepare => prepare::prepare(&global.config()?),
        Command::Detach { dry_run: false } => detach::detach(&global.pins()?).await,
        Command::Detach { dry_run: true } => print(&detach::dry_run(&global.pins()?).await?),
        Command::Status { output } => {
            let status = inspect::status(&global.pinned()?)?;
            print(&inspect::render_status(&status, output.output)?)
        }
        Command::Top(top) => top.run(global).await,
        Command::Routes(routes) => routes.run(global).await,
        Command::NextHops(next_hops) => next_hops.run(global).await,
        Command::Endpoints(endpoints) => endpoints.run(global).await,
        Command::Peers(peers) => peers.run(global).await,
        Command::Flows(flows) => flows.run(global).await,
        Command::Counters(counters) => counters.run(global).await,
        Command::Links(links) => links.run(global).await,
        Command::Maps(maps) => maps.run(global).await,
        Command::Programs(programs) => programs.run(global).await,
        Command::Diff { output } => return diff(global, output).await,
        Command::Explain(explain) => explain.run(global),
        Command::Monitor(monitor) => monitor.run(global).await,
        Command::Bugtool(bugtool) => bugtool.run(global).await,
        Command::Schema { of } => print(&of.text()?),
        Command::Completion { shell } => print(&shell.script(command())?),
        Command::Man => print(&man::page(command())?),
    };
    done.map(|()| Exit::Done)
}

/// Whether the maps are right is the exit status, too.
async fn diff(global: &Global, output: &Output) -> Result<Exit> {
    let differences = inspect::diff(&global.config()?, &global.pinned()?).await?;
    output.list(&differences)?;
    Ok(if differences.is_empty() {
        Exit::Done
    } else {
        Exit::Different
    })
}
