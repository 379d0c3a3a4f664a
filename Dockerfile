ARG BASE_IMAGE=python:3.11-slim
FROM ${BASE_IMAGE} AS build

# Another package index for torch alone, such as PyTorch's own for CPU builds, which are far smaller.
ARG TORCH_INDEX_URL=
WORKDIR /app
RUN python3 -m venv /app/venv
COPY constraints.txt ./
RUN /app/venv/bin/pip install --no-cache-dir --constraint constraints.txt ${TORCH_INDEX_URL:+--extra-index-url ${TORCH_INDEX_URL}} torch
COPY pyproject.toml ./
RUN /app/venv/bin/python -c "import tomllib; project = tomllib.load(open('pyproject.toml', 'rb'))['project']; \
    print('\n'.join(project['dependencies'] + project['optional-dependencies']['serving']))" > requirements.txt \
    && /app/venv/bin/pip install --no-cache-dir --constraint constraints.txt --requirement requirements.txt

# Where BASE_IMAGE is no image of Python's own but Debian, python3-dev has its headers.
FROM build AS compiled
RUN apt-get update && apt-get install --yes --no-install-recommends gcc libc6-dev python3-dev
COPY nlp_app/*.c nlp_app/
RUN for module in _folded _ngrams; do \
    gcc -O3 -shared -fPIC -I"$(python3 -c 'import sysconfig; print(sysconfig.get_path("include"))')" nlp_app/$module.c \
    -o nlp_app/$module$(python3 -c 'import sysconfig; print(sysconfig.get_config_var("EXT_SUFFIX"))') -lm || exit 1; done

FROM ${BASE_IMAGE}

LABEL org.opencontainers.image.title="nlp_app" \
      org.opencontainers.image.description="A text classifier over HTTP" \
      org.opencontainers.image.licenses="Apache-2.0"
WORKDIR /app
COPY --from=build /app/venv /app/venv
COPY LICENSE ./
COPY nlp_app nlp_app
COPY --from=compiled /app/nlp_app/*.so nlp_app/
COPY serving serving

ENV PATH=/app/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    NLP_APP_HOST=0.0.0.0 \
    NLP_APP_PORT=8000 \
    NLP_APP_CHECKPOINT=/model
USER 10001:10001
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request; urllib.request.urlopen(f\"http://127.0.0.1:{os.environ['NLP_APP_PORT']}/health/ready\", timeout=2)"]
CMD ["python", "-m", "serving"]
