//! The Huffman code of HPACK (RFC 7541 section 5.2 and appendix B). Only decoding: what we send is not compressed, as it
//! costs more than the few bytes that it saves.

/// Bits of the code of each byte. The code is canonical: the lengths say all of it.
#[rustfmt::skip]
const LENGTHS: [u8; 256] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28,
    28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6,
    5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5,
    6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23,
    24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23,
    21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25,
    19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23,
    26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
];

/// The longest code, EOS among them.
const BITS_MAX: u8 = 30;

/// Inner nodes of the code's tree: one less than its 256 bytes and EOS.
const NODES: usize = 256;

/// What is below an inner node.
#[derive(Clone, Copy)]
enum Child {
    Node(u8),
    Byte(u8),
    /// EOS, which no string may have.
    Eos,
}

/// What four more bits make of a state.
#[derive(Clone, Copy)]
struct Step {
    /// The inner node that is reached.
    next: u8,
    flags: u8,
    /// The byte that the bits complete.
    byte: u8,
}

/// A byte is complete.
const EMIT: u8 = 1;
/// A string may end here: what is left is padding.
const MAY_END: u8 = 2;
/// No string goes on like this.
const FAIL: u8 = 4;

/// Codes have five bits and more, so that four bits complete at most one.
static STEPS: [[Step; 16]; NODES] = steps();

const fn tree() -> [[Child; 2]; NODES] {
    let mut tree = [[Child::Eos; 2]; NODES];
    let mut made = [[false; 2]; NODES];
    let mut nodes = 1;
    let (mut code, mut bits) = (0u32, 5u8);
    while bits <= BITS_MAX {
        let mut symbol = 0;
        while symbol < 256 {
            if LENGTHS[symbol] == bits {
                let mut node = 0;
                let mut at = bits - 1;
                while at > 0 {
                    let bit = (code >> at & 1) as usize;
                    if !made[node][bit] {
                        made[node][bit] = true;
                        #[expect(clippy::cast_possible_truncation, reason = "there are 256 nodes")]
                        let next = nodes as u8;
                        tree[node][bit] = Child::Node(next);
                        nodes += 1;
                    }
                    node = match tree[node][bit] {
                        Child::Node(next) => next as usize,
                        _ => panic!("no code begins another"),
                    };
                    at -= 1;
                }
                let bit = (code & 1) as usize;
                made[node][bit] = true;
                #[expect(clippy::cast_possible_truncation, reason = "there are 256 bytes")]
                let byte = symbol as u8;
                tree[node][bit] = Child::Byte(byte);
                code += 1;
            }
            symbol += 1;
        }
        code <<= 1;
        bits += 1;
    }
    assert!(nodes == NODES);
    tree
}

/// The nodes at which a string may end: behind a whole byte, or behind at most seven bits of one, all of them ones.
const fn ends(tree: &[[Child; 2]; NODES]) -> [bool; NODES] {
    let mut ends = [false; NODES];
    let (mut node, mut depth) = (0, 0);
    while depth < 8 {
        ends[node] = true;
        node = match tree[node][1] {
            Child::Node(next) => next as usize,
            _ => panic!("EOS has thirty bits"),
        };
        depth += 1;
    }
    ends
}

const fn steps() -> [[Step; 16]; NODES] {
    let tree = tree();
    let ends = ends(&tree);
    let mut steps = [[Step { next: 0, flags: FAIL, byte: 0 }; 16]; NODES];
    let mut node = 0;
    while node < NODES {
        let mut bits = 0;
        while bits < 16 {
            let mut step = Step { next: 0, flags: 0, byte: 0 };
            let (mut at, mut left) = (node, 4);
            while left > 0 {
                left -= 1;
                match tree[at][bits >> left & 1] {
                    Child::Node(next) => at = next as usize,
                    Child::Byte(byte) => {
                        step.flags |= EMIT;
                        step.byte = byte;
                        at = 0;
                    }
                    Child::Eos => {
                        step.flags = FAIL;
                        left = 0;
                        at = 0;
                    }
                }
            }
            if step.flags & FAIL == 0 && ends[at] {
                step.flags |= MAY_END;
            }
            #[expect(clippy::cast_possible_truncation, reason = "there are 256 nodes")]
            let next = at as u8;
            step.next = next;
            steps[node][bits] = step;
            bits += 1;
        }
        node += 1;
    }
    steps
}

/// Appends what `text` stands for. False: it is no string of the code.
pub(super) fn decode(text: &[u8], out: &mut Vec<u8>) -> bool {
    // Codes have five bits and more.
    out.reserve(text.len() * 8 / 5);
    let (mut node, mut flags) = (0, MAY_END);
    for byte in text {
        for bits in [byte >> 4, byte & 15] {
            let step = STEPS[usize::from(node)][usize::from(bits)];
            if step.flags & FAIL != 0 {
                return false;
            }
            if step.flags & EMIT != 0 {
                out.push(step.byte);
            }
            (node, flags) = (step.next, step.flags);
        }
    }
    flags & MAY_END != 0
}

/// Appends `text` in the code; for tests.
#[cfg(test)]
pub(super) fn encode(text: &[u8], out: &mut Vec<u8>) {
    let mut codes = [0u32; 256];
    let mut code = 0;
    for bits in 5..=BITS_MAX {
        for (symbol, _) in LENGTHS.iter().enumerate().filter(|(_, length)| **length == bits) {
            codes[symbol] = code;
            code += 1;
        }
        code <<= 1;
    }
    let (mut have, mut count) = (0u64, 0);
    for byte in text {
        let bits = LENGTHS[usize::from(*byte)];
        have = have << bits | u64::from(codes[usize::from(*byte)]);
        count += bits;
        while count >= 8 {
            count -= 8;
            out.push((have >> count & 0xff) as u8);
        }
    }
    if count > 0 {
        out.push((have << (8 - count) & 0xff) as u8 | (0xff >> count));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_of_the_rfc_are_read() {
        // RFC 7541 C.4 and C.6.
        for (code, text) in [
            (
                &[0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff][..],
                &b"www.example.com"[..],
            ),
            (&[0xa8, 0xeb, 0x10, 0x64, 0x9c, 0xbf], b"no-cache"),
            (&[0x64, 0x02], b"302"),
        ] {
            let mut out = Vec::new();
            assert!(decode(code, &mut out));
            assert_eq!(out, text);
        }
    }

    #[test]
    fn every_byte_comes_back() {
        let all: Vec<u8> = (0..=255).chain((0..=255).rev()).collect();
        for n in 0..all.len() {
            let (mut code, mut out) = (Vec::new(), Vec::new());
            encode(&all[..n], &mut code);
            assert!(decode(&code, &mut out), "{n} bytes");
            assert_eq!(out, &all[..n]);
        }
    }

    #[test]
    fn padding_is_ones_and_short() {
        for bad in [
            // EOS.
            &[0xff, 0xff, 0xff, 0xff][..],
            // Eight bits of padding.
            &[0x1f, 0xff],
            // Padding of zeros: `a` (00011) and 000.
            &[0x18],
        ] {
            assert!(!decode(bad, &mut Vec::new()), "{bad:x?}");
        }
        assert!(decode(&[0x1f], &mut Vec::new()));
    }
}
