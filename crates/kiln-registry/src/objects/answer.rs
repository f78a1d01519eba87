//! What object stores answer when they do not do what they were asked.

use crate::error::{Error, printable};
use crate::exchange::Exchange;
use crate::http::Response;
use crate::retry::Failure;

/// Bodies of errors are read this far.
const BODY_BYTES: u64 = 64 << 10;

/// Lets successes through, and ranges that can't be had; the rest are errors.
pub(super) fn judge(place: &str, asked: &str, response: Response) -> Result<Response, Failure> {
    if matches!(response.status, 200..=299 | 416) {
        return Ok(response);
    }
    let again = Exchange::again(&response);
    let status = response.status;
    let header = |name: &str| response.header(name).map(printable).unwrap_or_default();
    let (region, azure_code) = (header("x-amz-bucket-region"), header("x-ms-error-code"));
    let body = response.read(BODY_BYTES).unwrap_or_default();
    let body = String::from_utf8_lossy(&body);
    let (mut code, mut message) = describe(&body);
    if code.is_empty() {
        code = azure_code;
    }
    let is_all_missing = ["NoSuchBucket", "ContainerNotFound"].contains(&code.as_str());
    if status == 404 && !is_all_missing {
        return Err(Error::NotFound { reference: format!("{asked} of {place}") }.into());
    }
    let region = if region.is_empty() { element(&body, "Region") } else { region };
    if !region.is_empty() && matches!(status, 301 | 307 | 400) {
        message = format!("the bucket is in the region {region}: say region={region}");
    } else if message.is_empty() {
        message.clone_from(&code);
    } else if !code.is_empty() {
        message = format!("{code}: {message}");
    }
    let (place, asked) = (place.to_owned(), asked.to_owned());
    Err(Failure { error: Error::Objects { place, asked, status, code, message }, again })
}

/// Code and message of an error: XML of S3 and Azure, JSON of GitHub (Twirp).
fn describe(body: &str) -> (String, String) {
    if let Ok(json) = serde_json::from_str::<serde_json::Value>(body) {
        let text = |name: &str| printable(json[name].as_str().unwrap_or_default());
        return (text("code"), text("msg"));
    }
    (element(body, "Code"), element(body, "Message"))
}

/// The text of the first element of this name.
fn element(body: &str, name: &str) -> String {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    let inner = body.split_once(&open).and_then(|(_, rest)| rest.split_once(&close));
    let text = inner.map_or("", |(text, _)| text);
    let text = text.replace("&quot;", "\"").replace("&apos;", "'");
    printable(&text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"))
}

/// What to do about an error of this code.
pub(crate) fn hint(code: &str) -> Option<&'static str> {
    Some(match code {
        "RequestTimeTooSkewed" => "the clock of this machine is wrong: set it",
        "InvalidAccessKeyId" | "SignatureDoesNotMatch" => {
            "check the access key and its secret, in the cache's options, the environment \
             (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY) or ~/.aws/credentials"
        }
        "ExpiredToken" | "InvalidToken" => "the session token is wrong or has expired",
        "NoSuchBucket" => "make the bucket first, or check its name and region",
        "AccessDenied" => {
            "the key needs s3:GetObject, s3:PutObject and s3:ListBucket for this bucket and prefix"
        }
        "ContainerNotFound" => "make the container first, or check its name",
        "AuthenticationFailed" => "check the account's key or SAS, and the clock of this machine",
        "AuthorizationFailure" | "AuthorizationPermissionMismatch" => {
            "check the account's key; a SAS needs the rights to read, write and create in this \
             container (sp=rwc)"
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_read_of_xml_and_json() {
        let xml = "<?xml version=\"1.0\"?>\n<Error><Code>AccessDenied</Code>\
                   <Message>Access &quot;Denied&quot;</Message><Key>x</Key></Error>";
        let pair = |code: &str, message: &str| (code.to_owned(), message.to_owned());
        assert_eq!(describe(xml), pair("AccessDenied", "Access \"Denied\""));
        let json = r#"{"code":"permission_denied","msg":"no"}"#;
        assert_eq!(describe(json), pair("permission_denied", "no"));
        assert_eq!(describe("<html><Code>"), pair("", ""));
    }
}
