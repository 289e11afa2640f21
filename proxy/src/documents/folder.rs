//! Reading files and folders of documents.

use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use config::{Document, Origin, Problem, Reason, Severity};
use flate2::read::GzDecoder;

/// The most that one file may hold when unpacked: far more than an API server stores, less than memory.
const MAX_FILE: u64 = 64 * 1024 * 1024;

/// What was read.
pub struct Read {
    pub documents: Vec<Document>,
    pub problems: Vec<Problem>,
    /// Of all the bytes as they are on the disk: whether anything changed since last time.
    pub fingerprint: String,
}

/// What is on the disk, not yet looked into.
pub(super) struct Found {
    files: Vec<File>,
    problems: Vec<Problem>,
    pub(super) fingerprint: String,
}

struct File {
    path: PathBuf,
    origin: Origin,
    bytes: io::Result<Vec<u8>>,
}

/// Reads files and folders. What cannot be read is a problem; the rest is read all the same.
#[must_use]
pub fn read(paths: &[PathBuf]) -> Read {
    find(paths).parse()
}

/// Reads the bytes only: twice a second, and they rarely change.
pub(super) fn find(paths: &[PathBuf]) -> Found {
    let mut problems = Vec::new();
    let mut found = Vec::new();
    for path in paths {
        match files(path) {
            Ok(files) if files.is_empty() => {
                problems.push(problem(path, "has no file that ends in .yaml, .yml or .json"));
            }
            Ok(files) => found.extend(files),
            Err(error) => problems.push(problem(path, &format!("cannot be read: {error}"))),
        }
    }
    let read = |(path, origin): (PathBuf, Origin)| File { bytes: bytes_of(&path), path, origin };
    let files: Vec<_> = found.into_iter().map(read).collect();
    let fingerprint = fingerprint(&files, &problems);
    Found { files, problems, fingerprint }
}

fn fingerprint(files: &[File], problems: &[Problem]) -> String {
    let errors = files.iter().filter_map(|file| file.bytes.as_ref().err());
    let texts: Vec<_> =
        errors.map(ToString::to_string).chain(problems.iter().map(ToString::to_string)).collect();
    let contents = files.iter().filter_map(|file| file.bytes.as_deref().ok());
    let parts: Vec<_> = contents.chain(texts.iter().map(String::as_bytes)).collect();
    config::fingerprint(&parts)
}

impl Found {
    /// Takes the bytes apart into documents.
    pub(super) fn parse(self) -> Read {
        let mut read = Read { documents: Vec::new(), problems: self.problems, fingerprint: self.fingerprint };
        for File { path, origin, bytes } in self.files {
            match bytes.and_then(|bytes| text_of(&path, bytes)) {
                Ok(text) => {
                    let (documents, problems) = config::parse(&text, &path.display().to_string(), origin);
                    read.documents.extend(documents);
                    read.problems.extend(problems);
                }
                Err(error) => read.problems.push(problem(&path, &format!("cannot be read: {error}"))),
            }
        }
        read
    }
}

/// The files that a path stands for, in the order of their names.
///
/// A folder that Kubernetes mounts holds its files behind a link `..data`, which it swaps as a whole: what is in such a
/// folder was rendered by an operator, which may be newer than we are.
fn files(path: &Path) -> io::Result<Vec<(PathBuf, Origin)>> {
    if !fs::metadata(path)?.is_dir() {
        return Ok(vec![(path.to_owned(), Origin::File)]);
    }
    let origin = if path.join("..data").exists() { Origin::Rendered } else { Origin::File };
    let mut files = Vec::new();
    for entry in fs::read_dir(path)? {
        let file = entry?.path();
        let name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let ends = |name: &str| [".yaml", ".yml", ".json"].iter().any(|end| name.ends_with(end));
        if !name.starts_with('.') && ends(name.trim_end_matches(".gz")) && file.is_file() {
            files.push((file, origin));
        }
    }
    files.sort_by(|(one, _), (other, _)| one.cmp(other));
    Ok(files)
}

fn bytes_of(file: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    fs::File::open(file)?.take(MAX_FILE).read_to_end(&mut bytes)?;
    within(bytes)
}

/// A file's text, unpacked where its name says that it is packed.
fn text_of(file: &Path, bytes: Vec<u8>) -> io::Result<String> {
    if file.extension().is_none_or(|extension| extension != "gz") {
        return String::from_utf8(bytes).map_err(io::Error::other);
    }
    let mut text = Vec::new();
    GzDecoder::new(bytes.as_slice()).take(MAX_FILE).read_to_end(&mut text)?;
    String::from_utf8(within(text)?).map_err(io::Error::other)
}

fn within(bytes: Vec<u8>) -> io::Result<Vec<u8>> {
    if bytes.len() as u64 == MAX_FILE { Err(io::Error::other("larger than 64 MiB")) } else { Ok(bytes) }
}

fn problem(path: &Path, message: &str) -> Problem {
    Problem {
        severity: Severity::Error,
        reason: Reason::InvalidSpec,
        file: Some(path.display().to_string()),
        line: None,
        kind: "File".to_owned(),
        object: None,
        field: String::new(),
        message: message.to_owned(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use std::io::Write;

    const NAMESPACE: &str = "{apiVersion: v1, kind: Namespace, metadata: {name: a}}\n";

    #[test]
    fn a_folder_is_read_in_order_with_packed_files_and_without_others() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("b.yaml"), NAMESPACE).unwrap();
        fs::write(folder.path().join("notes.txt"), "not YAML: [").unwrap();
        fs::write(folder.path().join(".hidden.yaml"), "not YAML: [").unwrap();
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packed.write_all(NAMESPACE.replace("name: a", "name: packed").as_bytes()).unwrap();
        fs::write(folder.path().join("a.yaml.gz"), packed.finish().unwrap()).unwrap();
        let read = read(&[folder.path().to_owned()]);
        assert_eq!(read.problems, []);
        assert_eq!(read.documents.iter().map(|d| d.id.name.as_str()).collect::<Vec<_>>(), ["packed", "a"]);
    }

    #[test]
    fn a_path_that_is_not_there_is_a_problem_and_the_others_are_read() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a.yaml"), NAMESPACE).unwrap();
        let read = read(&[folder.path().join("absent.yaml"), folder.path().join("a.yaml")]);
        assert_eq!(read.documents.len(), 1);
        assert!(
            read.problems[0].to_string().contains("absent.yaml File: cannot be read"),
            "{}",
            read.problems[0]
        );
    }

    #[test]
    fn the_fingerprint_changes_with_the_bytes_alone() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.yaml");
        fs::write(&file, NAMESPACE).unwrap();
        let paths = [file.clone()];
        let first = read(&paths).fingerprint;
        fs::write(&file, NAMESPACE).unwrap();
        assert_eq!(read(&paths).fingerprint, first);
        fs::write(&file, NAMESPACE.replace("name: a", "name: b")).unwrap();
        assert_ne!(read(&paths).fingerprint, first);
    }
}
