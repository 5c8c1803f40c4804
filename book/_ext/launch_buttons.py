"""Show the buttons for Colab and Binder only where they lead to a repository that exists.

``_config.yml`` comes with the address of an account that nobody has. Who publishes a copy of the
book names a repository there; until then the buttons would open pages that are not found.
"""

from __future__ import annotations

from typing import Any

from sphinx.application import Sphinx
from sphinx.config import Config

PLACEHOLDER = "https://github.com/your-account/"


def drop_dead_buttons(app: Sphinx, config: Config) -> None:
    """Take the buttons away while the address is the placeholder."""
    if str(config.html_theme_options.get("repository_url", "")).startswith(PLACEHOLDER):
        config.html_theme_options["launch_buttons"] = {}


def setup(app: Sphinx) -> dict[str, Any]:
    """Register with Sphinx."""
    app.connect("config-inited", drop_dead_buttons)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
