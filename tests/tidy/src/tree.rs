//! The files of the repository, read once.
//!
//! Absent on purpose: git. A tree that was unpacked from an archive obeys the same rules.

use std::fs;
use std::path::{Path, PathBuf};

/// Directories that hold no source of ours, wherever they are.
const SKIPPED: &[&str] = &["target", "node_modules", "__pycache__", ".git", ".bateau"];

/// What our files are called: text that people write, and lock files.
const EXTENSIONS: &[&str] = &[
    "rs", "md", "toml", "lock", "sh", "js", "mjs", "json", "py", "go", "mod", "sum", "java", "xml",
    "yml", "txt", "script",
];

/// One text file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SourceFile {
    /// Path from the root, with `/`.
    pub path: String,
    /// Content.
    pub text: String,
}

impl SourceFile {
    /// A file, for tests of rules.
    #[must_use]
    pub fn new(path: &str, text: &str) -> Self {
        Self { path: path.to_owned(), text: text.to_owned() }
    }

    /// Whether the name ends with a dot and this.
    #[must_use]
    pub fn is(&self, extension: &str) -> bool {
        self.path.rsplit_once('.').is_some_and(|(_, end)| end == extension)
    }
}

/// All text files, sorted by path.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Tree {
    /// The files.
    pub files: Vec<SourceFile>,
    /// Where they lie; `None` for a sample, which nothing writes to.
    pub root: Option<PathBuf>,
}

impl Tree {
    /// Reads the repository that the running test belongs to.
    ///
    /// Panics when a file cannot be read: then no rule can be trusted.
    #[must_use]
    pub fn load() -> Self {
        let root = root();
        let mut files = Vec::new();
        collect(&root, &root, &mut files);
        files.sort_by(|a, b| a.path.cmp(&b.path));
        assert!(files.iter().any(|file| file.path == "Cargo.toml"), "no tree at {root:?}");
        Self { files, root: Some(root) }
    }

    /// A tree that exists in a test only.
    #[must_use]
    pub fn sample(files: Vec<SourceFile>) -> Self {
        Self { files, root: None }
    }

    /// Files of this extension.
    pub fn of<'a>(&'a self, extension: &'a str) -> impl Iterator<Item = &'a SourceFile> {
        self.files.iter().filter(move |file| file.is(extension))
    }

    /// The file at this path.
    #[must_use]
    pub fn get(&self, path: &str) -> Option<&SourceFile> {
        self.files.iter().find(|file| file.path == path)
    }
}

/// Root of the repository: of the package that cargo runs, since a build may be shared by several
/// checkouts.
#[must_use]
pub fn root() -> PathBuf {
    let package = std::env::var("CARGO_MANIFEST_DIR");
    let package = package.unwrap_or_else(|_| env!("CARGO_MANIFEST_DIR").to_owned());
    let is_root = |path: &&Path| path.join("Cargo.lock").exists();
    let root = Path::new(&package).ancestors().find(is_root);
    root.expect("a package lies below the workspace's Cargo.lock").to_owned()
}

fn collect(root: &Path, directory: &Path, files: &mut Vec<SourceFile>) {
    let entries = fs::read_dir(directory).expect("a directory of the tree can be listed");
    for entry in entries {
        let path = entry.expect("an entry of the tree can be read").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() && !path.is_symlink() {
            if !SKIPPED.contains(&name.as_str()) {
                collect(root, &path, files);
            }
        } else if is_ours(&path, &name) {
            let bytes = fs::read(&path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
            let relative = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().into_owned();
            if let Ok(text) = String::from_utf8(bytes) {
                files.push(SourceFile { path: relative, text });
            }
        }
    }
}

/// Known extensions, and files without one: scripts.
fn is_ours(path: &Path, name: &str) -> bool {
    let extension = path.extension().map(|end| end.to_string_lossy().into_owned());
    match extension {
        Some(end) => EXTENSIONS.contains(&end.as_str()),
        None => path.is_file() && name != ".git" && !name.starts_with("LICENSE"),
    }
}
