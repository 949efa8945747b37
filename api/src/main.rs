//! The one binary.

/// Rows are made by one thread and freed by another, which costs a step a fifth of its client's time with the system's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    stepwise::cli::main()
}
