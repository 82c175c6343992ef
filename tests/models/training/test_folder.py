"""A training's folder: what is refused, what a crash leaves, and the checkpoints as models."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import unweave as uw
from tests.models.training.lessons import CONFIG, RECIPE, lessons, stop_after

REPOSITORY = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("training") / "run"
    uw.training.train(CONFIG, lessons(), RECIPE, path)
    return path


def test_checkpoints_are_models_in_order(folder):
    run = uw.training.checkpoints(folder)
    assert list(run) == [0, 1, 2, 3]
    assert len(run) == 4
    tokens, labels = lessons().held_out.tokens, lessons().held_out.labels
    for row in run.history:
        model = run[row.epoch]
        right = model.run(tokens).logits[:, -1].argmax(-1) == labels
        assert right.float().mean().item() == pytest.approx(row.accuracy)
    assert len({model.config.revision for model in run.values()}) == 4
    assert torch.equal(run[3].weights.w_e, uw.load_model(folder, device="cpu").weights.w_e)


def test_an_epoch_that_there_is_not(folder):
    run = uw.training.checkpoints(folder)
    assert 4 not in run
    assert run.get(4) is None
    with pytest.raises(KeyError, match="has epochs 0 to 3, and none 4"):
        run[4]


def test_the_record_says_how_it_was_trained(folder):
    record = json.loads((folder / "training.json").read_text(encoding="utf-8"))
    assert record["recipe"] == {"epochs": 3, "batch": 32, "lr": 0.001, "weight_decay": 0.0, "seed": 7}
    assert record["data"] == {"task": "palindromes", "seed": 0, "fingerprint": lessons().fingerprint()}
    assert [row["epoch"] for row in record["history"]] == [0, 1, 2, 3]
    assert record["unweave"] == uw.__version__


@pytest.mark.parametrize(
    ("config", "data", "recipe", "says"),
    [
        (CONFIG, lessons(), replace(RECIPE, lr=0.002), "recipe.lr is 0.001 there and 0.002 here; give"),
        (CONFIG, lessons(), replace(RECIPE, epochs=5, seed=1), "recipe.epochs is 3 there and 5 here; recipe.seed is 7"),
        (replace(CONFIG, d_mlp=4), lessons(), RECIPE, "config.d_mlp is 0 there and 4 here"),
        (CONFIG, lessons(seed=3), RECIPE, "data.fingerprint is"),
    ],
)
def test_another_training_is_not_resumed(folder, config, data, recipe, says):
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with pytest.raises(uw.InputError, match="is another one") as refused:
        uw.training.train(config, data, recipe, folder, resume=True)
    assert says in str(refused.value)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_one_changed_token_makes_other_data():
    data = lessons()
    tokens = data.examples.tokens.clone()
    tokens[5, 3] += 1
    assert replace(data, examples=replace(data.examples, tokens=tokens)).fingerprint() != data.fingerprint()
    assert lessons().fingerprint() == data.fingerprint()


def test_a_training_that_is_there_is_not_written_over(folder):
    with pytest.raises(uw.InputError, match=r"holds a training already; resume it \(resume=True\)"):
        uw.training.train(CONFIG, lessons(), RECIPE, folder)


def test_a_finished_training_resumes_to_itself(folder):
    again = uw.training.train(CONFIG, lessons(), RECIPE, folder, resume=True)
    assert again.finished
    assert torch.equal(again.model.weights.w_e, uw.training.checkpoints(folder)[3].weights.w_e)


def test_a_model_that_is_there_is_not_written_over(tmp_path):
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    with pytest.raises(uw.InputError, match="holds a model already"):
        uw.training.train(CONFIG, lessons(), RECIPE, tmp_path)
    assert (tmp_path / "config.json").read_text(encoding="utf-8") == "{}"


def test_nothing_to_resume(tmp_path):
    with pytest.raises(uw.InputError, match="no training to resume"):
        uw.training.train(CONFIG, lessons(), RECIPE, tmp_path / "nowhere", resume=True)
    assert not (tmp_path / "nowhere").exists()
    with pytest.raises(uw.InputError, match="resume: which training"):
        uw.training.train(CONFIG, lessons(), RECIPE, resume=True)


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(uw.InputError, match="cannot make"):
        uw.training.train(CONFIG, lessons(), RECIPE, tmp_path / "file" / "run")


def test_no_training_in_a_folder(tmp_path):
    with pytest.raises(uw.InputError, match=r"no training in .* give a folder that uw\.training\.train wrote"):
        uw.training.checkpoints(tmp_path)


@pytest.mark.parametrize("name", ["state.safetensors", "training.json"])
def test_a_damaged_file_is_named(tmp_path, name):
    with pytest.raises(uw.Interrupted):
        uw.training.train(CONFIG, lessons(), RECIPE, tmp_path, progress=stop_after(9))
    (tmp_path / name).write_bytes(b"{damaged")
    with pytest.raises(uw.ModelError, match=name):
        uw.training.train(CONFIG, lessons(), RECIPE, tmp_path, resume=True)


def test_a_crash_between_two_files_repeats_the_epoch(folder, tmp_path, monkeypatch):
    """Model and history of epoch 2 are written, the state is still that of epoch 1."""
    from unweave.models.training import folder as written

    real, wrote = written.write_tensors, []

    def crash(target: Path, tensors) -> None:
        wrote.append(target)
        if len(wrote) == 3:
            raise RuntimeError("the lights went out")
        real(target, tensors)

    monkeypatch.setattr(written, "write_tensors", crash)
    with pytest.raises(RuntimeError, match="lights"):
        uw.training.train(CONFIG, lessons(), RECIPE, tmp_path)
    monkeypatch.undo()
    assert len(uw.training.checkpoints(tmp_path)) == 3
    resumed = uw.training.train(CONFIG, lessons(), RECIPE, tmp_path, resume=True)
    for epoch, model in uw.training.checkpoints(folder).items():
        assert torch.equal(model.weights.w_e, uw.training.checkpoints(tmp_path)[epoch].weights.w_e)
    assert resumed.history == uw.training.checkpoints(folder).history
