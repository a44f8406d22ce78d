//! `cargo xtask bench outlives`: what a steady flow loses while an agent is killed, restarted,
//! upgraded and downgraded; and, to show that loss would be seen, while everything is detached and
//! begun anew. Printed as a table, plotted as `docs/outlives.svg`, with a CSV file of what is plotted.

use std::env;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use dataplane_tests::{
    Agent, Build, Exchange, ExchangeReport, Lab, Mode, Node, Transfer, font, require_root,
};
use plotters::prelude::{
    ChartBuilder, Color as _, IntoDrawingArea as _, LineSeries, PathElement, RED, RGBColor,
    Rectangle, SVGBackend, Text, WHITE,
};
use plotters::style::{BLACK, IntoFont as _, TextStyle};

/// What is counted together.
const BIN: Duration = Duration::from_millis(10);

/// How long nothing happens before and after each event.
const CALM: Duration = Duration::from_secs(1);

/// How long there is no agent.
const DEAD: Duration = Duration::from_millis(500);

const BLUE: RGBColor = RGBColor(40, 100, 180);

fn main() -> Result<()> {
    require_root();
    let lab = Lab::flat(2, 1)?;
    let mut agents = lab.start_agents(Mode::Vxlan)?;
    lab.wait_resolved()?;
    let (near, remote) = (lab.pod("node-0", "p0"), lab.pod("node-1", "p0"));
    let transfer = Transfer::start(remote.ns(), near.address(), near.ns())?;
    let exchange = Exchange::start(near.ns(), remote.ns(), remote.address())?;
    let mut story = Story {
        node: lab.node("node-0"),
        agent: agents.remove(0),
        exchange: &exchange,
        events: Vec::new(),
    };
    story.replace("restart", Build::Tested)?;
    story.replace("upgrade to another map layout", Build::OtherLayout)?;
    story.replace("downgrade", Build::Tested)?;
    story.detach()?;
    let events = story.events;
    let report = exchange.stop()?;
    let bytes = transfer.stop()?;

    let phases = phases(&report, &events);
    println!("{}", table(&phases, &report, bytes));
    let bins = bins(&report);
    let csv = Path::new(env!("CARGO_TARGET_TMPDIR")).join("outlives.csv");
    fs::write(&csv, comma_separated(&bins, &events)).context("write the CSV file")?;
    let svg = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/outlives.svg");
    plot(&svg, &bins, &events)?;
    println!("{}\n{}", svg.canonicalize()?.display(), csv.display());
    Ok(())
}

/// What happens to the first node's agent, and when.
struct Story<'a> {
    node: &'a Node,
    agent: Agent,
    exchange: &'a Exchange,
    events: Vec<Event>,
}

struct Event {
    at: Duration,
    what: String,
    /// Whether it begins a phase.
    begins: bool,
}

impl Story<'_> {
    /// Kills the agent, and starts this build's.
    fn replace(&mut self, what: &str, build: Build) -> Result<()> {
        sleep(CALM);
        self.mark(&format!("{what}: SIGKILL"), true);
        self.agent.process().kill()?;
        sleep(DEAD);
        self.mark("start", false);
        self.agent = Agent::restart(self.node, build)?;
        self.mark("in sync", false);
        Ok(())
    }

    /// Undoes everything, and starts anew.
    fn detach(&mut self) -> Result<()> {
        sleep(CALM);
        self.mark("for comparison: detach", true);
        self.agent.process().kill()?;
        let detach = self.node.underpass(&["detach"])?;
        ensure!(detach.status.success(), "{detach:?}");
        self.mark("start", false);
        self.agent = Agent::restart(self.node, Build::Tested)?;
        self.mark("in sync", false);
        sleep(CALM);
        Ok(())
    }

    fn mark(&mut self, what: &str, begins: bool) {
        self.events.push(Event {
            at: self.exchange.begun().elapsed(),
            what: what.to_owned(),
            begins,
        });
    }
}

/// What was sent in 10 ms, and what of that came back.
#[derive(Clone, Copy, Default)]
struct Bin {
    sent: u32,
    returned: u32,
}

fn bins(report: &ExchangeReport) -> Vec<Bin> {
    let bin = |at: Duration| usize::try_from(at.as_millis() / BIN.as_millis()).unwrap_or(0);
    let last = report.sent.last().map_or(0, |at| bin(*at));
    let mut bins = vec![Bin::default(); last + 1];
    for at in &report.sent {
        bins[bin(*at)].sent += 1;
    }
    for arrival in &report.back {
        bins[bin(report.sent[arrival.number as usize])].returned += 1;
    }
    bins
}

/// What was lost from one event that begins a phase to the next.
struct Phase {
    what: String,
    sent: usize,
    lost: Vec<Duration>,
}

