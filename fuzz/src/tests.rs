//! The seeds, and bytes without meaning, through every harness.

#![forbid(unsafe_code)]

use std::path::Path;

use crate::TARGETS;

/// The committed inputs of a target.
fn seeds(target: &str) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds").join(target);
    let entries = std::fs::read_dir(&folder).expect("a folder of seeds");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    paths.map(|path| (path.display().to_string(), std::fs::read(&path).expect("a file"))).collect()
}

#[test]
fn seeds_pass() {
    for (target, harness) in TARGETS {
        let seeds = seeds(target);
        assert!(!seeds.is_empty(), "{target}");
        for (path, data) in seeds {
            println!("{path}");
            harness(&data);
        }
    }
}

#[test]
fn random_bytes_pass() {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for (target, harness) in TARGETS {
        for round in 0..400 {
            let data: Vec<u8> = (0..round % 200)
                .map(|_| {
                    // Xorshift.
                    state ^= state << 13;
                    state ^= state >> 7;
                    state ^= state << 17;
                    (state >> 32) as u8
                })
                .collect();
            println!("{target} {data:?}");
            harness(&data);
        }
    }
}
