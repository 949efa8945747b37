//! A saga drawn as a Mermaid state diagram, in the order in which exploring came by.

use std::{fmt::Write as _, path::Path};

pub(super) struct Diagram {
    name: &'static str,
    starts: Vec<String>,
    asks: Vec<(String, String)>,
    edges: Vec<(String, String, String)>,
    ways_back: Vec<(String, String)>,
}

fn once<T: PartialEq>(all: &mut Vec<T>, one: T) {
    if !all.contains(&one) {
        all.push(one);
    }
}

impl Diagram {
    pub(super) fn new(name: &'static str) -> Self {
        Self {
            name,
            starts: Vec::new(),
            asks: Vec::new(),
            edges: Vec::new(),
            ways_back: Vec::new(),
        }
    }

    pub(super) fn start(&mut self, state: &str) {
        once(&mut self.starts, state.to_owned());
    }

    pub(super) fn asks(&mut self, state: &str, what: &str) {
        once(&mut self.asks, (state.to_owned(), what.to_owned()));
    }

    pub(super) fn edge(&mut self, from: &str, label: &str, to: &str) {
        if from != to {
            once(&mut self.edges, (from.to_owned(), label.to_owned(), to.to_owned()));
        }
    }

    pub(super) fn way_back(&mut self, step: &str, back: &Option<String>) {
        if let Some(back) = back {
            once(&mut self.ways_back, (step.to_owned(), back.clone()));
        }
    }

    /// A Markdown page: the diagram, then the way back of each step.
    pub(super) fn draw(&self) -> String {
        let mut page = format!(
            "# {}\n\nDrawn from the code by its tests; `UPDATE_DIAGRAMS=1` draws it anew.\n\n\
             ```mermaid\nstateDiagram-v2\n",
            self.name
        );
        // Writing into a String cannot fail.
        for state in &self.starts {
            let _ = writeln!(page, "    [*] --> {state}");
        }
        for (state, what) in &self.asks {
            let _ = writeln!(page, "    {state}: {what}");
        }
        for (from, to) in self.pairs() {
            let labels = self
                .edges
                .iter()
                .filter(|(f, _, t)| *f == from && *t == to)
                .map(|(_, label, _)| label.as_str())
                .collect::<Vec<_>>();
            let _ = writeln!(page, "    {from} --> {to}: {}", labels.join(", "));
        }
        for end in ["completed", "unwound"] {
            if self.edges.iter().any(|(_, _, to)| to == end) {
                let _ = writeln!(page, "    {end} --> [*]");
            }
        }
        page.push_str("```\n");
        if !self.ways_back.is_empty() {
            page.push_str("\n| step | way back |\n|---|---|\n");
            for (step, back) in &self.ways_back {
                let _ = writeln!(page, "| {step} | {back} |");
            }
        }
        page
    }

    fn pairs(&self) -> Vec<(String, String)> {
        let mut pairs = Vec::new();
        for (from, _, to) in &self.edges {
            once(&mut pairs, (from.clone(), to.clone()));
        }
        pairs
    }
}

#[track_caller]
pub(super) fn assert_drawn_in(diagram: &str, page: &Path) {
    if std::env::var_os("UPDATE_DIAGRAMS").is_some() {
        if let Some(folder) = page.parent() {
            std::fs::create_dir_all(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
        }
        std::fs::write(page, diagram).unwrap_or_else(|e| panic!("{}: {e}", page.display()));
        return;
    }
    let committed = std::fs::read_to_string(page)
        .unwrap_or_else(|e| panic!("{}: {e}; draw it with UPDATE_DIAGRAMS=1", page.display()));
    assert!(
        committed == diagram,
        "{} shows another saga than the code; draw it anew with UPDATE_DIAGRAMS=1:\n{diagram}",
        page.display()
    );
}
