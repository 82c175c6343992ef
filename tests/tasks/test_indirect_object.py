import ast
import json
import os
import re
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.readers import byte_tokenizer, ioi_texts, reader, unchecked, word_tokenizer
from unweave.errors import InputError
from unweave.tasks import flips, ioi
from unweave.tasks.indirect_object import IoiPrompt, flipped, ioi_prompts, roles_of
from unweave.tasks.templates import Template, own_templates

NAMES = ("Mary", "John", "Tom", "Dan", "Amy")
REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def model():
    return reader(word_tokenizer(ioi_texts()))


@pytest.fixture(scope="module")
def task(model):
    return ioi(model, 72, seed=3)


def records_of(task):
    """What the prompts were made of."""
    return task.make.args[1]


def at(prompts, role):
    return [words[place].strip() for words, place in zip(prompts.str_tokens, prompts.role(role).tolist(), strict=True)]


def test_prompts_stop_before_the_indirect_object(task, model):
    assert all(text.endswith(" to") for text in task.prompts.texts)
    for record, text, answer, wrong in zip(
        records_of(task), task.prompts.texts, task.prompts.answers, task.prompts.wrong, strict=True
    ):
        assert model.tokenizer.decode([answer]) == f" {record.io}"
        assert model.tokenizer.decode([wrong]) == f" {record.subject}"
        assert (text.count(record.io), text.count(record.subject)) == (1, 2)


def test_roles_stand_where_the_names_stand(task):
    prompts = task.prompts
    assert at(prompts, "IO") == [record.io for record in records_of(task)]
    assert at(prompts, "S1") == at(prompts, "S2") == [record.subject for record in records_of(task)]
    assert set(at(prompts, "end")) == {"to"}
    assert set(at(prompts, "punct")) == {",", "."}
    assert bool((prompts.role("S1") < prompts.role("S2")).all())
    for role, step in (("IO", 1), ("IO", -1), ("S1", 1), ("S1", -1)):
        assert torch.equal(prompts.role(f"{role}{step:+d}"), prompts.role(role) + step)
    assert prompts.role("start").tolist() == [0] * 72
    assert list(prompts.roles) == ["start", "IO-1", "IO", "IO+1", "S1-1", "S1", "S1+1", "punct", "S2", "end"]


def test_a_beginning_token_moves_every_role_but_the_start(model, task):
    behind = ioi(model, 72, seed=3, bos=True).prompts
    assert behind.bos
    assert not task.prompts.bos
    assert behind.texts == task.prompts.texts
    for role, places in task.prompts.roles.items():
        assert torch.equal(behind.role(role), places + (role != "start"))


def test_orders_are_balanced_over_all_and_over_each_template(task):
    counts = Counter((record.order, record.group) for record in records_of(task))
    n_templates = len(own_templates().templates)
    assert n_templates >= 15
    assert len(counts) == 2 * n_templates
    assert max(counts.values()) - min(counts.values()) <= 1
    io_first = (task.prompts.role("IO") < task.prompts.role("S1")).tolist()
    assert io_first == [record.order == "ABBA" for record in records_of(task)]
    assert sum(io_first) == 36


@pytest.mark.parametrize("n_templates", [4, 5])
def test_orders_alternate_with_any_number_of_templates(model, n_templates):
    few = replace(own_templates(), templates=own_templates().templates[:n_templates])
    counts = Counter((record.order, record.group) for record in records_of(ioi(model, 4 * n_templates, templates=few)))
    assert set(counts.values()) == {2}


@pytest.mark.parametrize("order", ["ABBA", "BABA"])
def test_one_order_alone(model, order):
    prompts = ioi(model, 20, order=order).prompts
    assert set((prompts.role("IO") < prompts.role("S1")).tolist()) == {order == "ABBA"}


def test_both_orders_differ_in_the_first_clause_only():
    template = Template("When [1] and [2] met at the [PLACE], [3] gave a [OBJECT] to")
    one = IoiPrompt(template, 0, "ABBA", "Ann", "Bob", "farm", "hat")
    assert one.text == "When Ann and Bob met at the farm, Bob gave a hat to"
    assert replace(one, order="BABA").text == "When Bob and Ann met at the farm, Bob gave a hat to"


def test_prompts_of_a_template_are_aligned(task):
    prompts, own = task.prompts, own_templates()
    fillers = {*own.names, *own.places, *own.objects}
    for group in set(prompts.groups.tolist()):
        rows = [words for words, other in zip(prompts.str_tokens, prompts.groups, strict=True) if other == group]
        assert len(rows) == 4
        for words in zip(*rows, strict=True):
            assert len(set(words)) == 1 or {word.strip() for word in words} <= fillers


