//! The `stepwise` program. All of it is in the library.

/// The allocator of this program. One thread allocates rows and another one frees them; with the system's allocator a step spends a
/// fifth of its client-side time on that.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    stepwise::cli::main()
}
