# Two images: the exporter (the last stage, the one that is built by default) and, for demonstrations and
# docker-compose.yml, workers of ARQ and Celery to watch (`--target sample`). docs/deployment.md says how to build and
# run them. Built with podman or buildah, `--format docker` keeps the HEALTHCHECK.

ARG PYTHON_IMAGE=python:3.13.15-slim-trixie

# What builds: pip, what wheels of ours are made with, and an environment that has neither.
FROM ${PYTHON_IMAGE} AS tools
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /build
COPY requirements/build.txt requirements/
RUN python -m venv --without-pip /opt/taskqueue-exporter && \
    python -m venv /tools && \
    /tools/bin/pip install --require-hashes --only-binary=:all: -r requirements/build.txt
ENV PIP="/tools/bin/pip --python /opt/taskqueue-exporter/bin/python" \
    COMPILE="python -m compileall -q --invalidation-mode=unchecked-hash"

# The environment of each image without our own code, whose changes then change nothing here. Wheels exist for amd64
# and arm64, so no compiler is needed. Bytecode is made here, as nothing can be written where the image runs; it is
# not compared with its source, as the times of files may get lost between here and there.
FROM tools AS requirements
COPY requirements/exporter.txt requirements/
RUN $PIP install --no-compile --require-hashes --only-binary=:all: -r requirements/exporter.txt && \
    $COMPILE /opt/taskqueue-exporter

FROM tools AS requirements-sample
COPY requirements/stack-arq.txt requirements/
RUN $PIP install --no-compile --require-hashes --only-binary=:all: -r requirements/stack-arq.txt && \
    $COMPILE /opt/taskqueue-exporter

# Our own code, installed below /own as it is to lie over the environment.
FROM tools AS build
COPY pyproject.toml README.md LICENSE ./
COPY exporter exporter
RUN /tools/bin/pip wheel --no-deps --no-build-isolation --wheel-dir=/wheels . && \
    $PIP install --no-compile --root=/own --no-warn-script-location --no-deps --no-index /wheels/*.whl && \
    $COMPILE -s /own /own

FROM build AS build-sample
COPY hooks hooks
RUN /tools/bin/pip wheel --no-deps --no-build-isolation --wheel-dir=/wheels-hooks ./hooks && \
    $PIP install --no-compile --root=/own --no-warn-script-location --no-deps --no-index /wheels-hooks/*.whl && \
    $COMPILE -s /own /own

# What both run on. Nothing there needs to become another user; nothing belongs to the one that they run as.
FROM ${PYTHON_IMAGE} AS runtime
RUN ["find", "/", "-xdev", "-type", "f", "-perm", "/6000", "-exec", "chmod", "a-s", "{}", "+"]
ENV PATH=/opt/taskqueue-exporter/bin:$PATH
WORKDIR /
STOPSIGNAL SIGTERM

FROM runtime AS sample
COPY --from=requirements-sample /opt/taskqueue-exporter /opt/taskqueue-exporter
COPY --from=build-sample /own /
# As below.
RUN ["python", "-c", "import arq.cli, celery.bin.celery, celery.apps.worker, celery.concurrency.prefork"]
# Celery's pool puts its locks into a temporary directory; this one can be written in every container.
ENV PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 TMPDIR=/dev/shm
USER 65532:65532
ARG VERSION=0.1.0
ARG REVISION=""
ARG CREATED=""
LABEL org.opencontainers.image.title="taskqueue-exporter-sample" \
    org.opencontainers.image.description="Sample workers of ARQ and Celery for taskqueue-exporter to watch" \
    org.opencontainers.image.source="https://github.com/taskqueue-exporter/taskqueue-exporter" \
    org.opencontainers.image.documentation="https://github.com/taskqueue-exporter/taskqueue-exporter/tree/main/docs" \
    org.opencontainers.image.licenses="MIT" \
    org.opencontainers.image.version="${VERSION}" \
    org.opencontainers.image.revision="${REVISION}" \
    org.opencontainers.image.created="${CREATED}"

FROM runtime AS exporter
COPY --from=requirements /opt/taskqueue-exporter /opt/taskqueue-exporter
COPY --from=build /own /
# The base has no bytecode of the standard library: what is used of it gets some, which halves the time of a start.
RUN ["python", "-c", "import exporter.cli, exporter.healthcheck, uvloop, encodings.idna"]
ENV PYTHONDONTWRITEBYTECODE=1 TASKQUEUE_EXPORTER_WEB_LISTEN_ADDRESS=:10177
USER 65532:65532
EXPOSE 10177
ENTRYPOINT ["taskqueue-exporter"]
HEALTHCHECK --interval=15s --timeout=5s --start-period=20s --retries=3 \
    CMD ["python", "-I", "-m", "exporter.healthcheck"]
ARG VERSION=0.1.0
ARG REVISION=""
ARG CREATED=""
LABEL org.opencontainers.image.title="taskqueue-exporter" \
    org.opencontainers.image.description="Prometheus exporter for background job queues (ARQ, Celery), the Redis they live in and the host" \
    org.opencontainers.image.source="https://github.com/taskqueue-exporter/taskqueue-exporter" \
    org.opencontainers.image.documentation="https://github.com/taskqueue-exporter/taskqueue-exporter/tree/main/docs" \
    org.opencontainers.image.licenses="MIT" \
    org.opencontainers.image.version="${VERSION}" \
    org.opencontainers.image.revision="${REVISION}" \
    org.opencontainers.image.created="${CREATED}"
