import json

import pytest

from tests.readers import ioi_texts, reader, word_tokenizer
from unweave.errors import InputError
from unweave.tasks import ioi
from unweave.tasks.templates import own_templates, read_templates

GOOD = "While [B] and [A] waited at the [PLACE], [B] gave a [OBJECT] to [A]"


def write(path, content):
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def test_our_own_are_enough_and_distinct():
    own = own_templates()
    assert len(own.templates) >= 15
    assert len(set(own.names)) == len(own.names) >= 100
    assert min(len(own.places), len(own.objects)) >= 8
    assert f"names {len(own.names)}" in repr(own)  # not the names themselves
    assert own.names[0] not in repr(own)


def test_a_file_with_all_its_words(tmp_path):
    fields = {
        "templates": [GOOD, "Then [A] saw [B]. [B] waved to [A]"],
        "names": ["Ann", "Bob", "Cal", "Dee", "Eve"],
        "places": ["inn"],
        "objects": ["fig"],
    }
    found = read_templates(write(tmp_path / "mine.json", fields))
    assert found.templates[0].fill(("Ann", "Bob", "Cal"), "inn", "fig") == (
        "While Ann and Bob waited at the inn, Cal gave a fig to"
    )
    assert found.templates[1].fill(("Ann", "Bob", "Cal")) == "Then Ann saw Bob. Cal waved to"
    assert (found.names, found.source) == (tuple(fields["names"]), "mine.json")
    tokenizer = word_tokenizer(
        [text.replace("[A]", "").replace("[B]", "") for text in fields["templates"]]
        + [f" {word}" for key in ("names", "places", "objects") for word in fields[key]]
    )
    task = ioi(reader(tokenizer), 4, templates=tmp_path / "mine.json")
    assert task.prompts.source["templates"] == "mine.json"
    assert {text.split()[0] for text in task.prompts.texts} == {"While", "Then"}


def test_a_role_that_a_prompt_lacks_is_left_out_of_all(tmp_path):
    file = write(tmp_path / "a.json", {"templates": [GOOD, "While [B] saw [A] and [B] gave the bag to [A]"]})
    texts = [*ioi_texts(), " While waited at saw"]
    roles = ioi(reader(word_tokenizer(texts)), 4, templates=str(file)).prompts.roles
    assert "punct" not in roles
    assert "S2" in roles


def test_words_that_a_file_leaves_out_are_our_own(tmp_path):
    found = read_templates(write(tmp_path / "mine.json", {"templates": [GOOD], "places": ["inn"]}))
    assert found.names == own_templates().names
    assert found.places == ("inn",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "mine.json is empty"),
        ('{\n"templates": [\n}', "mine.json line 3: not JSON"),
        ([GOOD], "expected a JSON object"),
        ({"names": ["Ann"]}, "list of 'templates'"),
        ({"templates": [GOOD], "name": ["Ann"]}, "unknown field 'name'"),
        ({"templates": []}, "templates: expected a list"),
        ({"templates": GOOD}, "templates: expected a list"),
        ({"templates": [GOOD], "names": ["Ann", " Bob"]}, r"names\[1\]: .* ' Bob'"),
        ({"templates": [GOOD], "names": ["Ann", 3]}, r"names\[1\]: .*3"),
        ({"templates": [GOOD], "names": ["Ann", "Ann"]}, r"names\[1\]: 'Ann' stands there twice"),
        ({"templates": [GOOD, "When [A] met [B], [B] gave it to"]}, r"templates\[1\]: expected the names"),
        ({"templates": ["When [A] met [A], [B] gave it to [B]"]}, r"templates\[0\]: expected the names"),
        ({"templates": ["When [A] met [B], [B] gave it to [A]."]}, r"templates\[0\]: expected the names"),
        ({"templates": ["When [A] met [B], [B] gave a [THING] to [A]"]}, r"unknown marker \[THING\]"),
        ({"templates": ["[A] met [B], and [B] gave a book to [A]"]}, "a space in front"),
        ({"templates": ["When [A] met [B]s, [B] gave a book to [A]"]}, "none of a word behind"),
        ({"templates": ["When [A] met [B], [B] gave Mary to [A]"]}, "'Mary' is also one of the names"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path, content, message):
    with pytest.raises(InputError, match=message):
        read_templates(write(tmp_path / "mine.json", content))


def test_a_file_that_cannot_be_read(tmp_path):
    with pytest.raises(InputError, match="No such file"):
        read_templates(tmp_path / "none.json")
    (tmp_path / "bytes.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="not UTF-8"):
        read_templates(tmp_path / "bytes.json")
