//! Lines into words, and words into the values that commands take.

use std::time::Duration;

use crate::config::diag;

/// A line of commands, split at `;`, and what says where its payload ends.
#[derive(PartialEq, Eq, Debug)]
pub(super) struct Line {
    /// The words of each command. A command without words (`;;`, a trailing `;`) is left out.
    pub(super) commands: Vec<Vec<String>>,
    /// The last command takes a payload, which ends at a line with this text (`<<END`), or at an empty line (`<<`).
    pub(super) terminator: Option<String>,
}

/// What is said of a name that does not exist: HAProxy's words on the first line, and on the second which one may be meant.
pub(super) fn no_such<'a>(what: &str, typed: &str, names: impl IntoIterator<Item = &'a str>) -> String {
    match diag::closest(typed, names) {
        Some(name) => format!("{what}\nDid you mean {name}?"),
        None => what.to_owned(),
    }
}

/// Splits at `;` and spaces. A backslash makes the next character an ordinary one.
pub(super) fn line(text: &str) -> Line {
    let mut commands: Vec<Vec<String>> = vec![Vec::new()];
    let mut word: Option<String> = None;
    let mut chars = text.chars();
    let end_word = |word: &mut Option<String>, commands: &mut Vec<Vec<String>>| {
        if let (Some(word), Some(command)) = (word.take(), commands.last_mut()) {
            command.push(word);
        }
    };
    while let Some(c) = chars.next() {
        match c {
            ';' => {
                end_word(&mut word, &mut commands);
                commands.push(Vec::new());
            }
            c if c.is_ascii_whitespace() => end_word(&mut word, &mut commands),
            '\\' => word.get_or_insert_default().extend(chars.next()),
            c => word.get_or_insert_default().push(c),
        }
    }
    end_word(&mut word, &mut commands);
    let terminator = take_terminator(commands.last_mut());
    commands.retain(|command| !command.is_empty());
    Line { commands, terminator }
}

/// Removes `<<` or `<<END` from the end of a command.
fn take_terminator(command: Option<&mut Vec<String>>) -> Option<String> {
    let command = command?;
    let terminator = command.last()?.strip_prefix("<<")?.to_owned();
    command.pop();
    Some(terminator)
}

/// A whole number without sign.
pub(super) fn number<N: std::str::FromStr>(text: &str) -> Option<N> {
    text.starts_with(|c: char| c.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

/// The whole number that a text begins with, sign included, and what follows it.
pub(super) fn leading_number(text: &str) -> Option<(i64, &str)> {
    let sign = usize::from(text.starts_with('-'));
    let end = text[sign..].find(|c: char| !c.is_ascii_digit()).map_or(text.len(), |at| sign + at);
    text[..end].parse().ok().map(|number| (number, &text[end..]))
}

/// A duration with unit (`us`, `ms`, `s`, `m`, `h`, `d`); a bare number counts `bare_unit`s.
pub(super) fn duration(text: &str, bare_unit: Duration) -> Option<Duration> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let n: u32 = number(&text[..digits])?;
    let unit = match &text[digits..] {
        "" => bare_unit,
        "us" => Duration::from_micros(1),
        "ms" => Duration::from_millis(1),
        "s" => Duration::from_secs(1),
        "m" => Duration::from_secs(60),
        "h" => Duration::from_secs(3600),
        "d" => Duration::from_secs(86400),
        _ => return None,
    };
    unit.checked_mul(n)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_split_at_semicolons_and_spaces() {
        for (text, expected) in [
            ("show info", &[&["show", "info"][..]][..]),
            ("  show   info \t", &[&["show", "info"]]),
            ("show info;show stat", &[&["show", "info"], &["show", "stat"]]),
            ("show info;; show stat ;", &[&["show", "info"], &["show", "stat"]]),
            (r"echo a\;b c\ d \\ \", &[&["echo", "a;b", "c d", r"\", ""]]),
            ("", &[]),
            (" ; ;", &[]),
        ] {
            let line = line(text);
            assert_eq!(line.commands, expected.iter().map(|c| c.to_vec()).collect::<Vec<_>>(), "{text:?}");
            assert_eq!(line.terminator, None);
        }
    }

    #[test]
    fn a_payload_is_announced_at_the_end_of_the_line() {
        for (text, words, terminator) in [
            ("set x <<", &["set", "x"][..], Some("")),
            ("set x <<END", &["set", "x"], Some("END")),
            ("set x <<;y", &["y"], None),
        ] {
            let line = line(text);
            assert_eq!(
                line.commands.last().map(Vec::as_slice),
                Some(words.iter().map(|w| w.to_string()).collect::<Vec<_>>().as_slice())
            );
            assert_eq!(line.terminator.as_deref(), terminator, "{text}");
        }
    }

    #[test]
    fn durations_and_numbers_refuse_garbage() {
        let s = Duration::from_secs(1);
        for (text, expected) in [
            ("10", Some(10 * s)),
            ("1500ms", Some(Duration::from_millis(1500))),
            ("2m", Some(120 * s)),
            ("1d", Some(86400 * s)),
            ("", None),
            ("x", None),
            ("-1", None),
            ("+1", None),
            ("1x", None),
            ("99999999999", None),
        ] {
            assert_eq!(duration(text, s), expected, "{text:?}");
        }
        assert_eq!(leading_number("-5%"), Some((-5, "%")));
        assert_eq!(
            (leading_number("12"), leading_number("-"), leading_number("é")),
            (Some((12, "")), None, None)
        );
        assert_eq!((number::<u32>("7"), number::<u32>("+7"), number::<u8>("256")), (Some(7), None, None));
    }
}
