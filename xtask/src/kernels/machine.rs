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

use super::{Kernel, cache_of, fetch::Unpacked, image::Image, report::Report};

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
const APPEND: &str = "console=ttyS0 quiet panic=-1 oops=panic norandmaps";

/// Boots `kernel`, passes on what its tests print, and reports.
pub(super) fn run(kernel: &Kernel, unpacked: &Unpacked, image: &Image) -> Result<Report> {
    let cache = cache_of(kernel)?;
    let initrd = cache.join("initrd");
    image.write_for(unpacked, &initrd)?;
    let mut machine = Machine::start(&unpacked.vmlinuz, &initrd)?;
    let report = Report::new(kernel.name, &unpacked.release);
    machine.watch(kernel.name, report, &cache.join("console.log"))
}

/// A running machine, which ends with this value, or with this process, however that ends.
struct Machine {
    qemu: Child,
    started: Instant,
    console: Receiver<String>,
}

impl Machine {
    fn start(vmlinuz: &Path, initrd: &Path) -> Result<Self> {
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL", "--", "qemu-system-x86_64"])
            .args(["-accel", "tcg", "-m", "1G"])
            .args(PROCESSOR)
            .args(["-nodefaults", "-no-user-config", "-no-reboot"])
            .args(["-display", "none", "-serial", "stdio"])
            .arg("-kernel")
            .arg(vmlinuz)
            .arg("-initrd")
            .arg(initrd)
            .args(["-append", APPEND])
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

    /// Reads the console to its end, which is the machine's, and passes it on as `name`'s.
    fn watch(&mut self, name: &str, mut report: Report, log: &Path) -> Result<Report> {
        let mut file =
            File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
        loop {
            let left = TIMEOUT.saturating_sub(self.started.elapsed());
            match self.console.recv_timeout(left) {
                Ok(line) => {
                    writeln!(file, "{line}")?;
                    report.read(&line, self.started.elapsed());
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
            println!("{name:<5} did not come up:\n{}", fs::read_to_string(log)?);
        }
        report.took(self.started.elapsed());
        Ok(report)
    }
}

impl Drop for Machine {
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
