//! The result of a check as JSON, schema `pvio.check/1`.

use serde_json::{Value, json};

use crate::check::{Code, Offence, Origin, Total, Verdict};

/// Renders a result as JSON, with a newline at the end.
///
/// `docs/check.md` defines the fields.
pub fn to_json(verdict: &Verdict<'_>) -> String {
    let rules = verdict.by_rule.iter().map(|(rule, reason, sum)| {
        let mut value = total(*sum);
        value["rule"] = (*rule).into();
        value["reason"] = (*reason).into();
        value
    });
    let value = json!({
        "schema": "pvio.check/1",
        "policy": verdict.against.policy.map(|policy| &policy.name),
        "baseline": verdict.against.baseline.map(|baseline| baseline.by().name()),
        "clean": verdict.is_clean(),
        "checked": total(verdict.checked),
        "denied": total(verdict.denied),
        "known": total(verdict.known),
        "unknown": verdict.unknown,
        "rules": rules.collect::<Value>(),
        "offences": verdict.offences.iter().map(offence).collect::<Value>(),
    });
    format!("{value:#}\n")
}

fn total(total: Total) -> Value {
    json!({
        "kinds": total.kinds,
        "reads": total.input_kinds,
        "accesses": total.accesses,
        "unverified": total.unverified,
    })
}

fn offence(offence: &Offence<'_>) -> Value {
    let access = &offence.access;
    let code = access.code;
    let (file, offset) = match code {
        Code::Site(site) => (site.file.as_deref(), site.offset.as_deref()),
        Code::CallSite(_) => (None, None),
    };
    json!({
        "rule": offence.rule,
        "reason": offence.reason,
        "port": access.port,
        "name": access.name,
        "dir": access.dir,
        "size": access.size,
        "is_input": access.is_input(),
        "accesses": access.counts.accesses,
        "unverified": access.counts.unverified,
        "by": code.by(),
        "form": code.form(),
        "is_string": code.is_string(),
        "phase": access.phase.name(),
        "privilege": code.privilege(),
        "pc": code.pc(),
        "mode": code.mode(),
        "insn": code.insn(),
        "symbol": code.symbol(),
        "source": code.source(),
        "file": file,
        "offset": offset,
        "callers": callers(&offence.origin),
        "callers_of_all_ports": offence.origin.of_all_ports,
        "processes": processes(&offence.origin),
    })
}

fn callers(origin: &Origin) -> Value {
    let chains = origin.chains.iter().map(
        |chain| json!({ "frames": chain.frames, "end": chain.end, "accesses": chain.accesses }),
    );
    chains.collect()
}

fn processes(origin: &Origin) -> Value {
    let processes = origin.processes.iter();
    processes
        .map(|(process, accesses)| json!({ "process": process, "accesses": accesses }))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::test_accesses::linux;
    use crate::check::{Against, Origins, Policy};

    #[test]
    fn offences_have_rule_access_code_and_callers() {
        let dump = linux();
        let tdx = Policy::built_in("tdx").unwrap();
        let against = Against { policy: Some(&tdx), baseline: None };
        let verdict = Verdict::new(&dump, against, &Origins::of_tables(&dump));
        let json: Value = serde_json::from_str(&to_json(&verdict)).unwrap();
        assert_eq!((&json["schema"], &json["clean"]), (&json!("pvio.check/1"), &json!(false)));
        assert_eq!(
            json["denied"],
            json!({ "kinds": 7, "reads": 3, "accesses": 4271, "unverified": 0 })
        );
        let first = &json["offences"][0];
        assert_eq!(first["port"], json!(0x40));
        assert_eq!(first["is_input"], json!(true));
        assert_eq!(first["phase"], json!("kernel"));
        assert_eq!(first["privilege"], json!("supervisor"));
        assert_eq!(first["callers"][0]["frames"][1]["symbol"], json!("start_kernel+0x90"));
        let last = &json["offences"][6];
        assert_eq!((&last["by"], &last["is_string"]), (&json!("hypercall"), &json!(true)));
        assert_eq!(last["source"], json!("kernel/early.c:45"));
    }
}
