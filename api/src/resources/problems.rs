//! Pages about problems: what a code means and what to do. The `type` of each problem leads to its page.

use poem::{
    IntoResponse, Request, Response,
    http::{HeaderValue, header},
};
use poem_openapi::{
    ApiResponse, Object, OpenApi,
    param::Path,
    registry::{MetaMediaType, MetaResponse, MetaResponses, Registry},
    types::{ToJSON, Type},
};

use super::Group;
use crate::door::{
    caller::Anyone,
    codes::{Meaning, meaning},
    problem::{Problem, kind_of_code, title},
};

/// The operations about problems.
pub struct Problems;

/// The meaning of a problem's code.
#[derive(Debug, Object)]
#[oai(rename = "ProblemMeaning")]
struct MeaningShape {
    /// The `type` of these problems: `/problems/out-of-stock`.
    #[oai(rename = "type")]
    kind: String,
    /// The code: `out_of_stock`.
    code: String,
    /// The code in words.
    title: String,
    /// The meaning of the code, in one sentence.
    meaning: String,
    /// The next step for the client.
    advice: String,
}

/// A page about a problem, in the form that the client prefers.
enum Page {
    Html(MeaningShape),
    Json(MeaningShape),
}

impl IntoResponse for Page {
    fn into_response(self) -> Response {
        let (content_type, body) = match self {
            Self::Html(shape) => ("text/html; charset=utf-8", html(&shape)),
            Self::Json(shape) => ("application/json", shape.to_json_string()),
        };
        let mut response = Response::builder().content_type(content_type).body(body);
        let headers = response.headers_mut();
        headers.insert(header::VARY, HeaderValue::from_static("accept"));
        let nothing = HeaderValue::from_static("default-src 'none'");
        headers.insert(header::CONTENT_SECURITY_POLICY, nothing);
        response
    }
}

impl ApiResponse for Page {
    fn meta() -> MetaResponses {
        let form = |content_type, schema| MetaMediaType { content_type, schema };
        let page = MetaResponse {
            description: "The page, as the header Accept asks.",
            status: Some(200),
            status_range: None,
            content: vec![
                form("application/json", MeaningShape::schema_ref()),
                form("text/html", String::schema_ref()),
            ],
            headers: vec![],
        };
        MetaResponses { responses: vec![page] }
    }

    fn register(registry: &mut Registry) {
        MeaningShape::register(registry);
    }
}

#[OpenApi(prefix_path = "/problems", tag = "Group::System")]
impl Problems {
    /// Get the page about a problem: what its code means and what to do. HTML if the header `Accept` asks for it, else JSON.
    #[oai(path = "/:code", method = "get", operation_id = "getProblem")]
    async fn get(
        &self,
        _by: Anyone,
        request: &Request,
        /// The code as in the problem's `type`, such as `out-of-stock`.
        code: Path<String>,
    ) -> Result<Page, Problem> {
        let code = code.0.replace('-', "_");
        let unknown = || Problem::not_found("problem_not_found", "No problem has this code.");
        let Meaning { means, advice } = meaning(&code).ok_or_else(unknown)?;
        let shape = MeaningShape {
            kind: kind_of_code(&code),
            title: title(&code),
            code,
            meaning: means,
            advice: advice.to_owned(),
        };
        let accept = request.header(header::ACCEPT.as_str()).unwrap_or_default();
        Ok(if accept.contains("text/html") { Page::Html(shape) } else { Page::Json(shape) })
    }
}

fn html(shape: &MeaningShape) -> String {
    let escaped = |text: &str| {
        text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
    };
    let [title, meaning, advice, code] =
        [&shape.title, &shape.meaning, &shape.advice, &shape.code].map(|text| escaped(text));
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head><meta charset=\"utf-8\"><title>{title}</title></head>\n\
         <body>\n<h1>{title}</h1>\n<p>{meaning}</p>\n<p>{advice}</p>\n<p>Code: <code>{code}</code></p>\n</body>\n</html>\n"
    )
}
