//! Which file of a crate imports which: source text in, arrows out.
//!
//! An import is a path that starts with `crate`, `self`, `super` or a child module, in a `use` or anywhere else, macros
//! included. A name that a module re-exports counts as an import of the file it comes from. Not counted are: a module's
//! use of what lies below it, since a parent is read after its children; the crate's root, which declares and
//! re-exports everything; and what is compiled only for tests.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// A file by the path of its module, without `crate`.
pub(crate) type File = Vec<String>;

/// Returns the files of a crate and what each imports. `folder`: the crate's `src`.
pub(crate) fn imports(folder: &Path) -> BTreeMap<File, BTreeSet<File>> {
    let mut sources = BTreeMap::new();
    read(folder, &mut Vec::new(), &mut sources);
    of_sources(&sources)
}

/// Reads all Rust files in a folder and below.
fn read(folder: &Path, module: &mut File, sources: &mut BTreeMap<File, String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        if entry.file_type().unwrap().is_dir() {
            module.push(name);
            read(&entry.path(), module, sources);
            module.pop();
        } else if let Some(stem) = name.strip_suffix(".rs") {
            let is_the_folders = matches!(stem, "lib" | "main" | "mod");
            let own = (!is_the_folders).then(|| stem.to_owned());
            let path = module.iter().cloned().chain(own).collect();
            sources.insert(path, fs::read_to_string(entry.path()).unwrap());
        }
    }
}

fn of_sources(sources: &BTreeMap<File, String>) -> BTreeMap<File, BTreeSet<File>> {
    let mut found = Found::default();
    for (file, text) in sources {
        let tokens: TokenStream = text.parse().unwrap_or_else(|error| panic!("{file:?}: {error}"));
        found.scan(file, file, tokens);
    }
    let is_shipped = |file: &File| !found.only_for_tests.iter().any(|test| file.starts_with(test));
    let files: BTreeSet<File> =
        sources.keys().filter(|file| is_shipped(file) && !file.is_empty()).cloned().collect();
    let mut arrows: BTreeMap<File, BTreeSet<File>> =
        files.iter().map(|file| (file.clone(), BTreeSet::new())).collect();
    for Mention { file, module, path } in &found.mentions {
        let Some(target) = found.target(&files, module, path, 0) else { continue };
        if let Some(arrows) = arrows.get_mut(file)
            && !target.starts_with(file)
        {
            arrows.insert(target);
        }
    }
    arrows
}

/// A path in a file, and the module that it is written in, which may be an inline one.
struct Mention {
    file: File,
    module: File,
    path: Vec<String>,
}

/// What was found in the sources so far.
#[derive(Default)]
struct Found {
    mentions: Vec<Mention>,
    /// What modules re-export: the path, by module and name.
    exports: BTreeMap<(File, String), Vec<String>>,
    /// Modules that are compiled only for tests.
    only_for_tests: BTreeSet<File>,
}

