"""Expressions and texts to draw from: few letters, so that they meet often, and every trap of case and of repeats."""

from __future__ import annotations

from hypothesis import strategies as st

LETTERS = "abkisKS1 \n,ſKİıßΣςé"
WORDS = ("timeout", "refused", "abba", "Kiss", "kiss", "straße", "Σίς", "İst", "x1", "aa", "failed with 42")

words = st.sampled_from(WORDS)
atoms = st.one_of(
    words,
    words,
    st.sampled_from(
        [
            "a",
            "b",
            " ",
            "ſ",
            "K",
            "[ab]",
            "[^a]",
            "[Tt]ime",
            "[a-k]",
            "[^\\W\\d]",
            "\\d",
            "\\w",
            "\\s",
            ".",
            "\\b",
            "\\S",
        ]
    ),
)
repeats = st.sampled_from(
    ["\\d+", "\\w+", "\\s*", "[ab]*", "a{2}", "b{1,3}", "a?", "[^,]*,", ".{0,4}", "\\S+ ", "(?:ab){2}", "(?:ab|b)+"]
)
gaps = st.sampled_from([".*", ".*", ".*?", ".+", ".{2,}", "[\\s\\S]*", "[\\s\\S]*?"])
edges = st.sampled_from(["^", "$", "\\Z", "\\A"])


def _groups(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    rows = st.lists(inner, min_size=1, max_size=3).map("".join)
    return st.one_of(
        rows.map("({})".format),
        rows.map("(?:{})?".format),
        rows.map("(?i:{})".format),
        rows.map("(?s:{})".format),
        rows.map("(?>{})".format),
        st.lists(rows, min_size=2, max_size=3).map("|".join).map("(?:{})".format),
    )


pieces = st.recursive(st.one_of(atoms, atoms, repeats, gaps), _groups, max_leaves=5)
rows = st.lists(st.one_of(pieces, pieces, pieces, edges), min_size=1, max_size=6).map("".join)
expressions = st.one_of(rows, rows, st.tuples(rows, rows).map("|".join), rows.map("(?i){}".format))
"""Valid expressions for the most part, safe ones for a good part."""

gap_rows = st.lists(st.one_of(gaps, gaps, atoms, repeats, pieces), min_size=3, max_size=8).map("".join)
"""Expressions with several gaps."""

texts = st.lists(st.one_of(words, words, st.text(LETTERS, max_size=6)), max_size=8).map("".join)
