#![doc = include_str!(concat!(env!("OUT_DIR"), "/tested.md"))]
#![forbid(unsafe_code)]
