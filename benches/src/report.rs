//! Rows: a figure, how it was taken, what the machine does at best, and the gate.
//!
//! Absent on purpose: verdicts about speed in tests. A gate is judged where it is printed.

use crate::stats::Summary;
use serde_json::{Map, Value, json};
use std::fmt::Write as _;

/// Unit of a figure.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unit {
    /// 10^6 bytes per second.
    MegabytesPerSecond,
    /// 2^20 bytes per second.
    MebibytesPerSecond,
    /// Milliseconds.
    Milliseconds,
    /// Microseconds.
    Microseconds,
    /// Microseconds of CPU time per request.
    CpuMicrosecondsPerRequest,
    /// 2^20 bytes.
    Mebibytes,
    /// 10^6 bytes.
    Megabytes,
    /// Percent of one processor.
    PercentOfCore,
    /// Packages.
    Crates,
    /// Records per second.
    RecordsPerSecond,
    /// Seconds of CPU time per 10^9 bytes.
    CpuSecondsPerGigabyte,
    /// Seconds.
    Seconds,
    /// Threads and descriptors.
    Held,
}

impl Unit {
    /// As it stands behind a number.
    #[must_use]
    pub const fn symbol(self) -> &'static str {
        match self {
            Self::MegabytesPerSecond => "MB/s",
            Self::MebibytesPerSecond => "MiB/s",
            Self::Milliseconds => "ms",
            Self::Microseconds => "us",
            Self::CpuMicrosecondsPerRequest => "CPU us/request",
            Self::Mebibytes => "MiB",
            Self::Megabytes => "MB",
            Self::PercentOfCore => "% of a core",
            Self::Crates => "crates",
            Self::RecordsPerSecond => "records/s",
            Self::CpuSecondsPerGigabyte => "CPU s/GB",
            Self::Seconds => "s",
            Self::Held => "threads and descriptors",
        }
    }

    const fn decimals(self) -> usize {
        match self {
            Self::MegabytesPerSecond
            | Self::MebibytesPerSecond
            | Self::Microseconds
            | Self::Crates
            | Self::RecordsPerSecond
            | Self::Held => 0,
            Self::Milliseconds | Self::Mebibytes | Self::Megabytes => 1,
            Self::CpuMicrosecondsPerRequest | Self::Seconds => 2,
            Self::PercentOfCore | Self::CpuSecondsPerGigabyte => 3,
        }
    }
}

/// What a median must keep to.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Gate {
    /// Our figure is at least this.
    FigureAtLeast(f64),
    /// Our figure is at most this.
    FigureAtMost(f64),
    /// The pairwise ratio to the probe is at least this.
    RatioAtLeast(f64),
    /// The pairwise ratio to the probe is at most this.
    RatioAtMost(f64),
}

/// What the machine does without us, or undisturbed.
#[derive(Clone, PartialEq, Debug)]
pub struct Probe {
    /// What it is.
    pub name: &'static str,
    /// What it gave.
    pub figures: Summary,
    /// Ratio of each pair.
    pub ratios: Summary,
}

