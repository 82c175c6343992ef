import csv
import json

import numpy as np
import pytest
import torch
from tokenizers import normalizers

from tests.readers import entries_of, reader, unchecked, word_tokenizer
from unweave.errors import InputError
from unweave.tasks import TASKS, make_task, pairs, read_pairs

CLEAN = ["When Mary and John went out, John gave a book to", "After Ann met Bob, Ann said hello to"]
CORRUPTED = ["When Mary and John went out, Mary gave a book to", "After Ann met Bob, Bob said hello to"]
ROWS = [
    {"clean": CLEAN[0], "corrupted": CORRUPTED[0], "answer": " Mary", "wrong": " John", "role:where": "out"},
    {"clean": CLEAN[1], "corrupted": CORRUPTED[1], "answer": " Bob", "wrong": " Ann", "role:where": "2"},
]


@pytest.fixture(scope="module")
def model():
    return reader(word_tokenizer([*CLEAN, " Mary Mary John Bob"]))


def write(path, rows):
    """`rows` in the format of the path's suffix."""
    with path.open("w", encoding="utf-8", newline="") as file:
        if path.suffix == ".csv":
            table = csv.DictWriter(file, list(rows[0]))
            table.writeheader()
            table.writerows(rows)
        elif path.suffix == ".json":
            json.dump(rows, file, indent=1)
        else:
            file.write("\n\n".join(json.dumps(row) for row in rows) + "\n")
    return path


def test_pairs_of_unequal_length_among_each_other(model):
    task = pairs(model, CLEAN, CORRUPTED, [" Mary", " Bob"], [" John", " Ann"], {"S2": [8, 6]}, bos=True)
    corrupted = task.corrupt()
    assert task.prompts.lengths.tolist() == corrupted.lengths.tolist() == [13, 10]
    assert (task.prompts.texts, corrupted.texts) == (tuple(CLEAN), tuple(CORRUPTED))
    changed = task.prompts.tokens != corrupted.tokens
    assert changed.nonzero().tolist() == [[0, 8], [1, 6]]
    assert corrupted.role("S2").tolist() == [8, 6]
    assert entries_of(corrupted) == entries_of(task.prompts)
    assert corrupted.str_tokens[0][8] == " Mary"
    assert task.corruptions == ("given",)
    assert corrupted.source["corruption"] == "given"


def test_wrong_answers_may_be_left_out(model):
    assert pairs(model, CLEAN, CORRUPTED, [" Mary", " Bob"]).prompts.wrong is None


def test_given_pairs_have_one_corruption(model):
    task = pairs(model, CLEAN, CORRUPTED, [" Mary", " Bob"])
    assert task.corrupt("given").texts == task.corrupt().texts == tuple(CORRUPTED)
    with pytest.raises(InputError, match="knows given; got 'ABC'"):
        task.corrupt("ABC")


@pytest.mark.parametrize(
    ("clean", "corrupted", "message"),
    [
        ([], [], "clean: expected at least one"),
        (CLEAN, CORRUPTED[:1], "corrupted: expected a list with one entry for each of the 2 prompts, got 1"),
        (CLEAN[:1], CORRUPTED[0], "corrupted: expected a list"),
        (
            CLEAN,
            ["When Mary", "After Ann met"],
            r"prompt 1: the clean prompt has 12 tokens .* one 2 \(2 pairs in all\)",
        ),
        (CLEAN[1:], ["After Ann met, Bob said hello to"], r"9 tokens .* 8; .*' met', ' Bob', ','.* and \[' met', ','"),
    ],
)
def test_what_is_no_pair(model, clean, corrupted, message):
    with pytest.raises(InputError, match=message):
        pairs(model, clean, corrupted, [" Mary"] * len(clean))


@pytest.mark.parametrize("suffix", [".csv", ".json", ".jsonl"])
def test_files(model, tmp_path, suffix):
    task = read_pairs(model, write(tmp_path / f"mine{suffix}", ROWS), bos=True)
    given = pairs(model, CLEAN, CORRUPTED, [" Mary", " Bob"], [" John", " Ann"], {"where": ["out", 2]}, bos=True)
    for mine, other in ((task.prompts, given.prompts), (task.corrupt(), given.corrupt())):
        assert torch.equal(mine.tokens, other.tokens)
        assert torch.equal(mine.role("where"), other.role("where"))
        for which in ("answers", "wrong"):
            assert entries_of(mine, which) == entries_of(other, which)
    assert task.name == task.prompts.source["task"] == f"mine{suffix}"


def test_a_byte_order_mark_and_other_columns_are_left_aside(model, tmp_path):
    path = write(tmp_path / "mine.csv", [{**row, "note": "x"} for row in ROWS])
    path.write_text("\ufeff" + path.read_text(encoding="utf-8"), encoding="utf-8")
    assert len(read_pairs(model, path).prompts) == 2


