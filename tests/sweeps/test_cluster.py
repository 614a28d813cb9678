"""Sweeps on a cluster: the same answers as on one machine, also when a worker dies or somebody stops them."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest

from nbanalyzer import sweep
from nbanalyzer.errors import InputError
from nbanalyzer.progress import watched_by
from nbanalyzer.sweeps import chunks
from nbanalyzer.sweeps.spread import Counts, Ends
from nbanalyzer.sweeps.sweep import Sweep

pytestmark = pytest.mark.cluster

distributed = pytest.importorskip("distributed")
dask = pytest.importorskip("dask")

GRID: dict[str, Any] = {
    "batch_size": range(1, 33),
    "seq_len": [1, 7, 64, 1000],
    "cache_len": range(0, 4096, 64),
    "w_bit": [16, 4],
    "hardware": "h100-sxm",
    "metrics": ["flops", "bytes", "time", "tokens_per_s", "fits"],
}
WHERE = ["{fits}", "{time} <= 0.2", "{batch_size} >= 4"]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    # A worker that dies says so in logs, which are not what is tested.
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, silence_logs=logging.CRITICAL
    ) as found:
        yield found


@pytest.fixture
def client(cluster: Any) -> Iterator[Any]:
    with distributed.Client(cluster) as found:
        found.wait_for_workers(2)
        yield found
        assert idle(found)


@pytest.fixture(scope="module")
def eager() -> Sweep:
    return sweep("mixtral-8x7b-v0.1", **GRID)


def idle(client: Any) -> bool:
    """Whether there are no tasks left, after at most a few seconds."""
    for _ in range(100):
        if not client.run_on_scheduler(lambda dask_scheduler: len(dask_scheduler.tasks)):
            return True
        time.sleep(0.1)
    return False


def same(one: Sweep, other: Sweep) -> None:
    """Fail unless two sweeps give the same numbers to the last digit, however they are asked."""
    assert one.best(minimize="time") == other.best(minimize="time")
    assert one.best(maximize="tokens_per_s", where=WHERE) == other.best(maximize="tokens_per_s", where=WHERE)
    for metrics in (("flops", "tokens_per_s"), ("time", "tokens_per_s", "bytes")):
        pd.testing.assert_frame_equal(one.frontier(*metrics, where=WHERE), other.frontier(*metrics, where=WHERE))
        pd.testing.assert_frame_equal(one.frontier(*metrics), other.frontier(*metrics))
    for metric in ("time", "fits"):
        assert [found.tolist() for found in one.histogram(metric, 17)] == [
            found.tolist() for found in other.histogram(metric, 17)
        ]
    shares = [0, 0.01, 0.5, 0.9, 1]
    assert one.quantiles("time", shares) == pytest.approx(other.quantiles("time", shares), rel=1e-3)  # as documented


def test_a_cluster_gives_the_numbers_of_one_machine(client: Any, eager: Sweep) -> None:
    found = sweep("mixtral-8x7b-v0.1", **GRID, chunks=5000)
    for name, array in eager.arrays.items():
        assert np.array_equal(array, found.arrays[name].compute()), name
    same(found, eager)
    part, whole = found.sel(w_bit=4, seq_len=64), eager.sel(w_bit=4, seq_len=64)
    assert part.best(minimize="time", where=WHERE) == whole.best(minimize="time", where=WHERE)
    assert part.histogram("bytes")[0].tolist() == whole.histogram("bytes")[0].tolist()
    assert part.sel(batch_size=5, cache_len=64).best(minimize="time") == whole.sel(batch_size=5, cache_len=64).best(
        minimize="time"
    )


def test_models_and_config_values_are_axes_on_a_cluster_too(client: Any) -> None:
    options: dict[str, Any] = {
        "model": ["llama-3.1-8b", "qwen3-8b"],
        "num_kv_heads": [1, 8, 32],
        "seq_len": range(1, 400),
        "metrics": ["flops", "kv_cache_bytes"],
    }
    found, eager = sweep(**options, chunks=300), sweep(**options)
    pd.testing.assert_frame_equal(found.table(), eager.table())
    pd.testing.assert_frame_equal(found.frontier("flops", "kv_cache_bytes"), eager.frontier("flops", "kv_cache_bytes"))


def test_requests_on_a_cluster(client: Any) -> None:
    options: dict[str, Any] = {
        "prompt_len": range(100, 500, 7),
        "output_len": range(1, 200, 13),
        "hardware": "h100-sxm",
        "metrics": ["time_to_first_token", "time_per_output_token", "tokens_per_s"],
    }
    found, eager = sweep("llama-3.1-8b", **options, chunks=128), sweep("llama-3.1-8b", **options)
    np.testing.assert_allclose(found.arrays["tokens_per_s"].compute(), eager.arrays["tokens_per_s"], rtol=1e-12)
    best = found.best(maximize="tokens_per_s")
    assert best == pytest.approx(eager.best(maximize="tokens_per_s"), rel=1e-12)


# ---- when something happens


class Slowly:
    """The ends of a metric, found slowly."""

    def __init__(self, metric: str, seconds: float) -> None:
        self.metrics = (metric,)
        self.seconds = seconds

    def of(self, arrays: Any, start: Sequence[int]) -> Any:
        time.sleep(self.seconds)
        return Ends(self.metrics).of(arrays, start)

    def joined(self, parts: Sequence[Any]) -> Any:
        return Ends(self.metrics).joined(parts)


def running(client: Any) -> Callable[[], None]:
    """Return a function that waits until every worker has something to do."""

    def wait() -> None:
        for _ in range(100):
            if all(client.processing().values()):
                return
            time.sleep(0.05)
        raise AssertionError("nothing runs")

    return wait


def later(first: Callable[[], None], then: Callable[[], None]) -> threading.Thread:
    """Do two things one after the other while this thread is busy."""

    def both() -> None:
        first()
        time.sleep(0.5)
        then()

    thread = threading.Thread(target=both)
    thread.start()
    return thread


def pids(client: Any) -> list[int]:
    return list(client.run(os.getpid).values())


def test_a_killed_worker_loses_nothing(client: Any, eager: Sweep) -> None:
    found = sweep("mixtral-8x7b-v0.1", **GRID, chunks=500)
    before = pids(client)
    thread = later(running(client), lambda: os.kill(before[0], signal.SIGKILL))
    spread = chunks.reduced(found.arrays, found.fixed, found.axes, Slowly("time", 0.1))
    assert (spread.low, spread.high) == (eager.arrays["time"].min(), eager.arrays["time"].max())
    assert spread.numbers == eager.arrays["time"].size
    thread.join()
    client.wait_for_workers(2)
    assert before[0] not in pids(client)
    assert found.best(minimize="time") == eager.best(minimize="time")


def test_a_worker_that_is_killed_while_arrays_are_computed_loses_nothing(client: Any) -> None:
    options: dict[str, Any] = {"batch_size": range(1, 301), "seq_len": range(1, 301), "metrics": "time"}
    found = sweep("deepseek-v3", **options, hardware="h100-sxm", chunks=900)
    victim = pids(client)[1]
    thread = later(lambda: None, lambda: os.kill(victim, signal.SIGKILL))
    computed = [found.arrays["time"].compute() for _ in range(2)]
    thread.join()
    client.wait_for_workers(2)
    whole = sweep("deepseek-v3", **options, hardware="h100-sxm").arrays["time"]
    assert all(np.array_equal(one, whole) for one in computed)


def test_who_interrupts_leaves_nothing_running(client: Any) -> None:
    found = sweep("mixtral-8x7b-v0.1", **GRID, chunks=500)
    thread = later(running(client), lambda: signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        chunks.reduced(found.arrays, found.fixed, found.axes, Slowly("time", 0.3))
    thread.join()
    assert idle(client)
    assert found.histogram("time")[0].sum() == found.size  # and it can be asked again


class Failing(Slowly):
    def joined(self, parts: Sequence[Any]) -> Any:
        raise InputError(f"no answer for {len(parts)}")


@pytest.mark.parametrize("here", [True, False])
def test_what_goes_wrong_is_said_as_it_is(request: pytest.FixtureRequest, here: bool) -> None:
    if not here:
        request.getfixturevalue("client")
    found = sweep("gpt2", batch_size=range(1, 100), seq_len=range(1, 100), chunks=500)
    with pytest.raises(InputError, match=r"^no answer for \d+$"):
        chunks.reduced(found.arrays, found.fixed, found.axes, Failing("flops", 0))


# ---- how it is done


@pytest.mark.parametrize("metrics", [["flops"], ["flops", "bytes", "fits"]])
def test_a_graph_has_few_tasks_a_chunk(metrics: list[str]) -> None:
    found = sweep(
        "gpt2", batch_size=range(1, 101), seq_len=range(1, 101), metrics=metrics, hardware="h100-sxm", chunks=500
    )
    chunks = 20
    arrays = list(found.arrays.values())
    assert len(arrays[0].to_delayed().reshape(-1)) == chunks
    (graph,) = (dask.base.collections_to_expr([dask.delayed(arrays)]).optimize(),)
    assert len(graph.__dask_graph__()) <= (2 + 2 * len(metrics)) * chunks + 5


@pytest.mark.parametrize("here", [True, False])
def test_how_far_it_is_is_told(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], here: bool
) -> None:
    if not here:
        request.getfixturevalue("client")
    monkeypatch.setattr(chunks, "PATIENCE", 0.0)
    found = sweep("gpt2", batch_size=range(1, 100), seq_len=range(1, 100), chunks=500)
    told: list[float] = []
    with watched_by(lambda _, part: told.append(part)):
        best = found.best(minimize="flops")
    assert best["flops"] == found.arrays["flops"].min().compute()
    assert told == sorted(told)
    assert len(told) > 3
    assert told[-1] == 1
    assert capsys.readouterr() == ("", "")  # nothing in a pipe either
    found.best(minimize="flops")
    assert capsys.readouterr() == ("", "")


def test_a_histogram_is_that_of_numpy() -> None:
    random = np.random.default_rng(0)
    for values in (random.random(10_000), random.integers(0, 50, 10_000) / 7, 1e18 + 1e3 * random.integers(0, 9, 999)):
        for bins in (1, 7, 50, 1000):
            edges = np.linspace(values.min(), values.max(), bins + 1)
            assert np.array_equal(Counts(("flops",), edges).of({"flops": values}, (0,)), np.histogram(values, edges)[0])
