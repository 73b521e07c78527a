"""What carried a recommendation: against the model's own answers, and against causes that were planted."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from hmar.data.snapshot import Snapshot
from hmar.errors import DataError, ModelError
from hmar.evaluate.adapt import Adapted
from hmar.explain import figures
from hmar.explain.explanation import Explanation, end_of, explain
from hmar.explain.past import Past
from hmar.explain.ranked import ranked
from hmar.explain.sample import sample
from hmar.explain.screen import shown
from hmar.models import MODELS
from hmar.models.base import Recommender, Vocabulary
from tests.support.arrays import Event, random_users, write_impressions, write_snapshot
from tests.support.contract import CASES, CONFIGS
from tests.support.models import build, counts_of_rows, pack_rows, stirred
from tests.support.tiny_snapshot import make_snapshot
from tests.support.training import make_trainer, train_settings

L, ITEMS, BEHAVIORS = 9, 14, 3
USERS = random_users(30, ITEMS, BEHAVIORS, 18, seed=7, shortest=2)
PICTURED = ("hmar", "atrank", "dfar")
"""Whose pictures the fast lane draws, too: one model of every kind."""
SOUND = [pytest.param(*case, id="-".join(case[:2])) for case in CASES if not case[2].get("mirrored_context")]


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    path = tmp_path_factory.mktemp("explain") / "snapshot"
    return write_impressions(write_snapshot(path, USERS, items=ITEMS))


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def explained(model: Recommender, snapshot: Snapshot, user: int, item: int, max_length: int = L) -> Explanation:
    return explain(model, Past.of(snapshot, user, end_of(snapshot), max_length, model.reads), item)


def margin(model: Recommender, events: list[Event], snapshot: Snapshot, item: int, had: set[int]) -> float:
    """Of a history that was recorded as these events, all of which the model reads."""
    histories = pack_rows([events], BEHAVIORS, asked=snapshot.target_behavior)
    histories.now[:] = end_of(snapshot)
    seen = counts_of_rows([events], BEHAVIORS)
    others = [i for i in range(ITEMS) if i not in had and i != item]
    with torch.no_grad():
        scores = model.score(histories, seen, torch.tensor([[item, *others]]))[0].double()
    return float(scores[0] - scores[1:].mean())


@pytest.mark.parametrize(("name", "label", "config"), SOUND)
def test_terms_add_up_and_differences_are_the_models_own(
    name: str, label: str, config: dict[str, Any], shop: Snapshot
) -> None:
    model = stirred(build(name, config, shop))
    user = next(u for u, events in enumerate(USERS) if 5 <= len(events) <= L)
    events, item = USERS[user], USERS[user][-2][0]
    found = explained(model, shop, user, item)
    had = {event[0] for event in events}
    whole = margin(model, events, shop, item, had) if model.reads is None else found.margin
    assert found.margin == pytest.approx(whole, rel=1e-4, abs=1e-4)
    if model.family == "encoder":
        assert sum(found.terms.values()) == pytest.approx(found.margin, rel=1e-4, abs=1e-4)
    if model.reads is None:
        for place, lost in zip(found.events, found.of_event, strict=True):
            left = [event for n, event in enumerate(events) if n != place]
            expected = whole - margin(model, left, shop, item, had)
            assert lost == pytest.approx(expected, rel=1e-3, abs=1e-3), place
        for code, lost in found.of_behavior.items():
            left = [event for event in events if event[1] != code]
            assert lost == pytest.approx(whole - margin(model, left, shop, item, had), rel=1e-3, abs=1e-3)
    for layer in found.attention:
        assert found.attention_by_behavior(layer).shape == (BEHAVIORS,)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in PICTURED else [pytest.mark.slow]) for name in MODELS]
)
def test_text_and_pictures(name: str, shop: Snapshot, tmp_path: Path) -> None:
    from rich.console import Console

    from hmar.evaluate.plots import write

    config = next(iter(CONFIGS.get(name, {"default": {}}).values()))
    model = stirred(build(name, config, shop))
    found = explained(model, shop, 1, USERS[1][-1][0])
    console = Console(record=True, width=200)
    console.print(shown(found, lambda item: f"item-{item}", shop.behaviors, events=3))
    text = console.export_text()
    assert f"{found.margin:.4f}" in text
    if found.of_event.any():
        assert f"item-{int(found.past.item[found.events[np.abs(found.of_event).argmax()]])}" in text
    figure = figures.carried(found, lambda item: f"item-{item}", shop.behaviors, "why")
    assert write(figure, tmp_path / "why.png").stat().st_size > 5000
    of_many = sample(model, shop, 5, max_length=L)
    assert of_many is not None
    assert of_many.users == 5
    assert write(figures.sampled(of_many), tmp_path / "many.png").stat().st_size > 5000


def test_names_of_many_terms_stand_apart(shop: Snapshot) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    model = stirred(build("hmar_plus", {}, shop))
    found = explained(model, shop, 1, USERS[1][-1][0])
    many = replace(found, terms={f"a term of some length, {n}": 0.1 * n for n in range(14)})
    figure = figures.carried(many, lambda item: f"item-{item}", shop.behaviors, "why")
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    panel = next(axes for axes in figure.axes if "sum of" in axes.get_title())
    boxes = [label.get_window_extent(canvas.get_renderer()) for label in panel.get_yticklabels()]
    assert len(boxes) == 14
    assert all(above.y0 >= below.y1 for above, below in pairwise(boxes))


def test_times_say_their_zone(shop: Snapshot) -> None:
    from rich.console import Console

    found = explained(stirred(build("sasrec", {}, shop)), shop, 1, USERS[1][-1][0])
    console = Console(record=True, width=200)
    console.print(shown(found, str, shop.behaviors))
    assert "time (UTC)" in console.export_text()


def test_a_user_who_has_used_up_everything_is_named_as_in_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot = make_snapshot(tmp_path, [(user, 5 + n, "buy", n) for user in ("ann", "bob") for n in range(3)])
    monkeypatch.setattr("hmar.explain.ranked.top_items", lambda *given, **named: (np.full((1, 3), -1), None))
    with pytest.raises(DataError, match="user 'bob' has used up everything"):
        ranked(build("sasrec", {}, snapshot), snapshot, snapshot.users.column("user_id").to_pylist().index("bob"), L, 3)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["hmar", "hmar_plus", "sasrec"])
def test_the_only_cause_carries_the_recommendation(name: str, tmp_path: Path) -> None:
    """Users view at random, as often as they like; once they put an item c in the cart, and at last they buy c + 10."""
    rng = np.random.default_rng(0)
    users: list[list[Event]] = []
    for _ in range(300):
        views = [(20 + int(rng.integers(20)), 0) for _ in range(rng.integers(3, 9))]
        key = int(rng.integers(10))
        views.insert(int(rng.integers(len(views) + 1)), (key, 1))
        users.append([(item, behavior, 10 * t) for t, (item, behavior) in enumerate([*views, (10 + key, 2)])])
    snapshot = write_snapshot(tmp_path / "snapshot", users, items=40, held_out=0)
    settings = train_settings(
        snapshot, tmp_path / "run", model=name, loss="cross_entropy", max_epochs=12, eval_every=20, lr=1e-2,
        config={"d": 16, "dropout": 0.0, "positions": 20}, max_length=20,
    )  # fmt: skip
    trainer = make_trainer(settings)
    trainer.fit()
    model, hits = trainer.model.eval(), 0
    for events in users[:40]:
        item, behavior, time = (np.array(column[:-1], np.int64) for column in zip(*events, strict=True))
        past = Past(item, behavior, time * 1_000_000, np.ones(len(item), bool), BEHAVIORS, 2, events[-1][2] * 1_000_000)
        found = explain(model, past, events[-1][0])
        hits += int(behavior[found.of_event.argmax()] == 1)
    assert hits >= 38


def test_recent_names_the_latest_event_with_the_item(tmp_path: Path) -> None:
    snapshot = write_snapshot(tmp_path, [[(3, 0, 0), (5, 1, 10), (3, 1, 20), (4, 0, 30)]], items=6)
    model = build("recent", {}, snapshot)
    found = explained(model, snapshot, 0, 3)
    assert found.of_event.argmax() == 2
    assert found.of_event[[1]] > 0, "places count from the start of the history"
    assert explained(model, snapshot, 0, 4).of_event.argmax() == 3


def test_hbi_is_a_term_of_its_own(shop: Snapshot) -> None:
    model = stirred(build("hmar", {"d": 8, "positions": 20}, shop))
    user = next(u for u, events in enumerate(USERS) if len(events) > 3)
    item, behavior = USERS[user][0][:2]
    found = explained(model, shop, user, item)
    name = f"HBI {shop.behaviors[behavior]}"
    count = sum(event[:2] == (item, behavior) for event in USERS[user])
    history, _ = found.past.without(np.zeros((1, len(found.past.item)), bool))
    with torch.no_grad():
        state = model.last_states(history)[0]  # type: ignore[operator]
        per_count = float(state @ model.count_vectors()[behavior])  # type: ignore[operator]
    assert found.terms[name] == pytest.approx(count * per_count, rel=1e-4)
    never = next(i for i in range(ITEMS) if i not in {event[0] for event in USERS[user]})
    terms = explained(model, shop, user, never).terms
    assert not any(value for term, value in terms.items() if term.startswith("HBI"))


def test_nothing_left_has_no_difference(shop: Snapshot, tmp_path: Path) -> None:
    snapshot = write_snapshot(tmp_path, [[(3, 0, 0)], []], items=6)
    model = build("sasrec", {"d": 8}, snapshot)
    found = explained(model, snapshot, 0, 2)
    assert np.isnan(found.of_event).all()
    assert np.isnan(found.of_behavior[0])
    empty = explained(model, snapshot, 1, 2)
    assert (len(empty.events), empty.of_behavior, empty.attention) == (0, {}, {})


def test_an_older_model_on_a_newer_snapshot(shop: Snapshot, tmp_path: Path) -> None:
    """Items that the model does not know are no events for it and cannot be explained; all else is as before."""
    model = stirred(build("hmar", {"d": 8, "positions": 20}, shop))
    moved = [[(item + 2, behavior, time) for item, behavior, time in events] for events in USERS]
    unknown = [[*events[:-1], (0, 0, events[-1][2] - 5), events[-1]] for events in moved]
    newer = write_snapshot(tmp_path, unknown, items=ITEMS + 2)
    ids = pa.array(range(ITEMS + 2))
    adapted = Adapted(model, ids[2:], ids, Vocabulary.of(newer)).eval()
    found = explained(adapted, newer, 1, 4)
    assert len(found.events) == min(len(USERS[1]), L - (len(USERS[1]) + 1 > L))
    assert set(found.attention) == {"behavior_blocks.0", "sequence_blocks.0.attention"}
    assert sum(found.terms.values()) == pytest.approx(found.margin, rel=1e-4, abs=1e-4)
    with pytest.raises(DataError, match="did not exist when it was trained"):
        explained(adapted, newer, 1, 0)


def test_a_model_with_leaks_is_not_explained(shop: Snapshot) -> None:
    model = build("hmar", {"d": 8, "hbi": "final"}, shop)
    with pytest.raises(ModelError, match="trained with leaks"):
        explained(model, shop, 0, 1)


def test_sample_adds_up(shop: Snapshot) -> None:
    model = stirred(build("hmar", {"d": 8, "positions": 20}, shop))
    found = sample(model, shop, 12, max_length=L)
    assert found is not None
    assert sum(found.terms.values()) == pytest.approx(found.margin, rel=1e-4)
    assert sum(found.read) == pytest.approx(1.0)
    for layer, rows in found.attention.items():
        assert found.queries[layer] == list(shop.behaviors)
        for row in rows:
            assert sum(cell or 0.0 for cell in row) == pytest.approx(1.0, abs=1e-5)
    own = np.array(found.attention["behavior_blocks.0"])
    assert np.allclose(own, np.eye(BEHAVIORS), atol=1e-5), "events of one behavior see each other only"
    assert sample(model, shop, 12, max_length=L) == found
    many = sample(model, shop, 1000, max_length=L)
    assert many is not None
    assert many.users == len(USERS)


def test_a_candidate_is_no_behavior_where_there_is_one_behavior(tmp_path: Path) -> None:
    snapshot = write_snapshot(tmp_path / "s", [[(1, 0, 0), (2, 0, 1), (3, 0, 2)]] * 3, items=5, behaviors=("buy",))
    for name, asking in (("din", ["the item"]), ("sasrec", ["buy"])):
        found = sample(stirred(build(name, {"d": 8}, snapshot)), snapshot, 3, max_length=L)
        assert found is not None
        assert {tuple(one) for one in found.queries.values()} == {tuple(asking)}


def test_sample_of_a_rule_has_neither_terms_nor_attention(shop: Snapshot) -> None:
    found = sample(build("popularity", {}, shop), shop, 5, max_length=L)
    assert found is not None
    assert (found.terms, found.attention) == ({}, {})
    assert set(found.lost.values()) <= {0.0, None}
