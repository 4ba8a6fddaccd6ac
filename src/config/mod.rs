//! Layer 2, text -> Model.
