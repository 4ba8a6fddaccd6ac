//! Replays the fuzz corpora of tests/fuzz, and seeded mutations of them, through the bodies in `shardgate::proto::fuzz`.
//!
//! `FUZZ_SEED=n` chooses other mutations, `FUZZ_ROUNDS=n` another number of them for each target; a failure prints the target, the file and the seed.

use std::fs;
use std::panic::catch_unwind;
use std::path::Path;

use shardgate::{import, proto};

/// Those of all layers.
fn targets() -> impl Iterator<Item = (&'static str, proto::fuzz::Body)> {
    proto::fuzz::TARGETS.iter().chain(import::fuzz::TARGETS).copied()
}

/// SplitMix64: enough to choose mutations, and the same everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() >> 32).expect("32 bits") % bound.max(1)
    }
}

/// Bytes that parsers treat specially.
const TOKENS: &[&[u8]] = &[
    b"\r\n",
    b"\n",
    b"\r",
    b"\0",
    b" ",
    b"\t",
    b":",
    b",",
    b";",
    b"0",
    b"1",
    b"\xff",
    b"\x80",
    b"chunked",
    b"\r\n\r\n",
    b"Content-Length: 1\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"ffffffffffffffff",
    b"\"",
    b"=",
];

fn mutate(bytes: &mut Vec<u8>, other: &[u8], random: &mut Random) {
    for _ in 0..1 + random.below(4) {
        let at = random.below(bytes.len() + 1);
        match random.below(6) {
            0 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
            1 if at < bytes.len() => bytes[at] = random.next().to_be_bytes()[0],
            2 => bytes.truncate(at),
            3 => {
                let token = TOKENS[random.below(TOKENS.len())];
                bytes.splice(at..at, token.iter().copied());
            }
            4 => {
                let end = (at + random.below(16)).min(bytes.len());
                bytes.drain(at..end);
            }
            _ => {
                let from = random.below(other.len() + 1);
                let part = &other[from..(from + random.below(64)).min(other.len())];
                bytes.splice(at..at, part.iter().copied());
            }
        }
    }
}

fn number_of(variable: &str, default: u64) -> u64 {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

#[test]
fn corpora_and_their_mutations_hold_the_properties() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus");
    let seed = number_of("FUZZ_SEED", 1);
    let rounds = number_of("FUZZ_ROUNDS", 2000);
    for (target, body) in targets() {
        let mut paths: Vec<_> = fs::read_dir(root.join(target))
            .unwrap_or_else(|e| panic!("target {target} has a corpus: {e}"))
            .map(|entry| entry.expect("entry is readable").path())
            .collect();
        paths.sort();
        assert!(paths.len() >= 5, "the corpus of {target} has files");
        let files: Vec<Vec<u8>> = paths.iter().map(|p| fs::read(p).expect("file is readable")).collect();
        let mut random = Random(seed);
        // Large corpora get no more time than small ones.
        let rounds = rounds.div_ceil(files.len() as u64);
        for (path, bytes) in paths.iter().zip(&files) {
            let run = |input: &[u8], what: &str| {
                if catch_unwind(|| body(input)).is_err() {
                    panic!(
                        "{target}: {} {what}, SEED={seed}: {:?}",
                        path.display(),
                        input.escape_ascii().to_string()
                    );
                }
            };
            run(bytes, "as it is");
            for _ in 0..rounds {
                let mut input = bytes.clone();
                let other = random.below(files.len());
                mutate(&mut input, &files[other], &mut random);
                run(&input, "mutated");
            }
        }
    }
}

#[test]
fn every_corpus_and_every_target_file_has_a_body() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz");
    for (directory, ending) in [("corpus", ""), ("fuzz_targets", ".rs")] {
        let mut names: Vec<String> = fs::read_dir(root.join(directory))
            .expect("directory is readable")
            .map(|entry| entry.expect("entry is readable").file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        let mut expected: Vec<String> = targets().map(|(name, _)| format!("{name}{ending}")).collect();
        expected.sort();
        assert_eq!(names, expected, "{directory}");
    }
}
