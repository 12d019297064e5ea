# syntax=docker/dockerfile:1

# The lock file names every package by hash, so this tag decides about Python and Debian only.
ARG PYTHON=python:3.13-slim-trixie

FROM ${PYTHON} AS build
COPY requirements/service.txt /tmp/requirements.txt
RUN python -m venv --without-pip /opt/venv \
    && python -m pip --python /opt/venv/bin/python install \
        --no-cache-dir --no-compile --only-binary :all: --require-hashes -r /tmp/requirements.txt
COPY schema.sql /app/
COPY config /app/config
COPY service /app/service
# Compiled here, as the service may write nothing; readable to all, whatever the checkout's umask.
RUN python -m compileall -q --invalidation-mode unchecked-hash /opt/venv/lib /app/service \
    && chmod -R go=rX /app

FROM ${PYTHON}
# The base image brings pip, which a service never needs.
RUN python -m pip uninstall --yes --root-user-action ignore pip \
    && useradd --no-log-init --uid 10001 --no-create-home --shell /usr/sbin/nologin campaigns
COPY --from=build /opt/venv /opt/venv
COPY --from=build /app /app
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
    CMD ["python", "-c", "import http.client, os, sys; probe = http.client.HTTPConnection('127.0.0.1', int(os.environ.get('HTTP_PORT') or 8080), timeout=2); probe.request('GET', '/healthz'); sys.exit(probe.getresponse().status != 200)"]
ENTRYPOINT ["python", "-m", "service"]
CMD ["serve"]
