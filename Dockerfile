# Three images: `docker build .` serves with torch, `--target onnx` with ONNX Runtime alone, `--target training` trains.
ARG BASE_IMAGE=python:3.11-slim

FROM ${BASE_IMAGE} AS base
WORKDIR /app
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1

# The C parts. Where BASE_IMAGE is no image of Python's own but Debian, python3-dev has its headers.
FROM base AS compiled
RUN apt-get update && apt-get install --yes --no-install-recommends gcc libc6-dev python3-dev
COPY nlp_app/*.c nlp_app/
RUN for module in _folded _ngrams; do \
    gcc -O3 -shared -fPIC -I"$(python3 -c 'import sysconfig; print(sysconfig.get_path("include"))')" nlp_app/$module.c \
    -o nlp_app/$module$(python3 -c 'import sysconfig; print(sysconfig.get_config_var("EXT_SUFFIX"))') -lm || exit 1; done

# What lists the packages of an image.
FROM base AS lister
COPY deploy/locks/sbom.txt locks/
RUN python3 -m venv /sbom && /sbom/bin/pip install --require-hashes --requirement locks/sbom.txt

# torch: from another index beside the default one where TORCH_INDEX_URL names it, such as PyTorch's own for CPU builds,
# which are far smaller. The default index has it for CUDA on Linux, and then what it needs for that comes too.
FROM base AS torch
ARG TORCH_INDEX_URL=
COPY deploy/locks/torch.txt deploy/locks/cuda.txt locks/
RUN python3 -m venv /app/venv && /app/venv/bin/pip install --no-deps --require-hashes --requirement locks/torch.txt \
    ${TORCH_INDEX_URL:+--extra-index-url ${TORCH_INDEX_URL}} \
    && if [ -n "${TORCH_INDEX_URL}" ] && ! ls -d /app/venv/lib/python3*/site-packages/torch-*+*.dist-info; then \
    echo "error: no wheel of TORCH_INDEX_URL for this Python and processor is in deploy/locks/torch.txt: python deploy/lock.py WHEEL adds it" >&2; exit 1; fi \
    && if grep -q "^Requires-Dist: \(nvidia\|cuda\)" /app/venv/lib/python3*/site-packages/torch-*.dist-info/METADATA; then \
    /app/venv/bin/pip install --no-deps --require-hashes --requirement locks/cuda.txt; fi

# Beside torch only what serving needs: no headers and tests of torch, no pip, nothing that compiles models, nothing that
# fetches them.
FROM torch AS serving-packages
COPY deploy/locks/serving.txt deploy/slim.sh locks/
COPY --from=lister /sbom /sbom
RUN /app/venv/bin/pip install --no-deps --require-hashes --requirement locks/serving.txt \
    && /app/venv/bin/pip check \
    && sh locks/slim.sh sympy networkx mpmath setuptools huggingface-hub hf-xet fsspec tqdm \
    && /sbom/bin/cyclonedx-py environment --output-reproducible --output-file /app/sbom.cdx.json /app/venv/bin/python

FROM base AS onnx-packages
COPY deploy/locks/onnx.txt deploy/slim.sh locks/
COPY --from=lister /sbom /sbom
RUN python3 -m venv /app/venv && /app/venv/bin/pip install --no-deps --require-hashes --requirement locks/onnx.txt \
    && /app/venv/bin/pip check \
    && sh locks/slim.sh setuptools huggingface-hub hf-xet fsspec tqdm \
    && /sbom/bin/cyclonedx-py environment --output-reproducible --output-file /app/sbom.cdx.json /app/venv/bin/python

FROM torch AS training-packages
COPY deploy/locks/training.txt deploy/slim.sh locks/
COPY --from=lister /sbom /sbom
RUN /app/venv/bin/pip install --no-deps --require-hashes --requirement locks/training.txt \
    && /app/venv/bin/pip check \
    && sh locks/slim.sh \
    && /sbom/bin/cyclonedx-py environment --output-reproducible --output-file /app/sbom.cdx.json /app/venv/bin/python

# The sample model, which answers where no other is mounted.
FROM training-packages AS sample
COPY nlp_app nlp_app
COPY --from=compiled /app/nlp_app/*.so nlp_app/
COPY training training
RUN /app/venv/bin/python -m training.run --output /sample && /app/venv/bin/python -m training.export /sample --onnx

# What the images that serve have in common.
FROM base AS server
ARG VERSION=0.1.0
LABEL org.opencontainers.image.title="nlp_app" \
      org.opencontainers.image.description="A text classifier over HTTP" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.licenses="Apache-2.0"
ENV PATH=/app/venv/bin:$PATH HOME=/tmp NLP_APP_HOST=0.0.0.0 NLP_APP_PORT=8000
USER 10001:10001
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s --retries=3 CMD ["python", "-m", "serving.health"]
CMD ["python", "-m", "serving.container"]

FROM server AS onnx
ENV NLP_APP_RUNTIME=onnx
COPY --from=onnx-packages /app/venv /app/venv
COPY --from=onnx-packages /app/sbom.cdx.json ./
COPY LICENSE ./
COPY --from=sample /sample /sample
COPY nlp_app nlp_app
COPY --from=compiled /app/nlp_app/_ngrams*.so nlp_app/
COPY serving serving

FROM base AS training
ARG VERSION=0.1.0
LABEL org.opencontainers.image.title="nlp_app training" \
      org.opencontainers.image.description="Trains a text classifier" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.licenses="Apache-2.0"
ENV PATH=/app/venv/bin:$PATH HOME=/tmp MPLCONFIGDIR=/tmp
COPY --from=training-packages /app/venv /app/venv
COPY --from=training-packages /app/sbom.cdx.json ./
COPY LICENSE ./
COPY nlp_app nlp_app
COPY --from=compiled /app/nlp_app/*.so nlp_app/
COPY training training
USER 10001:10001
STOPSIGNAL SIGTERM
ENTRYPOINT ["python", "-m", "training.run"]

FROM server AS serving
COPY --from=serving-packages /app/venv /app/venv
COPY --from=serving-packages /app/sbom.cdx.json ./
COPY LICENSE ./
COPY --from=sample /sample /sample
COPY nlp_app nlp_app
COPY --from=compiled /app/nlp_app/*.so nlp_app/
COPY serving serving
