import re
from pathlib import Path

import pytest
import xarray as xr

import unweave as uw
from tests.views import made, made_circuits
from unweave.results import summary
from unweave.views.blocks import Answer, Text
from unweave.views.report import Fact, report_page
from unweave.views.wording import SPACE


def results() -> list:
    return [
        made.patterns(n_prompts=made.N_PROMPTS),
        made.stream("role"),
        xr.Dataset({"z": made.heads(), "v": made.heads({}, site="v")}, attrs=made.ATTRS | made.PATCHING),
        made.lens([0, 0, 0, 3, 4]),
        made.heads({(5, 1): 2.0}, **made.ATTRIBUTION, site=""),
    ]


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("report") / "new" / "index.html"
    facts = [Fact("time", "46 s")]
    made_path = uw.report(
        results(), path, title="T & t", question="Which <b>?", facts=facts, command="unweave study ioi"
    )
    assert made_path == path
    return path.read_text().replace(SPACE, " ")


def test_the_answer_comes_first(text: str):
    head = text[text.index('<header class="answer">') : text.index("</header>")]
    for words in (
        "<h1>T &amp; t</h1>",
        "Which &lt;b&gt;?",
        '<dd class="value">100 %</dd>',
        "of 20 prompts",
        "95 % interval",
        "tiny",
        "4 bits a weight, sha256 0123",
        "20 prompts of the task ioi",
        "5.1 and 3.0 carry the answer: patching their output restores 50 % and 40 %",
        "The answer is carried at S2 in layers 0 to 2 and at end from layer 4 on",
        "46 s",
        "unweave study ioi",
    ):
        assert words in head, words


def test_sections_stand_in_the_order_of_an_investigation(text: str):
    assert re.findall(r"<h2>(.*?)</h2>", text) == [
        "Does the model do the task?",
        "Where is the answer written?",
        "What carries it?",
        "Where do these heads look?",
        "How this was made",
    ]


def test_heads_look_at_roles_that_another_result_knows(text: str):
    assert "5.1 looks most at IO" in text


def test_prompts_are_shown_and_not_run(text: str):
    assert "·&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert "<script>alert" not in text
    assert '<span class="role">IO</span>' in text
    assert "The other 17 prompts" in text


def test_settings_stand_at_the_end(text: str):
    end = text[text.index('<section id="end">') :]
    for words in ("sha256 0123", "0.1.0", "activation patching"):
        assert words in end


def test_a_section_without_a_result_is_left_out(tmp_path: Path):
    text = uw.report([made.heads().drop_vars(["clean", "corrupted"])], tmp_path / "a.html").read_text()
    assert re.findall(r"<h2>(.*?)</h2>", text) == ["What carries it?", "How this was made"]
    assert "<h1>ioi in tiny</h1>" in text


def test_what_is_found_follows_the_data(tmp_path: Path):
    text = uw.report([made.heads({})], tmp_path / "a.html").read_text()
    assert "No single output carries the answer" in text
    assert "carry the answer" not in text


def test_a_page_of_ones_own_blocks():
    answer = Answer("T", "", (Fact("a", "b"),), drawing=Text(("drawn",)))
    text = report_page(answer, {"What carries it?": [Text(("body",))], "What does each head do?": []})
    assert re.findall(r"<h2>(.*?)</h2>", text) == ["What carries it?"]
    assert "body" in text
    assert text.index("drawn") < text.index("</header>")
    assert '<section id="end">' not in text


def test_a_circuit_is_drawn_in_the_answer_and_its_tests_are_the_headlines(tmp_path: Path):
    results = [
        made_circuits.head_scores(),
        made.heads(),
        made_circuits.attribution(),
        made_circuits.signals(2.0, 0.3),
        made_circuits.CIRCUIT,
        made_circuits.NAMED,
        made_circuits.evaluation(),
    ]
    text = uw.report(results, tmp_path / "a.html").read_text().replace(SPACE, " ")
    head = text[text.index('<header class="answer">') : text.index("</header>")]
    for words in (
        '<figure class="circuit"',
        "80 %",
        "heads that matter",
        "2 heads: 5.1 and 5.0",
        "20 prompts of the task",
    ):
        assert words in head, words
    assert "<h1>ioi in tiny</h1>" in text  # and not by the random tokens of the first result
    assert "5.1, mover at end; direct 0.50, end to IO 0.70" in text
    assert "<script>alert" not in text
    assert re.findall(r"<h2>(.*?)</h2>", text) == [
        "Does the model do the task?",
        "What carries it?",
        "What does each head do?",
        "Which acts through which?",
        "What happens without them?",
        "Is it position or token?",
        "Is the circuit enough?",
        "How this was made",
    ]


