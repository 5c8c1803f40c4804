"""Write the cell that installs the library on Google Colab into every notebook.

``python -m asdlib.study.launch`` writes it before the first code cell of all notebooks, or brings
it up to date, once ``_config.yml`` names a repository; while the address there is the placeholder
it takes the cell away. Elsewhere than on Colab the cell does nothing; the book hides it.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

from asdlib.errors import ConfigError

TAG = "colab-setup"
PLACEHOLDER = "https://github.com/your-account/"


def setup_source(repository: str, branch: str, *, extra: str = "book") -> str:
    """Write the code of the cell.

    Parameters
    ----------
    repository
        Address of the repository, from ``_config.yml``.
    branch
        Branch, from ``_config.yml``.
    extra
        Extra of the library that is installed.
    """
    return (
        "# On Google Colab: install the library of this book. Elsewhere: nothing.\n"
        f'repository = "{repository}@{branch}"\n'
        'if "google.colab" in str(get_ipython()):\n'
        f"    get_ipython().system(f\"pip install --quiet 'asdlib[{extra}] @ git+{{repository}}'\")"
    )


def expected_source(project: str | Path = ".") -> str:
    """Return the code of the cell for the repository that ``_config.yml`` names.

    It is empty while the address is the placeholder.

    Raises
    ------
    ConfigError
        If there is no ``_config.yml`` with a repository.
    """
    import yaml

    path = Path(project) / "_config.yml"
    try:
        told = yaml.safe_load(path.read_text(encoding="utf-8"))["repository"]
        url, branch = str(told["url"]), str(told["branch"])
    except (OSError, KeyError, TypeError):
        raise ConfigError(
            f"'{path}' names no repository with url and branch; run this in the project folder"
        ) from None
    return "" if url.startswith(PLACEHOLDER) else setup_source(url, branch)


def setup_cell(notebook: dict[str, Any]) -> dict[str, Any] | None:
    """Find the cell in a notebook, if it is the first code cell."""
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    if code and TAG in code[0]["metadata"].get("tags", []):
        return dict(code[0])
    return None


def write_setup_cell(path: str | Path, source: str) -> bool:
    """Put the cell before the first code cell, or replace it there; without a source remove it.

    Returns
    -------
    Whether the notebook changed.
    """
    path = Path(path)
    before = path.read_text(encoding="utf-8")
    notebook = json.loads(before)
    cell = {
        "cell_type": "code",
        "execution_count": None,
        "id": f"setup-{hashlib.sha256(source.encode()).hexdigest()[:8]}",
        "metadata": {"tags": [TAG, "remove-cell"]},
        "outputs": [],
        "source": source.splitlines(keepends=True),
    }
    cells = [c for c in notebook["cells"] if TAG not in c["metadata"].get("tags", [])]
    first = next((i for i, c in enumerate(cells) if c["cell_type"] == "code"), len(cells))
    notebook["cells"] = [*cells[:first], *([cell] if source else []), *cells[first:]]
    after = json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"
    if after == before:
        return False
    temporary = path.with_suffix(".tmp")
    temporary.write_text(after, encoding="utf-8")
    temporary.replace(path)
    return True


def main(project: str | Path = ".") -> None:
    """Write the cell into all notebooks of a project."""
    source = expected_source(project)
    for path in sorted((Path(project) / "notebooks").glob("*.ipynb")):
        print(f"{path.name}: {'written' if write_setup_cell(path, source) else 'as it was'}")


if __name__ == "__main__":
    main()
