# syntax=docker/dockerfile:1
# Everything that runs units or shows a vault, with torch for the processor or for CUDA.
#
#   docker build -t qkvault:0.1.0 .
#   docker run --rm -v "$PWD:/vaults" qkvault:0.1.0 status /vaults/pairs.vault
#
# NOT BUILT: no container engine with images was at hand. Linted with hadolint; the commands of RUN
# are those of the README and were run without a container.
FROM python:3.11-slim-bookworm AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/qkvault
ENV PATH=/opt/qkvault/bin:$PATH
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY store store
COPY extractor extractor
COPY viewer viewer
COPY scripts/qkvault_cli scripts/qkvault_cli
# KubeRay submits jobs through ray[default]. PyPI's torch for Linux carries CUDA; where that is not wanted, set TORCH_INDEX to PyTorch's own
# index for the processor.
ARG TORCH_INDEX=
RUN pip install ${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX"} -c constraints.txt \
        ".[extract,datasets,cluster]" "ray[default]"

FROM python:3.11-slim-bookworm
# KubeRay runs wget against its pods to see whether they live.
RUN apt-get update \
    && apt-get install -y --no-install-recommends wget=1.21.* \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --create-home qkvault \
    # KubeRay starts login shells, which know the usual folders only.
    && ln -s /opt/qkvault/bin/qkvault /opt/qkvault/bin/ray /usr/local/bin/
COPY --from=build /opt/qkvault /opt/qkvault
# hadolint ignore=DL3064 # no secret: it is about tokenizers
ENV PATH=/opt/qkvault/bin:$PATH PYTHONUNBUFFERED=1 TOKENIZERS_PARALLELISM=false
USER 10001
WORKDIR /home/qkvault
ENTRYPOINT ["qkvault"]
CMD ["--help"]