impl Found {
    fn scan(&mut self, file: &File, module: &File, tokens: TokenStream) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let mut at = 0;
        while at < tokens.len() {
            if is_test_attribute(&tokens[at..]) {
                at = self.skip_item(module, &tokens, at + 2);
            } else if is_word(tokens.get(at), "use") {
                at = self.scan_use(file, module, &tokens, at);
            } else if is_word(tokens.get(at), "mod")
                && let Some(TokenTree::Group(body)) = tokens.get(at + 2)
            {
                let inner = [&module[..], &[tokens[at + 1].to_string()]].concat();
                self.scan(file, &inner, body.stream());
                at += 3;
            } else if let TokenTree::Group(group) = &tokens[at] {
                self.scan(file, module, group.stream());
                at += 1;
            } else {
                let path = path_at(&tokens, at);
                at += path.len().max(1) * 3 - 2;
                if path.len() > 1 {
                    self.mentions.push(Mention {
                        file: file.clone(),
                        module: module.clone(),
                        path,
                    });
                }
            }
        }
    }

    /// Skips an item from its first token on, notes it if it is a module, and returns where the next one starts.
    fn skip_item(&mut self, module: &File, tokens: &[TokenTree], from: usize) -> usize {
        let mut at = from;
        while at < tokens.len() {
            if is_word(tokens.get(at), "mod") {
                let name = tokens[at + 1].to_string();
                self.only_for_tests.insert([&module[..], &[name]].concat());
            }
            let ends = match &tokens[at] {
                TokenTree::Group(group) => group.delimiter() == Delimiter::Brace,
                token => matches!(token.to_string().as_str(), ";" | ","),
            };
            at += 1;
            if ends {
                break;
            }
        }
        at
    }

    fn scan_use(&mut self, file: &File, module: &File, tokens: &[TokenTree], from: usize) -> usize {
        let length = tokens[from..].iter().take_while(|token| token.to_string() != ";").count();
        // `use<'_>` in a type is not an import.
        if tokens.get(from + 1).is_none_or(|token| token.to_string() == "<") {
            return from + 1;
        }
        let mut paths = Vec::new();
        expand(&tokens[from + 1..from + length], &mut Vec::new(), &mut paths);
        let before = &tokens[from.saturating_sub(2)..from];
        let is_export = before.iter().any(|token| token.to_string() == "pub");
        for (path, name) in paths {
            if is_export {
                self.exports.insert((module.clone(), name), path.clone());
            }
            self.mentions.push(Mention { file: file.clone(), module: module.clone(), path });
        }
        from + length
    }

    /// The file that a path leads to, through re-exports.
    fn target(
        &self,
        files: &BTreeSet<File>,
        module: &File,
        path: &[String],
        depth: usize,
    ) -> Option<File> {
        let path = absolute(files, module, path)?;
        let longest =
            (0..=path.len()).rev().find(|end| *end == 0 || files.contains(&path[..*end]))?;
        let (target, rest) = path.split_at(longest);
        if let Some(name) = rest.first()
            && let Some(export) = self.exports.get(&(target.to_vec(), name.clone()))
            && depth < 10
            && let Some(further) = self.target(files, &target.to_vec(), export, depth + 1)
        {
            return Some(further);
        }
        (!target.is_empty()).then(|| target.to_vec())
    }
}

/// A path without `crate`, `self` and `super`; `None` if it leads to another crate.
fn absolute(files: &BTreeSet<File>, module: &File, path: &[String]) -> Option<Vec<String>> {
    let supers = path.iter().take_while(|part| *part == "super").count();
    let (base, rest) = match path.first()?.as_str() {
        "crate" => (&[][..], &path[1..]),
        "self" => (&module[..], &path[1..]),
        "super" => (&module[..module.len().checked_sub(supers)?], &path[supers..]),
        child => {
            let is_child = files.contains(&[&module[..], &[child.to_owned()]].concat());
            (is_child.then_some(&module[..])?, path)
        }
    };
    Some([base, rest].concat())
}

/// The paths of a `use`, each with the name it gets.
fn expand(tokens: &[TokenTree], before: &mut Vec<String>, paths: &mut Vec<(Vec<String>, String)>) {
    let known = before.len();
    let mut name = None;
    let mut tokens = tokens.iter();
    while let Some(token) = tokens.next() {
        match token {
            TokenTree::Group(group) => {
                let inner: Vec<_> = group.stream().into_iter().collect();
                for part in inner.split(|token| token.to_string() == ",") {
                    if !part.is_empty() {
                        expand(part, before, paths);
                    }
                }
                before.truncate(known);
                return;
            }
            TokenTree::Ident(word) if *word == "as" => {
                name = tokens.next().map(ToString::to_string)
            }
            TokenTree::Ident(word) => before.push(word.to_string()),
            TokenTree::Punct(_) | TokenTree::Literal(_) => {}
        }
    }
    let path: Vec<String> = before.clone();
    before.truncate(known);
    let last = path.last().cloned().unwrap_or_default();
    paths.push((path, name.unwrap_or(last)));
}

