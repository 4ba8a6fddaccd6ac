//! `.if` and its relatives (configuration manual, section 2.4): which lines of a file count. Also what `-cc CONDITION` evaluates.

use super::words::Variables;

/// The version of HAProxy's language that `version_atleast` is asked about.
const VERSION: [u32; 3] = [3, 4, 0];

/// What `feature()` and `enabled()` know. Names are those of `haproxy -vv`.
pub(super) const FEATURES: &[&str] = &[
    "EPOLL",
    "GETADDRINFO",
    "LINUX_SPLICE",
    "LINUX_TPROXY",
    "NETFILTER",
    "OPENSSL",
    "PCRE2",
    "PCRE2_JIT",
    "PRCTL",
    "SYSTEMD",
    "TFO",
    "THREAD",
];

/// Evaluates a condition.
///
/// # Errors
/// It is no condition; the text says why.
pub(super) fn evaluate(text: &str, variables: &Variables<'_>) -> Result<bool, String> {
    let text = text.trim();
    if text.is_empty() {
        return Ok(false);
    }
    let mut parser = Parser { rest: text, variables, depth: 0 };
    let value = parser.any()?;
    parser.skip_space();
    if parser.rest.is_empty() {
        Ok(value)
    } else {
        Err(format!("unexpected \"{}\" in the condition", parser.rest))
    }
}

/// Parentheses deeper than this are refused.
const DEPTH_MAX: u32 = 64;

struct Parser<'a, 'v, 'e> {
    rest: &'a str,
    variables: &'v Variables<'e>,
    depth: u32,
}

impl Parser<'_, '_, '_> {
    fn skip_space(&mut self) {
        self.rest = self.rest.trim_start();
    }

    fn take(&mut self, sign: &str) -> bool {
        self.skip_space();
        match self.rest.strip_prefix(sign) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn any(&mut self) -> Result<bool, String> {
        let mut value = self.all()?;
        while self.take("||") {
            value |= self.all()?;
        }
        Ok(value)
    }

    fn all(&mut self) -> Result<bool, String> {
        let mut value = self.term()?;
        while self.take("&&") {
            value &= self.term()?;
        }
        Ok(value)
    }

    fn term(&mut self) -> Result<bool, String> {
        if self.depth == DEPTH_MAX {
            return Err(format!("conditions may nest {DEPTH_MAX} times"));
        }
        self.depth += 1;
        let value = self.unguarded_term();
        self.depth -= 1;
        value
    }

    fn unguarded_term(&mut self) -> Result<bool, String> {
        if self.take("!") {
            return Ok(!self.term()?);
        }
        if self.take("(") {
            let value = self.any()?;
            return if self.take(")") { Ok(value) } else { Err("a parenthesis is not closed".to_owned()) };
        }
        let end =
            self.rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        if let Ok(number) = word.parse::<u64>() {
            return Ok(number != 0);
        }
        let arguments = self.arguments(word)?;
        self.predicate(word, &arguments)
    }

    fn arguments(&mut self, word: &str) -> Result<Vec<String>, String> {
        let rest = self
            .rest
            .strip_prefix('(')
            .ok_or_else(|| format!("\"{word}\" is no condition; write for example defined(NAME)"))?;
        let end = rest.find(')').ok_or("a parenthesis is not closed")?;
        self.rest = &rest[end + 1..];
        Ok(rest[..end]
            .split(',')
            .map(|argument| argument.trim().trim_matches(['"', '\'']).to_owned())
            .collect())
    }

    fn predicate(&self, word: &str, arguments: &[String]) -> Result<bool, String> {
        let one = || match arguments {
            [one] => Ok(one.as_str()),
            _ => Err(format!("{word} takes one argument")),
        };
        let two = || match arguments {
            [a, b] => Ok((self.variables.expand(a), self.variables.expand(b))),
            _ => Err(format!("{word} takes two arguments")),
        };
        match word {
            "defined" => Ok(self.variables.get(one()?).is_some()),
            "feature" => Ok(FEATURES.contains(&one()?)),
            "enabled" => Ok(matches!(
                one()?.to_ascii_uppercase().as_str(),
                "POLL" | "EPOLL" | "SPLICE" | "GETADDRINFO" | "REUSEPORT"
            )),
            "streq" => two().map(|(a, b)| a == b),
            "strneq" => two().map(|(a, b)| a != b),
            "strstr" => two().map(|(a, b)| a.contains(&b)),
            "version_atleast" => Ok(VERSION >= version(one()?)?),
            "version_before" => Ok(VERSION < version(one()?)?),
            "openssl_version_atleast" | "openssl_version_before" | "ssllib_name_startswith" => Ok(false),
            "awslc_api_atleast" | "awslc_api_before" => Ok(word == "awslc_api_atleast"),
            _ => Err(format!(
                "\"{word}\" is no predicate; there are defined, feature, enabled, streq, strneq, strstr, version_atleast and version_before"
            )),
        }
    }
}

