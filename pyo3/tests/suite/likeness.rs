//! likeness
