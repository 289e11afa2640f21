//! Whatever is written, the judge answers, and the good documents serve.

use crate::GOOD;
use config::{Options, Origin, judge, parse};
use proptest::prelude::*;

/// A group, with its upstream, whose namespace comes before all others.
const SIMPLE: &str = "\
apiVersion: dependencyproxy.dev/v1alpha1
kind: RegistryUpstream
metadata: {name: good, namespace: a}
spec: {url: 'https://registry.example.com'}
---
apiVersion: dependencyproxy.dev/v1alpha1
kind: DependencyProxyGroup
metadata: {name: good, namespace: a}
spec: {proxyRef: {name: any}, path: good, upstreamRef: {name: good}}
";

/// What a slip of the hand puts in place of a value.
fn value() -> impl Strategy<Value = String> {
    prop_oneof![
        prop::sample::select(vec![
            "",
            "~",
            "-1",
            "1e400",
            "99999999999999999999",
            "[]",
            "{}",
            "[[]]",
            "{a: b}",
            "\"\\u0000\"",
            "é",
            "'",
            "\"",
            "*x",
            "&x",
            "!t x",
            "../..",
            "good",
            "a",
            "A/B",
            "http://",
            "https://[::1",
            "|",
            ">",
            "- ",
            ": ",
            "---",
            "# x",
            "<<: 1",
            "data:",
        ])
        .prop_map(str::to_owned),
        "\\PC{0,20}",
    ]
}

/// The documents of the design, without the DependencyProxy, with a few slips.
fn slips() -> impl Strategy<Value = String> {
    let lines = GOOD.lines().skip_while(|l| *l != "---").map(str::to_owned).collect::<Vec<_>>();
    let change = (0..lines.len(), 0..4_u8, any::<prop::sample::Index>(), value());
    prop::collection::vec(change, 1..6).prop_map(move |changes| {
        let mut lines = lines.clone();
        for (at, how, place, value) in changes {
            let line = &mut lines[at];
            // Cuts at a place where something begins.
            let cuts =
                line.match_indices([' ', ':', ',', '{']).map(|(i, _)| i + 1).chain([0]).collect::<Vec<_>>();
            let cut = cuts[place.index(cuts.len())];
            match how {
                0 => line.clear(),
                1 => *line = format!("{line}\n{line}"),
                2 => line.replace_range(cut.., &value),
                _ => line.insert_str(cut, &value),
            }
        }
        lines.join("\n")
    })
}

fn origin() -> impl Strategy<Value = Origin> {
    prop_oneof![Just(Origin::File), Just(Origin::Rendered)]
}

#[test]
fn bombs_are_refused() {
    let laughs = (1..30)
        .map(|n| format!("a{n}: &a{n} [*a{0}, *a{0}, *a{0}, *a{0}, *a{0}, *a{0}, *a{0}, *a{0}]\n", n - 1))
        .collect::<String>();
    for text in
        [format!("a0: &a0 [x]\n{laughs}"), "[".repeat(2_000), "{\"a\":".repeat(2_000), "- ".repeat(2_000)]
    {
        let (documents, problems) = parse(&text, "f", Origin::File);
        assert_eq!((documents.len(), problems.len()), (0, 1));
    }
}

proptest! {
    #[test]
    fn no_text_makes_the_judge_panic(text in "(\\PC|\n|\t){0,300}", origin in origin()) {
        let (documents, _) = parse(&text, "f", origin);
        let _ = judge(&documents, &Options::default());
    }

    #[test]
    fn good_documents_serve_beside_any_bad_ones(bad in slips(), origin in origin()) {
        let (mut documents, problems) = parse(SIMPLE, "good.yaml", origin);
        prop_assert!(problems.is_empty());
        documents.extend(parse(&bad, "bad.yaml", origin).0);
        let judgement = judge(&documents, &Options::default());
        prop_assert!(judgement.problems.iter().all(|p| p.file.as_deref() != Some("good.yaml")), "{:?}", judgement.problems);
        prop_assert!(judgement.config.is_some_and(|c| c.groups.contains_key("good")));
    }

    #[test]
    fn problems_point_into_their_text(bad in slips()) {
        let (documents, mut problems) = parse(&bad, "bad.yaml", Origin::File);
        problems.extend(judge(&documents, &Options::default()).problems);
        let lines = bad.lines().count().max(1);
        for problem in problems {
            prop_assert!(problem.line.is_some_and(|l| (1..=lines + 1).contains(&l)), "{problem}");
        }
    }
}
