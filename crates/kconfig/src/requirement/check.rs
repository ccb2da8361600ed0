//! A configuration against requirements: everything that is missing, at once.

use super::report::{Finding, ModuleWanted, OptionState, Report, State};
use super::{Need, Requirement, Want};
use crate::dotconfig::DotConfig;
use crate::value::{Tristate, Value};

/// Checks `config` against `requirements` and collects everything that is not as needed.
#[must_use]
pub fn check(config: &DotConfig, requirements: &[Requirement]) -> Report {
    let mut report = Report {
        config: config.origin().to_owned(),
        requirements: String::new(),
        checked: requirements.len(),
        findings: Vec::new(),
        modules: Vec::new(),
    };
    for requirement in requirements {
        if requirement.when.as_ref().is_some_and(|want| !accepts(config, want)) {
            continue;
        }
        let accepted: Vec<&Want> =
            requirement.any_of.iter().filter(|want| accepts(config, want)).collect();
        if accepted.is_empty() {
            report.findings.push(finding(config, requirement));
        } else if accepted.iter().all(|want| is_module(config, want)) {
            // Had one of the alternatives been built in, no module would be needed.
            report.modules.extend(accepted.first().map(|want| wanted(config, want, requirement)));
        }
    }
    report
}

fn accepts(config: &DotConfig, want: &Want) -> bool {
    match config.setting(&want.option) {
        None => want.need.accepts(None),
        Some(setting) => setting.value.is_some_and(|value| want.need.accepts(Some(&value))),
    }
}

fn is_module(config: &DotConfig, want: &Want) -> bool {
    config.get(&want.option) == Some(Value::MODULE)
}

fn wanted(config: &DotConfig, want: &Want, requirement: &Requirement) -> ModuleWanted {
    ModuleWanted {
        option: want.option.clone(),
        module: want.module.clone(),
        reason: requirement.reason.clone(),
        severity: requirement.severity,
        group: requirement.group.clone(),
        site: config.setting(&want.option).map(|setting| setting.site),
    }
}

fn finding(config: &DotConfig, requirement: &Requirement) -> Finding {
    let options = requirement
        .any_of
        .iter()
        .map(|want| {
            let state = match config.setting(&want.option) {
                None => State::Absent,
                Some(setting) if setting.value.is_some() => {
                    State::Set { value: setting.text(), site: setting.site }
                }
                Some(setting) => State::Malformed { text: setting.text(), site: setting.site },
            };
            OptionState { option: want.option.clone(), needed: want.need.to_string(), state }
        })
        .collect();
    Finding {
        options,
        severity: requirement.severity,
        group: requirement.group.clone(),
        reason: requirement.reason.clone(),
        remedy: requirement.remedy.clone().unwrap_or_else(|| suggestion(&requirement.any_of)),
        declared: requirement.declared.clone(),
    }
}

/// What to do, when the requirement does not say.
fn suggestion(any_of: &[Want]) -> String {
    let mut words: Vec<String> = Vec::new();
    for Want { option, need, .. } in any_of {
        words.push(match need {
            Need::Tristate(wanted) => {
                let yes = wanted.contains(&Tristate::Yes);
                let module = wanted.contains(&Tristate::Module);
                match (yes, module) {
                    (true, true) => {
                        format!("set CONFIG_{option}=y, or =m with its module in the image")
                    }
                    (true, false) => format!("set CONFIG_{option}=y"),
                    (false, true) => format!("set CONFIG_{option}=m, with its module in the image"),
                    (false, false) => format!("turn CONFIG_{option} off"),
                }
            }
            Need::Contains(entry) => format!("put {entry} into the list CONFIG_{option}"),
            Need::OneOf(_) | Need::Range { .. } => format!("set CONFIG_{option} to {need}"),
        });
    }
    words.join("; or ")
}
