//! The memory of a process that is sent bodies which want to grow.

use std::fs;

use futures::future::join_all;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::site::{Site, Up};

/// How much more memory the process may use at its peak, in KiB.
const MOST_KIB: u64 = 20 * 1024;

/// A line of the process's status, in KiB.
fn kib(pid: u32, name: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("it has the line");
    line.trim_matches([':', ' ', '\t', 'k', 'B']).parse().expect("a number")
}

/// A gzip file of this many bytes, which is 150 times as long when it is unpacked: a zero, and then again and again 258 bytes as the one before.
fn bomb(length: usize) -> Vec<u8> {
    // The last block, with the fixed codes; the zero.
    let begin = [true, true, false, false, false, true, true, false, false, false, false];
    // The length 258, the distance 1.
    let again = 0b1_1000_1010_0000_u16;
    let again = (0..13).rev().map(|bit| again >> bit & 1 == 1);
    let mut bits = begin.into_iter().chain(again.cycle());
    let mut file = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    while file.len() < length {
        file.push((0..8).fold(0, |byte, at| byte | u8::from(bits.next() == Some(true)) << at));
    }
    file
}

/// Posts a body. Returns the status, or `None` if the connection is closed before there is one.
async fn post(up: &Up, encoding: &str, body: &[u8]) -> Option<u16> {
    let address = up.base.trim_start_matches("http://");
    let stream = TcpStream::connect(address).await.expect("it listens");
    let (mut reads, mut writes) = stream.into_split();
    let head = format!(
        "POST /v1/sessions HTTP/1.1\r\nhost: shop\r\nconnection: close\r\n{encoding}\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    let writing = async {
        // It may be answered, and the connection closed, before everything is sent.
        let _ = writes.write_all(head.as_bytes()).await;
        let _ = writes.write_all(body).await;
    };
    let reading = async {
        let mut answer = Vec::new();
        let _ = reads.read_to_end(&mut answer).await;
        String::from_utf8_lossy(&answer).get(9..12).and_then(|status| status.parse().ok())
    };
    tokio::join!(writing, reading).1
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_body_makes_the_process_grow_by_20_megabytes() {
    let site = Site::new();
    let up = site.up(&["--rate-limit", "0", "--no-demo"]).await;
    let filled = |begin: &str, again: &str, end: &str, length: usize| {
        let times = (length - begin.len() - end.len()) / again.len();
        [begin, &again.repeat(times), end].concat().into_bytes()
    };
    let most = 256 * 1024;
    let keys: String = (0..18_000).map(|n| format!("\"k{n}\":{{}},")).collect();
    let gzip = "content-encoding: gzip\r\n";
    let fine = br#"{"email":"nobody@example.org","password":"a guess that is wrong"}"#;
    assert_eq!(post(&up, "", fine).await, Some(401));

    // The peak is reset. Where that is not possible, it is the peak of the start that must not be exceeded by much.
    let reset = fs::write(format!("/proc/{}/clear_refs", up.pid()), "5");
    let before = kib(up.pid(), if reset.is_ok() { "VmRSS" } else { "VmHWM" });
    for (what, status, encoding, body) in [
        ("five megabytes", 413, "", filled(r#"{"email":""#, "a", r#""}"#, 5 << 20)),
        ("as deep as it can be", 422, "", filled("", "[", "", most)),
        ("numbers", 422, "", filled("[0", ",0", "]", most)),
        ("lines", 422, "", filled(r#"{"items":[{}"#, ",{}", "]}", most)),
        ("one key", 422, "", filled(r#"{"a":{}"#, r#","a":{}"#, "}", most)),
        ("many keys", 422, "", format!("{{{keys}\"z\":1}}").into_bytes()),
        ("escapes", 422, "", filled(r#"{"email":""#, r"\u0041", r#""}"#, most)),
        ("a gzip bomb", 415, gzip, bomb(most)),
    ] {
        let mut answered = false;
        for _ in 0..5 {
            let answers = join_all((0..8).map(|_| post(&up, encoding, &body))).await;
            assert!(
                answers.iter().flatten().all(|answered| *answered == status),
                "{what}: {answers:?}"
            );
            answered |= answers.contains(&Some(status));
        }
        assert!(answered, "{what}: every connection was closed before it was answered");
        let grown = kib(up.pid(), "VmHWM").saturating_sub(before);
        println!("{what}: {grown} KiB more at the peak");
        assert!(grown < MOST_KIB, "{what}: {grown} KiB more at the peak");
    }
    assert!(up.stop("TERM").await.success());
}
