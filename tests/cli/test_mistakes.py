"""What the command cannot do is one line on stderr, which names the option; errors of the library are tested there."""

import json
import shlex
from pathlib import Path

import pytest

import unweave as uw
from tests.cli.command import Command, one_line
from unweave.circuits.circuit import Group

PAIR = {
    "clean": "The capital of France is",
    "corrupted": "The capital of Italy is",
    "answer": " Paris",
    "wrong": " Rome",
}
# A command (of the tiny model at FOLDER, if it must be loaded), and what its line must say.
MISTAKES = {
    "patch": "sites",
    "pach z": "Did you mean 'patch', 'path'?",
    "patch z --bogus": "--bogus",
    "patch z --model nowhere": "nowhere",
    "patch z --model SmolLM2": "Did you mean 'smollm2-135m'?",
    "patch z --model ''": "empty",
    "patch z --model palindrome": "palindromes",
    "patch z --task oi": "--task: there is no 'oi'. Did you mean 'ioi'?",
    "patch z --task factual --model FOLDER": "no fact",
    "patch z --metric logitdiff": "Did you mean 'logit-diff'?",
    "patch z --prompts 0": "--prompts",
    "patch z --corruption Swap --model FOLDER": "Did you mean 'swap'?",
    "patch z --dtype int8 --model FOLDER": "int8",
    "patch z --device cuda:99 --model FOLDER": "cuda:99",
    "patch z --memory plenty": "--memory",
    "patch z --direction both": "'--direction': 'both'",
    "patch z --out result.txt": ".nc or .html",
    "patch z --out taken/result.nc": "taken",
    "patch resid_pree": "Did you mean 'resid_pre'?",
    "patch embed --model FOLDER": "embed",
    "patch 'z 1.9' --model FOLDER": "heads 0 to 3 at z, got 9",
    "patch 'z @S2'": "'z @S2'",
    "patch z z": "z is named twice",
    "patch 'resid_pre 1 @s2' --model FOLDER": "Did you mean 'S2'?",
    "patch z --over layer,hed --model FOLDER": "hed",
    "patch z --over layer,layer": "--over: layer is named twice",
    "patch 'z 1.1' --over layer,head": "--over: single places such as 'z 1.1'",
    "lens --model empty": "config.json",
    "lens --model truncated": "truncated",
    "lens --model foreign": "bloom",
    "lens --model FOLDER --task none.jsonl": "none.jsonl",
    "lens --model FOLDER --task twice.csv": "line 1: there are two columns 'clean'",
    "lens --model FOLDER --task unchanged.jsonl": "line 1",
    "lens --model FOLDER --task answer.jsonl": "Paris Rome",
    "lens --model FOLDER --task ioi-fixed --prompts 5": "--prompts: the task ioi-fixed",
    "attribute --by word": "--by",
    "path --receivers 8.6": "--receivers: 'z 8.6' cannot be taken",
    "path --receivers ''": "--receivers: expected names between commas",
    "path --receivers '2.1 q, q 2.1'": "--receivers: q 2.1 is named twice",
    "path --receivers '2.1 q' --senders '2.0, 2.1' --model FOLDER": "every sender writes after it",
    "path --senders head": "--senders: 'head' is not a place",
    "path --senders 0.1+0.1": "--senders: z 0.1 is named twice",
    "path --at ende --model FOLDER": "Did you mean 'end'?",
    "path --at S2:S9 --receivers '2.1 q' --model FOLDER": "role 'S9'",
    "path --at :": "--at: expected a role",
    "path --at a:b:c": "--at: expected a role",
    "path --mlps dead": "'dead'",
    "edges --receivers 'mlp 9' --model FOLDER": "layers 0 to 2, got 9",
    "edges --senders ,": "--senders: expected names between commas",
    "edges --verify 0": "--verify",
    "knockout --heads 9 --model FOLDER": "'9' is not a place",
    "knockout --heads zz --model FOLDER": "--heads: 'zz'",
    "knockout --heads '2.1, 2.1'": "--heads: 2.1 is named twice",
    "knockout --heads '2.1, z 2.1' --model FOLDER": "is named twice",
    "knockout --heads all --mlps 1": "--heads: all of a kind go in turn",
    "knockout --heads q --layers all": "all of a kind go in turn",
    "knockout --mlps 1.2": "--mlps: expected numbers of layers",
    "knockout --mlps 3 --model FOLDER": "layers 0 to 2, got 3",
    "knockout --layers first": "--layers: expected numbers of layers",
    "knockout --at 'end, end'": "--at: end is named twice",
    "knockout --how median": "'median'",
    "knockout --source clean": "--source: 'zero'",
    "knockout --backups": "--backups: it takes only heads",
    "knockout --backups --heads z": "--backups: it takes only heads",
    "knockout --backups --heads 1.1 --mlps 0": "--backups: it takes only heads",
    "knockout --backups --heads '1.1 + q 1.2'": "--backups: it takes only heads",
    "knockout --backups --heads '1.1, 1.2'": "--heads '1.1 + 1.2'",
    "knockout --backups --heads 1.1 --measure drop": "--measure",
    "knockout --backups --heads 1.1 --metric kl --task bare.jsonl --model FOLDER": "wrong",
    "sketch --alpha 2": "--alpha",
    "sketch --threshold few": "--threshold",
    "sketch --roles S2,,S1": "--roles: expected names between commas",
    "sketch --roles S3 --model FOLDER": "role 'S3'",
    "sketch --threshold 1000 --model FOLDER": "threshold",
    "sketch --prompts 1 --model FOLDER": "1 prompt",
    "sketch --out taken/found": "taken",
    "sketch --out held": "held/circuit.json",
    "evaluate": "circuit",
    "evaluate none.json": "circuit: cannot read none.json",
    "evaluate empty.jsonl": "empty.jsonl",
    "evaluate ioi-gpt2-smal": "Did you mean 'ioi-gpt2-small'?",
    "evaluate ioi-gpt2-small --model FOLDER": "12 layers x 12 heads",
    "evaluate circuit.json --reference others": "--reference",
    "evaluate circuit.json --reference 1": "--reference",
    "evaluate circuit.json --reference 2 --task ioi-fixed --model FOLDER": "templates",
    "evaluate circuit.json --subsets -1": "--subsets",
    "evaluate circuit.json --out taken": "taken",
    "evaluate circuit.json --out held": "held/evaluation.nc",
    "show none.nc": "none.nc",
    "show empty.jsonl": "empty.jsonl",
    "study ioi --out taken/report": "taken",
    "study ioi --model nowhere": "nowhere",
    "study palindrom": "TASK: there is no 'palindrom'. Did you mean 'palindrome'?",
    "study none.csv": "none.csv",
}


