"""The catalogue as a table: its numbers are those of the models themselves, and no work is counted for them."""

from __future__ import annotations

import pytest

from nbanalyzer import populate
from nbanalyzer.costs.costs import Costs
from nbanalyzer.quantities import count_of
from nbanalyzer.report.catalogue import listing
from nbanalyzer.templates import catalog

KINDS = (  # its own kernels, another's, experts, latent attention, a state, two stacks, images, sound
    "openai-community/gpt2", "openai-community/gpt2-xl", "mistralai/Mixtral-8x7B-v0.1", "deepseek-ai/DeepSeek-V3",
    "state-spaces/mamba-2.8b-hf", "google-t5/t5-small", "google/vit-base-patch16-224", "openai/whisper-large-v3",
)  # fmt: skip


@pytest.fixture(scope="module")
def rows() -> dict[str, tuple[str, ...]]:
    """Return the rows of the listing, by model."""
    return {row[1]: tuple(row) for row in listing().rows[1:]}


@pytest.mark.parametrize("name", KINDS)
def test_a_row_has_the_numbers_of_its_model(rows: dict[str, tuple[str, ...]], name: str) -> None:
    model = populate(name, seq_len=1)
    whole, active = model.totals["parameters"], model.active_parameters
    assert rows[name][2:4] == (count_of(whole), count_of(active) if active != whole else "")
    assert rows[name][5:] == (f"{model.params['num_layers']:,}", f"{model.params['hidden_size']:,}")


def test_every_model_has_a_row_the_smaller_ones_of_an_organisation_first(rows: dict[str, tuple[str, ...]]) -> None:
    assert sorted(rows, key=str.casefold) == list(catalog.names())
    orgs = [name.partition("/")[0].casefold() for name in rows]
    assert orgs == sorted(orgs)
    sizes = {name: populate(name, seq_len=1).totals["parameters"] for name in rows if name.startswith("openai-comm")}
    assert list(sizes.values()) == sorted(sizes.values())


def test_no_work_is_counted_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def counted(*_: object) -> None:
        raise AssertionError("the listing needs no costs")

    monkeypatch.setattr(Costs, "__init__", counted)
    assert len(listing().rows) == len(catalog.names()) + 1


def test_a_model_that_extends_another_has_its_base() -> None:
    assert catalog.base("openai-community/gpt2-xl") == catalog.base("openai-community/gpt2") == "openai-community/gpt2"
