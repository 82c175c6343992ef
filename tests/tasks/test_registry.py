import inspect
from dataclasses import replace

import pytest

import unweave as uw
from tests.readers import ioi_texts, reader, word_tokenizer
from tests.tasks.test_factual import own_texts
from tests.tasks.test_syllogism import KNOWN, own_reader
from unweave.models.config import Config
from unweave.tasks import TASKS, make_task


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
        assert (twin.tokens != task.prompts.tokens).any()
        assert twin.source["corruption"] == how
    assert task.prompts.source["task"] == name


@pytest.mark.parametrize("name", TASKS)
def test_options_are_arguments(name):
    assert set(TASKS[name].options) <= set(inspect.signature(TASKS[name].build).parameters)
    with pytest.raises(uw.InputError, match="takes no zeal"):
        make_task(reader(None), name, {"zeal": 1})
