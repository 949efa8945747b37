//! Clients in other languages, generated from the document.

mod typescript;

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::{process::Command, time::timeout};
use uuid::Uuid;

use crate::{
    house::{House, send},
    shopper::{Shopper, product},
};

/// The generator, from PyPI.
const GENERATOR: &str = "openapi-python-client==0.29.1";

/// The time limit of each step.
const STEP: Duration = Duration::from_secs(90);

/// A folder for generators and clients, which is removed in the end.
pub(crate) struct Workshop(PathBuf);

/// The path of a script beside this file.
fn script(name: &str) -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/front_door/client")).join(name)
}

impl Drop for Workshop {
    fn drop(&mut self) {
        // If this fails, files remain in the temporary directory.
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Workshop {
    fn new() -> Self {
        let folder = std::env::temp_dir().join(format!("stepwise-client-{}", Uuid::now_v7()));
        fs::create_dir(&folder).expect("the temporary directory is writable");
        Self(folder)
    }

    /// Makes a virtual environment with these packages of PyPI.
    pub(crate) async fn with(packages: &[&str]) -> Self {
        let workshop = Self::new();
        workshop.run(Path::new("python3"), &["-m", "venv", "venv"], &[]).await;
        let install = ["install", "--quiet", "--disable-pip-version-check"];
        let install = [&install, packages].concat();
        workshop.run(&workshop.program("pip"), &install, &[]).await;
        workshop
    }

    /// Runs a program of the virtual environment, and returns what it prints. Fails if the program does.
    async fn run(&self, program: &Path, args: &[&str], environment: &[(&str, &str)]) -> String {
        let (succeeded, said) = self.try_run(program, args, environment, STEP).await;
        assert!(succeeded, "{} {args:?}: {said}", program.display());
        said
    }

    /// Runs a program in the folder, and returns whether it has succeeded and what it prints.
    pub(crate) async fn try_run(
        &self,
        program: &Path,
        args: &[&str],
        environment: &[(&str, &str)],
        limit: Duration,
    ) -> (bool, String) {
        let path = format!("{}:/usr/bin:/bin", self.0.join("venv/bin").display());
        let mut command = Command::new(program);
        command.args(args).current_dir(&self.0).kill_on_drop(true);
        command.envs(environment.iter().copied());
        if program.starts_with(&self.0) {
            command.env("PATH", path);
        }
        let ran = timeout(limit, command.output()).await;
        let ran = ran.unwrap_or_else(|_| panic!("{} took too long", program.display()));
        let ran = ran.expect("the program starts");
        let said = [ran.stdout, ran.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
        (ran.status.success(), said.concat())
    }

    /// Writes a file into the folder.
    fn write(&self, name: &str, text: &str) {
        fs::write(self.0.join(name), text).expect("the folder is writable");
    }

    /// A program of the virtual environment.
    pub(crate) fn program(&self, name: &str) -> PathBuf {
        self.0.join("venv/bin").join(name)
    }

    /// A file in the folder.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

/// Needs `python3` and PyPI. A warning of the generator is a part of the document that its client lacks.
#[tokio::test]
async fn a_python_client_generated_from_the_document_places_cancels_and_refunds_an_order() {
    let workshop = Workshop::with(&[GENERATOR]).await;
    let house = House::open_working().await;
    let document = send(house.get("/openapi.json")).await;
    fs::write(workshop.file("openapi.json"), &document.is(200).text).expect("writable");
    let generate =
        ["generate", "--path", "openapi.json", "--output-path", "client", "--fail-on-warning"];
    workshop.run(&workshop.program("openapi-python-client"), &generate, &[]).await;

    let admin = house.key("admin", &[]).await;
    let shopper = Shopper::new(&house).await;
    let thing = product(&house, &admin, "20.00", 5).await;
    let (address, method) = (shopper.address().await, shopper.method("ok").await);
    let [customer, address, method, thing] =
        [shopper.id, address, method, thing].map(|id| id.to_string());
    let environment = [
        ("PYTHONPATH", "client"),
        ("BASE", house.base.as_str()),
        ("TOKEN", &shopper.token),
        ("ADMIN", &admin),
        ("CUSTOMER", &customer),
        ("ADDRESS", &address),
        ("METHOD", &method),
        ("PRODUCT", &thing),
    ];
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/front_door/client/order.py");
    let said = workshop.run(&workshop.program("python"), &[script], &environment).await;
    assert!(said.contains("placed, cancelled and refunded ORD-"), "{said}");
    house.close().await;
}
