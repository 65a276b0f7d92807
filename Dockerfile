# The room worker as a small image: two stages of one Python base, nothing of the build in what runs.
#
#   docker build -t room-worker .
#   docker run --rm -e NATS_URL=nats://… -e MONGO_URI=mongodb://… room-worker
#
# With podman: `podman build --format docker`; its default format has no place for the health check.
ARG PYTHON_IMAGE=python:3.12-slim

FROM ${PYTHON_IMAGE} AS build
WORKDIR /src
# The pinned packages first: a change of the code installs none of them again.
COPY requirements/build.txt requirements/run.txt requirements/
RUN python -m venv /build \
 && /build/bin/python -m pip install --quiet --no-cache-dir --require-hashes -r requirements/build.txt \
 && python -m venv /opt/room-worker \
 && /opt/room-worker/bin/python -m pip install --quiet --no-cache-dir --require-hashes -r requirements/run.txt
# What .dockerignore lets through: the packages and what describes them.
COPY . .
RUN /build/bin/python -m hatchling build -t wheel -d /wheel \
 && /opt/room-worker/bin/python -m pip install --quiet --no-cache-dir --no-deps /wheel/*.whl \
 && /opt/room-worker/bin/python -m pip uninstall --quiet --yes pip setuptools

FROM ${PYTHON_IMAGE}
# What never changes comes before what does, so that it is built once. No byte code is written: nothing here
# is this user's to write.
ENV PATH=/opt/room-worker/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 10001:10001
EXPOSE 8081 9090
# Alive, not ready: a replica that waits for its servers must not be killed for it.
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s --retries=3 \
  CMD ["python", "-c", "import os, urllib.request as u; host, _, port = (os.environ.get('HEALTH_ADDR') or ':8081').rpartition(':'); u.urlopen('http://' + (host or '127.0.0.1') + ':' + port + '/healthz', timeout=2)"]
ENTRYPOINT ["room-worker"]
CMD ["run"]
COPY --from=build /opt/room-worker /opt/room-worker
