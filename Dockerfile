# An image that runs this project on CPUs, NVIDIA GPUs (DEVICE=cuda) or TPUs (DEVICE=tpu):
#
#   docker build --build-arg=DEVICE=cuda --build-arg=COMMIT=$(git rev-parse --short=10 HEAD) --tag=ad_jax .
#   docker run --gpus=all --volume=$PWD/runs:/runs ad_jax run --config=dark_room:quickstart --workdir=/runs/quickstart
#
# docs/launching.md has more; `docker build --check .` looks for mistakes and builds nothing.
FROM python:3.11-slim
ARG DEVICE=cpu
WORKDIR /ad_jax
COPY . .
RUN pip install --no-cache-dir --constraint=constraints.txt ".[$DEVICE,gcs,play]"
ARG COMMIT=unknown
ENV AD_JAX_COMMIT=$COMMIT PYTHONUNBUFFERED=1
WORKDIR /runs
ENTRYPOINT ["ad-jax"]
CMD ["--help"]