def test_more_prompts_begin_with_the_fewer(model, task):
    assert ioi(model, 10, seed=3).prompts.texts == task.prompts.texts[:10]
    assert ioi(model, 10, seed=3).corrupt("ABC").texts == task.corrupt("ABC").texts[:10]


def test_seeds_differ_and_prompts_are_not_repeated(model, task):
    assert len(set(task.prompts.texts)) == 72
    assert set(ioi(model, 10, seed=4).prompts.texts).isdisjoint(task.prompts.texts)


def test_draws_are_the_same_in_every_process(model):
    """Where hashes of texts have another seed."""
    code = (
        "from tests.readers import ioi_texts, reader, word_tokenizer; from unweave.tasks import ioi\n"
        "task = ioi(reader(word_tokenizer(ioi_texts())), 12, seed=5)\n"
        "print([*task.prompts.texts, *task.corrupt('ABC').texts, *task.corrupt('random_token').texts])"
    )
    settings = {**os.environ, "PYTHONHASHSEED": "1", "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run([sys.executable, "-c", code], env=settings, capture_output=True, text=True, check=True)
    task = ioi(model, 12, seed=5)
    texts = [*task.prompts.texts, *task.corrupt("ABC").texts, *task.corrupt("random_token").texts]
    assert ast.literal_eval(done.stdout) == texts


def test_words_of_several_tokens_are_left_out():
    left_out = frozenset(own_templates().names[::2]) | {"library", "book"}
    prompts = ioi(reader(word_tokenizer(ioi_texts(without=left_out))), 60)
    used = {word for text in prompts.prompts.texts + prompts.corrupt("ABC").texts for word in re.findall(r"\w+", text)}
    assert used.isdisjoint(left_out)
    assert "<unk>" not in {word for words in prompts.prompts.str_tokens for word in words}


@pytest.mark.parametrize(
    ("without", "named"), [(own_templates().names[4:], "names"), (own_templates().places, "places")]
)
def test_too_few_words_are_an_error(without, named):
    tokenizer = word_tokenizer(ioi_texts(without=frozenset(without)))
    with pytest.raises(InputError, match=rf"\d of the \d+ {named} are one token"):
        ioi(reader(tokenizer))


def test_a_bytewise_tokenizer_keeps_corrupted_prompts_as_long():
    task = ioi(reader(byte_tokenizer(ioi_texts(), n_vocab=1500)), 12, bos=True)
    for how in task.corruptions:
        assert torch.equal(task.corrupt(how).lengths, task.prompts.lengths)
    assert at(task.prompts, "S2") == [record.subject for record in records_of(task)]


# The three names of an ABBA and of a BABA prompt with IO = I and S = S; C and D are new names.
_FLIPPED = {
    "swap": ("I S I", "S I I"),
    "both_inverted": ("I S I", "S I I"),
    "inverted_token": ("S I I", "I S I"),
    "inverted_position": ("S I S", "I S S"),
    "random_token": ("C D D", "D C D"),
    "inverted_position_random_token": ("D C D", "C D D"),
    "ABC": ("C D E", "C D E"),
    "ABB->CBB, BAB->BCB": ("C S S", "S C S"),
}


@pytest.mark.parametrize("how", _FLIPPED)
def test_flips_put_names_as_their_pattern_says(task, how):
    corrupted = task.corrupt(how)
    abba = [record.order == "ABBA" for record in records_of(task)]
    for number, record in enumerate(records_of(task)):
        slots = sorted(int(corrupted.role(role)[number]) for role in ("IO", "S1", "S2"))
        names = [corrupted.str_tokens[number][place].strip() for place in slots]
        letters = {record.io: "I", record.subject: "S"}
        expected = _FLIPPED[how][0 if abba[number] else 1].split()
        for name, letter in zip(names, expected, strict=True):
            assert letters.setdefault(name, letter) == letter
        assert len(set(letters.values())) == len(letters)


@pytest.mark.parametrize("how", _FLIPPED)
def test_flips_change_names_only(task, how):
    corrupted = task.corrupt(how)
    assert corrupted.roles.keys() == task.prompts.roles.keys()
    for role in ("IO", "S1", "S2", "end"):
        assert torch.equal(corrupted.role(role), task.prompts.role(role))
    assert torch.equal(corrupted.answers, task.prompts.answers)
    assert torch.equal(corrupted.wrong, task.prompts.wrong)
    assert corrupted.source["corruption"] == how
    changed = (corrupted.tokens != task.prompts.tokens).nonzero().tolist()
    names = {(n, int(task.prompts.role(role)[n])) for n in range(72) for role in ("IO", "S1", "S2")}
    assert changed
    assert {tuple(place) for place in changed} <= names


def test_swap_changes_the_second_mention_alone(task):
    changed = task.corrupt("swap").tokens != task.prompts.tokens
    assert changed.sum(1).tolist() == [1] * 72
    assert torch.equal(changed.int().argmax(1), task.prompts.role("S2"))


def test_an_unknown_corruption_is_named(task):
    with pytest.raises(InputError, match="got 'shuffle'"):
        task.corrupt("shuffle")
    assert task.corruptions == tuple(flips.NAMED)
    assert task.corrupt().texts == task.corrupt("ABC").texts


def test_a_rule_for_the_order_at_hand_is_enough(model, task):
    assert ioi(model, 4, order="ABBA").corrupt("ABB->ABC").source["corruption"] == "ABB->ABC"
    with pytest.raises(InputError, match="no rule for the 36 prompts that begin as BAB"):
        task.corrupt("ABB->ABC")


def test_new_names_come_from_the_seed(model):
    assert ioi(model, 8, seed=0).corrupt("ABC").texts == ioi(model, 8, seed=0).corrupt("ABC").texts
    assert ioi(model, 8, seed=0).corrupt("ABC").texts != ioi(model, 8, seed=1).corrupt("ABC").texts


@pytest.mark.parametrize(
    ("options", "message"),
    [({"order": "abba"}, "order: expected"), ({"n_prompts": 0}, "n_prompts: expected at least 1")],
)
def test_options_are_checked(model, options, message):
    with unchecked(), pytest.raises(InputError, match=message):
        ioi(model, **options)


def test_more_prompts_than_there_are_is_an_error(model):
    small = replace(own_templates(), templates=(Template("When [1] and [2] left, [3] gave the bag to"),), names=NAMES)
    assert len(set(ioi(model, 20, order="ABBA", templates=small).prompts.texts)) == 20
    with pytest.raises(InputError, match="no more than 20 different prompts"):
        ioi(model, 21, order="ABBA", templates=small)


def test_prompts_that_the_model_cannot_read_are_refused(model):
    with pytest.raises(InputError, match="has no tokenizer"):
        ioi(reader(None))
    with pytest.raises(InputError, match="tokens, and reader reads 8"):
        ioi(reader(model.tokenizer, n_ctx=8))


def test_the_published_prompts_have_their_roles(shared_data):
    """The role code on prompts that others made, against positions counted in a list of their words."""
    published = json.loads((shared_data / "ioi_reference_prompts.json").read_text())["prompts"]
    tokenizer = word_tokenizer([prompt["text"] for prompt in published])
    records = []
    for number, prompt in enumerate(published):
        slots = iter("123")
        text = re.sub(rf"\b({prompt['IO']}|{prompt['S']})\b", lambda _, s=slots: f"[{next(s, 'END')}]", prompt["text"])
        records.append(
            IoiPrompt(Template(text.removesuffix(" [END]")), number, prompt["order"], prompt["IO"], prompt["S"])
        )
    assert [f"{record.text} {record.io}" for record in records] == [prompt["text"] for prompt in published]
    prompts = ioi_prompts(reader(tokenizer), records, bos=None)
    for number, prompt in enumerate(published):
        words = re.findall(r"\w+|[.,]", prompt["text"])[:-1]
        found = {role: int(prompts.role(role)[number]) for role in ("IO", "S1", "S2", "end")}
        s_places = [place for place, word in enumerate(words) if word == prompt["S"]]
        assert found == {"IO": words.index(prompt["IO"]), "S1": s_places[0], "S2": s_places[1], "end": len(words) - 1}
    # Punctuation aside, S2 stands at five different places of these prompts.
    places = prompts.role("S2").tolist()
    stops = [sum(token in ".," for token in row[:at]) for row, at in zip(prompts.str_tokens, places, strict=True)]
    assert len({place - before for place, before in zip(places, stops, strict=True)}) == 5
    names = tuple({prompt[key]: 0 for prompt in published for key in ("IO", "S")})
    assert torch.equal(flipped(reader(tokenizer), records, names, 0, None, "ABC").lengths, prompts.lengths)


def test_a_name_that_stands_elsewhere_too_is_an_error():
    with pytest.raises(InputError, match="name 'Ann' once and 'Bob' twice"):
        roles_of(("Ann", " and", " Bob", " met", " Ann", ".", " Bob"), "Ann", "Bob")


@pytest.mark.real
def test_the_default_model_has_names_enough(smollm2):
    task = ioi(smollm2, 36, bos=True)
    assert len(task.make.args[2]) >= 100
    for how in task.corruptions:
        assert torch.equal(task.corrupt(how).lengths, task.prompts.lengths)
    assert at(task.prompts, "S2") == [record.subject for record in records_of(task)]
