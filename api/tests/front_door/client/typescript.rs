//! A client in TypeScript, typed by the document, and a linter of the document.

use super::{Workshop, script};
use crate::{
    house::{House, send},
    shopper::{Shopper, product},
};

/// The packages of the client and of the linter, from npm.
const PACKAGES: [&str; 5] = [
    "openapi-typescript@7.13.0",
    "openapi-fetch@0.14.1",
    "typescript@5.9.3",
    "@types/node@20.19.43",
    "@redocly/cli@2.77.0",
];

/// How to get what the test needs.
const MISSING: &str =
    "this test needs Node 20 or later with npm, and an npm registry: apt-get install nodejs npm";

/// The settings of the compiler: as strict as it gets.
const TSCONFIG: &str = r#"{"compilerOptions": {"strict": true, "noUncheckedIndexedAccess": true, "exactOptionalPropertyTypes": true,
"target": "es2022", "module": "nodenext", "moduleResolution": "nodenext", "lib": ["es2022", "dom"], "types": ["node"],
"outDir": "out"}, "files": ["order.ts"]}"#;

/// Each operation's answer `default` is its refusal, so that the linter need not ask for one of 400 and more.
const LINT: &str = "extends: [recommended]\nrules:\n  operation-4xx-response: off\n";

/// Needs npm.
#[tokio::test]
async fn a_typescript_client_of_the_document_places_cancels_and_refunds_an_order() {
    let workshop = Workshop::new();
    workshop.write("package.json", r#"{"private": true, "type": "module"}"#);
    let install = ["install", "--no-audit", "--no-fund", "--save-exact"];
    let folders = std::env::var_os("PATH").unwrap_or_default();
    let mut programs = std::env::split_paths(&folders).map(|folder| folder.join("npm"));
    let npm = programs.find(|npm| npm.exists()).expect(MISSING);
    workshop.run(&npm, &[&install[..], &PACKAGES].concat(), &[]).await;

    let house = House::open_working().await;
    let document = send(house.get("/openapi.json")).await;
    workshop.write("openapi.json", &document.is(200).text);
    workshop.write("redocly.yaml", LINT);
    let tool = |name: &str| workshop.0.join("node_modules/.bin").join(name);
    let quiet = [("REDOCLY_TELEMETRY", "off"), ("REDOCLY_SUPPRESS_UPDATE_NOTICE", "true")];
    let lint = ["lint", "--max-problems=50", "openapi.json"];
    let said = workshop.run(&tool("redocly"), &lint, &quiet).await;
    // The box says for how long the linter supports this Node.
    let mut lines = said.lines().filter(|line| !line.contains('║'));
    assert!(lines.all(|line| !line.to_lowercase().contains("warning")), "{said}");

    workshop.run(&tool("openapi-typescript"), &["openapi.json", "-o", "shop.ts"], &[]).await;
    let source = std::fs::read_to_string(script("order.ts")).expect("it is there");
    workshop.write("order.ts", &source);
    workshop.write("tsconfig.json", TSCONFIG);
    workshop.run(&tool("tsc"), &[], &[]).await;

    let admin = house.key("admin", &[]).await;
    let shopper = Shopper::new(&house).await;
    let thing = product(&house, &admin, "20.00", 5).await;
    let (address, method) = (shopper.address().await, shopper.method("ok").await);
    let [customer, address, method, thing] =
        [shopper.id, address, method, thing].map(|id| id.to_string());
    let environment = [
        ("BASE", house.base.as_str()),
        ("TOKEN", &shopper.token),
        ("ADMIN", &admin),
        ("CUSTOMER", &customer),
        ("ADDRESS", &address),
        ("METHOD", &method),
        ("PRODUCT", &thing),
    ];
    let node = npm.with_file_name("node");
    let said = workshop.run(&node, &["out/order.js"], &environment).await;
    assert!(said.contains("placed, cancelled and refunded ORD-"), "{said}");
    house.close().await;
}
