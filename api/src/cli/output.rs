//! Standard output of commands: every line for people and scripts goes through [`say!`].

use std::{
    fmt,
    io::{self, ErrorKind, Write},
};

/// Writes one line to standard output, as `println!` does, but ends the command where that fails.
macro_rules! say {
    ($($line:tt)*) => {
        $crate::cli::output::write_line(format_args!($($line)*))
    };
}

pub(crate) use say;

/// Writes one line. If the reader has gone (`stepwise saga list | head -1`), the command ends without a message;
/// if the line cannot be written (a full disk), it ends with exit code 1 and one line that says so.
pub(crate) fn write_line(line: fmt::Arguments<'_>) {
    let mut out = io::stdout().lock();
    let written = writeln!(out, "{line}").and_then(|()| out.flush());
    match written {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::BrokenPipe => std::process::exit(0),
        Err(error) => {
            // Standard error may be on the same full disk.
            let _ = writeln!(io::stderr(), "stepwise: cannot write to standard output: {error}");
            std::process::exit(1)
        }
    }
}