@pytest.fixture
def files(tmp_path: Path, folder: Path) -> None:
    """Files and folders, most of which cannot be used."""
    (tmp_path / "taken").write_text("a file, and no folder", encoding="utf-8")
    for name in ("empty", "foreign", "truncated", "held/circuit.json", "held/evaluation.nc"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "foreign" / "config.json").write_text('{"model_type": "bloom"}', encoding="utf-8")
    for file in folder.iterdir():
        content = file.read_bytes()
        (tmp_path / "truncated" / file.name).write_bytes(content[:-50] if file.suffix == ".safetensors" else content)
    (tmp_path / "empty.jsonl").write_text("", encoding="utf-8")
    (tmp_path / "twice.csv").write_text("clean,corrupted,answer,wrong,clean\na,b,c,d,e\n", encoding="utf-8")
    (tmp_path / "bare.jsonl").write_text(json.dumps({name: PAIR[name] for name in ("clean", "corrupted")}))
    for name, change in {"answer": {"answer": " Paris Rome"}, "unchanged": {"corrupted": PAIR["clean"]}}.items():
        (tmp_path / f"{name}.jsonl").write_text(json.dumps(PAIR | change), encoding="utf-8")
    uw.Circuit((Group("late", ((2, 1),), ("end",)),)).save(tmp_path / "circuit.json")


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize("command", MISTAKES)
def test_a_mistake_is_one_line(run: Command, folder: Path, command: str) -> None:
    arguments = [str(folder) if argument == "FOLDER" else argument for argument in shlex.split(command)]
    assert run(*arguments) == 2
    one_line(run, MISTAKES[command])
