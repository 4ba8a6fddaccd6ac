//! Layer 2, text -> Model.

pub mod expr;
