"""CITATION.cff follows the Citation File Format 1.2.0, and the book's block says the same.

The rules are those of the format's schema guide: required keys, known keys, and the forms of
versions, identifiers, addresses and dates.
"""

import re
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
CITATION: dict[str, Any] = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
REQUIRED = {"authors", "cff-version", "message", "title"}
KNOWN = REQUIRED | {
    "abstract",
    "commit",
    "contact",
    "date-released",
    "doi",
    "identifiers",
    "keywords",
    "license",
    "license-url",
    "preferred-citation",
    "references",
    "repository",
    "repository-artifact",
    "repository-code",
    "type",
    "url",
    "version",
}
PERSON = {
    "address",
    "affiliation",
    "alias",
    "city",
    "country",
    "email",
    "family-names",
    "given-names",
    "name-particle",
    "name-suffix",
    "orcid",
    "website",
}


def wrong_in(entry: dict[str, Any]) -> list[str]:
    """What the forms of common keys forbid."""
    wrong = []
    if not re.fullmatch(r"10\.\d{4,9}/\S+", entry.get("doi", "10.1000/x")):
        wrong.append(f"doi {entry['doi']}")
    if not re.match(r"(https|http|ftp|sftp)://\S+$", entry.get("url", "https://x")):
        wrong.append(f"url {entry['url']}")
    for identifier in entry.get("identifiers", []):
        if identifier["type"] not in {"doi", "url", "swh", "other"} or not identifier["value"]:
            wrong.append(f"identifier {identifier}")
    for author in entry["authors"]:
        if not ("name" in author or set(author) <= PERSON) or not author:
            wrong.append(f"author {author}")
    return wrong


def test_the_citation_file_is_valid() -> None:
    assert REQUIRED <= set(CITATION) <= KNOWN
    assert CITATION["cff-version"] == "1.2.0"
    assert CITATION["type"] in {"software", "dataset"}
    assert all(isinstance(CITATION[key], str) and CITATION[key] for key in ("message", "title"))
    assert isinstance(CITATION["version"], str | int | float)
    assert re.fullmatch(r"\d{4}-\d{2}-\d{2}", str(CITATION.get("date-released", "2026-01-01")))
    assert len(CITATION["keywords"]) == len(set(CITATION["keywords"]))
    assert wrong_in(CITATION) == []
    for reference in CITATION["references"]:
        assert {"authors", "title", "type"} <= set(reference)
        assert wrong_in(reference) == []
        assert isinstance(reference["year"], int)


def test_the_rules_find_what_is_wrong() -> None:
    person = {"family-names": "A"}
    assert wrong_in({"authors": [person], "doi": "https://doi.org/10.1/x", "url": "example.org"})
    assert wrong_in({"authors": [{"surname": "A"}]}) == ["author {'surname': 'A'}"]
    assert wrong_in({"authors": [person], "identifiers": [{"type": "arxiv", "value": "1"}]})


def test_the_block_in_the_book_says_the_same() -> None:
    text = (ROOT / "book" / "teaching" / "cite.md").read_text(encoding="utf-8")
    (paper,) = CITATION["references"]
    for told in (CITATION["title"], CITATION["version"], paper["title"], paper["doi"]):
        assert f"{{{told}}}" in text
    assert all(author["family-names"] in text for author in paper["authors"])
    assert "arXiv:2509.15570" in text
    assert re.search(r"\{cite\}`meng2024contrastive`", text)
