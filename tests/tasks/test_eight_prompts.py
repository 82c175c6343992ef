import pytest
import torch

from tests.readers import ioi_texts, reader, word_tokenizer
from unweave.errors import InputError
from unweave.metrics import Accuracy, LogitDiff
from unweave.tasks import ioi_fixed

# Prompt and answer, in the order in which the field's introductions print them.
EXPECTED = [
    ("When John and Mary went to the shops, John gave the bag to", "Mary", "John"),
    ("When John and Mary went to the shops, Mary gave the bag to", "John", "Mary"),
    ("When Tom and James went to the park, James gave the ball to", "Tom", "James"),
    ("When Tom and James went to the park, Tom gave the ball to", "James", "Tom"),
    ("When Dan and Sid went to the shops, Sid gave an apple to", "Dan", "Sid"),
    ("When Dan and Sid went to the shops, Dan gave an apple to", "Sid", "Dan"),
    ("After Martin and Amy went to the park, Amy gave a drink to", "Martin", "Amy"),
    ("After Martin and Amy went to the park, Martin gave a drink to", "Amy", "Martin"),
]


@pytest.fixture(scope="module")
def model():
    return reader(word_tokenizer(ioi_texts()))


@pytest.fixture(scope="module")
def task(model):
    return ioi_fixed(model)


def test_the_prompts_and_their_answers(task, model):
    answers, wrong = (model.tokenizer.batch_decode(ids[:, None]) for ids in (task.prompts.answers, task.prompts.wrong))
    assert list(task.prompts.texts) == [text for text, _, _ in EXPECTED]
    assert answers == [f" {answer}" for _, answer, _ in EXPECTED]
    assert wrong == [f" {wrong}" for _, _, wrong in EXPECTED]
    assert task.prompts.groups.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]


def test_a_beginning_token_stands_in_front(task, model):
    assert task.prompts.bos
    assert bool((task.prompts.tokens[:, 0] == model.tokenizer.bos_token_id).all())
    assert not ioi_fixed(model, bos=False).prompts.bos


def test_the_swap_is_the_neighbours_prompt(task):
    neighbours = [1, 0, 3, 2, 5, 4, 7, 6]
    assert torch.equal(task.corrupt("swap").tokens, task.prompts.tokens[neighbours])
    assert torch.equal(task.corrupt().tokens, task.corrupt("swap").tokens)
    changed = (task.corrupt().tokens != task.prompts.tokens).nonzero()
    assert torch.equal(changed[:, 1], task.prompts.role("S2"))


def test_names_are_mentioned_where_the_roles_say(task):
    words = task.prompts.str_tokens
    for row, (_, io, subject) in enumerate(EXPECTED):
        places = {role: int(place[row]) for role, place in task.prompts.roles.items()}
        assert [words[row][places[role]].strip() for role in ("IO", "S1", "S2")] == [io, subject, subject]


def test_other_corruptions_draw_names(task):
    corrupted = task.corrupt("ABC")
    assert torch.equal(corrupted.lengths, task.prompts.lengths)
    assert (corrupted.tokens != task.prompts.tokens).sum(1).tolist() == [3] * 8
    assert corrupted.texts == task.corrupt("ABC").texts


def test_all_names_that_are_not_one_token_are_named():
    tokenizer = word_tokenizer(ioi_texts(without=frozenset({"Mary", "Sid"})))
    with pytest.raises(InputError, match=r"' Mary' .*' Sid'"):
        ioi_fixed(reader(tokenizer))


@pytest.mark.real
def test_figures_of_the_default_model(smollm2):
    task, swap = ioi_fixed(smollm2), ioi_fixed(smollm2).corrupt("swap")

    def score(metric, prompts):
        logits = smollm2.run(prompts).logits_at("end")
        return metric.score(logits.gather(1, metric.columns(task.prompts)), task.prompts)

    clean, swapped = score(LogitDiff(), task.prompts), score(LogitDiff(), swap)
    assert float(clean.mean()) == pytest.approx(4.72, abs=0.01)
    assert float(score(Accuracy(), task.prompts).mean()) == 1.0
    assert float(swapped.mean()) == pytest.approx(-float(clean.mean()), abs=1e-4)
