//! A page that describes bytes carries the hash of the file that writes them.
//!
//! The line reads ``Describes `protocol/src/frame.rs` at 0123abcd.``; the hash is the CRC-32 of
//! that file without its tests. When the file changes, somebody reads the page again and then
//! writes the new hash: that is the point, so nothing writes it for them.
//!
//! Absent on purpose: comparing the page's words with the code.

use crate::rust::product_part;
use crate::{Finding, SourceFile, Tree};

/// Pages below `docs/formats/` without such a line, or with an old hash.
#[must_use]
pub fn stale_pages(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    let pages = tree.of("md").filter(|file| file.path.starts_with("docs/formats/"));
    for page in pages {
        let mut described = 0;
        for (number, line) in page.text.lines().enumerate() {
            let Some((path, hash)) = claim(line) else { continue };
            described += 1;
            let message = match tree.get(path) {
                None => format!("{path} does not exist"),
                Some(file) if fingerprint(file) == hash => continue,
                Some(file) => {
                    let now = fingerprint(file);
                    format!("{path} has changed: read this page again, then write {now}")
                }
            };
            findings.push(Finding::new(&page.path, number + 1, message));
        }
        if described == 0 {
            let message = "says nowhere: Describes `FILE` at HASH.";
            findings.push(Finding::new(&page.path, 0, message));
        }
    }
    findings
}

/// CRC-32 of a file without its tests, in eight hex digits.
#[must_use]
pub fn fingerprint(file: &SourceFile) -> String {
    format!("{:08x}", crc32fast::hash(product_part(file).as_bytes()))
}

fn claim(line: &str) -> Option<(&str, &str)> {
    let (path, rest) = line.strip_prefix("Describes `")?.split_once("` at ")?;
    Some((path, rest.strip_suffix('.')?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_stale_as_soon_as_its_file_changes() {
        let code = SourceFile::new("a/src/b.rs", "//! B.\n");
        let hash = fingerprint(&code);
        let page = |text: String| SourceFile::new("docs/formats/b.md", &text);
        let good = page(format!("# B\n\nDescribes `a/src/b.rs` at {hash}.\n"));
        assert_eq!(stale_pages(&Tree::sample(vec![code, good.clone()])), []);
        let changed = SourceFile::new("a/src/b.rs", "//! B!\n");
        let found = stale_pages(&Tree::sample(vec![changed, good]));
        assert_eq!((found.len(), found[0].line), (1, 3));
        assert_eq!(stale_pages(&Tree::sample(vec![page("# B\n".to_owned())])).len(), 1);
    }
}
