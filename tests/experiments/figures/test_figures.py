"""Every figure is run and drawn with its smoke preset; claims are judged on made-up panels."""

import json

import numpy as np
import pytest
from PIL import Image

from experiments import reproduce
from experiments.figures import FIGURES, fig16_efficiency, fig17_data, figure, presets, runs, work
from experiments.figures.runs import PRESETS, Results, jobs


@pytest.mark.parametrize("number", FIGURES)
def test_a_figure_is_run_and_drawn(number, shared, never):
    reproduce.reproduce([number], "smoke", shared, never)
    made = json.loads((shared / "figures" / f"fig{number:02}.json").read_text())
    assert set(made["runs"]) == set(FIGURES[number].runs("smoke"))
    for panel in made["panels"]:
        for line in panel.get("curves", ()):
            assert np.isfinite(line["mean"]).all() and len(line["x"]) == len(line["mean"])
            assert np.all(np.diff(line["x"]) > 0)
        for series in panel.get("series", ()):
            assert np.isfinite([p["value"]["mean"] for p in series["points"]]).all()
    assert (shared / "figures" / f"fig{number:02}.pdf").read_bytes().startswith(b"%PDF")
    with Image.open(shared / "figures" / f"fig{number:02}.png") as image:
        assert len(set(image.convert("RGB").resize((60, 40)).getdata())) > 5  # not a blank page


@pytest.fixture(scope="module")
def valid():
    """Configs already found valid, apart from their seeds: figures share most of them."""
    return set()


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("number", FIGURES)
def test_the_plan_of_a_figure_is_sound(number, preset, valid):
    """Every config is valid, and its amount of work is known."""
    for run in FIGURES[number].runs(preset).values():
        for job in jobs(run, 2):
            what = json.dumps({**job.config.to_dict(), "seed": 0}, sort_keys=True)
            if what not in valid:
                work.validation.validate(job.config)
                valid.add(what)
            assert job.work > 0
        assert run.config.preset == preset


