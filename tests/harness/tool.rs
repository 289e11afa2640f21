//! Where the programs are that the tests run, and free ports for them.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::File;
use std::io::Write;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::{LazyLock, Mutex};
use std::time::Duration;

const LIST: &str = include_str!("../tools.list");

/// The path of a program of `tests/tools.list`.
///
/// # Panics
/// If it is not in the list, or not built yet.
#[must_use]
pub fn built(name: &str) -> PathBuf {
    let (path, version) = place(name);
    assert!(path.is_file(), "{name} {version} is not built: run make tools");
    path
}

/// The same of a program that cannot be built everywhere: where it is not there, the test is left out, and says so.
#[must_use]
pub fn built_or_left_out(name: &str) -> Option<PathBuf> {
    let (path, version) = place(name);
    if !path.is_file() {
        say_left_out(&format!("{name} {version} could not be built. make tools says why"));
    }
    Some(path).filter(|path| path.is_file())
}

/// Where a program is, or would be, and its version.
fn place(name: &str) -> (PathBuf, &'static str) {
    let version = LIST
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .find(|words| words.first() == Some(&name))
        .unwrap_or_else(|| panic!("{name} is not in tests/tools.list"))[1];
    (cache().join(format!("{name}-{version}")).join(name), version)
}

fn cache() -> PathBuf {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    set("DEPENDENCY_PROXY_TOOLS").unwrap_or_else(|| {
        set("XDG_CACHE_HOME")
            .unwrap_or_else(|| set("HOME").expect("HOME is set").join(".cache"))
            .join("dependency-proxy-tools")
    })
}

/// The path of a program that the system has, also where only root's PATH leads.
#[must_use]
pub fn installed(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    folders.map(|folder: PathBuf| folder.join(name)).find(|file| file.is_file())
}

/// Makes a file that much older than it is: a bucket that is a folder says of an object what its file says.
///
/// # Errors
/// When it is not there.
pub fn age(file: &Path, by: Duration) -> std::io::Result<()> {
    let file = File::options().write(true).open(file)?;
    file.set_modified(file.metadata()?.modified()? - by)
}

/// Whether this process may start daemons that need root.
#[must_use]
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Whether a test has to be left out here because these installed programs, or root, are missing; says so.
#[must_use]
pub fn left_out(programs: &[&str], root: bool) -> bool {
    let missing: Vec<_> = programs.iter().filter(|name| installed(name).is_none()).copied().collect();
    let reason = if !missing.is_empty() {
        format!("not installed: {}. As root, make tools installs them", missing.join(", "))
    } else if root && !is_root() {
        "it needs root: sudo make test".to_owned()
    } else {
        return false;
    };
    say_left_out(&reason);
    true
}

fn say_left_out(reason: &str) {
    let thread = std::thread::current();
    // Not eprintln: the output of a test that passes is hidden, and this must be seen.
    let _ = writeln!(std::io::stderr(), "left out: {}: {reason}", thread.name().unwrap_or("a test"));
}

/// A TCP port of 127.0.0.1 that nobody listens on, and that this process hands out once only.
///
/// It lies below the ports that the system gives to outgoing connections, so that a server which is stopped and
/// started again finds its port free.
#[must_use]
pub fn free_port() -> u16 {
    static GIVEN: LazyLock<Mutex<BTreeSet<u16>>> = LazyLock::new(Mutex::default);
    let mut given = GIVEN.lock().expect("no holder panics");
    for _ in 0..1000 {
        let port = 10_000 + u16::from_le_bytes(random()) % 20_000;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() && given.insert(port) {
            return port;
        }
    }
    panic!("no free port between 10000 and 30000");
}

/// Random bytes.
#[must_use]
pub fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes).expect("the system gives random bytes");
    bytes
}

/// The folder in which cargo builds.
///
/// # Panics
/// If the test is not in one.
#[must_use]
pub fn target() -> PathBuf {
    let test = std::env::current_exe().expect("a test knows its own path");
    test.ancestors().nth(3).expect("target/<profile>/deps/<test>").to_owned()
}

/// The built `name` of this workspace: in the folder that `DEPENDENCY_PROXY_PROGRAMS` names, or beside the running test,
/// `target/<profile>/name`.
///
/// # Panics
/// If it is not there: `make unit` builds it before the tests.
#[must_use]
pub fn own(name: &str) -> PathBuf {
    if let Some(programs) = std::env::var_os("DEPENDENCY_PROXY_PROGRAMS") {
        return PathBuf::from(programs).join(name);
    }
    let test = std::env::current_exe().expect("a test knows its own path");
    let folder = test.ancestors().find(|path| path.join(name).is_file() && path.join("deps").is_dir());
    folder.unwrap_or_else(|| panic!("{name} is not built: run cargo build --bins")).join(name)
}

/// The `PATH` of child processes: Debian's administration programs are found without root's login shell.
#[must_use]
pub fn path() -> std::ffi::OsString {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let more = [Path::new("/usr/sbin"), Path::new("/sbin")].map(Path::to_path_buf);
    std::env::join_paths(std::env::split_paths(&path).chain(more))
        .unwrap_or_else(|_| OsStr::new("/usr/bin").into())
}

/// The files below a folder, relative to it, in order.
#[must_use]
pub fn files(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(next).into_iter().flatten() {
            let path = entry.expect("a readable folder").path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.push(path.strip_prefix(folder).expect("below it").display().to_string());
            }
        }
    }
    found.sort();
    found
}
