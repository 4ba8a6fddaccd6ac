//! One line of haproxy.cfg -> words, as HAProxy reads it: quotes, backslashes, comments, environment variables
//! (configuration manual, sections 2.2 and 2.3). Knows nothing of keywords.
//!
//! A variable of the environment stays a mark in the text, so that the TOML that comes out of it still says `${NAME}`; who needs its
//! value calls [`Variables::expand`].

use std::collections::BTreeMap;

/// Around the name and the default of a variable that is still to be expanded; private use characters, which HAProxy's words cannot hold.
const OPEN: char = '\u{E000}';
const CLOSE: char = '\u{E001}';

/// What is wrong with a line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct WordError {
    /// Column in characters, from 1.
    pub(super) column: usize,
    pub(super) message: String,
}

/// A line in pieces.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(super) struct Words {
    pub(super) words: Vec<String>,
    /// Text behind `#`.
    pub(super) comment: Option<String>,
}

/// Variables that quoted words may name.
pub(super) struct Variables<'e> {
    /// `setenv` and `presetenv` of the file itself, and pseudo-variables; `None` after `unsetenv`.
    own: BTreeMap<String, Option<String>>,
    environment: &'e dyn Fn(&str) -> Option<String>,
}

impl<'e> Variables<'e> {
    pub(super) fn new(environment: &'e dyn Fn(&str) -> Option<String>) -> Variables<'e> {
        Variables { own: BTreeMap::new(), environment }
    }

    /// Gives a variable a value, or takes it away.
    pub(super) fn set(&mut self, name: &str, value: Option<String>) {
        self.own.insert(name.to_owned(), value);
    }

    pub(super) fn get(&self, name: &str) -> Option<String> {
        match self.own.get(name) {
            Some(value) => value.clone(),
            None => (self.environment)(name),
        }
    }

    /// The text with the values of its variables; one that is not set and has no default is empty, as in HAProxy.
    pub(super) fn expand(&self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some((before, after)) = rest.split_once(OPEN) {
            out.push_str(before);
            let (mark, after) = after.split_once(CLOSE).unwrap_or((after, ""));
            let (name, default) = split_default(mark);
            out.push_str(&self.get(name).or_else(|| default.map(str::to_owned)).unwrap_or_default());
            rest = after;
        }
        out.push_str(rest);
        out
    }

    /// How a variable stands in a word: its value if the file itself set it, otherwise a mark.
    fn write(&self, name: &str, default: Option<&str>) -> String {
        if let Some(own) = self.own.get(name) {
            return own.clone().or_else(|| default.map(str::to_owned)).unwrap_or_default();
        }
        // HAProxy takes an unset variable for an empty one, where TOML would be refused.
        let default = default.unwrap_or("");
        format!("{OPEN}{name}-{default}{CLOSE}")
    }
}

fn split_default(mark: &str) -> (&str, Option<&str>) {
    mark.split_once('-').map_or((mark, None), |(name, default)| (name, Some(default)))
}

/// The text as TOML strings of the configuration have it: `${NAME-default}` for variables, `$${` for what only looks like one.
pub(super) fn to_config(text: &str) -> String {
    let escaped = text.replace("${", "$${");
    escaped.replace(OPEN, "${").replace(CLOSE, "}")
}

/// Whether variables are left in it.
pub(super) fn has_variables(text: &str) -> bool {
    text.contains(OPEN)
}

/// Cuts a line into words.
pub(super) fn split(line: &str, variables: &Variables<'_>) -> Result<Words, WordError> {
    let mut out = Words::default();
    let mut reader = Reader { chars: line.chars().collect(), at: 0, variables };
    loop {
        while reader.peek().is_some_and(|c| c == ' ' || c == '\t' || c == '\r') {
            reader.at += 1;
        }
        match reader.peek() {
            None => return Ok(out),
            Some('#') => {
                out.comment =
                    Some(reader.chars[reader.at + 1..].iter().collect::<String>().trim().to_owned());
                return Ok(out);
            }
            Some(_) => reader.word(&mut out.words)?,
        }
    }
}

struct Reader<'a, 'e> {
    chars: Vec<char>,
    at: usize,
    variables: &'a Variables<'e>,
}

impl Reader<'_, '_> {
    fn peek(&self) -> Option<char> {
        self.chars.get(self.at).copied()
    }

