//! producers