def test_spaces_may_be_added(model, tmp_path):
    path = write(tmp_path / "mine.csv", [{**row, "answer": row["answer"].strip()} for row in ROWS])
    with pytest.raises(InputError, match=r"'Mary' \(mine\.csv line 2.*'Bob' \(mine\.csv line 3.*space='add'"):
        read_pairs(model, path)
    spaced = read_pairs(model, write(tmp_path / "spaced.csv", ROWS))
    assert entries_of(read_pairs(model, path, space="add").prompts) == entries_of(spaced.prompts)


@pytest.mark.parametrize("suffix", [".csv", ".json", ".jsonl"])
@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("wrong", None, "'wrong'"),
        ("answer", "", "'answer'"),
        ("role:where", "", "'role:where' is missing"),
        ("role:where", "John", "role 'where': 'John' stands 2 times"),
        ("role:where", "99", "position 99 lies outside"),
        ("corrupted", "After", "the clean prompt has 12 tokens and the corrupted one 1"),
        ("answer", " Nobody", "' Nobody'"),
    ],
)
def test_a_row_that_does_not_fit_is_named(model, tmp_path, suffix, column, value, message):
    broken = {**ROWS[0], column: value}
    place = {".csv": "line 3", ".json": "entry 2", ".jsonl": "line 3"}[suffix]
    path = write(tmp_path / f"mine{suffix}", [ROWS[1], broken])
    with pytest.raises(InputError, match=message) as error:
        read_pairs(model, path)
    assert f"mine{suffix} {place}" in str(error.value)


@pytest.mark.parametrize("missing", ["clean", "corrupted", "answer", "wrong"])
@pytest.mark.parametrize("suffix", [".csv", ".json", ".jsonl"])
def test_a_missing_column_is_named_with_its_line(model, tmp_path, suffix, missing):
    rows = [{key: value for key, value in row.items() if key != missing} for row in ROWS]
    place = {".csv": "line 1", ".json": "entry 1", ".jsonl": "line 1"}[suffix]
    with pytest.raises(InputError, match=rf"mine\{suffix} {place}: .*'{missing}' is missing"):
        read_pairs(model, write(tmp_path / f"mine{suffix}", rows))


HEADER = "clean,corrupted,answer,wrong\n"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "", "a.csv is empty"),
        ("a.jsonl", " \n\n", "a.jsonl is empty"),
        ("a.json", "[]", "a.json holds no pairs"),
        ("a.csv", HEADER, "a.csv holds no pairs"),
        ("a.csv", HEADER + "\nOne, two,Three, four, Mary, John\n", "a.csv line 3: 6 cells, and the header has 4"),
        ("a.csv", HEADER + '"One,two', "a.csv line 2: not CSV"),
        ("a.json", '[\n{"clean": }]', "a.json line 2: not JSON"),
        ("a.json", '{"clean": "x"}', "expected a list of objects, got dict"),
        ("a.json", '["x"]', "a.json entry 1: expected an object"),
        ("a.jsonl", '{"clean":\n', "a.jsonl line 1 column 10: not JSON"),
        ("a.jsonl", "\n\n3\n", "a.jsonl line 3: expected an object"),
        ("a.jsonl", '{"clean": 3, "corrupted": "b", "answer": "c", "wrong": "d"}', "'clean' should be a text"),
        ("a.txt", "x", "ends in .jsonl, .json, .csv"),
    ],
)
def test_files_that_cannot_be_used(model, tmp_path, name, content, message):
    path = tmp_path / name
    path.write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=message):
        read_pairs(model, path)


