//! Every public type of the engine is shown in use.

use super::sources;

/// A public type of the engine as its file writes it.
struct Type<'a> {
    file: &'a str,
    name: &'a str,
    /// The lines of its documentation and its attributes.
    above: Vec<&'a str>,
    has_methods: bool,
}

impl Type<'_> {
    /// The lines of the examples in its documentation.
    fn example(&self) -> impl Iterator<Item = &str> {
        let parts = self.above.split(|line| line.starts_with("/// ```"));
        parts.skip(1).step_by(2).flatten().copied()
    }

    /// An error, or a row that the engine has read: its fields say everything.
    fn is_plain(&self) -> bool {
        let derives = self.above.iter().filter(|line| line.starts_with("#[derive("));
        derives.into_iter().any(|line| has_word(line, "Error") || has_word(line, "FromRow"))
    }
}

/// A type without methods may be shown in the example of another type, and an enum of words (`words!`) needs no example.
#[test]
fn every_public_type_of_the_engine_has_an_example() {
    // `worker::hooks` is hidden: the engine's own tests use it.
    let is_public = |file: &str| file.starts_with("engine/src/") && !file.ends_with("/hooks.rs");
    let files = sources(&[".rs"]);
    let files = files.iter().filter(|(file, _)| is_public(file));
    let types: Vec<Type<'_>> = files.flat_map(|(file, text)| types(file, text)).collect();
    assert!(types.len() > 100, "the types were not read");
    let shown = |one: &Type<'_>| {
        let own = one.example().next().is_some();
        let others = || types.iter().flat_map(Type::example);
        own || !one.has_methods && others().any(|line| has_word(line, one.name))
    };
    let without = types.iter().filter(|one| !one.is_plain() && !shown(one));
    let without: Vec<_> = without.map(|one| format!("{}: {}", one.file, one.name)).collect();
    assert!(without.is_empty(), "show how these are used:\n{}", without.join("\n"));
}

fn types<'a>(file: &'a str, text: &'a str) -> Vec<Type<'a>> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let begins = ["pub struct ", "pub enum ", "pub trait "];
        let Some(rest) = begins.iter().find_map(|begin| line.strip_prefix(begin)) else { continue };
        let name = rest.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default();
        let above = lines[..at].iter().rev();
        let above = above.take_while(|line| line.starts_with("///") || line.starts_with("#["));
        let mut above: Vec<_> = above.copied().collect();
        above.reverse();
        let is_impl = |line: &&str| line.starts_with("impl") && !line.contains(" for ");
        let has_methods = lines.iter().copied().filter(is_impl).any(|line| has_word(line, name));
        found.push(Type { file, name, above, has_methods });
    }
    found
}

fn has_word(line: &str, word: &str) -> bool {
    line.split(|c: char| !c.is_alphanumeric() && c != '_').any(|part| part == word)
}
