# tunerd as a container image: built in one stage, run from another without pip's leftovers, as a user without rights.
FROM python:3.12-slim AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
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
# SIGTERM drains for `delivery.drain` (20 s by default): give the container at least 30 s to stop.
STOPSIGNAL SIGTERM
# Whether the process makes progress; Tuner being away is no reason (with another http.listen, give another check).
HEALTHCHECK --interval=30s --timeout=10s --start-period=5s \
  CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:9464/healthz', timeout=8)"]
ENTRYPOINT ["tunerd"]
CMD ["run"]