def test_a_circuit_alone_makes_a_report(tmp_path: Path):
    text = uw.report([made_circuits.CIRCUIT], tmp_path / "a.html").read_text()
    assert "<h1>Results</h1>" in text
    assert '<figure class="circuit"' in text


def test_what_cannot_be_reported_is_refused(tmp_path: Path):
    with pytest.raises(uw.InputError, match="results: there is none"):
        uw.report([], tmp_path / "a.html")
    with pytest.raises(uw.InputError, match=r"results\[1\]: expected a DataArray or Dataset of a method, got str"):
        uw.report([made.heads(), "x"], tmp_path / "a.html")  # type: ignore[list-item]
    (tmp_path / "file").write_text("")
    with pytest.raises(uw.InputError, match="cannot write"):
        uw.report([made.heads()], tmp_path / "file" / "a.html")


def mixed() -> list:
    """One task by two metrics, and another task by one of them."""
    loss = made.heads({(2, 2): 0.4}).assign_attrs(metric="cross-entropy", better="lower", gap=-1.0)
    loss = loss.assign_coords(clean=made.heads()["clean"] * 0.25, corrupted=made.heads()["clean"] * 0.5)
    other = made.heads({(0, 1): 0.6}).assign_attrs(task="colors")
    other = other.assign_coords(clean=made.heads()["clean"] + 5)
    return [made.heads(), loss, other]


def test_a_report_of_several_subjects_says_of_each_figure_and_fact_what_it_is_of(tmp_path: Path):
    text = uw.report(mixed(), tmp_path / "a.html").read_text().replace(SPACE, " ")
    head = text[text.index('<header class="answer">') : text.index("</header>")]
    assert "<h1>ioi and colors in tiny</h1>" in head
    for value, note in (("5.1", "task ioi, logit difference"), ("2.2", "cross-entropy"), ("0.1", "task colors")):
        (line,) = [
            line
            for line in head.split("<dt>")
            if line.startswith("carried by") and f"{value} carr" in line.replace(" and 3.0", "")
        ]
        assert note in line
    assert '<dl class="headlines">' not in head  # no number speaks for all
    for score in ("mean logit difference 4.1", "mean cross-entropy 1.0", "mean logit difference 9.1"):
        assert score in head
    titles = re.findall(r"<h3>(.*?)</h3>", text)
    assert len(titles) == len([title for title in titles if re.match(r"Task (ioi|colors), |Settings|Results", title)])
    assert {title.split(": ")[0] for title in titles} >= {"Task ioi, cross-entropy", "Task colors, logit difference"}


def test_results_of_one_subject_share_its_headlines(tmp_path: Path):
    text = uw.report([made.heads(), made.stream(), summary(made.heads())], tmp_path / "a.html").read_text()
    assert '<dl class="headlines">' in text
    assert "Task ioi" not in text


def test_heads_do_not_look_at_roles_of_other_prompts(tmp_path: Path):
    looks = made.patterns(n_prompts=made.N_PROMPTS)
    other = made.stream("role").assign_coords(clean=made.heads()["clean"] + 5)
    text = uw.report([looks, other], tmp_path / "a.html").read_text()
    assert "5.1 looks most at IO" not in text
    assert "5.1 looks most at token 4" in text


def test_slices_means_and_summaries_make_a_report(tmp_path: Path):
    part = made.stream().isel(pos=-1)
    both = summary(xr.Dataset({"z": made.heads(), "v": made.heads({}, site="v")}))
    results = [
        made.heads().isel(prompt=0),
        part,
        made.heads().mean("prompt"),
        both,
        made.heads().mean(),
        made.heads().T,
    ]
    text = uw.report(results, tmp_path / "a.html").read_text()  # type: ignore[arg-type]
    assert "position 8" in text
    # Tokens of one position are no prompt.
    assert "The prompts" not in uw.report([part], tmp_path / "b.html").read_text()


def test_two_circuits_are_refused(tmp_path: Path):
    with pytest.raises(uw.InputError, match=r"results\[1\]: there is a circuit already"):
        uw.report([made_circuits.CIRCUIT, made_circuits.CIRCUIT], tmp_path / "a.html")
