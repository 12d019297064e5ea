# syntax=docker/dockerfile:1

# The lock file names every package by hash, so this tag decides about Python and Debian only.
ARG PYTHON=python:3.13-slim-trixie

FROM ${PYTHON} AS build
COPY requirements/service.txt /tmp/requirements.txt
RUN python -m venv --without-pip /opt/venv \
    && python -m pip --python /opt/venv/bin/python install \
        --no-cache-dir --no-compile --only-binary :all: --require-hashes -r /tmp/requirements.txt

FROM ${PYTHON}
# The base image brings pip, which a service never needs.
RUN python -m pip uninstall --yes --root-user-action ignore pip \
    && useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin campaigns
COPY --from=build /opt/venv /opt/venv
COPY schema.sql /app/
COPY config /app/config
COPY service /app/service
WORKDIR /app
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HTTP_HOST=0.0.0.0
USER 10001
EXPOSE 8080
# The port may be set, the path not; only whether the process answers, so that no orchestrator
# restarts a healthy service because its database is away.
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request; urllib.request.urlopen(f\"http://127.0.0.1:{os.environ.get('HTTP_PORT', 8080)}/healthz\", timeout=2)"]
ENTRYPOINT ["python", "-m", "service"]
CMD ["serve"]
