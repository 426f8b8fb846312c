"""The package and its extras; constraints.txt holds the exact versions that are tested."""

from setuptools import find_packages, setup

setup(
    name="ad_jax",
    version="0.1.0",
    description="Algorithm Distillation in JAX: in-context reinforcement learning, from "
    "learning histories to a transformer that learns",
    license="Apache-2.0",
    python_requires=">=3.11",
    packages=find_packages(include=["ad_jax*", "data_pipelines*", "experiments*", "benchmarks*"]),
    install_requires=[
        "absl-py",
        "array_record",
        "chex",
        "etils[epath]",
        "flax",
        "fsspec",
        "grain",
        "gymnax>=1.0.1",
        "jax",
        "matplotlib",
        "ml_collections",
        "numpy",
        "optax",
        "orbax-checkpoint",
        "pillow",
        "scipy",
        "six",  # gymnax 1.0.1 imports it without saying so
        "tensorboardX",
        "tensorflow-datasets",
        "tqdm",
    ],
    extras_require={
        "cuda": ["jax[cuda12]"],
        "tpu": ["jax[tpu]"],
        "gcs": ["gcsfs", "google-cloud-storage"],  # gs:// paths; the second is for Orbax
        "test": ["pytest", "pytest-xdist", "ruff"],
        "bench": ["torch==2.13.0", "stable-baselines3==2.9.2"],
    },
)
