# tunerd as a container image: `make image`, or see docs/docker.md. The first stage builds; the second one contains only the result
# and runs as an unprivileged user. Give the base by its digest: --build-arg BASE=docker.io/library/python:3.13-slim@sha256:...
ARG BASE=docker.io/library/python:3.13-slim

FROM ${BASE} AS build
WORKDIR /src
COPY requirements.lock requirements-build.lock ./
# Whatever is downloaded has to have a hash of the two lock files.
RUN python -m venv --without-pip /opt/tunerd \
 && python -m pip --python /opt/tunerd/bin/python install --no-cache-dir --require-hashes --only-binary :all: -r requirements.lock \
 && python -m venv --without-pip /opt/build \
 && python -m pip --python /opt/build/bin/python install --no-cache-dir --require-hashes --only-binary :all: -r requirements-build.lock
COPY pyproject.toml README.md LICENSE config.example.yaml ./
COPY docs/systemd.md docs/tunerd.1 ./docs/
COPY systemd ./systemd
COPY tunerd ./tunerd
RUN python -m pip --python /opt/build/bin/python wheel --no-deps --no-index --no-build-isolation --wheel-dir /dist . \
 && python -m pip --python /opt/tunerd/bin/python install --no-deps --no-index /dist/tunerd-*.whl

FROM ${BASE}
ARG BASE
ARG VERSION=unknown
ARG REVISION=unknown
ARG CREATED=unknown
LABEL org.opencontainers.image.title="tunerd" \
      org.opencontainers.image.description="Gets every finished voice call, with its recording, into Tuner." \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.created="${CREATED}" \
      org.opencontainers.image.base.name="${BASE}"
# The official images have no bytecode of the standard library. On a read-only root each start and each health check would compile it.
RUN python -m compileall -q -x '/(test|tests|idlelib|lib2to3|turtledemo)/' "$(python -c 'import os; print(os.path.dirname(os.__file__))')" \
 && echo "tunerd:x:10001:" >> /etc/group \
 && echo "tunerd:x:10001:10001:tunerd:/nonexistent:/usr/sbin/nologin" >> /etc/passwd \
 && install -d -o 10001 -g 10001 -m 0700 /var/lib/tunerd /run/tunerd
COPY --from=build /opt/tunerd /opt/tunerd
ENV PATH=/opt/tunerd/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    RUNTIME_DIRECTORY=/run/tunerd
USER 10001:10001
VOLUME ["/var/lib/tunerd"]
EXPOSE 9464
# On SIGTERM tunerd completes open uploads for up to `delivery.drain` (20 s by default). Give the container at least 30 s to stop.
STOPSIGNAL SIGTERM
# Fails if the process makes no progress; an outage of Tuner does not make it fail.
HEALTHCHECK --interval=10s --timeout=10s --start-period=20s --retries=3 CMD ["tunerd", "health"]
ENTRYPOINT ["tunerd"]
CMD ["run"]
