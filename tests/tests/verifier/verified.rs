//! What the verifier says of a program that it accepts.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use aya::programs::{ProgramError, SchedClassifier, Xdp};
use dataplane_user::dataplane::verify;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// What one program took.
#[derive(Debug)]
pub struct Verified {
    /// Instructions that the verifier looked at, each as often as it did.
    pub instructions: u32,
    /// Bytes of stack of the program and of all its functions, or, from Linux 7 on, of those that
    /// call each other.
    pub stack: u32,
    /// From the system call to a program that can be attached: verification and compilation.
    pub load: Duration,
}

/// A program that can be loaded more than once.
pub trait Reload {
    /// Loads it, which it must not be.
    fn load(&mut self) -> Result<(), ProgramError>;

    /// Gives up the loaded program, which it must be.
    fn unload(&mut self) -> Result<(), ProgramError>;
}

impl Reload for SchedClassifier {
    fn load(&mut self) -> Result<(), ProgramError> {
        self.load()
    }

    fn unload(&mut self) -> Result<(), ProgramError> {
        self.unload()
    }
}

impl Reload for Xdp {
    fn load(&mut self) -> Result<(), ProgramError> {
        self.load()
    }

    fn unload(&mut self) -> Result<(), ProgramError> {
        self.unload()
    }
}

impl Verified {
    /// Loads `program` again, which stays unloaded.
    pub fn by_loading(program: &mut impl Reload) -> Result<Self> {
        program.unload()?;
        let started = Instant::now();
        verify(|| program.load())?;
        let load = started.elapsed();
        program.unload()?;
        let log = log(program)?;
        let (instructions, stack) =
            parse(&log).with_context(|| format!("understand the verifier's log:\n{log}"))?;
        Ok(Self {
            instructions,
            stack,
            load,
        })
    }
}

/// The verifier's log. aya hands it out with an error only: so the last step of loading, behind the
/// verifier, is made to fail, which is to find a file descriptor for the program.
fn log(program: &mut impl Reload) -> Result<String> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, 0, hard)?;
    let loaded = verify(|| program.load());
    setrlimit(Resource::RLIMIT_NOFILE, soft, hard)?;
    match loaded {
        Err(ProgramError::LoadError {
            io_error,
            verifier_log,
        }) if io_error.raw_os_error() == Some(nix::libc::EMFILE) => Ok(verifier_log.to_string()),
        Err(error) => Err(error.into()),
        Ok(()) => bail!("a program was loaded without a file descriptor"),
    }
}

/// The instructions and the stack, from the statistics at the end of a log.
fn parse(log: &str) -> Result<(u32, u32)> {
    let instructions = behind(log, "processed ")?;
    let instructions = instructions.split(' ').next().unwrap_or_default().parse()?;
    // Of each function; Linux 7 adds them up itself, along the calls.
    let depths = behind(log, "stack depth ")?;
    let depths = depths.strip_prefix("max ").unwrap_or(depths).split('+');
    let stack = depths.map(str::parse::<u32>).sum::<Result<_, _>>()?;
    Ok((instructions, stack))
}

/// The rest of the last line that begins with `start`.
fn behind<'a>(log: &'a str, start: &str) -> Result<&'a str> {
    let line = log.lines().rev().find_map(|line| line.strip_prefix(start));
    line.with_context(|| format!("there is no {start:?}"))
}

#[test]
fn statistics_are_at_the_end_of_a_log() {
    let log = |stack: &str| {
        format!(
            "0: (b7) r0 = 0\n\
             verification time 915 usec\n\
             stack depth {stack}\n\
             processed 3812 insns (limit 1000000) max_states_per_insn 4 total_states 2 \
             peak_states 2 mark_read 1\n"
        )
    };
    assert_eq!(parse(&log("88+16")).unwrap(), (3812, 104));
    assert_eq!(parse(&log("max 104")).unwrap(), (3812, 104));
    assert!(parse("verification time 915 usec\n").is_err());
}