/// `2.4-dev19` -> its numbers; missing ones are 0.
fn version(text: &str) -> Result<[u32; 3], String> {
    let digits = text.split(|c: char| !c.is_ascii_digit() && c != '.').next().unwrap_or("");
    let mut numbers = [0; 3];
    for (slot, part) in numbers.iter_mut().zip(digits.split('.')) {
        *slot = part.parse().map_err(|_| format!("\"{text}\" is no version"))?;
    }
    Ok(numbers)
}

/// The state of nested blocks.
#[derive(Default)]
pub(super) struct Blocks {
    open: Vec<Block>,
}

struct Block {
    line: usize,
    /// Whether its lines count now.
    active: bool,
    /// Whether one of its branches was taken.
    taken: bool,
    /// Whether what is around it counts.
    outer: bool,
    seen_else: bool,
}

impl Blocks {
    /// Whether a line counts.
    pub(super) fn active(&self) -> bool {
        self.open.last().is_none_or(|block| block.active)
    }

    /// The line of a block that is still open.
    pub(super) fn unclosed(&self) -> Option<usize> {
        self.open.last().map(|block| block.line)
    }

    /// Takes `.if`, `.elif`, `.else` or `.endif`.
    pub(super) fn directive(
        &mut self,
        word: &str,
        condition: &str,
        line: usize,
        variables: &Variables<'_>,
    ) -> Result<(), String> {
        match word {
            ".if" => {
                let outer = self.active();
                let active = outer && evaluate(condition, variables)?;
                self.open.push(Block { line, active, taken: active, outer, seen_else: false });
            }
            ".elif" | ".else" => {
                let block = self.open.last_mut().ok_or_else(|| format!("{word} without .if"))?;
                if block.seen_else {
                    return Err(format!("{word} after .else"));
                }
                let wanted = block.outer && !block.taken;
                block.seen_else = word == ".else";
                block.active = wanted && (block.seen_else || evaluate(condition, variables)?);
                block.taken |= block.active;
            }
            _ => {
                self.open.pop().ok_or(".endif without .if")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_of_the_manual() {
        let environment = |name: &str| (name == "WITH_SSL").then(|| "yes".to_owned());
        let variables = Variables::new(&environment);
        for (text, expected) in [
            ("", false),
            ("0", false),
            ("12", true),
            ("defined(WITH_SSL)", true),
            ("!defined(HAPROXY_MWORKER)", true),
            ("feature(OPENSSL) && (streq(a,yes) || streq(yes,yes))", true),
            ("strneq(a, b) && !strneq(a,a)", true),
            ("version_atleast(2.4-dev19)", true),
            ("version_before(2.4)", false),
            ("version_atleast(9)", false),
            ("0 || 1 && 0", false),
        ] {
            assert_eq!(evaluate(text, &variables), Ok(expected), "{text}");
        }
        for text in ["maybe", "streq(a)", "(1", "1 1", "nonsense(x)", "version_atleast(x)", "defined(a"] {
            assert!(evaluate(text, &variables).is_err(), "{text}");
        }
        assert!(evaluate(&"(".repeat(100_000), &variables).is_err(), "depth is bounded");
    }

    #[test]
    fn blocks_nest() {
        let none = |_: &str| None;
        let variables = Variables::new(&none);
        let mut blocks = Blocks::default();
        let mut seen = Vec::new();
        for (word, condition) in [
            (".if", "0"),
            (".if", "1"),
            (".endif", ""),
            (".elif", "1"),
            (".elif", "1"),
            (".else", ""),
            (".endif", ""),
        ] {
            blocks.directive(word, condition, 1, &variables).expect(word);
            seen.push(blocks.active());
        }
        assert_eq!(seen, [false, false, false, true, false, false, true]);
        assert!(blocks.directive(".endif", "", 1, &variables).is_err());
        assert!(blocks.directive(".else", "", 1, &variables).is_err());
    }
}
