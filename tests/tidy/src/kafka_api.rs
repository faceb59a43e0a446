//! Kafka's APIs: one short file each, and a page that says what the files say.
//!
//! An API is described by a line `Name = KEY [versions a..=b, served c.., flexible n]` in its own
//! file below `protocol/src/kafka/api/`.
//!
//! Absent on purpose: whether the handlers keep what is advertised; the clients' tests show that.

use crate::lexer::{Lexed, Part};
use crate::rust::{has_word, product_part};
use crate::{Finding, SourceFile, Tree, tables};

/// Where the descriptions are.
const FOLDER: &str = "protocol/src/kafka/api/";

/// The file that registers every API.
const TABLE: &str = "protocol/src/kafka/api/mod.rs";

/// One description.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Api {
    /// Kafka's name.
    pub name: String,
    /// Kafka's number.
    pub key: u16,
    /// `versions …`, `served …`, `flexible …`, as written.
    pub attributes: Vec<(String, String)>,
    /// The file that describes it.
    pub path: String,
}

impl Api {
    fn attribute(&self, name: &str) -> Option<&str> {
        let found = self.attributes.iter().find(|(attribute, _)| attribute == name);
        found.map(|(_, value)| value.as_str())
    }
}

/// Every description, by key.
#[must_use]
pub fn described(tree: &Tree) -> Vec<Api> {
    let mut apis = Vec::new();
    for file in tree.of("rs").filter(|file| file.path.starts_with(FOLDER)) {
        let code = Lexed::new(product_part(file)).view(Part::Code);
        apis.extend(code.lines().filter_map(|line| description(line, &file.path)));
    }
    apis.sort_by_key(|api: &Api| api.key);
    apis
}

/// Differences between the code and the table `apis` of `docs/kafka-compat.md`.
#[must_use]
pub fn ranges(tree: &Tree) -> Vec<Finding> {
    let apis = described(tree);
    if apis.is_empty() {
        return Vec::new();
    }
    let headings = ["API", "Key", "Advertised", "Served", "Flexible from"];
    let mut rows = vec![headings.map(str::to_owned).to_vec()];
    for api in &apis {
        let advertised = api.attribute("versions").unwrap_or("0").replace("..=", "–");
        let last = advertised.rsplit('–').next().unwrap_or_default().to_owned();
        let served = api.attribute("served").map(|from| from.replace("..", "–") + &last);
        let flexible = api.attribute("flexible").unwrap_or("never").to_owned();
        let served = served.unwrap_or_else(|| advertised.clone());
        rows.push(vec![api.name.clone(), api.key.to_string(), advertised, served, flexible]);
    }
    tables::compare(tree, "docs/kafka-compat.md", "apis", &rows)
}

/// Names of APIs in the code of Kafka's protocol outside of their file and the table. Our own
/// protocol has messages of the same names.
#[must_use]
pub fn scattered_names(tree: &Tree) -> Vec<Finding> {
    let apis = described(tree);
    let mut findings = Vec::new();
    for file in tree.of("rs").filter(|file| file.path.starts_with("protocol/src/kafka/")) {
        if file.path == TABLE {
            continue;
        }
        findings.extend(foreign_names(file, &apis));
    }
    findings
}

fn foreign_names(file: &SourceFile, apis: &[Api]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let code = Lexed::new(product_part(file)).view(Part::Code);
    // A file of an API's own name may be a folder: produce/view.rs belongs to produce.
    let own = |api: &Api| {
        let folder = api.path.trim_end_matches("/mod.rs").trim_end_matches(".rs");
        file.path.starts_with(folder)
    };
    for api in apis.iter().filter(|api| !own(api)) {
        let names = ["", "Request", "Response"].map(|end| format!("{}{end}", api.name));
        for (number, line) in code.lines().enumerate() {
            if names.iter().any(|name| has_word(line, name)) {
                let message = format!("{} belongs to {} and {TABLE} alone", api.name, api.path);
                findings.push(Finding::new(&file.path, number + 1, message));
            }
        }
    }
    findings
}

/// `Heartbeat = 12 [versions 0..=4, flexible 4]`, whatever follows.
fn description(line: &str, path: &str) -> Option<Api> {
    let (name, rest) = line.trim().split_once(" = ")?;
    let (key, rest) = rest.split_once(" [")?;
    let (attributes, _) = rest.split_once(']')?;
    let key = key.parse().ok()?;
    let named = name.starts_with(char::is_uppercase) && name.chars().all(char::is_alphanumeric);
    let attributes = attributes.split(',').map(|attribute| {
        let (name, value) = attribute.trim().split_once(' ').unwrap_or((attribute.trim(), ""));
        (name.to_owned(), value.trim().to_owned())
    });
    let attributes: Vec<_> = attributes.collect();
    let versions = attributes.iter().any(|(name, _)| name == "versions");
    let path = path.to_owned();
    (named && versions).then(|| Api { name: name.to_owned(), key, attributes, path })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(extra: SourceFile) -> Tree {
        let text =
            "//! H.\napi! {\n    Heartbeat = 12 [versions 0..=4, served 1.., flexible 4];\n}\n";
        let api = SourceFile::new("protocol/src/kafka/api/heartbeat.rs", text);
        Tree::sample(vec![api, extra])
    }

    #[test]
    fn the_page_says_what_the_description_says() {
        let page = |row: &str| {
            let text = format!(
                "# K\n<!-- table: apis -->\n| API | Key | Advertised | Served | Flexible from |\n\
                 |---|---|---|---|---|\n{row}\n<!-- end -->\n"
            );
            ranges(&tree(SourceFile::new("docs/kafka-compat.md", &text)))
        };
        assert_eq!(page("| Heartbeat | 12 | 0–4 | 1–4 | 4 |"), []);
        assert_eq!(page("| Heartbeat | 12 | 0–5 | 1–4 | 4 |").len(), 1);
    }

    #[test]
    fn an_api_is_named_in_its_own_file_and_the_table_alone() {
        let names = |path: &str| {
            let text = "//! Heartbeat is fine here.\nfn f(x: HeartbeatRequest) {}\n";
            scattered_names(&tree(SourceFile::new(path, text))).len()
        };
        assert_eq!(names("protocol/src/kafka/header.rs"), 1);
        assert_eq!(names("protocol/src/kafka/api/mod.rs"), 0);
        assert_eq!(names("protocol/src/kafka/api/heartbeat/view.rs"), 0);
        assert_eq!(names("broker/src/doors/kafka/convert.rs"), 0);
    }
}
