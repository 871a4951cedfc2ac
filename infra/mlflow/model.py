"""A folder in MLflow's format of models, from an exported torch graph and the Python file that loads it."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import infra.mlflow.store  # noqa: F401  sets what mlflow reads while it is imported

# isort: split
import mlflow.pyfunc
import numpy as np
import torch
from mlflow.models import Model, ModelSignature
from mlflow.types import ParamSchema, ParamSpec, Schema, TensorSpec

logging.getLogger("mlflow.pyfunc").setLevel(logging.WARNING)


def save_model(
    into: Path,
    data: Path,
    code: Path,
    example: np.ndarray,
    shape: Sequence[int],
    params: Mapping[str, int],
    requirements: Sequence[str],
    metadata: Mapping[str, Any],
) -> None:
    """Writes a model that `mlflow.pytorch` and `mlflow.pyfunc` load.

    Args:
        into: The folder to fill; it may be empty.
        data: A folder with torch's exported graph, `model.pt2`, and whatever else `code` reads.
        code: A Python file with `_load_pyfunc`, as `mlflow.pyfunc` wants it. No installed module may have its name.
        example: An input, (N, size). The model may take rows of other sizes.
        shape: Of one row of the output.
        params: The names of numbers that `predict` takes, with their defaults.
        requirements: Of pip, to load the model elsewhere.
        metadata: What else `MLmodel` says.
    """
    rows = (-1,) * example.ndim
    numbers = [ParamSpec(name, "long", value) for name, value in params.items()]
    signature = ModelSignature(
        Schema([TensorSpec(example.dtype, rows)]),
        Schema([TensorSpec(example.dtype, (-1, *shape))]),
        **({"params": ParamSchema(numbers)} if numbers else {}),
    )
    mlflow.pyfunc.save_model(
        str(into),
        loader_module=code.stem,
        data_path=str(data),
        code_paths=[str(code)],
        signature=signature,
        input_example=example,
        pip_requirements=list(requirements),
        metadata=dict(metadata),
    )
    model = Model.load(str(into))
    data_inside = model.flavors["python_function"]["data"]
    model.add_flavor("pytorch", model_data=data_inside, pytorch_version=str(torch.__version__), code=None)
    model.save(str(into / "MLmodel"))
