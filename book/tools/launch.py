"""Write the cell that installs the library on Google Colab into every notebook.

``python -m book.tools.launch`` writes it before the first code cell of all notebooks, or brings it
up to date, once ``_config.yml`` names a repository; while the address there is the placeholder it
takes the cell away. Elsewhere than on Colab the cell does nothing; the book hides it.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import yaml

from asdlib.errors import ConfigError
from asdlib.files import write_text

TAG = "colab-setup"
PLACEHOLDER = "https://github.com/your-account/"


def setup_source(project: Path) -> str:
    """Return the code of the cell for the repository in ``_config.yml``; empty for a placeholder.

    Raises
    ------
    ConfigError
        If there is no ``_config.yml`` with a repository.
    """
    path = project / "_config.yml"
    try:
        named = yaml.safe_load(path.read_text(encoding="utf-8"))["repository"]
        url, branch = str(named["url"]), str(named["branch"])
    except (OSError, KeyError, TypeError):
        raise ConfigError(
            f"'{path}' names no repository with url and branch; run this in the project folder"
        ) from None
    if url.startswith(PLACEHOLDER):
        return ""
    return (
        "# On Google Colab: install the library of this book. Elsewhere: nothing.\n"
        f'repository = "{url}@{branch}"\n'
        'if "google.colab" in str(get_ipython()):\n'
        "    get_ipython().system(f\"pip install --quiet 'asdlib[book] @ git+{repository}'\")"
    )


def with_setup_cell(notebook: dict[str, Any], source: str) -> dict[str, Any]:
    """Return the notebook with this cell before its first code cell; without one if it is empty."""
    cells = [c for c in notebook["cells"] if TAG not in c["metadata"].get("tags", [])]
    if source:
        cell = {
            "cell_type": "code",
            "execution_count": None,
            "id": f"setup-{hashlib.sha256(source.encode()).hexdigest()[:8]}",
            "metadata": {"tags": [TAG, "remove-cell"]},
            "outputs": [],
            "source": source.splitlines(keepends=True),
        }
        kinds = [c["cell_type"] for c in cells]
        cells.insert(kinds.index("code") if "code" in kinds else len(cells), cell)
    return notebook | {"cells": cells}


def main(project: Path = Path()) -> None:
    """Write the cell into all notebooks of a project."""
    source = setup_source(project)
    for path in sorted((project / "notebooks").glob("*.ipynb")):
        before = json.loads(path.read_text(encoding="utf-8"))
        after = with_setup_cell(before, source)
        if after != before:
            write_text(path, json.dumps(after, indent=1, ensure_ascii=False) + "\n")
        print(f"{path.name}: {'as it was' if after == before else 'written'}")


if __name__ == "__main__":
    main()
