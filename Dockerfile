# An image that runs this project on CPUs, NVIDIA GPUs (DEVICE=cuda) or TPUs (DEVICE=tpu):
#
#   docker build --build-arg=DEVICE=cuda --build-arg=COMMIT=$(git rev-parse --short=10 HEAD) --tag=ad_jax .
#   docker run --gpus=all --volume=$PWD/runs:/runs ad_jax run --config=dark_room:quickstart --workdir=/runs/quickstart
#
# docs/launching.md has more; `docker build --check .` looks for mistakes and builds nothing.
FROM python:3.11-slim
ARG DEVICE=cpu
# As a container's first process, Python would ignore signals that it does not handle. tini takes
# that place, and forwards them.
RUN apt-get update && apt-get install -y --no-install-recommends tini && rm -rf /var/lib/apt/lists/*
WORKDIR /ad_jax
# What rarely changes comes first, so that the packages are cached.
COPY setup.py constraints.txt README.md ./
COPY ad_jax/__init__.py ad_jax/
RUN pip install --no-cache-dir --constraint=constraints.txt ".[$DEVICE,gcs,play]"
COPY . .
RUN pip install --no-cache-dir --no-deps --force-reinstall .
ARG COMMIT=unknown
ENV AD_JAX_COMMIT=$COMMIT PYTHONUNBUFFERED=1
WORKDIR /runs
ENTRYPOINT ["tini", "--", "ad-jax"]
CMD ["--help"]