    fn error(&self, at: usize, message: impl Into<String>) -> WordError {
        WordError { column: at + 1, message: message.into() }
    }

    /// Reads one word; a variable with `[*]` may make several.
    fn word(&mut self, words: &mut Vec<String>) -> Result<(), WordError> {
        let mut word = String::new();
        let mut quote: Option<(char, usize)> = None;
        while let Some(c) = self.peek() {
            match (c, quote) {
                (' ' | '\t' | '#' | '\r', None) => break,
                ('"' | '\'', None) => quote = Some((c, self.at)),
                (c, Some((open, _))) if c == open => quote = None,
                ('\\', None | Some(('"', _))) => {
                    word.push_str(&self.escape(quote.is_some())?);
                    continue;
                }
                ('$', Some(('"', _))) => {
                    self.variable(&mut word, words)?;
                    continue;
                }
                (OPEN | CLOSE, _) => return Err(self.error(self.at, "this character cannot stand here")),
                (c, _) => word.push(c),
            }
            self.at += 1;
        }
        if let Some((_, open)) = quote {
            return Err(self.error(open, "this quote is not closed"));
        }
        words.push(word);
        Ok(())
    }

    /// What a backslash means; before anything it does not protect it stays, so that regular expressions read as they are.
    fn escape(&mut self, quoted: bool) -> Result<String, WordError> {
        let start = self.at;
        let next = self.chars.get(start + 1).copied();
        self.at += 2;
        Ok(match next {
            Some(c @ (' ' | '\\' | '#' | '"' | '\t')) => c.to_string(),
            Some('\'') if !quoted => "'".to_owned(),
            Some('$') => "$".to_owned(),
            Some('n') => "\n".to_owned(),
            Some('r') => "\r".to_owned(),
            Some('t') => "\t".to_owned(),
            Some('x') => {
                let digits: String = self.chars.iter().skip(self.at).take(2).collect();
                let byte = u8::from_str_radix(&digits, 16).ok().filter(|_| digits.len() == 2);
                self.at += digits.chars().count();
                match byte {
                    Some(byte) if byte.is_ascii() => char::from(byte).to_string(),
                    Some(_) => {
                        return Err(self.error(
                            start,
                            "bytes above \\x7f cannot be written in a text; use a binary form",
                        ));
                    }
                    None => return Err(self.error(start, "\\x needs two hexadecimal digits")),
                }
            }
            Some(c) => format!("\\{c}"),
            None => {
                self.at = self.chars.len();
                return Err(self.error(start, "a backslash at the end of the line protects nothing"));
            }
        })
    }

    /// `$NAME`, `${NAME}`, `${NAME-default}` or `${NAME[*]}`.
    fn variable(&mut self, word: &mut String, words: &mut Vec<String>) -> Result<(), WordError> {
        let start = self.at;
        self.at += 1;
        let braced = self.peek() == Some('{');
        self.at += usize::from(braced);
        let mut name = String::new();
        while let Some(c) =
            self.peek().filter(|c| c.is_ascii_alphanumeric() || *c == '_' || (*c == '.' && name.is_empty()))
        {
            name.push(c);
            self.at += 1;
        }
        if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
            return Err(self.error(start, "this is no name of a variable; write \\$ for a dollar sign"));
        }
        if !braced {
            word.push_str(&self.variables.write(&name, None));
            return Ok(());
        }
        let rest: String = self.chars[self.at..].iter().collect();
        let Some(end) = rest.find('}') else {
            return Err(self.error(start, "this brace is not closed"));
        };
        let tail = &rest[..end];
        self.at += tail.chars().count() + 1;
        match tail {
            "" => word.push_str(&self.variables.write(&name, None)),
            "[*]" => {
                let value = self.variables.get(&name).unwrap_or_default();
                let mut parts = value.split_whitespace().map(str::to_owned).peekable();
                while let Some(part) = parts.next() {
                    word.push_str(&part);
                    if parts.peek().is_some() {
                        words.push(std::mem::take(word));
                    }
                }
            }
            tail if tail.starts_with('-') => word.push_str(&self.variables.write(&name, Some(&tail[1..]))),
            _ => {
                return Err(self.error(start, "a variable is written ${NAME}, ${NAME-default} or ${NAME[*]}"));
            }
        }
        Ok(())
    }
}

