# The room worker as a small image. The build stage installs; the final stage has no build tools.
#
#   docker build -t room-worker .
#   docker run --rm -e NATS_URL=nats://… -e MONGO_URI=mongodb://… room-worker
#
# With podman: `podman build --format docker`, because podman's default format has no health check.
ARG PYTHON_IMAGE=python:3.12-slim

FROM ${PYTHON_IMAGE} AS build
WORKDIR /src
# Install the pinned packages first, so that a change of the code does not install them again.
COPY requirements/build.txt requirements/run.txt requirements/
RUN python -m venv /build \
 && /build/bin/python -m pip install --quiet --no-cache-dir --require-hashes -r requirements/build.txt \
 && python -m venv /opt/room-worker \
 && /opt/room-worker/bin/python -m pip install --quiet --no-cache-dir --require-hashes -r requirements/run.txt
# .dockerignore lets only the packages and their metadata through.
COPY . .
RUN /build/bin/python -m hatchling build -t wheel -d /wheel \
 && /opt/room-worker/bin/python -m pip install --quiet --no-cache-dir --no-deps /wheel/*.whl \
 && /opt/room-worker/bin/python -m pip uninstall --quiet --yes pip setuptools

FROM ${PYTHON_IMAGE}
# Steps that never change come first, so that they are built once. Python writes no byte code, because this user
# may not write here.
ENV PATH=/opt/room-worker/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 10001:10001
EXPOSE 8081 9090
# The health check asks whether the process is alive, not whether it is ready: a replica that waits for its servers
# must not be killed.
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s --retries=3 \
  CMD ["python", "-c", "import os, urllib.request as u; host, _, port = (os.environ.get('HEALTH_ADDR') or ':8081').rpartition(':'); u.urlopen('http://' + (host or '127.0.0.1') + ':' + port + '/healthz', timeout=2)"]
ENTRYPOINT ["room-worker"]
CMD ["run"]
COPY --from=build /opt/room-worker /opt/room-worker
