//! The files.

use std::{
    collections::BTreeSet,
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

/// The files, and how what is printed now differs from them.
#[derive(Debug)]
pub struct Kept {
    directory: PathBuf,
    /// Whether they are written.
    renews: bool,
    seen: BTreeSet<String>,
    differences: Vec<String>,
}

const VARIABLE: &str = "UNDERPASS_RENEW_GOLDEN";

impl Kept {
    /// Those of this package.
    pub fn open() -> Result<Self> {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden");
        fs::create_dir_all(&directory)?;
        Ok(Self {
            directory,
            renews: env::var_os(VARIABLE).is_some_and(|value| value == "1"),
            seen: BTreeSet::new(),
            differences: Vec::new(),
        })
    }

    /// Compares what is printed with the file of this name, or writes it there.
    pub fn compare(&mut self, name: &str, printed: &str) -> Result<()> {
        self.seen.insert(name.to_owned());
        let path = self.directory.join(name);
        if self.renews {
            return fs::write(&path, printed).with_context(|| format!("write {}", path.display()));
        }
        let kept = fs::read_to_string(&path).unwrap_or_default();
        if kept != printed {
            self.differences.push(difference(&path, printed)?);
        }
        Ok(())
    }

    /// Fails with all that differed, and with files of what is printed no longer.
    pub fn conclude(mut self) -> Result<()> {
        for entry in fs::read_dir(&self.directory)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if self.seen.contains(&name) {
                continue;
            }
            if self.renews {
                fs::remove_file(entry.path())?;
            } else {
                self.differences.push(format!("{name} is of no case\n"));
            }
        }
        if self.differences.is_empty() {
            return Ok(());
        }
        bail!(
            "what is printed is not what is kept in {}:\n\n{}\nIf it is as it should be now, renew the \
             files and look at what has changed: {VARIABLE}=1 cargo xtask test golden",
            self.directory.display(),
            self.differences.join("\n")
        )
    }
}

/// As diff(1) prints it, which every Debian has.
fn difference(path: &Path, printed: &str) -> Result<String> {
    let file = tempfile::NamedTempFile::new()?;
    fs::write(file.path(), printed)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let output = Command::new("diff")
        .args(["--unified", "--new-file", "--label"])
        .arg(format!("kept/{name}"))
        .arg("--label")
        .arg(format!("printed/{name}"))
        .args([path, file.path()])
        .output()
        .context("start diff(1)")?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
