//! Columns of rows, as statements over many rows take them.

/// One column: a value of each row, in their order.
pub(crate) fn column<'r, R, T>(rows: &'r [R], of: impl FnMut(&'r R) -> T) -> Vec<T> {
    rows.iter().map(of).collect()
}
