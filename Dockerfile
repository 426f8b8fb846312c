# An image that runs this project on TPUs, for experiments/launch/gke.py:
#
#   docker build --tag=REGION-docker.pkg.dev/PROJECT/REPOSITORY/ad_jax .
#   docker push REGION-docker.pkg.dev/PROJECT/REPOSITORY/ad_jax
#
# after `gcloud auth configure-docker REGION-docker.pkg.dev`; --build-arg=EXTRAS=cuda makes one for
# NVIDIA GPUs.
FROM python:3.11-slim
ARG EXTRAS=tpu,gcs
ENV PYTHONUNBUFFERED=1
WORKDIR /ad_jax
COPY . .
RUN pip install --no-cache-dir -c constraints.txt -e ".[$EXTRAS]"
