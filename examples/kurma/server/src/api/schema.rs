//! What can be asked, for programs: a document of OpenAPI 3.1.

/// The document.
pub(super) const TEXT: &str = include_str!("schema.json");

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use kurma_client::enter::{Ended, Enter, Said, Size};
    use kurma_client::rpc::{Call, Fault, Response};
    use kurma_client::{App, Create, HostInfo, Image, Lease, Pod, Upgraded};
    use serde::Serialize;
    use serde_json::{Value, json};

    fn document() -> Value {
        serde_json::from_str(super::TEXT).unwrap()
    }

    fn keys(value: &Value) -> BTreeSet<&str> {
        value.as_object().unwrap().keys().map(String::as_str).collect()
    }

    /// A type with all of its fields has those of its schema.
    fn same(name: &str, value: impl Serialize) {
        let document = document();
        let schema = &document["components"]["schemas"][name]["properties"];
        assert_eq!(keys(&serde_json::to_value(value).unwrap()), keys(schema), "{name}");
    }

    #[test]
    fn all_methods_are_told() {
        let document = document();
        let methods: BTreeSet<&str> = super::super::rpc::METHODS.into_iter().collect();
        assert_eq!(keys(&document["x-methods"]), methods);
        let call = &document["components"]["schemas"]["Call"]["properties"]["method"]["enum"];
        assert_eq!(
            call.as_array().unwrap().iter().filter_map(Value::as_str).collect::<BTreeSet<_>>(),
            methods
        );
    }

    #[test]
    fn types_are_as_told() {
        let mut app = App::new("a", "i");
        (app.exit_code, app.signal, app.error) = (Some(1), Some(2), Some("e".into()));
        same("App", &app);
        same("Lease", Lease::new("n", Vec::new(), Vec::new()));
        let mut pod = Pod::new("u".into(), "n".into(), json!({}), 1);
        pod.error = Some("e".into());
        same("Pod", &pod);
        same("Image", Image::new("h".into(), json!({}), 1));
        same("HostInfo", HostInfo::default());
        same("Upgraded", Upgraded::new("m", true));
        let mut create = Create::default();
        (create.pod, create.image, create.networks) =
            (Some(json!({})), Some("i".into()), Some(Vec::new()));
        create.ports = vec!["1:1".into()];
        same("Create", &create);
        same("Fault", Fault::new(1, "m"));
        same("Call", Call::new("m", json!({})));
        let mut response = Response::new(json!(1), Ok(json!({})));
        response.error = Some(Fault::new(1, "m"));
        same("Response", &response);
        let size = Size { rows: 1, columns: 1 };
        let mut enter = Enter::default();
        (enter.app, enter.user, enter.terminal) = (Some("a".into()), Some("1".into()), Some(size));
        same("Enter", &enter);
        same("Size", size);
        assert_eq!(json!(Said::End), json!("end"));
        assert_eq!(json!(Said::Resize(size)), json!({"resize": {"rows": 1, "columns": 1}}));
        assert_eq!(json!(Ended::Exit(1)), json!({"exit": 1}));
    }
}