/// A word of a condition or an expression as our own texts have it: quoted where it has to be.
pub(super) fn quote(word: &str) -> String {
    let plain = |c: char| !c.is_whitespace() && !matches!(c, '"' | '\'' | '\\' | '#');
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    let prints = word.chars().all(|c| !c.is_control());
    if prints && !word.contains('\'') {
        return format!("'{word}'");
    }
    let mut out = String::new();
    for c in word.chars() {
        match c {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            ' ' | '"' | '\'' | '\\' | '#' => {
                out.push('\\');
                out.push(c);
            }
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        let environment = |name: &str| (name == "LIST").then(|| "a b c".to_owned());
        split(line, &Variables::new(&environment)).expect(line).words
    }

    #[test]
    fn the_matrix_of_the_manual() {
        let same = ["log-format", "%{+Q}o %t %s %{-Q}r"];
        for line in [
            r"log-format %{+Q}o\ %t\ %s\ %{-Q}r",
            r#"log-format "%{+Q}o %t %s %{-Q}r""#,
            r"log-format '%{+Q}o %t %s %{-Q}r'",
            r#"log-format "%{+Q}o %t"' %s %{-Q}r'"#,
            r#"log-format "%{+Q}o %t"' %s'\ %{-Q}r"#,
        ] {
            assert_eq!(words(line), same, "{line}");
        }
        assert_eq!(
            words(r#"a \x41\#\\ "\"'\$" '\x41' \.b \n"#),
            ["a", "A#\\", "\"'$", "\\x41", "\\.b", "\n"]
        );
        assert_eq!(words(r#"x "" y # z"#), ["x", "", "y"]);
        assert_eq!(words(r#"p "${LIST[*]}""#), ["p", "a", "b", "c"]);
    }

    #[test]
    fn comments_are_kept_and_errors_have_a_place() {
        let none = |_: &str| None;
        let variables = Variables::new(&none);
        assert_eq!(split("a b# c d ", &variables).expect("words").comment.as_deref(), Some("c d"));
        for (line, column) in
            [("a 'b", 3), ("ab \"c", 4), ("a \\", 3), ("\\xZZ", 1), ("\"$1\"", 2), ("\"${A", 2)]
        {
            assert_eq!(split(line, &variables).expect_err(line).column, column, "{line}");
        }
    }

    #[test]
    fn variables_stay_until_their_value_is_asked_for() {
        let environment = |name: &str| (name == "PORT").then(|| "80".to_owned());
        let mut variables = Variables::new(&environment);
        variables.set("OWN", Some("mine".to_owned()));
        let line = split(r#"bind "${IP-127.0.0.1}:$PORT" "$OWN" '${IP}'"#, &variables).expect("words").words;
        assert_eq!(to_config(&line[1]), "${IP-127.0.0.1}:${PORT-}");
        assert_eq!(variables.expand(&line[1]), "127.0.0.1:80");
        assert_eq!((line[2].as_str(), to_config(&line[3]).as_str()), ("mine", "$${IP}"));
        assert!(has_variables(&line[1]) && !has_variables(&line[2]));
    }

    #[test]
    fn quoting_is_undone_by_the_reader_of_conditions() {
        for (word, quoted) in [
            ("/a", "/a"),
            ("a b", "'a b'"),
            ("", "''"),
            ("it's b", r"it\'s\ b"),
            (r"\.x", r"'\.x'"),
            ("\r\n", r"\r\n"),
        ] {
            assert_eq!(quote(word), quoted);
        }
    }
}
