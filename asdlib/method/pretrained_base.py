"""What a kind of public audio model has to offer to serve as an encoder.

To add a kind, subclass `PublicEncoder`, enter it in `asdlib.method.pretrained.KINDS` and name it in
`asdlib.method.pretrained_parameters.PRETRAINED_ONLY`.
"""

import json
from pathlib import Path
from typing import Any, ClassVar, Self

from asdlib.errors import ConfigError, RunError
from asdlib.features import FrontEnd
from asdlib.method.encoders import Encoder
from asdlib.method.pretrained_parameters import PretrainedParams
from asdlib.method.pretrained_weights import CONFIG


class PublicEncoder(Encoder):
    """An encoder around a public model; it knows the front end that the model was trained on.

    Parameters
    ----------
    config
        Content of the checkpoint's ``config.json``; with it and `params` the network is built
        again before its saved weights are loaded.
    params
        How its embedding is formed, and what is trained.
    model
        The model with its weights; without it they are random, to be loaded afterwards.
    """

    model_type: ClassVar[str]
    config: dict[str, Any]

    def __init__(self, config: dict[str, Any], params: PretrainedParams, model: Any = None) -> None:
        super().__init__()
        self.config = config

    @classmethod
    def from_folder(cls, folder: Path, params: PretrainedParams) -> Self:
        """Read a checkpoint.

        Raises
        ------
        RunError
            If a file is missing or damaged, or weights are missing.
        ConfigError
            If it is of another kind of model.
        """
        raise NotImplementedError

    @classmethod
    def front_end(cls, config: dict[str, Any]) -> FrontEnd:
        """Say which front end checkpoints of this configuration were trained on."""
        raise NotImplementedError

    @classmethod
    def read_config(cls, folder: Path) -> dict[str, Any]:
        """Read a checkpoint's ``config.json``.

        Raises
        ------
        RunError
            If it is missing or damaged.
        ConfigError
            If it is of another kind of model.
        """
        try:
            config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            config = None
        if not isinstance(config, dict):
            raise RunError(
                f"'{folder}' has no readable {CONFIG}; expected a checkpoint as save_pretrained of "
                "transformers writes it"
            )
        if config.get("model_type") != cls.model_type:
            raise ConfigError(
                f"checkpoint '{folder}' is of type '{config.get('model_type')}', expected "
                f"'{cls.model_type}'; choose another checkpoint or another encoder"
            )
        return config
