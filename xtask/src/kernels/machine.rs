//! Virtual machines.

use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Child, ChildStdout, Command, Stdio},
    sync::mpsc::{self, Receiver, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

use super::{fetch::Unpacked, report::Report};

/// The longest that a machine may take.
const TIMEOUT: Duration = Duration::from_mins(30);

/// Everything that can be emulated, but for two things, and one processor.
///
/// `cmpxchg16b`, and a second processor: with those 6.12 was seen to die of what looks like the
/// emulator's doing (QEMU 7.2), once of an address among the flags behind `cmpxchg16b`, once of a
/// breakpoint where it had patched its code.
///
/// `erms`: string instructions by bytes, which the kernel prefers where they are fast, are emulated
/// byte by byte.
const PROCESSOR: [&str; 4] = ["-cpu", "max,-cx16,-erms", "-smp", "1"];

/// `norandmaps`: what has been translated for one process then serves the next one, too.
///
/// `no_timer_check`: on a busy machine the emulated timer may tick too late for the kernel, which was seen
/// to panic of it before it was up (5.10: "IO-APIC + timer doesn't work!").
const COMMAND_LINE: &str = "console=ttyS0 quiet panic=-1 oops=panic norandmaps no_timer_check";

/// What is booted.
pub(super) struct Machine<'a> {
    /// What the lines of its console are marked with, and what the report calls it.
    pub(super) name: String,
    pub(super) kernel: &'a Unpacked,
    pub(super) initrd: &'a Path,
    /// What else its kernel is told.
    pub(super) parameters: &'a str,
    /// Variables of the first process's environment.
    pub(super) environment: &'a [(&'a str, &'a str)],
    /// Further arguments of QEMU.
    pub(super) devices: Vec<String>,
    /// Where its console is kept.
    pub(super) log: &'a Path,
}

impl Machine<'_> {
    /// Boots it, passes on what its tests print, and reports.
    pub(super) fn run(&self) -> Result<Report> {
        self.watch(&mut Running::start(self)?)
    }

    /// The kernel's command line. What the kernel does not understand of it becomes environment.
    fn command_line(&self) -> String {
        let variables = self.environment.iter();
        let line = format!("{COMMAND_LINE} {}", self.parameters);
        variables.fold(line, |line, (name, value)| format!("{line} {name}={value}"))
    }

    /// Reads the console to its end, which is the machine's.
    fn watch(&self, running: &mut Running) -> Result<Report> {
        let name = &self.name;
        let mut file = File::create(self.log)
            .with_context(|| format!("cannot write {}", self.log.display()))?;
        let mut report = Report::new(name, &self.kernel.release);
        loop {
            let left = TIMEOUT.saturating_sub(running.started.elapsed());
            match running.console.recv_timeout(left) {
                Ok(line) => {
                    writeln!(file, "{line}")?;
                    report.read(&line, running.started.elapsed());
                    if report.is_up() {
                        println!("{name:<5} {line}");
                    }
                }
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {
                    println!("{name:<5} stopped: it has run for {TIMEOUT:?}");
                    break;
                }
            }
        }
        if !report.is_up() {
            println!(
                "{name:<5} did not come up:\n{}",
                fs::read_to_string(self.log)?
            );
        }
        report.took(running.started.elapsed());
        Ok(report)
    }
}

/// A running machine, which ends with this value, or with the thread that started it, however that
/// ends.
struct Running {
    qemu: Child,
    started: Instant,
    console: Receiver<String>,
}

impl Running {
    fn start(machine: &Machine<'_>) -> Result<Self> {
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL", "--", "qemu-system-x86_64"])
            .args(["-accel", "tcg", "-m", "1G"])
            .args(PROCESSOR)
            .args(["-nodefaults", "-no-user-config", "-no-reboot"])
            .args(["-display", "none", "-serial", "stdio"])
            .args(&machine.devices)
            .arg("-kernel")
            .arg(&machine.kernel.vmlinuz)
            .arg("-initrd")
            .arg(machine.initrd)
            .args(["-append", &machine.command_line()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        let started = Instant::now();
        let mut qemu = command.spawn().context("cannot start QEMU")?;
        let console = qemu.stdout.take().context("QEMU has no standard output")?;
        Ok(Self {
            qemu,
            started,
            console: lines(console),
        })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It fails only where QEMU has ended by itself.
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
    }
}

/// The lines of a console, without what is for a terminal only.
fn lines(console: ChildStdout) -> Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut console = BufReader::new(console);
        let mut line = Vec::new();
        while console
            .read_until(b'\n', &mut line)
            .is_ok_and(|length| length > 0)
        {
            let text = String::from_utf8_lossy(&line).trim_end().to_owned();
            line.clear();
            if sender.send(text).is_err() {
                break;
            }
        }
    });
    receiver
}