fn phases(report: &ExchangeReport, events: &[Event]) -> Vec<Phase> {
    let mut returned = vec![false; report.sent.len()];
    for arrival in &report.back {
        returned[arrival.number as usize] = true;
    }
    let begins: Vec<&Event> = events.iter().filter(|event| event.begins).collect();
    begins
        .iter()
        .enumerate()
        .map(|(index, event)| {
            let end = begins.get(index + 1).map_or(Duration::MAX, |next| next.at);
            let sent = report.sent.iter().zip(&returned);
            let here: Vec<_> = sent
                .filter(|(at, _)| (event.at..end).contains(at))
                .collect();
            Phase {
                what: event.what.clone(),
                sent: here.len(),
                lost: here
                    .iter()
                    .filter(|(_, returned)| !**returned)
                    .map(|(at, _)| **at)
                    .collect(),
            }
        })
        .collect()
}

fn table(phases: &[Phase], report: &ExchangeReport, bytes: u64) -> String {
    let mut text = format!("{:<46}{:>8}{:>8}  outage\n", "", "sent", "lost");
    for phase in phases {
        let outage = match (phase.lost.first(), phase.lost.last()) {
            (Some(first), Some(last)) => format!("{} ms", last.saturating_sub(*first).as_millis()),
            _ => "none".to_owned(),
        };
        let (what, sent, lost) = (&phase.what, phase.sent, phase.lost.len());
        writeln!(text, "{what:<46}{sent:>8}{lost:>8}  {outage}").expect("write into a string");
    }
    let seconds = report.sent.last().map_or(0.0, Duration::as_secs_f64);
    #[allow(clippy::cast_precision_loss, reason = "far fewer than 2^52")]
    let rate = report.sent.len() as f64 / seconds;
    write!(
        text,
        "{rate:.0} datagrams a second each way; {} MB by one TCP connection meanwhile",
        bytes / 1_000_000
    )
    .expect("write into a string");
    text
}

fn comma_separated(bins: &[Bin], events: &[Event]) -> String {
    let mut text = "ms,sent,returned,event\n".to_owned();
    for (bin, from) in bins.iter().zip((0_u64..).step_by(10)) {
        let begin = Duration::from_millis(from);
        let here = events
            .iter()
            .filter(|event| (begin..begin + BIN).contains(&event.at))
            .map(|event| &*event.what);
        let here: Vec<_> = here.collect();
        let Bin { sent, returned } = bin;
        writeln!(text, "{from},{sent},{returned},{}", here.join(" / "))
            .expect("write into a string");
    }
    text
}

fn plot(path: &Path, bins: &[Bin], events: &[Event]) -> Result<()> {
    const SIZE: (u32, u32) = (1000, 360);
    const HEIGHT: f64 = 260.0;
    let seconds = |index: usize| f64::from(u32::try_from(index).unwrap_or(0)) / 100.0;
    font::register()?;
    let area = SVGBackend::new(path, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&area)
        .margin(10)
        .x_label_area_size(35)
        .y_label_area_size(45)
        .build_cartesian_2d(0.0..seconds(bins.len()), 0.0..HEIGHT)?;
    chart
        .configure_mesh()
        .disable_mesh()
        .x_desc("seconds")
        .y_desc("datagrams sent in 10 ms")
        .draw()?;
    let lost = bins
        .iter()
        .enumerate()
        .filter(|(_, bin)| bin.returned < bin.sent);
    chart.draw_series(lost.map(|(index, bin)| {
        let corners = [
            (seconds(index), f64::from(bin.returned)),
            (seconds(index + 1), f64::from(bin.sent)),
        ];
        Rectangle::new(corners, RED.filled())
    }))?;
    let returned = bins.iter().enumerate();
    let returned = returned.map(|(index, bin)| (seconds(index), f64::from(bin.returned)));
    chart.draw_series(LineSeries::new(returned, BLUE))?;
    let style: TextStyle = (font::FONT, 12).into_font().color(&BLACK);
    let mut height = HEIGHT;
    for event in events {
        let at = event.at.as_secs_f64();
        height = if event.begins { HEIGHT } else { height - 14.0 };
        chart.draw_series([PathElement::new(
            vec![(at, 0.0), (at, height - 8.0)],
            BLACK.mix(0.35),
        )])?;
        let text = Text::new(event.what.clone(), (at + 0.03, height), style.clone());
        chart.draw_series([text])?;
    }
    let legend = [("came back", BLUE, 0.1), ("lost", RED, 0.8)];
    for (words, color, at) in legend {
        let color = (font::FONT, 13).into_font().color(&color);
        chart.draw_series([Text::new(words, (at, 30.0), color)])?;
    }
    area.present().context("write the plot")?;
    Ok(())
}
