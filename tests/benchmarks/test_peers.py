"""Peers: how they are tuned and queried, and whether our PyTorch model is correct."""

import json
import os

import numpy as np
import pytest

from benchmarks import peers, timing


def test_the_fastest_setting_is_kept_and_the_first_time_does_not_count(monkeypatch):
    clock, calls = [0.0], []
    monkeypatch.setattr(timing.time, "perf_counter", lambda: clock[0])

    def make(parts, seconds):
        def work():
            calls.append(parts)
            clock[0] += [100 / parts, *seconds][calls.count(parts) - 1]

        return work

    grid = [
        dict(parts=1, seconds=(3, 3)), dict(parts=2, seconds=(9, 1)), dict(parts=4, seconds=(2, 2))
    ]  # fmt: skip
    kept = peers.tuned(make, grid, best=2)
    assert [setting["parts"] for setting, _ in kept] == [2, 4]
    assert calls == [1, 2, 4] * 3


def test_a_peer_answers_in_a_process_of_its_own(tmp_path, monkeypatch):
    (tmp_path / "some_peer.py").write_text(
        "import sys\n"
        "from benchmarks.peers import serve\n"
        "done = []\n"
        "work = lambda: done.append(sys.argv[1])\n"
        "serve('Peer 1.0', {'work': ({'threads': 2}, work)}, {'return': lambda: len(done)})\n"
    )
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:.")
    with peers.start("some_peer", 7) as ask:
        ask("work"), ask("work")
        assert ask("return") == "2"
        assert peers.facts(ask) == {"version": "Peer 1.0", "setting": {"threads": 2}}
        with pytest.raises(RuntimeError, match="some_peer"):
            ask("what it does not know")


def test_a_peer_ends_when_it_is_left_also_by_an_error(tmp_path, monkeypatch):
    (tmp_path / "some_peer.py").write_text(
        "import os\n"
        "from benchmarks.peers import serve\n"
        "serve('Peer 1.0', {}, {'process': os.getpid})\n"
    )
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:.")
    with pytest.raises(ZeroDivisionError), peers.start("some_peer") as ask:
        process = int(ask("process"))
        os.kill(process, 0)  # it lives
        1 / 0  # noqa: B018
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)


def test_settings_of_several_processes_are_all_told_where_they_differ():
    asks = [
        lambda _, threads=threads: json.dumps(
            {"version": "P", "settings": {"work": {"environments": "E", "threads": threads}}}
        ) for threads in (1, 2)
    ]  # fmt: skip
    assert peers.facts(*asks)["setting"] == {"environments": "E", "threads": "1 | 2"}
    assert peers.facts(asks[1])["setting"] == {"environments": "E", "threads": 2}


def test_what_is_not_installed_is_left_out_by_name():
    assert peers.missing("NumPy", "numpy") == {}
    reasons = peers.missing("Nobody", "no_such_module")
    (row,) = peers.left_out("train", reasons)
    assert row["what"] == "Nobody" and row["left_out"].startswith("not installed")


@pytest.fixture
def pytorch():
    """The module; PyTorch is an extra."""
    pytest.importorskip("torch")
    from benchmarks.peers import pytorch

    return pytorch


def test_steps_with_a_cache_are_the_pass_over_the_window(pytorch):
    import torch

    model = pytorch.Model(dict(width=8, num_layers=2, num_heads=2, mlp_width=8), 6).eval()
    *inputs, _ = pytorch.columns(6)
    with torch.no_grad():
        whole_BxTxA = model(*inputs)
        cache = model.empty_cache(peers.BATCH)
        for t in range(6):
            step = (x[:, t : t + 1] for x in inputs)
            logits_BxA = model.decode(cache, torch.tensor([t]), False, *step)
            np.testing.assert_allclose(logits_BxA, whole_BxTxA[:, t], atol=1e-5)


def test_parts_of_a_batch_have_the_gradient_of_all_of_it(pytorch):
    """So that PyTorch does the same work in any number of parts."""
    model = pytorch.Model(dict(width=8, num_layers=1, num_heads=2, mlp_width=8), 5)
    columns = pytorch.columns(5)
    found = []
    for parts in (1, 4):
        model.zero_grad()
        pytorch.add_gradients(pytorch.mean_loss, model, columns, parts)
        found.append(np.concatenate([p.grad.flatten() for p in model.parameters()]))
    np.testing.assert_allclose(*found, atol=1e-6)
    assert np.abs(found[0]).max() > 1e-3


def test_rooms_move_reward_and_begin_again(pytorch):
    import torch

    room, goal = pytorch.Room.new(2, 0), torch.tensor([[3, 4], [0, 0]])
    up = torch.zeros(2, dtype=torch.long)
    room = room.step(up, goal)
    assert room.position.tolist() == [[3, 4], [3, 4]] and room.reward.tolist() == [1, 0]
    for _ in range(18):
        room = room.step(up, goal)
    assert room.position.tolist() == [[0, 4], [0, 4]] and not room.is_first.any()
    room = room.step(up, goal)
    assert room.position.tolist() == [[4, 4], [4, 4]] and room.is_first.all()


def test_rooms_at_once_are_single_rooms_side_by_side():
    pytest.importorskip("stable_baselines3")
    from benchmarks.peers import stable_baselines3 as peer

    many, one = peer.DarkRooms(2), peer.DarkRoom()
    assert many.reset().tolist() == [one.reset()[0].tolist()] * 2
    for action in np.random.default_rng(0).integers(0, 5, peer.STEPS):
        seen, reward, _, over, _ = one.step(action)
        positions, rewards, dones, infos = many.step(np.array([action, action]))
        assert (rewards == reward).all() and (dones == over).all()
        shown = infos[1]["terminal_observation"] if over else positions[1]
        assert shown.tolist() == seen.tolist()
    assert positions.tolist() == [[4, 4]] * 2 and infos[0]["TimeLimit.truncated"]
