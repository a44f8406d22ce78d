//! The command line: `underpass NOUN list|get|watch`, and what is done with the whole node.

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
mod next_hops;
mod peers;
mod programs;
mod routes;
#[cfg(test)]
mod tests;
mod verbs;

use std::process::ExitCode;

use anyhow::Result;
use clap::{CommandFactory as _, Parser, Subcommand};

use completion::Shell;
use counters::Counters;
use endpoints::Endpoints;
use exit::Exit;
use explain::Explain;
use flows::Flows;
use global::Global;
use links::Links;
use maps::Maps;
use next_hops::NextHops;
use peers::Peers;
use programs::Programs;
use routes::Routes;
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
    /// The JSON schema of what `-o json` prints.
    Schema,
    /// A script that completes commands in a shell.
    Completion {
        /// The shell.
        shell: Shell,
    },
    /// The manual page, underpass(8).
    Man,
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
        Command::Agent => agent::run(global.config()?).await,
        Command::Prepare => prepare::prepare(&global.config()?),
        Command::Detach { dry_run: false } => detach::detach(&global.pins()?).await,
        Command::Detach { dry_run: true } => print(&detach::dry_run(&global.pins()?).await?),
        Command::Status { output } => {
            let status = inspect::status(&global.pinned()?)?;
            print(&inspect::render_status(&status, output.output)?)
        }
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
        Command::Schema => print(&(serde_json::to_string_pretty(&inspect::schema())? + "\n")),
        Command::Completion { shell } => print(&shell.script(Cli::command())?),
        Command::Man => print(&man::page(Cli::command())?),
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
