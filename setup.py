"""The package, its commands and extras; constraints.txt holds the exact tested versions."""

import pathlib
import re

from setuptools import find_packages, setup

VERSION = (pathlib.Path(__file__).parent / "ad_jax" / "__init__.py").read_text()

PLAY = ["flask>=3", "waitress>=3"]  # the page of `experiments.play`

setup(
    name="ad_jax",
    version=re.search(r'^__version__ = "(.+)"$', VERSION, re.MULTILINE)[1],
    description="Algorithm Distillation in JAX: in-context reinforcement learning, from "
    "learning histories to a transformer that learns",
    license="Apache-2.0",
    python_requires=">=3.11",
    # `experiments` is installed because the command ad-jax runs it, and a user's own config imports
    # its presets. Benchmarks and tests need a clone, and stay there.
    packages=find_packages(include=["ad_jax*", "data_pipelines*", "experiments*"]),
    package_data={
        "ad_jax": ["py.typed", "weights/*"],
        "data_pipelines": ["py.typed"],
        "experiments": ["py.typed", "launch/*.sh", "launch/*.sbatch", "page/*.html"],
    },
    entry_points={"console_scripts": ["ad-jax = experiments.__main__:main"]},
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
        "jax>=0.10",
        "matplotlib>=3.10",
        "ml_collections>=1.1",
        "numpy>=2.2",
        "optax>=0.2.7",
        "orbax-checkpoint>=0.12",
        "pillow>=11",
        "safetensors>=0.5",
        "scipy>=1.15",
        "six>=1.16",  # gymnax 1.0.1 imports it without saying so
        "tensorboardX>=2.6",
        "tensorflow-datasets>=4.9.8",
        "tqdm>=4.67",
    ],
    extras_require={
        "cuda": ["jax[cuda12]>=0.10"],
        "tpu": ["jax[tpu]>=0.10"],
        "gcs": ["gcsfs>=2025.9", "google-cloud-storage>=3"],  # gs:// paths; the second is Orbax's
        "play": PLAY,
        "test": [
            *PLAY,
            "mypy>=2.4",
            "pytest>=9",
            "pytest-xdist>=3.8",
            "ruff>=0.17",
            "selenium>=4.30",
            "setuptools",
        ],
        "bench": ["torch==2.13.0", "stable-baselines3==2.9.2"],
    },
)
