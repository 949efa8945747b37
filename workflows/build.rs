//! Rebuilds the crate when a migration is added: the compiled-in set is read by a macro.
fn main() {
    println!("cargo:rerun-if-changed=../migrations/shop");
}