/// One printed row.
#[derive(Clone, PartialEq, Debug)]
pub struct Row {
    /// What `--only` calls it.
    pub name: String,
    /// Who was measured.
    pub subject: String,
    /// How it was taken, in order.
    pub contract: Vec<(&'static str, String)>,
    /// Unit of the figures, the probe's included.
    pub unit: Unit,
    /// What was measured.
    pub figures: Summary,
    /// What it is compared with, in the same run.
    pub probe: Option<Probe>,
    /// What must hold, all of it.
    pub gates: Vec<Gate>,
    /// Why the gates are not judged here, if they are not.
    pub unjudged: Option<&'static str>,
    /// Figures beside the figure.
    pub beside: Vec<(&'static str, String)>,
}

impl Row {
    /// Whether all gates hold; `None` where there is none or they are not judged.
    #[must_use]
    pub fn holds(&self) -> Option<bool> {
        let verdicts: Vec<bool> = self.gates.iter().filter_map(|gate| self.judge(*gate)).collect();
        (!verdicts.is_empty()).then(|| verdicts.iter().all(|holds| *holds))
    }

    fn judge(&self, gate: Gate) -> Option<bool> {
        if self.unjudged.is_some() {
            return None;
        }
        let ratio = self.probe.as_ref().map(|probe| probe.ratios.median);
        match gate {
            Gate::FigureAtLeast(bound) => Some(self.figures.median >= bound),
            Gate::FigureAtMost(bound) => Some(self.figures.median <= bound),
            Gate::RatioAtLeast(bound) => ratio.map(|ratio| ratio >= bound),
            Gate::RatioAtMost(bound) => ratio.map(|ratio| ratio <= bound),
        }
    }

    fn gate_text(&self, gate: Gate) -> String {
        let unit = self.unit.symbol();
        let bound = match gate {
            Gate::FigureAtLeast(bound) => format!("at least {bound} {unit}"),
            Gate::FigureAtMost(bound) => format!("at most {bound} {unit}"),
            Gate::RatioAtLeast(bound) => format!("ratio at least {bound}"),
            Gate::RatioAtMost(bound) => format!("ratio at most {bound}"),
        };
        match (self.judge(gate), self.unjudged) {
            (Some(true), _) => format!("{bound}: holds"),
            (Some(false), _) => format!("{bound}: FAILS"),
            (None, reason) => format!("{bound}: not judged, {}", reason.unwrap_or("no probe")),
        }
    }

    fn gate_texts(&self) -> Vec<String> {
        self.gates.iter().map(|gate| self.gate_text(*gate)).collect()
    }

    /// For people: figures, contract, and what stands beside.
    #[must_use]
    pub fn text(&self) -> String {
        let decimals = self.unit.decimals();
        let mut text = format!("{}\n", self.name);
        let mut line = |label: &str, value: &str| {
            let _ = writeln!(text, "  {label:<9} {value}");
        };
        let unit = self.unit.symbol();
        line(&self.subject, &format!("{} {unit}", summary(&self.figures, decimals)));
        if let Some(probe) = &self.probe {
            let figures = summary(&probe.figures, decimals);
            line("probe", &format!("{figures} {unit}: {}", probe.name));
            line("ratio", &summary(&probe.ratios, 2));
        }
        for gate in self.gate_texts() {
            line("gate", &gate);
        }
        for (label, pairs) in [("contract", &self.contract), ("beside", &self.beside)] {
            for (number, part) in wrapped(pairs).iter().enumerate() {
                line(if number == 0 { label } else { "" }, part);
            }
        }
        text
    }

    /// For programs, one object.
    #[must_use]
    pub fn json(&self) -> Value {
        let object = |pairs: &[(&'static str, String)]| -> Map<String, Value> {
            pairs.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect()
        };
        let probe = self.probe.as_ref().map(|probe| {
            let ratio = numbers(&probe.ratios);
            json!({"name": probe.name, "figure": numbers(&probe.figures), "ratio": ratio})
        });
        json!({
            "row": self.name, "subject": self.subject, "unit": self.unit.symbol(),
            "figure": numbers(&self.figures), "probe": probe,
            "gates": self.gate_texts(), "holds": self.holds(),
            "contract": object(&self.contract), "beside": object(&self.beside),
        })
    }
}

/// Names and values with semicolons between them, in lines of a readable width.
fn wrapped(pairs: &[(&'static str, String)]) -> Vec<String> {
    const WIDTH: usize = 88;
    let mut lines: Vec<String> = Vec::new();
    for (name, value) in pairs {
        let pair = format!("{name}: {value}");
        match lines.last_mut() {
            Some(line) if line.len() + pair.len() + 2 <= WIDTH => {
                line.push_str("; ");
                line.push_str(&pair);
            }
            _ => lines.push(pair),
        }
    }
    lines
}

fn summary(summary: &Summary, decimals: usize) -> String {
    let Summary { median, min, max } = summary;
    format!("{median:.decimals$} [{min:.decimals$} - {max:.decimals$}]")
}

fn numbers(summary: &Summary) -> Value {
    json!({"median": summary.median, "min": summary.min, "max": summary.max})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(ratio: f64, gate: Gate) -> Row {
        let one = |value| Summary { median: value, min: value, max: value };
        Row {
            name: "produce".to_owned(),
            subject: "bateau".to_owned(),
            contract: vec![("connections", "1".to_owned()), ("pairs", "5".to_owned())],
            unit: Unit::MegabytesPerSecond,
            figures: one(100.0),
            probe: Some(Probe { name: "bare loop", figures: one(200.0), ratios: one(ratio) }),
            gates: vec![gate],
            unjudged: None,
            beside: Vec::new(),
        }
    }

    #[test]
    fn a_gate_is_judged_by_medians_and_its_bound_is_within() {
        assert_eq!(row(0.5, Gate::RatioAtLeast(0.5)).holds(), Some(true));
        assert_eq!(row(0.49, Gate::RatioAtLeast(0.5)).holds(), Some(false));
        assert_eq!(row(2.1, Gate::RatioAtMost(2.0)).holds(), Some(false));
        assert_eq!(row(1.0, Gate::FigureAtMost(100.0)).holds(), Some(true));
        assert_eq!(row(1.0, Gate::FigureAtMost(99.0)).holds(), Some(false));
    }

    #[test]
    fn a_row_holds_when_all_of_its_gates_do_and_says_each() {
        let both = |least| Row {
            gates: vec![Gate::FigureAtLeast(least), Gate::RatioAtLeast(0.5)],
            ..row(0.5, Gate::RatioAtLeast(0.5))
        };
        assert_eq!((both(100.0).holds(), both(101.0).holds()), (Some(true), Some(false)));
        let text = both(101.0).text();
        assert!(text.contains("at least 101 MB/s: FAILS") && text.contains("0.5: holds"), "{text}");
    }

    #[test]
    fn a_gate_that_is_not_judged_neither_holds_nor_fails() {
        let row = Row { unjudged: Some("the load is scaled"), ..row(0.1, Gate::RatioAtLeast(0.5)) };
        assert_eq!(row.holds(), None);
        assert!(row.text().contains("ratio at least 0.5: not judged, the load is scaled"));
        assert!(row.json()["holds"].is_null());
    }

    #[test]
    fn a_long_contract_is_wrapped_between_its_terms() {
        let terms = [("a", "x".repeat(50)), ("b", "y".repeat(50)), ("c", "z".to_owned())];
        let lines = wrapped(&terms);
        assert_eq!(
            lines,
            [format!("a: {}", "x".repeat(50)), format!("b: {}; c: z", "y".repeat(50))]
        );
    }

    #[test]
    fn a_row_says_figure_probe_ratio_gate_and_contract() {
        let expected = "produce\n  \
            bateau    100 [100 - 100] MB/s\n  \
            probe     200 [200 - 200] MB/s: bare loop\n  \
            ratio     0.50 [0.50 - 0.50]\n  \
            gate      ratio at least 0.5: holds\n  \
            contract  connections: 1; pairs: 5\n";
        let row = row(0.5, Gate::RatioAtLeast(0.5));
        assert_eq!(row.text(), expected);
        assert_eq!(row.json()["figure"]["median"], 100.0);
        assert_eq!(row.json()["contract"]["pairs"], "5");
    }
}
