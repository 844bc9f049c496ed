//! In: . Out: .
