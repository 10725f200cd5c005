# tunerd as a container image. The first stage builds it; the second stage contains only the result and runs as an unprivileged user.
FROM python:3.12-slim AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE config.example.yaml ./
COPY docs/systemd.md docs/tunerd.1 ./docs/
COPY systemd ./systemd
COPY tunerd ./tunerd
RUN python -m venv /opt/tunerd \
 && /opt/tunerd/bin/pip install --no-cache-dir --disable-pip-version-check .

FROM python:3.12-slim
COPY --from=build /opt/tunerd /opt/tunerd
RUN groupadd --gid 10001 tunerd \
 && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin tunerd \
 && install -d -o tunerd -g tunerd -m 0700 /var/lib/tunerd \
 && install -d -o tunerd -g tunerd -m 0700 /run/tunerd
ENV PATH=/opt/tunerd/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    RUNTIME_DIRECTORY=/run/tunerd
USER 10001:10001
VOLUME ["/var/lib/tunerd"]
EXPOSE 9464
# On SIGTERM tunerd completes open uploads for up to `delivery.drain` (20 s by default). Give the container at least 30 s to stop.
STOPSIGNAL SIGTERM
# Fails if the process makes no progress; an outage of Tuner does not make it fail. If you change http.listen, change this check, too.
HEALTHCHECK --interval=30s --timeout=10s --start-period=5s \
  CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:9464/healthz', timeout=8)"]
ENTRYPOINT ["tunerd"]
CMD ["run"]
