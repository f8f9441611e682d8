"""What is said of rare words, and which ones are suggested."""

from __future__ import annotations

import pytest

from dreambooth_ext.core.captions import rare_words
from dreambooth_ext.core.captions.clip_vocabulary import BUNDLED, VOCABULARIES, Vocabulary
from dreambooth_ext.core.errors import UserError


@pytest.fixture(scope="module")
def vocabulary() -> Vocabulary:
    return VOCABULARIES.of()


@pytest.mark.parametrize(
    "word, level, code, tokens",
    [
        ("sks", "doubtful", "words.means_sks", ["sks"]),
        ("OHWX", "doubtful", "words.means_ohwx", ["ohwx"]),
        ("dsley", "good", "words.one_rare", ["dsley"]),
        ("sksper", "good", "words.several_tokens", ["sk", "sper"]),
        ("zkzperson", "good", "words.with_noun", ["z", "kz", "person"]),
        ("xyzstyle", "good", "words.with_noun", ["xy", "z", "style"]),
        ("redzkz", "good", "words.several_tokens", ["red", "z", "kz"]),
        ("zkzcastle", "doubtful", "words.part_known", ["z", "kz", "castle"]),
        ("qzxjvkqw", "doubtful", "words.many_tokens", None),
        ("nwsl", "doubtful", "words.means_something", ["nwsl"]),
        ("lpg", "doubtful", "words.abbreviation", ["lpg"]),
        ("mogul", "doubtful", "words.like_a_word", ["mogul"]),
        ("castle", "bad", "words.common", ["castle"]),
        ("john", "bad", "identifiers.poor", ["john"]),
        ("my photo", "bad", "identifiers.poor", ["my", "photo"]),
        ("a", "bad", "identifiers.poor", ["a"]),
    ],
)
def test_words_are_judged_by_their_tokens(vocabulary, word, level, code, tokens):
    found = rare_words.report(word, vocabulary)
    assert (found.level, found.reason.code) == (level, code)
    assert tokens is None or [one["text"] for one in found.as_dict()["tokens"]] == tokens


def test_suggestions_are_good_by_their_own_rules(vocabulary):
    found = rare_words.suggestions(vocabulary, 100)
    assert len(found) >= 20 and len(set(found)) == len(found)
    for word in found:
        judged = rare_words.report(word, vocabulary)
        assert (judged.level, len(judged.tokens)) == ("good", 1), word
        assert judged.tokens[0].number >= rare_words.RARE
    numbers = [vocabulary.numbers[word + "</w>"] for word in found]
    assert numbers == sorted(numbers, reverse=True)
    assert not {"sks", "ohwx", "stfu", "nwsl", "lewd"} & set(found)


def test_a_base_with_its_own_vocabulary_is_asked(tmp_path):
    lines = (BUNDLED / "merges.txt").read_text(encoding="utf-8").split("\n")
    folder = tmp_path / "a base" / "tokenizer"
    folder.mkdir(parents=True)
    (folder / "merges.txt").write_text("\n".join(lines[:3000]), encoding="utf-8")
    own = VOCABULARIES.of_base(str(folder.parent))
    assert len(own.tokens("castle")) > 1 == len(VOCABULARIES.of().tokens("castle"))
    assert rare_words.report("sks", own).level == "good"  # two tokens there
    for other in ("", None, str(tmp_path / "nothing"), "owner/name", "https://example.org/x.safetensors", "\0"):
        assert VOCABULARIES.of_base(other) is VOCABULARIES.of()
    (folder / "merges.txt").write_text("no list of merges\n" * 3, encoding="utf-8")
    with pytest.raises(UserError, match=r"merges\.txt"):
        VOCABULARIES.of_base(str(folder.parent))
