//! `POST /rpc`: JSON-RPC 2.0.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Extension, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use kurma_client::Create;
use kurma_client::rpc::{
    Call, Fault, INVALID_PARAMS, INVALID_REQUEST, METHOD_NOT_FOUND, PARSE_ERROR, Response as Answer,
};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{Api, Asking, CALL, Shared, aside, operator, refused};
use crate::caller::Caller;

/// What a pod is named by.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OfPod {
    uuid: String,
}

/// What an image is named by.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OfImage {
    hash: String,
}

/// Nothing.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

pub(super) async fn answer(State(api): Shared, Extension(caller): Asking, body: Body) -> Response {
    let read = tokio::time::timeout(api.options.patience, axum::body::to_bytes(body, CALL)).await;
    let bytes = match read {
        Err(_) => return refused(StatusCode::REQUEST_TIMEOUT, "the call does not come to an end"),
        Ok(Err(_)) => {
            let what = format!("a call has at most {CALL} bytes");
            return refused(StatusCode::PAYLOAD_TOO_LARGE, &what);
        }
        Ok(Ok(bytes)) => bytes,
    };
    let (id, done) = match read_call(&bytes) {
        Ok(call) => {
            let id = call.id.clone();
            let done = call_method(&api, caller, call).await;
            match id {
                // nobody waits for this one's answer (section 4.1)
                None => return StatusCode::NO_CONTENT.into_response(),
                Some(id) => (id, done),
            }
        }
        Err(fault) => (Value::Null, Err(fault)),
    };
    super::json(&Answer::new(id, done)).into_response()
}

fn read_call(bytes: &[u8]) -> Result<Call, Fault> {
    let value: Value = serde_json::from_slice(bytes)
        .map_err(|error| Fault::new(PARSE_ERROR, format!("this is no JSON: {error}")))?;
    if value.is_array() {
        return Err(Fault::new(INVALID_REQUEST, "one call in one request"));
    }
    let call: Call = serde_json::from_value(value)
        .map_err(|error| Fault::new(INVALID_REQUEST, format!("this is no call: {error}")))?;
    if call.jsonrpc != "2.0" {
        return Err(Fault::new(INVALID_REQUEST, "\"jsonrpc\" is \"2.0\""));
    }
    if !call.id.as_ref().is_none_or(|id| id.is_string() || id.is_number() || id.is_null()) {
        return Err(Fault::new(INVALID_REQUEST, "\"id\" is a text or a number"));
    }
    Ok(call)
}

/// The parameters: an object, or a list with one.
fn params<T: DeserializeOwned>(value: &mut Value) -> Result<T, Fault> {
    let mut value = value.take();
    if let Some(list) = value.as_array_mut() {
        let one = list.pop();
        if !list.is_empty() {
            return Err(Fault::new(INVALID_PARAMS, "parameters are an object, or a list with one"));
        }
        value = one.unwrap_or_else(|| json!({}));
    }
    if value.is_null() {
        value = json!({});
    }
    serde_json::from_value(value).map_err(|error| Fault::new(INVALID_PARAMS, error.to_string()))
}

async fn call_method(api: &Arc<Api>, caller: Caller, mut call: Call) -> Result<Value, Fault> {
    let changes =
        !matches!(call.method.as_str(), "Pods.List" | "Pods.Get" | "Images.List" | "Images.Get");
    let whom = subject(&call.params);
    let (shared, who, method) = (Arc::clone(api), caller.clone(), call.method.clone());
    let done = aside(move || {
        if changes && is_known(&call.method) {
            operator(&who)?;
        }
        perform(&shared, &who, &call.method, &mut call.params)
    });
    let done = done.await;
    if changes && is_known(&method) {
        api.audit.write(&caller, &method, &whom, done.as_ref());
    }
    done
}

fn is_known(method: &str) -> bool {
    METHODS.contains(&method)
}

/// What can be called.
pub(super) const METHODS: [&str; 8] = [
    "Pods.Create",
    "Pods.List",
    "Pods.Get",
    "Pods.Stop",
    "Pods.Destroy",
    "Images.List",
    "Images.Get",
    "Images.Delete",
];

/// What a call is about, for the audit.
fn subject(params: &Value) -> String {
    let params = params.get(0).unwrap_or(params);
    let words =
        ["uuid", "hash", "name", "image"].iter().filter_map(|key| params.get(key)?.as_str());
    words.collect::<Vec<_>>().join(" ")
}

fn perform(api: &Api, caller: &Caller, method: &str, given: &mut Value) -> Result<Value, Fault> {
    Ok(match method {
        "Pods.List" => {
            params::<Nothing>(given)?;
            json!({ "pods": api.pods.list() })
        }
        "Pods.Get" => json!({ "pod": api.pods.get(&params::<OfPod>(given)?.uuid)? }),
        "Pods.Create" => json!({ "pod": api.pods.create(caller, &params::<Create>(given)?)? }),
        "Pods.Stop" => json!({ "pod": api.pods.stop(&params::<OfPod>(given)?.uuid)? }),
        "Pods.Destroy" => {
            api.pods.destroy(&params::<OfPod>(given)?.uuid)?;
            json!({})
        }
        "Images.List" => {
            params::<Nothing>(given)?;
            json!({ "images": api.images.list() })
        }
        "Images.Get" => json!({ "image": api.images.get(&params::<OfImage>(given)?.hash)? }),
        "Images.Delete" => {
            api.pods.delete_image(&params::<OfImage>(given)?.hash)?;
            json!({})
        }
        other => {
            let shown: String = other.chars().take(80).collect();
            let what = format!("there is no method {shown:?}; there are {}", METHODS.join(", "));
            return Err(Fault::new(METHOD_NOT_FOUND, what));
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_call() {
        for (text, code) in [
            ("", PARSE_ERROR),
            ("{", PARSE_ERROR),
            ("[]", INVALID_REQUEST),
            ("{}", INVALID_REQUEST),
            (r#"{"method": "Pods.List"}"#, INVALID_REQUEST),
            (r#"{"jsonrpc": "1.0", "method": "Pods.List"}"#, INVALID_REQUEST),
            (r#"{"jsonrpc": "2.0", "method": 7}"#, INVALID_REQUEST),
            (r#"{"jsonrpc": "2.0", "method": "m", "id": {}}"#, INVALID_REQUEST),
        ] {
            assert_eq!(read_call(text.as_bytes()).unwrap_err().code, code, "{text}");
        }
    }

    #[test]
    fn parameters_are_an_object_or_a_list_with_one() {
        for good in [json!({"uuid": "u"}), json!([{"uuid": "u"}])] {
            assert_eq!(params::<OfPod>(&mut good.clone()).unwrap().uuid, "u");
        }
        for bad in [
            json!({}),
            json!([]),
            json!([{"uuid": "u"}, {}]),
            json!({"uuid": "u", "x": 1}),
            json!(7),
        ] {
            assert_eq!(
                params::<OfPod>(&mut bad.clone()).err().map(|f| f.code),
                Some(INVALID_PARAMS)
            );
        }
        params::<Nothing>(&mut Value::Null).unwrap();
    }
}
