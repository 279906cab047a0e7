# One image for all services: `docker run IMAGE streamer`, `docker run IMAGE database migrate`.
# Target `local` adds what docker-compose.yml and k8s/overlays/local need: emulator, traffic, sample clients.
ARG PYTHON=python:3.11-slim-bookworm
# The same Python with a C compiler: for one stage, of which only what it built goes on.
ARG BUILDER=python:3.11-bookworm

FROM ${PYTHON} AS packages
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
COPY requirements/ /requirements/
# Wheels only: nothing of a package is compiled or runs while it is installed.
RUN python -m venv --without-pip /opt/venv \
 && pip --python /opt/venv/bin/python install --require-hashes --no-deps --only-binary :all: -r /requirements/base.txt

FROM packages AS packages-local
RUN pip --python /opt/venv/bin/python install --require-hashes --no-deps --only-binary :all: -r /requirements/dev.txt

# The services' packages, with hot modules compiled from the same sources: setup.py says which.
FROM ${BUILDER} AS native
COPY --from=packages-local /opt/venv /opt/venv
WORKDIR /src
COPY setup.py pyproject.toml README.md ./
COPY pipeline/ pipeline/
COPY database/ database/
COPY streamer/ streamer/
COPY processor/ processor/
COPY syncer/ syncer/
COPY admin/ admin/
RUN NATIVE=build/native /opt/venv/bin/python setup.py -q build

FROM ${PYTHON} AS base
# The base image's own pip is not needed to run, and would only be one thing more to keep patched.
RUN python -m pip uninstall --yes --quiet --root-user-action ignore pip setuptools wheel \
 && groupadd --gid 10001 pipeline \
 && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin pipeline \
 && install -d -o pipeline -g pipeline -m 0700 /spool
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    PYTHONFAULTHANDLER=1 \
    TMPDIR=/spool
WORKDIR /app
ENTRYPOINT ["python", "-m"]
# Each service answers here: admin 8080, streamer 8081, processor 8082, syncer 8083, cleaner 8084.
EXPOSE 8080 8081 8082 8083 8084
STOPSIGNAL SIGTERM

FROM base AS local
COPY --from=packages-local /opt/venv /opt/venv
COPY infra/ infra/
COPY pipeline/ pipeline/
COPY database/ database/
COPY local/ local/
RUN install -d -o pipeline -g pipeline -m 0700 /data
USER 10001:10001
CMD ["local", "--help"]

FROM base AS services
COPY --from=packages /opt/venv /opt/venv
COPY --from=native /src/build/native/lib/ ./
RUN python -m compileall -q -j 0 /app
USER 10001:10001
CMD ["admin"]
