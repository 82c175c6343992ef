from dataclasses import replace

import pytest

import unweave as uw
from tests.readers import entries_of, ioi_texts, reader, word_tokenizer
from tests.tasks.test_factual import own_texts
from tests.tasks.test_syllogism import KNOWN, own_reader
from unweave.models.config import Config
from unweave.tasks import TASKS, make_task, syllogism
from unweave.tasks.syllogism_words import own_words
from unweave.tasks.templates import own_templates


def classifier(config: Config) -> Config:
    return replace(config, d_vocab=10, d_vocab_out=2, n_ctx=12)


@pytest.fixture(scope="module")
def models() -> dict:
    fixed = reader(word_tokenizer(ioi_texts()))
    small = reader(None)
    return {
        "ioi": fixed,
        "ioi-fixed": fixed,
        "syllogism": own_reader(),
        "factual": reader(word_tokenizer([*own_texts(), KNOWN])),
        "palindromes": replace(small, config=classifier(small.config)),
        "repeated-tokens": small,
    }


@pytest.mark.parametrize("name", TASKS)
def test_every_task_is_as_its_entry_says(models, name):
    info = TASKS[name]
    wanted = {"n_prompts": 4, "seed": 1, "threshold": None}
    options = {key: value for key, value in wanted.items() if key in info.options}
    task = info.build(models[name], **options)
    assert task.name == name
    assert task.corruptions == info.corruptions
    assert task.description
    assert task.title
    assert task.title != name
    assert task.question.count("?")
    for how in task.corruptions:
        twin = task.corrupt(how)
        assert len(twin) == len(task.prompts)
        assert (twin.lengths == task.prompts.lengths).all()
        assert (twin.tokens != task.prompts.tokens).any(1).all()
        assert replace(task.prompts, clusters=twin.clusters) == task.prompts
        assert twin.source["corruption"] == how
    assert task.prompts.source["task"] == name


@pytest.mark.parametrize(
    ("name", "n_prompts", "expected"),
    [
        ("ioi", 20, [*range(18), 0, 1]),
        ("ioi-fixed", None, [0, 0, 1, 1, 2, 2, 3, 3]),
        ("palindromes", 4, None),
        ("repeated-tokens", 4, None),
    ],
)
def test_prompts_that_belong_together_are_clusters(models, name, n_prompts, expected):
    clusters = make_task(models[name], name, {"n_prompts": n_prompts}).prompts.clusters
    assert (None if clusters is None else clusters.tolist()) == expected


def test_syllogisms_of_one_pair_of_opposites_are_a_cluster(models):
    prompts = syllogism(models["syllogism"], 100, threshold=None).prompts
    opposites = [frozenset(pair) for pair in zip(entries_of(prompts), entries_of(prompts, "wrong"), strict=True)]
    numbers = {pair: number for number, pair in enumerate(dict.fromkeys(opposites))}
    assert entries_of(prompts, "clusters") == [numbers[pair] for pair in opposites]
    assert 2 < len(numbers) < 50


def test_facts_that_share_a_word_are_a_cluster(models):
    prompts = make_task(models["factual"], "factual").prompts
    clusters, words = entries_of(prompts, "clusters"), [set(text.split()) for text in prompts.texts]
    assert clusters[0::2] == clusters[1::2]
    of_france = {number for number, found in zip(clusters, words, strict=True) if "France" in found}
    assert len([found for found in words if "France" in found]) > 1
    assert len(of_france) == 1
    assert len(set(clusters)) > 10


@pytest.mark.parametrize("name", TASKS)
def test_what_a_task_is_made_of_prints_in_a_line(models, name):
    options = {"threshold": None} if name == "syllogism" else {}
    task = TASKS[name].build(models[name], **options)
    for each in (task, TASKS[name], own_words(), own_templates()):
        assert len(repr(each)) < 700
        assert " at 0x" not in repr(each)
        assert "\n" not in repr(each)


@pytest.mark.parametrize("name", TASKS)
def test_options_that_a_task_does_not_take(name):
    with pytest.raises(uw.InputError, match="takes no zeal"):
        make_task(reader(None), name, {"zeal": 1})
