//! Processes without enough file descriptors.

use std::{fs, net::TcpListener, process::Stdio, time::Duration};

use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};
use stepwise_engine::testing::Database;
use tokio::{net::TcpStream, process::Command};

use crate::site::{Site, eventually, kill};

const BEGINS: &str = "no connection can be accepted";
const ENDS: &str = "connections are accepted again";

/// The processor time that a process has used, in hundredths of a second.
fn used(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("it runs");
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split(' ').collect();
    // utime and stime; the fields are counted from the process's state.
    fields[12..14].iter().map(|field| field.parse::<u64>().expect("a number")).sum()
}

/// Fault: process: it has no file descriptors left
/// Customer: new connections wait
/// Operator: one line in the log when it begins and one when it ends
/// Within: at once
/// Ends: by itself, within about 1 s of free descriptors
#[tokio::test]
async fn without_file_descriptors_it_says_so_once_waits_and_goes_on() {
    let database = Database::fresh(&[]).await;
    let (site, url) = (Site::new(), database.url());
    let mut up = site.up(&["--database-url", &url]).await;
    let port = {
        let free = TcpListener::bind("127.0.0.1:0").expect("a free port");
        free.local_addr().expect("bound").port().to_string()
    };
    up.leave_to(&port).await;
    let nowhere = ["--gateway-url", "http://127.0.0.1:9", "--gateway-key", "k"];
    let here = ["serve", "--database-url", &url, "--port", &port, "--stop-delay", "0"];
    let mut serve = site.role(&[&here[..], &nowhere[..]].concat());
    eventually("the front door", async || up.is_ready().await).await;

    let number = serve.id().expect("it runs");
    let pid = i32::try_from(number).ok().and_then(Pid::from_raw);
    let usual = getrlimit(Resource::Nofile);
    prlimit(pid, Resource::Nofile, Rlimit { current: Some(3), ..usual }).expect("it is ours");
    let waiting = TcpStream::connect(format!("127.0.0.1:{port}")).await;
    eventually("the log to say so", async || site.log().contains(BEGINS)).await;
    let before = used(number);
    tokio::time::sleep(Duration::from_secs(2)).await;
    let busy = used(number) - before;
    assert!(busy < 60, "{busy} of 200 hundredths of a second while it could accept nothing");
    prlimit(pid, Resource::Nofile, usual).expect("it is ours");
    eventually("the log to say that it is over", async || site.log().contains(ENDS)).await;
    drop(waiting.expect("the kernel takes it"));
    eventually("it to answer", async || up.is_ready().await).await;
    let log = site.log();
    assert_eq!((log.matches(BEGINS).count(), log.matches(ENDS).count()), (1, 1), "{log}");
    kill("TERM", &number.to_string());
    assert!(serve.wait().await.expect("ours").success());
    database.close().await;
}

/// Starts the binary in this folder with this option of the shell's `ulimit`.
fn limited(site: &Site, limit: &str, args: &[&str]) -> Command {
    let usual = site.command(args);
    let usual = usual.as_std();
    let mut command = Command::new("/bin/sh");
    command
        .arg("-c")
        .arg(format!(r#"ulimit {limit}; exec "$0" "$@""#))
        .arg(usual.get_program())
        .args(usual.get_args())
        .current_dir(usual.get_current_dir().expect("it has one"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

/// Fault: process: it may open fewer files than it needs (`ulimit -n`)
/// Customer: nothing is there
/// Operator: the start ends with code 3 and one line that names the limit
/// Within: at once
/// Ends: by a person, who raises the limit; a soft limit is raised by the process itself
#[tokio::test]
async fn a_limit_of_files_is_raised_or_refused_by_name() {
    let site = Site::new();
    let refused = limited(&site, "-n 40", &["up", "--port", "0"]).output();
    let refused = refused.await.expect("the shell is there");
    let line = String::from_utf8(refused.stderr).expect("UTF-8");
    assert_eq!(refused.status.code(), Some(3), "{line}");
    assert!(line.contains("may open 40 files") && line.contains("ulimit -n"), "{line}");
    assert_eq!(site.processes(), Vec::<u32>::new());

    let database = Database::fresh(&[]).await;
    let url = database.url();
    assert!(site.role(&["migrate", "--database-url", &url]).wait().await.expect("ours").success());
    let nowhere = ["--gateway-url", "http://127.0.0.1:9", "--gateway-key", "k"];
    let work = [&["work", "--database-url", &url][..], &nowhere[..]].concat();
    let mut worker = limited(&site, "-Sn 40", &work).spawn().expect("the shell is there");
    let limits = format!("/proc/{}/limits", worker.id().expect("it runs"));
    let soft = || {
        let text = fs::read_to_string(&limits).expect("it runs");
        let line = text.lines().find(|line| line.starts_with("Max open files"));
        line.and_then(|line| line.split_whitespace().nth(3)).map(str::to_owned)
    };
    eventually("a higher limit", async || soft() != Some("40".to_owned())).await;
    worker.kill().await.expect("it is ours");
    database.close().await;
}