/// Returns the path `a::b::c` that starts here; a single word, or nothing, if there is no path.
fn path_at(tokens: &[TokenTree], from: usize) -> Vec<String> {
    let mut path = Vec::new();
    let mut at = from;
    while let Some(TokenTree::Ident(word)) = tokens.get(at) {
        path.push(word.to_string());
        let is_colon = |token: Option<&TokenTree>| matches!(token, Some(TokenTree::Punct(punct)) if punct.as_char() == ':');
        if !is_colon(tokens.get(at + 1)) || !is_colon(tokens.get(at + 2)) {
            break;
        }
        at += 3;
    }
    path
}

fn is_word(token: Option<&TokenTree>, word: &str) -> bool {
    matches!(token, Some(TokenTree::Ident(found)) if *found == word)
}

/// Whether `#[cfg(test)]` or `#[test]` is next.
fn is_test_attribute(tokens: &[TokenTree]) -> bool {
    let [TokenTree::Punct(hash), TokenTree::Group(attribute), ..] = tokens else { return false };
    let text = attribute.stream().to_string().replace(' ', "");
    hash.as_char() == '#'
        && (text == "cfg(test)" || text.starts_with("cfg(all(test") || text == "test")
}

#[test]
fn imports_are_found_wherever_they_are_written() {
    let cases: &[(&str, &str, &[&str])] = &[
        ("a use", "use crate::b::X;", &["b"]),
        ("a group", "use crate::{b::{X, Y as Z}, c};", &["b", "c"]),
        ("an expression", "fn f() { crate::b::g() }", &["b"]),
        ("a macro", "fn f() { println!(\"{}\", crate::b::g()) }", &["b"]),
        ("super", "use super::b;", &["b"]),
        ("an inline module", "mod m { use super::super::b::X; }", &["b"]),
        ("a re-export of the root", "use crate::OfB;", &["b"]),
        ("a re-export of a module", "use crate::c::FromB;", &["b"]),
        ("an item of the root", "use crate::ITEM;", &[]),
        ("another crate", "use std::b; use serde::c::X;", &[]),
        ("its own child", "mod d; use self::d::X; use d::Y;", &[]),
        ("a comment", "// crate::b::X\n/* crate::c */", &[]),
        ("a string", "const T: &str = \"crate::b::X\";", &[]),
        ("tests", "#[cfg(test)] mod tests { use crate::b::X; }", &[]),
        ("a helper of tests", "#[cfg(test)] fn f() { crate::b::g() } use crate::c;", &["c"]),
        ("what is captured", "fn f<'a>() -> impl Sized + use<'a> { crate::b::g() }", &["b"]),
    ];
    for (case, text, expected) in cases {
        let sources = [
            ("", "mod a; mod b; mod c; pub use b::OfB; const ITEM: u8 = 0;"),
            ("a", *text),
            ("a::d", ""),
            ("b", ""),
            ("c", "pub use crate::b::FromB;"),
        ];
        let path =
            |text: &str| text.split("::").map(str::to_owned).filter(|it| !it.is_empty()).collect();
        let sources = sources.map(|(module, text)| (path(module), text.to_owned()));
        let arrows = of_sources(&BTreeMap::from(sources));
        let expected = expected.iter().map(|module| path(module)).collect();
        assert_eq!(arrows[&vec!["a".to_owned()]], expected, "{case}");
    }
}

#[test]
fn modules_for_tests_are_not_files() {
    let file = |name: &str| vec![name.to_owned()];
    let sources = [
        (vec![], "mod a; #[cfg(test)] mod testing;".to_owned()),
        (file("a"), "use crate::b;".to_owned()),
        (file("b"), String::new()),
        (file("testing"), "use crate::a;".to_owned()),
    ];
    let arrows = of_sources(&BTreeMap::from(sources));
    assert_eq!(arrows.keys().collect::<Vec<_>>(), [&file("a"), &file("b")]);
}
