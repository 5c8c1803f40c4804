"""The directive that prints published results: what it selects, rounds and links."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def directive() -> ModuleType:
    """Load the book's local extension, which is no part of the package."""
    path = ROOT / "book" / "_ext" / "published_results.py"
    spec = importlib.util.spec_from_file_location("published_results", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


ROWS = [
    {"system": "B", "machine": "fan", "auc": "65.1585", "pauc": "52.591"},
    {"system": "B", "machine": "ToyCar", "auc": "80.1", "pauc": "67"},
    {"system": "A", "machine": "average", "auc": "93.83", "pauc": "87.6"},
]


def test_rounds_to_two_decimals_and_adds_none(directive: ModuleType) -> None:
    shown = [directive.shown(text) for text in ("65.1585", "52.5", "60", "01", "", "6/7")]
    assert shown == ["65.16", "52.5", "60", "01", "–", "6/7"]


def test_pivot_puts_the_average_first_and_keeps_the_order_of_systems(directive: ModuleType) -> None:
    header, body = directive.pivot(ROWS, "machine", ["auc", "pauc"])
    assert header == ["System", "average", "ToyCar", "fan"]
    assert body == [
        ["B", "–", "80.1\n67", "65.16\n52.59"],
        ["A", "93.83\n87.6", "–", "–"],
    ]


def test_where_selects_rows_and_refuses_an_empty_answer(directive: ModuleType) -> None:
    assert directive.where(ROWS, "system=B; machine=fan|pump") == ROWS[:1]
    with pytest.raises(ValueError, match="no published row fulfils 'system=C'"):
        directive.where(ROWS, "system=C")


def test_sources_become_links(directive: ModuleType) -> None:
    for text, links in [
        ("arXiv:2006.05822 abstract", ["https://arxiv.org/abs/2006.05822"]),
        (
            "someone/a-repo README; see arXiv:2603.04605",
            ["github.com/someone/a-repo", "2603.04605"],
        ),
        ("someone/kit docs/results.png", ["https://github.com/someone/kit"]),
        ("Mathematics 14(3):530 (2026) abstract", []),
    ]:
        parts = directive.inline(text)
        assert "".join(part.astext() for part in parts) == text
        urls = [part["refuri"] for part in parts if hasattr(part, "attributes")]
        assert len(urls) == len(links)
        assert all(link in url for link, url in zip(links, urls, strict=True))


def test_an_unknown_table_is_refused_with_the_known_ones(directive: ModuleType) -> None:
    with pytest.raises(ValueError, match=r"no published table 'nothing' \(known: .*dcase2022"):
        directive.read("nothing")


def test_unconfirmed_figures_are_not_printed(directive: ModuleType) -> None:
    rows = [
        {"id": "00", "auc": "54", "auc_status": "confirmed", "pauc": "49", "pauc_status": "unsure"},
        {"id": "01", "auc": "81", "auc_status": "unsure", "pauc": "68", "pauc_status": "unsure"},
        {"id": "02", "auc": "82", "auc_status": "read", "pauc": "67", "pauc_status": "read"},
    ]
    kept = [(r["id"], r["auc"], r["pauc"]) for r in directive.only_confirmed(rows)]
    assert kept == [("00", "54", ""), ("02", "82", "67")]
    assert directive.only_confirmed(ROWS) == ROWS