def test_files_that_cannot_be_read(model, tmp_path):
    with pytest.raises(InputError, match="there is no such file"):
        read_pairs(model, tmp_path / "none.csv")
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(InputError, match="cannot be read"):
        read_pairs(model, tmp_path / "folder.csv")
    (tmp_path / "bytes.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="not UTF-8"):
        read_pairs(model, tmp_path / "bytes.csv")


def test_a_text_may_hold_a_line_break(model, tmp_path):
    rows = [{**ROWS[0], "role:where": "out"}, {**ROWS[1], "clean": "After\nAnn", "corrupted": "Ann", "role:where": "0"}]
    with pytest.raises(InputError, match=r"mine\.csv line 4: the clean prompt has 3 tokens"):
        read_pairs(model, write(tmp_path / "mine.csv", rows))


def test_tasks_are_made_by_name_or_path(model, tmp_path):
    path = write(tmp_path / "mine.jsonl", ROWS)
    assert make_task(model, str(path), {"bos": True, "seed": None}).prompts.bos
    assert {"ioi", "ioi-fixed", "palindromes", "repeated-tokens"} <= set(TASKS)
    assert all(info.description for info in TASKS.values())
    assert make_task(model, str(path)).question.startswith(
        "After “When Mary and John went out, John gave a book to” comes"
    )
    with pytest.raises(InputError, match=r"task 'iou' is unknown; expected ioi, ioi-fixed, .*, or a file"):
        make_task(model, "iou")
    with pytest.raises(InputError, match="takes no n_prompts; it takes bos, space"):
        make_task(model, str(path), {"n_prompts": 3})


@pytest.mark.parametrize(("space", "answer"), [("check", " Ann"), ("as_is", " Ann"), ("add", " Ann"), ("add", "Ann")])
def test_an_answer_that_is_the_wrong_one_too_is_named(model, space, answer):
    with pytest.raises(InputError, match="prompt 2"):
        pairs(model, CLEAN, CORRUPTED, [" Mary", answer], [" John", " Ann"], space=space)


def test_words_of_one_token_are_one_answer(model):
    tokenizer = word_tokenizer([*CLEAN, " mary john"])
    tokenizer.backend_tokenizer.normalizer = normalizers.Lowercase()
    with pytest.raises(InputError, match="prompt 1"):
        pairs(reader(tokenizer), CLEAN, CORRUPTED, [" Mary", " john"], [" mary", " mary"], space="as_is")


@pytest.mark.parametrize("twin", [CLEAN[1], "After Xerxes met Bob, Ann said hello to"])
def test_a_prompt_that_is_its_own_corruption_is_named(model, twin):
    """Also where the texts differ in a word that the tokenizer does not know."""
    clean = CLEAN[1] if twin == CLEAN[1] else twin.replace("Xerxes", "Yvonne")
    with pytest.raises(InputError, match=r"prompt 2: .*same tokens"):
        pairs(model, [CLEAN[0], clean], [CORRUPTED[0], twin], [" Mary", " Bob"])


@pytest.mark.parametrize("suffix", [".csv", ".json", ".jsonl"])
@pytest.mark.parametrize(
    "changed", [{"wrong": " Mary"}, {"wrong": "Mary"}, {"corrupted": CLEAN[0]}, {"cluster": ""}], ids=str
)
def test_a_pair_that_asks_nothing_is_named_with_its_line(model, tmp_path, suffix, changed):
    rows = [{**row, "cluster": "x"} for row in ROWS]
    path = write(tmp_path / f"mine{suffix}", [rows[1], {**rows[0], **changed}])
    with pytest.raises(InputError, match=f"mine{suffix} {'entry 2' if suffix == '.json' else 'line 3'}"):
        read_pairs(model, path, space="add")


@pytest.mark.parametrize("column", ["cluster", "clusters"])
@pytest.mark.parametrize("suffix", [".csv", ".json", ".jsonl"])
def test_pairs_name_their_clusters(model, tmp_path, suffix, column):
    path = write(
        tmp_path / f"mine{suffix}", [{**row, column: name} for row, name in zip(ROWS * 2, "baca", strict=True)]
    )
    task = read_pairs(model, path)
    assert entries_of(task.prompts, "clusters") == entries_of(task.corrupt(), "clusters") == [0, 1, 2, 1]
    both = pairs(model, CLEAN * 2, CORRUPTED * 2, [" Mary", " Bob"] * 2, clusters=["x", "y", "z", "z"])
    assert entries_of(both.prompts, "clusters") == [0, 1, 2, 2]


def test_clusters_have_one_column(model, tmp_path):
    path = write(tmp_path / "mine.csv", [{**row, "cluster": "a", "clusters": "b"} for row in ROWS])
    with pytest.raises(InputError, match="'cluster' and 'clusters'"):
        read_pairs(model, path)


def test_pairs_that_are_each_others_corruption_are_one_cluster(model):
    assert pairs(model, CLEAN, CORRUPTED, [" Mary", " Bob"]).prompts.clusters is None
    task = pairs(model, [*CLEAN, CORRUPTED[0]], [*CORRUPTED, CLEAN[0]], [" Mary", " Bob", " John"])
    assert entries_of(task.prompts, "clusters") == entries_of(task.corrupt(), "clusters") == [0, 1, 0]


@pytest.mark.parametrize(
    ("column", "given"),
    [
        (column, given)
        for column in ("clean", "corrupted", "answer", "wrong")
        for given in ({" Mary"}, " Mary", [{" Mary"}, {" Bob"}], [3, 4], [" Mary"], {"a": " Mary"}, 3)
    ],
    ids=str,
)
def test_what_is_no_column_of_texts_is_named(model, column, given):
    columns = {"clean": CLEAN, "corrupted": CORRUPTED, "answer": [" Mary", " Bob"], "wrong": [" John", " Ann"]}
    with unchecked(), pytest.raises(InputError, match=f"{column}|texts|1 prompts"):
        pairs(model, **{**columns, column: given})


def test_columns_of_arrays(model):
    columns = [CLEAN, CORRUPTED, [" Mary", " Bob"], [" John", " Ann"]]
    task = pairs(model, *map(np.array, columns), roles={"S2": np.array([8, 6])})
    assert task.prompts == pairs(model, *columns, roles={"S2": [8, 6]}).prompts