@pytest.mark.parametrize("preset", PRESETS)
def test_contexts_are_no_longer_than_the_kept_episodes(preset):
    """Where all episodes have the same length; figure 17 drops more of them than any other."""
    for run in FIGURES[17].runs(preset).values():
        c, length = run.config, runs.episode_steps(run.config)
        episodes = c.collect.updates * c.source.ppo.rollout_steps // length
        assert -(-episodes // c.train.keep_every) * length >= c.model.context


def test_figures_share_what_they_have_in_common():
    folders = lambda number: {
        job.folder for run in FIGURES[number].runs("cpu").values() for job in jobs(run, 1)
    }
    main, contexts, prompts = map(folders, (4, 7, 5))
    assert len(main & contexts) == 3  # collect, train and evaluate: the context of 200
    assert {f for f in prompts - main if not f.startswith("evaluate/")} == set()
    assert folders(9) < main


def test_seeds_differ_in_all_but_their_histories():
    run = presets.ad("dark_room", "cpu")
    made = list(jobs(run, 3))
    assert [job.stage for job in made] == ["collect"] + ["train", "evaluate"] * 3
    assert len({job.folder for job in made}) == 7
    assert {job.histories for job in made[1:]} == {made[0].folder}
    assert [job.config.seed for job in made] == [0, 0, 0, 1, 1, 2, 2]


def test_seeds_that_are_trained_at_once_are_one_job(shared, never):
    run = presets.ad("dark_room", "smoke", {"train.seeds": 2})
    made = list(jobs(run, 3))
    assert [(job.config.seed, job.config.train.seeds) for job in made[1::2]] == [(0, 2), (2, 1)]
    work.do(shared, made, never)
    found = Results(shared, run, 3)
    assert len(found.returns) == len(found.metrics) == 3 and len(found.checkpoints) == 2
    assert [{line["seed"] for line in of_seed} for of_seed in found.metrics] == [{0}, {1}, {2}]
    assert found.config.train.seeds == 2 and len(found.normalized()) == 3
    own = presets.ad("dark_room", "paper")
    assert [job.stage for job in jobs(own, 5)] == ["collect", "train", "evaluate"]


def test_a_folder_depends_on_what_its_stage_reads_alone():
    def folders(changes):
        run = presets.ad("dark_room", "cpu", changes)
        return [job.folder for job in jobs(run, 1)]

    base = folders({})
    same = lambda changes: [a == b for a, b in zip(base, folders(changes), strict=True)]
    assert same({"rl2.discount": 0.5, "source.dqn.discount": 0.5, "mesh.fsdp": 2}) == [True] * 3
    assert same({"evaluation.episodes": 3}) == [True, True, False]
    assert same({"train.label_smoothing": 0.1}) == [True, False, False]
    assert same({"source.ppo.discount": 0.5}) == [False, False, False]


GOLDEN = ["d21fe97b84", "547c31de0d", "7d03135ee6"]


def test_a_folder_is_found_again_by_later_versions(monkeypatch):
    """A new or renamed key changes no folder. The digests are golden: if they change, every
    user's figures are run again, and CHANGELOG.md must say so."""
    run = presets.ad("dark_room", "smoke")
    made = [job.folder for job in jobs(run, 1)]
    assert [folder.rsplit("-", 1)[1] for folder in made] == GOLDEN
    older = run.config.copy_and_resolve_references()
    with older.unlocked():
        del older.optimizer.b2
    assert [job.folder for job in jobs(run._replace(config=older), 1)] == made
    renamed = run.config.copy_and_resolve_references()
    with renamed.unlocked():
        renamed.train.size_of_batch = renamed.train.batch_size
        del renamed.train.batch_size
    monkeypatch.setitem(runs.RENAMED, "train.batch_size", "train.size_of_batch")
    assert [job.folder for job in jobs(run._replace(config=renamed), 1)] == made


SEEDS = (-0.01, 0.0, 0.01)  # what is added to each value


def value(mean):
    return {"mean": mean, "by_seed": [mean + seed for seed in SEEDS]}


def curve(name, mean, prompt=0.0):
    by_seed = [[y + seed for y in mean] for seed in SEEDS]
    return {"name": name, "x": [100, 200, 400], "mean": mean, "by_seed": by_seed, "prompt": prompt,
            "final": value(mean[-1])}  # fmt: skip


LEVELS = [{"name": "optimum", "value": 1.0}, {"name": "random", "value": 0.0}]


def points(values):
    made = [{"x": str(x), "value": value(mean), "paper": None} for x, mean in values.items()]
    return [{"series": [{"name": "AD", "points": made}]}]


def data(few_tasks, many_tasks, few_histories, many_histories):
    """Figure 17: scores with 64 and 1024 tasks, and with 1 history of each and 16 of fewer."""
    line = lambda name, of: {**points(of)[0]["series"][0], "name": name}
    tasks = [line("held-out tasks", {64: few_tasks, 1024: many_tasks, 8192: 1.0})]
    histories = [
        line("held-out tasks", {1: few_histories, 4: 0.5, 16: 1.0}),
        line("training tasks", {1: 1.0, 4: 1.0, 16: 1.0}),
        line("held-out tasks, trained on 64", {4: 0.1, 16: many_histories}),
        line("training tasks, trained on 64", {4: 0.9, 16: 0.9}),
    ]
    return [
        {"title": fig17_data.LABELS["tasks"][0], "series": tasks},
        {"title": fig17_data.LABELS["histories"][0], "series": histories},
    ]


def rooms(small, large):
    """Figure 18: contexts of 1, 2 and 8 episodes, in a small and in a large room."""
    series = [
        points(dict(zip((1, 2, 8), of, strict=True)))[0]["series"][0] for of in (small, large)
    ]
    return [{"title": "Dark Room", "series": series}]


OTHERS = {"odd": 0.5, "even": -0.4, "uniform": 0.0}


def bandit(even):
    return [{"series": [
        {"name": name, "points": [{"x": x, "value": value(v)} for x, v in found.items()]}
        for name, found in {
            "AD": {"odd": 1.0, "even": even, "uniform": 0.9},
            "ED": OTHERS, "RL2, LSTM": OTHERS, "RL2, transformer": OTHERS,
        }.items()
    ]}]  # fmt: skip


def main(ad, ed, source):
    curves = [curve("AD", ad), curve("ED", ed), curve("source", source)]
    return [{"title": "Dark Room", "curves": curves, "levels": LEVELS, "xlim": 400}]


def sources(finals):
    return [{"title": "Dark Room", "final_by_task": finals, "optimum_by_task": [1.0] * 3}]


def efficiency(ad, source):
    of_source = [
        {**curve(n, source), "by_seed": [source]} for n in ("source", "source, one stream")
    ]
    return [{"title": "Dark Room", "curves": [curve("AD", ad), *of_source]}]


FLAT, RISING, SLOW = [0.1, 0.1, 0.1], [0.1, 0.5, 0.9], [0.0, 0.1, 0.2]


@pytest.mark.parametrize(
    "number, panels, held",
    [
        (3, bandit(0.9), "yyy"),
        (3, bandit(-0.5), "nyn"),
        (4, main(RISING, FLAT, SLOW), "yyy"),
        (4, main(RISING, RISING, RISING), "ynn"),
        (4, main(FLAT, FLAT, SLOW), "nyn"),
        (7, points({20: 0.5, 50: 0.6, 100: 1.2, 200: 1.5}), "y"),
        (7, points({20: 1.2, 50: 1.3, 100: 1.4, 200: 1.5}), "n"),
        (7, points({20: 0.5, 50: 0.6, 100: 1.2, 200: 0.9}), "?"),
        (9, sources([0.9, 0.95, 1.0]), "y"),
        (9, sources([0.2, 0.3, 0.25]), "n"),
        (9, sources([0.2, 0.9, 1.0]), "?"),
        (10, points({0.0: 0.2, 0.2: 0.6}), "y"),
        (10, points({0.0: 0.6, 0.2: 0.2}), "n"),
        (13, points({0.1: 1.8, 0.3: 1.8, 0.5: 1.8, 0.9: 0.2}), "yy"),
        (13, points({0.1: 1.8, 0.3: 1.8, 0.5: 1.5, 0.9: 1.6}), "nn"),
        (16, efficiency(RISING, SLOW), "yy"),
        (16, efficiency(SLOW, RISING), "nn"),
        (17, data(0.1, 0.6, 0.5, 0.2), "yy"),
        (17, data(0.5, 0.6, 0.2, 0.2), "nn"),
        (18, rooms((0.2, 0.9, 0.9), (0.2, 0.5, 0.9)), "y"),
        (18, rooms((0.2, 0.9, 0.9), (0.2, 0.9, 0.9)), "n"),
        (18, rooms((0.2, 0.5, 0.9), (0.2, 0.5, 0.9)), "n"),
        (18, rooms((0.2, 0.9, 0.9), (0.1, 0.1, 0.2)), "n"),
    ],
)
def test_claims(number, panels, held):
    """Judged on these panels. With the smoke preset, no claims are judged."""
    found = figure.judged(FIGURES[number], "cpu", panels)
    assert "".join(WORDS[claim["verdict"]] for claim in found) == held
    assert figure.judged(FIGURES[number], "smoke", panels) == []


WORDS = {figure.HOLDS: "y", figure.DOES_NOT_HOLD: "n", figure.UNDECIDED: "?"}


def test_where_a_curve_reaches_four_fifths():
    line = {"x": [100, 200, 400], "by_seed": [[0.0, 0.4, 1.2], [0.9, 1.0, 1.0], [0.1, 0.2, 0.3]]}
    assert fig16_efficiency.reached(line) == [300.0, 100.0, None]


def test_a_verdict_needs_three_seeds_that_agree():
    of = lambda *margins: figure.verdict(np.array(margins))
    assert of(0.5)["verdict"] == of(0.5, 0.5)["verdict"] == figure.UNDECIDED
    assert of(0.5, 0.5, 0.5)["verdict"] == figure.HOLDS
    assert of(-0.5, -0.5, -0.5)["verdict"] == figure.DOES_NOT_HOLD
    told = of(0.1, 0.5, 0.9)
    assert told["verdict"] == figure.UNDECIDED and told["ci95"][0] < 0 < told["ci95"][1]
    assert told["margin"] == pytest.approx(0.5) and told["by_seed"] == [0.1, 0.5, 0.9]


@pytest.mark.parametrize(
    "ad, ed, held",
    [
        ([(0.2, RISING), (0.95, [0.9, 0.95, 0.97])], [(0.2, FLAT), (0.9, [0.9] * 3)], "yy"),
        ([(0.5, FLAT), (0.95, FLAT)], [(0.2, FLAT), (0.9, FLAT)], "nn"),
    ],
)
def test_claims_of_prompts(ad, ed, held):
    panels = [
        {"title": "", "curves": [curve("", mean, prompt) for prompt, mean in of], "levels": LEVELS}
        for of in (ad, ed)
    ]
    found = figure.judged(FIGURES[5], "cpu", panels)
    assert "".join(WORDS[claim["verdict"]] for claim in found) == held


def test_bounds_are_those_of_the_tasks_shown(shared, never):
    """A perfect and a random agent have normalised returns of one and zero."""
    run = presets.ad("dark_room", "smoke")
    work.do(shared, list(jobs(run, 1)), never)
    found = Results(shared, run, 1)
    for policy, score in ((found.optimum, 1.0), (found.chance, 0.0)):
        found.returns = np.broadcast_to(policy[None, :, None, None], found.returns.shape)
        np.testing.assert_allclose(found.normalized(), score, atol=1e-6)
